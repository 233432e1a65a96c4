"""The rows of `carrel eval-kv`: policies and attentions by name, each at a share of the keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from carrel.errors import InputError
from carrel.evaluation.kv_results import DENSE, shown_budget
from carrel.generation.kv.base import SparseAttention
from carrel.generation.kv.clustered import ClusteredAttention
from carrel.generation.kv.lookups import LookUp
from carrel.generation.kv.paged import PagedAttention
from carrel.generation.kv.policies import KVPolicy, make_policy
from carrel.generation.kv.press_table import find_press, presses, wanting
from carrel.generation.kv.sinks import LambdaAttention

RANDOM = "random"
DEFAULTS = (
    "int8", "int4", "streaming_llm", "snapkv", "expected_attention", "knorm", "keydiff", "tova", "lagkv", "kvzip",
    "adakv", "snapkv+int8", "paged", "paged4", "paged4heads", "clustered", "clustered2", "lambda",
)  # fmt: skip
"""Rows besides dense and random eviction, which are always there."""
BUDGETS = (1 / 2, 1 / 4, 1 / 8, 1 / 16)
ATTENTIONS = ("paged", "paged4", "paged4heads", "clustered", "clustered2", "lambda")
"""Of these, ``paged4`` has pages of 4 keys and not of 16, ``paged4heads`` also lets the KV heads that mostly
look nearby read a window only (LServe, arXiv 2502.14866), and ``clustered2`` has two levels of clusters."""
PROFILED = "paged4heads"
STREAMING_WINDOW = 64  # tokens, for the heads that look nearby
_WITHOUT_BUDGET = (DENSE, "int8", "int4")
_SINKS = 4
_GROUP, _SMALLEST = 16, 2  # keys of a page or cluster; fewer where the budget is less than four of them


@dataclass(frozen=True, slots=True)
class Method:
    """A policy or an attention, and the share of the keys it keeps or reads; None where it has none."""

    name: str
    budget: float | None = None

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name} {shown_budget(self.budget)}".strip()

    def policy(self) -> KVPolicy:
        """What is kept of a context. Errors as ``make_policy``."""
        if self.name in ATTENTIONS:
            return make_policy(DENSE)
        parts = [part.strip() for part in self.name.split("+")]
        return make_policy("+".join(p if p in _WITHOUT_BUDGET else f"{p}:{self.budget:.12g}" for p in parts))

    def attention(self, look_up: LookUp, streaming: Tensor | None = None) -> SparseAttention | None:
        """What is read of a context; the questions choose their keys, too. ``streaming``: heads that look nearby."""
        if self.name not in ATTENTIONS or self.budget is None:
            return None
        keys = max(2 * _SMALLEST, round(self.budget * len(look_up.context)))
        group = 4 if self.name.startswith("paged4") else _GROUP
        while group > _SMALLEST and keys < 4 * group:
            group //= 2
        asked = look_up.longest  # read besides the budget, as after a policy
        if self.name.startswith("paged"):
            window = min(STREAMING_WINDOW, keys // 2) + asked
            return PagedAttention(
                keys + asked, page=group, sparse_queries=asked, streaming=streaming, sinks=_SINKS, window=window
            )
        rest = max(1, keys - _SINKS)
        if self.name == "lambda":
            return LambdaAttention(sinks=_SINKS, window=rest + asked)
        levels = 2 if self.name == "clustered2" else 1
        return ClusteredAttention(rest, keys_per_cluster=group, levels=levels, sinks=_SINKS, sparse_queries=asked)


def all_methods() -> tuple[str, ...]:
    """``DEFAULTS``, and every press that is tested and can be made by its name alone."""
    tested = [entry.name for entry in presses() if entry.status == "tested" and not wanting(entry)]
    return tuple(dict.fromkeys([*DEFAULTS, *tested]))


def chosen_methods(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The methods to measure, ``all`` written out, and those that are left out, each with the reason.

    A press that takes more than its name is left out; of ``all``, one that is untested, too.

    Raises
    ------
    InputError : no names, nothing but what is left out, or no such press beside one that is.
    """
    if not names:
        raise InputError(f"No methods are named. Name some, such as int8,snapkv, or {DENSE} for the baselines alone.")
    chosen: list[str] = []
    left_out: dict[str, str] = {}
    for name in names:
        if name != "all":
            if reason := _wanting(name):
                left_out[name] = reason
            else:
                chosen.append(name)
            continue
        chosen += all_methods()
        for entry in presses():
            if entry.status == "untested":
                left_out[entry.name] = f"Untested: {entry.reason}. By its name it is measured where it can be."
            elif entry.status == "tested" and wanting(entry):
                left_out[entry.name] = wanting(entry)
    if not chosen:
        reasons = " ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InputError(f"None of these methods can be measured. {reasons}")
    return chosen, {name: reason for name, reason in left_out.items() if name not in chosen}


def _wanting(name: str) -> str:
    """What a press among the parts of a method takes besides its name; InputError where the other parts are none."""
    entries = {entry.name: entry for entry in presses()}
    parts = [part.strip() for part in name.split("+")]
    reasons = [wanting(entries[part]) for part in parts if part in entries and wanting(entries[part])]
    if reasons:
        for part in parts:
            if part not in (*_WITHOUT_BUDGET, RANDOM):
                find_press(part)
    return " ".join(dict.fromkeys(reasons))


def methods_of(names: Sequence[str], budgets: Sequence[float]) -> list[Method]:
    """Each method at each budget, dense and random eviction first.

    Raises
    ------
    InputError : no budgets, or one that is no share; an attention as a part of a composition.
    """
    shares = sorted({float(budget) for budget in budgets}, reverse=True)
    if not shares or not all(0 < share <= 1 for share in shares):
        raise InputError(f"Budgets are shares of the keys above 0 and at most 1, not {list(budgets)}.")
    found = []
    for name in dict.fromkeys([DENSE, RANDOM, *names]):
        parts = [part.strip() for part in name.split("+")]
        if ":" in name:
            raise InputError(f"{name!r} has a share of its own: give the name alone, and the budgets apart.")
        if len(parts) > 1 and set(parts) & set(ATTENTIONS):
            raise InputError(f"{name!r} joins a policy and an attention: measure them apart.")
        free = all(part in _WITHOUT_BUDGET for part in parts)
        found += [Method(name)] if free else [Method(name, share) for share in shares]
    return found
