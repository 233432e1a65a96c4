"""What `carrel eval-kv` measures: right answers, memory and time of each row, with intervals; as JSON and back.

Nothing here needs torch, so that the figures can be read and drawn where no model runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from carrel.errors import InputError
from carrel.evaluation.bootstrap import Interval, bootstrap_mean

FORMAT = "carrel-kv-evaluation/1"
DENSE = "dense"
_Z = 1.959964  # of 95 %


@dataclass(frozen=True, slots=True)
class Cell:
    """One row in one context.

    Attributes
    ----------
    right : of each question, whether it was answered right.
    read_s : seconds to read the context and make it smaller.
    first_ms : median milliseconds from a question to the first token of its reply.
    bytes : memory of the context before the first question, with all that belongs to it.
    keys : share of the context's keys that the last token of a question reads, over all layers and KV heads.
    """

    right: tuple[bool, ...]
    read_s: float
    first_ms: float
    bytes: int
    keys: float


@dataclass(frozen=True, slots=True)
class Row:
    """A method at a budget, in contexts of one length.

    Attributes
    ----------
    length : tokens of a context. method : as ``--methods`` names it.
    budget : share of the keys that is kept or read; None where the method has none.
    label : the policy or the attention with its knobs.
    cells : by the number of the context; fewer than the others have where the run was cut short.
    """

    length: int
    method: str
    budget: float | None
    label: str
    cells: Mapping[int, Cell]


@dataclass(frozen=True, slots=True)
class Share:
    """Right answers out of ``questions``, with the 95 % interval."""

    mean: float
    low: float
    high: float
    questions: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a row comes to; medians over contexts but for the share.

    ``difference`` is the share of right answers less that of dense on the same questions, with a bootstrap interval
    over contexts (over questions where there is one context); ``bytes_share``, ``read_ratio`` and ``first_ratio`` are
    against dense in the same contexts; None where dense has none of them.
    """

    right: Share
    keys: float
    bytes: float
    read_s: float
    first_ms: float
    difference: Interval | None = None
    bytes_share: float | None = None
    read_ratio: float | None = None
    first_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where the figures come from.

    ``about`` describes the model, ``machine`` the hardware; ``left_out`` are methods that were not measured, and why.
    """

    model: str
    fingerprint: str
    task: str
    seed: int
    contexts: int
    questions: int
    lengths: tuple[int, ...]
    budgets: tuple[float, ...]
    date: str
    about: Mapping[str, object] = field(default_factory=dict)
    machine: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class KVEvaluation:
    """All rows that were measured of one model, by length and then in the order of the methods."""

    manifest: Manifest
    rows: tuple[Row, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that were measured."""
        return tuple(dict.fromkeys(row.length for row in self.rows))

    def of(self, length: int) -> list[Row]:
        """The rows of a length."""
        return [row for row in self.rows if row.length == length]

    def dense(self, length: int) -> Row | None:
        """What the model can do with all keys."""
        return next((row for row in self.of(length) if row.method == DENSE), None)

    def figures(self, row: Row) -> Figures:
        """What a row comes to."""
        cells = row.cells
        found = Figures(
            right=share_right([cell.right for cell in cells.values()]),
            keys=float(np.mean([cell.keys for cell in cells.values()])),
            bytes=float(np.median([cell.bytes for cell in cells.values()])),
            read_s=float(np.median([cell.read_s for cell in cells.values()])),
            first_ms=float(np.median([cell.first_ms for cell in cells.values()])),
        )
        dense = self.dense(row.length)
        known = dense.cells if dense else {}
        pairs = [(cell, known[number]) for number, cell in cells.items() if number in known]
        if not pairs:
            return found
        differences = [float(np.mean(one.right) - np.mean(other.right)) for one, other in pairs]
        if len(pairs) == 1:  # nothing is known of other contexts: over questions
            differences = [float(one) - float(other) for one, other in zip(*(c.right for c in pairs[0]), strict=True)]
        ratios = (float(np.median([getattr(a, name) / getattr(b, name) for a, b in pairs])) for name in _MEDIANS)
        bytes_share, read_ratio, first_ratio = ratios
        return replace(
            found, difference=bootstrap_mean(differences, seed=self.manifest.seed), bytes_share=bytes_share,
            read_ratio=read_ratio, first_ratio=first_ratio,
        )  # fmt: skip

    def to_json(self) -> str:
        """All cells and figures, a line each row; right answers are a text of 1 and 0 for each context."""
        manifest = json.dumps(asdict(self.manifest), ensure_ascii=False, indent=1)
        rows = ",\n ".join(json.dumps(self._row(row), ensure_ascii=False, allow_nan=False) for row in self.rows)
        return f'{{"format": {json.dumps(FORMAT)},\n"manifest": {manifest},\n"rows": [\n {rows}\n]}}\n'

    def _row(self, row: Row) -> dict[str, Any]:
        content = {name: getattr(row, name) for name in ("length", "method", "budget", "label")}
        cells = {
            number: {**asdict(cell), "right": "".join("01"[right] for right in cell.right)}
            for number, cell in row.cells.items()
        }
        return {**content, "figures": _rounded(asdict(self.figures(row))), "contexts": cells}

    @classmethod
    def from_json(cls, text: str) -> KVEvaluation:
        """Read what ``to_json`` wrote; the figures are computed anew.

        Raises
        ------
        InputError : the text is no such evaluation.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise InputError(f"This is no evaluation of KV policies: it is not JSON ({error}).") from error
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise InputError(f"This is no evaluation of the format {FORMAT!r}: its format is {found!r}.")
        try:
            made = content["manifest"]
            lists = {name: tuple(made[name]) for name in ("lengths", "budgets")}
            return cls(Manifest(**{**made, **lists}), tuple(_row_of(row) for row in content["rows"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"This evaluation is damaged: {type(error).__name__}: {error}.") from error


_MEDIANS = ("bytes", "read_s", "first_ms")


def share_right(right: Sequence[Sequence[bool]]) -> Share:
    """The share of right answers, one sequence a context, with Wilson's 95 % interval.

    Questions about one context stand or fall together. Where contexts differ more than single questions would, the
    interval is that of as many questions as would tell as much (Korn and Graubard, Survey Methodology 24, 1998).
    """
    sizes = np.array([len(answers) for answers in right], np.float64)
    hits = np.array([sum(answers) for answers in right], np.float64)
    n = float(sizes.sum())
    if not n:
        raise InputError("A share needs at least one question.")
    share = float(hits.sum()) / n
    alone = share * (1 - share) / n
    effect = 1.0
    if len(right) > 1 and alone > 0:
        together = len(right) / (len(right) - 1) * float(((hits - share * sizes) ** 2).sum()) / n**2
        effect = max(1.0, together / alone)
    worth = n / effect
    middle = (share + _Z**2 / (2 * worth)) / (1 + _Z**2 / worth)
    half = _Z * math.sqrt(share * (1 - share) / worth + _Z**2 / (4 * worth**2)) / (1 + _Z**2 / worth)
    return Share(share, max(0.0, middle - half), min(1.0, middle + half), int(n))


def shown_budget(budget: float | None) -> str:
    """As a fraction: ``1/8``."""
    return "" if budget is None else str(Fraction(budget).limit_denominator(1000))


def _row_of(content: Mapping[str, Any]) -> Row:
    cells = {}
    for number, cell in content["contexts"].items():
        if set(cell["right"]) - {"0", "1"} or not cell["right"]:
            raise ValueError(f"answers {cell['right']!r}")
        cells[int(number)] = Cell(**{**cell, "right": tuple(mark == "1" for mark in cell["right"])})
    if not cells:
        raise ValueError(f"the row {content['method']!r} has no context")
    return Row(content["length"], content["method"], content["budget"], content["label"], cells)


def _rounded(value: Any) -> Any:
    """Six significant digits: more is noise."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
