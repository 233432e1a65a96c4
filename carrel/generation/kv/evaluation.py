"""Accuracy against budget, memory and time: every KV policy and every sparse attention on one model.

A round is one context, which every row reads for itself and answers the same questions about. Rounds begin at another
row each time, so that a machine that gets slower meets all rows alike.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from carrel.errors import CarrelError, InputError
from carrel.evaluation.kv_results import DENSE, Cell, KVEvaluation, Manifest, Row
from carrel.generation.kv import loading
from carrel.generation.kv.base import SparseAttention
from carrel.generation.kv.fingerprints import model_fingerprint
from carrel.generation.kv.lookups import LookUp, LookUps
from carrel.generation.kv.measured_methods import BUDGETS, DEFAULTS, RANDOM, Method, methods_of
from carrel.generation.kv.measuring import kv_head_count, layer_count, measure, runner_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Progress = Callable[[int, int, str], None]
"""Called with the cells done, the cells in all, and what is measured."""


def load_model(folder: Path, *, device: str | None = None, dtype: str = "auto") -> tuple[PreTrainedModel, Any]:
    """A causal language model and its tokenizer from a folder. Fetches nothing.

    Raises
    ------
    InputError : no such folder, or no model in it. ModelError : it cannot be loaded.
    """
    if not (folder / "config.json").is_file():
        what = "there is no such folder" if not folder.is_dir() else "it has no config.json"
        raise InputError(f"{folder} is no folder of a model in the format of the transformers library: {what}.")
    return loading.load_model(folder, device=device, dtype=dtype, quiet=True)


def evaluate_kv(
    model: PreTrainedModel,
    texts: LookUps,
    *,
    names: Sequence[str] | None = None,
    budgets: Sequence[float] = BUDGETS,
    lengths: Sequence[int] = (512, 2048),
    contexts: int = 8,
    questions: int = 25,
    seed: int = 0,
    progress: Progress | None = None,
) -> KVEvaluation:
    """Ask the same questions about the same contexts through every method.

    Ctrl-C ends it early: what was measured is returned, and the manifest says so. A method that turns out not to go
    with the model or the texts is left out, with the reason in the manifest.

    Parameters
    ----------
    model : a decoder of the transformers library, on its device. texts : draws contexts and questions.
    names : methods; ``DEFAULTS`` where None, and then those whose packages are missing are left out, too.
    budgets : shares of the keys, above 0 and at most 1. lengths : tokens of a context.
    contexts : of each length. questions : about each of them, at most. seed : of all texts.

    Raises
    ------
    InputError : arguments of no use, a method that there is not or that cannot be used with this model, a length
        beyond the model's window. MissingDependencyError : a method was named whose package is not installed.
    """
    _check_numbers(lengths, contexts, questions)
    run = _Run(model, texts, methods_of(DEFAULTS if names is None else names, budgets), seed, progress)
    sizes = sorted(set(lengths))
    drawn = {size: [texts.draw(size, questions, (seed, size, number)) for number in range(contexts)] for size in sizes}
    _check_window(model, texts, [look_up for found in drawn.values() for look_up in found])
    run.check(drawn[sizes[0]][0], strict=names is not None)
    manifest = Manifest(
        model=Path(str(getattr(model.config, "name_or_path", "")) or type(model).__name__).name,
        fingerprint=model_fingerprint(model), task=f"{texts.name}, {texts.hops} hop{'s' * (texts.hops > 1)}", seed=seed,
        contexts=contexts, questions=max(len(one.questions) for found in drawn.values() for one in found),
        lengths=tuple(sizes), budgets=tuple(sorted({float(budget) for budget in budgets}, reverse=True)),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"), about=_about(model), machine=_machine(model),
        versions=_versions(),
    )  # fmt: skip
    interrupted = False
    try:
        run.measure(drawn)
    except KeyboardInterrupt:
        interrupted = True
    return KVEvaluation(replace(manifest, left_out=run.left_out, interrupted=interrupted), run.rows())


class _Run:
    """One evaluation as it goes."""

    def __init__(
        self, model: PreTrainedModel, texts: LookUps, methods: list[Method], seed: int, progress: Progress | None
    ) -> None:
        self.model, self.texts, self.methods, self.seed = model, texts, methods, seed
        self.progress = progress or (lambda done, total, what: None)
        self.left_out: dict[str, str] = {}
        self._cells: dict[tuple[int, Method], dict[int, Cell]] = {}
        self._labels: dict[tuple[int, Method], str] = {}

    def check(self, look_up: LookUp, *, strict: bool) -> None:
        """Find out which methods go with the model; where not ``strict``, leave the others out."""
        for method in self.methods:
            try:
                with runner_of(self.model, self.texts, method, look_up):
                    pass
            except CarrelError as error:
                if strict or method.name in (DENSE, RANDOM):
                    raise
                self.left_out[method.name] = str(error)

    def measure(self, drawn: dict[int, list[LookUp]]) -> None:
        """Fill the cells, one round after the other."""
        first = next(iter(drawn.values()))[0]
        measure(self.model, self.texts, Method(DENSE), first)  # not counted: the first calls of a process are slow
        total = len(self._methods()) * sum(map(len, drawn.values()))
        done = 0
        for length, look_up_of in drawn.items():
            for number, look_up in enumerate(look_up_of):
                methods = self._methods()
                start = 0 if number == 0 else number * 7 % len(methods)  # dense is there from the beginning
                for method in methods[start:] + methods[:start]:
                    self.progress(done, total, f"{length:,} tokens, context {number + 1}, {method.title}")
                    self._measure(length, number, method, look_up)
                    done += 1
        self.progress(total, total, "done")

    def _methods(self) -> list[Method]:
        return [method for method in self.methods if method.name not in self.left_out]

    def _measure(self, length: int, number: int, method: Method, look_up: LookUp) -> None:
        try:
            cell = measure(self.model, self.texts, method, look_up)
        except CarrelError as error:
            if method.name in (DENSE, RANDOM):
                raise
            self.left_out[f"{method.title} at {length:,} tokens"] = str(error)
            return
        self._cells.setdefault((length, method), {})[number] = cell
        attention = method.attention(look_up)
        self._labels[length, method] = method.policy().label if attention is None else _described(attention)

    def rows(self) -> tuple[Row, ...]:
        """What there is, by length and then in the order of the methods."""
        lengths = dict.fromkeys(length for length, _ in self._cells)
        found = [(length, method) for length in lengths for method in self.methods if (length, method) in self._cells]
        return tuple(
            Row(length, method.name, method.budget, self._labels[length, method], self._cells[length, method])
            for length, method in found
        )


# -- where it was measured -------------------------------------------------------------------------


def _described(attention: SparseAttention) -> str:
    knobs = {name: value for name, value in vars(attention).items() if isinstance(value, int) and name[0] != "_"}
    shown = ", ".join(f"{name} {value}" for name, value in knobs.items() if name not in ("sparse_queries", "seed"))
    return f"{attention.name} ({shown})"


def _about(model: PreTrainedModel) -> dict[str, object]:
    config = model.config.get_text_config(decoder=True)
    return {
        "class": type(model).__name__,
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "layers": layer_count(model),
        "query_heads": config.num_attention_heads,
        "kv_heads": kv_head_count(model) // layer_count(model),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _machine(model: PreTrainedModel) -> dict[str, object]:
    found: dict[str, object] = {
        "device": model.device.type, "system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        lines = cpus.read_text(encoding="utf-8", errors="replace").splitlines()
        found["cpu"] = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 2)  # of the last minute, before anything was measured
    if model.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(model.device)
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("carrel", "torch", "transformers", "kvpress"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _check_numbers(lengths: Sequence[int], contexts: int, questions: int) -> None:
    if not lengths or min(*lengths, contexts, questions) < 1:
        raise InputError(
            f"Lengths, contexts and questions are numbers above 0, not {list(lengths)}, {contexts} and {questions}."
        )


def _check_window(model: PreTrainedModel, texts: LookUps, drawn: Sequence[LookUp]) -> None:
    window = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    wanted = max(len(look_up.context) + look_up.longest for look_up in drawn) + texts.longest_reply
    if window is not None and wanted > window:
        raise InputError(f"The model reads {window:,} tokens; the longest context with its questions takes {wanted:,}.")
