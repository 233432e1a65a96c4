"""The command that measures what a model still finds when keys are dropped, quantised or not read: eval-kv."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carrel.app import options as given
from carrel.app.console import complain, emit, note, show, warn
from carrel.app.failing import Code
from carrel.app.progress import shown_progress
from carrel.errors import InputError, MissingDependencyError
from carrel.inputs import check_source

if TYPE_CHECKING:
    from carrel.evaluation.kv_results import KVEvaluation


def _folder(text: str) -> Path:
    return check_source("the folder of a model", text)


ModelFolder = Annotated[
    Path, typer.Argument(parser=_folder, metavar="MODEL", help="The folder of a causal language model (transformers).")
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        metavar="NAME,...",
        help="KV policies (int8, snapkv, snapkv+int8, ...) and attentions (paged, paged4, paged4heads,"
        " clustered, clustered2, lambda); all for every press of kvpress. Rows for dense and random eviction are"
        " always there.",
    ),
]
Budgets = Annotated[
    str, typer.Option("--budgets", metavar="SHARE,...", help="Shares of the keys that are kept or read.")
]
Lengths = Annotated[str, typer.Option("--lengths", metavar="TOKENS,...", help="Lengths of the contexts.")]
Contexts = Annotated[int, typer.Option("--contexts", metavar="N", min=1, help="Contexts of each length.")]
Questions = Annotated[int, typer.Option("--questions", metavar="N", min=1, help="Questions about each context.")]
TwoHops = Annotated[bool, given.flag("--two-hop", help="Ask for what is two look-ups away.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the texts and of the intervals.")]
Device = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="Such as cuda:1; a GPU where there is one.")
]
Dtype = Annotated[str, typer.Option("--dtype", metavar="NAME", help="Of the weights: the files' own, or float32, ...")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Write results.json, accuracy.svg and accuracy.png there."),
]
Quiet = Annotated[bool, given.flag("--quiet", "-q", help="No progress.")]


def evaluate_kv(
    model: ModelFolder,
    methods: Methods = None,
    budgets: Budgets = "1/2,1/4,1/8,1/16",
    lengths: Lengths = "512,2048",
    contexts: Contexts = 8,
    questions: Questions = 25,
    two_hop: TwoHops = False,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = "auto",
    output: Output = None,
    quiet: Quiet = False,
    as_json: given.AsJson = False,
) -> None:
    """Measure a model's accuracy against the budget, memory and time of KV policies and sparse attentions.

    The model looks up facts in long texts. Ctrl-C shows what was measured until then. Needs the extras torch, kv
    (for the presses) and eval (for the figure).
    """
    shares, sizes = _shares(budgets), _sizes(lengths)
    _need("torch", "transformers")
    if output is not None and output.exists() and not output.is_dir():
        raise InputError(f"--output is a folder, and {output} is a file")
    with shown_progress(quiet) as tell:
        tell("loading the model", 0, None, "")
        from carrel.generation.kv.evaluation import evaluate_kv as run
        from carrel.generation.kv.evaluation import load_model
        from carrel.generation.kv.lookups import look_ups

        loaded, tokenizer = load_model(model, device=device, dtype=dtype)
        texts = look_ups(model, tokenizer, 2 if two_hop else 1)

        def progress(done: int, total: int, what: str) -> None:
            tell(model.name, done, total, f"{100 * done // max(1, total)} %, {what}")

        found = run(
            loaded, texts, names=_names(methods), budgets=shares, lengths=sizes, contexts=contexts,
            questions=questions, seed=seed, progress=progress,
        )  # fmt: skip
    files = _write(found, output)
    _show(found, files, as_json=as_json)
    if found.manifest.interrupted:
        complain("interrupted: these are the figures until then")
        raise typer.Exit(int(Code.INTERRUPTED))


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    from carrel.generation.kv.measured_methods import all_methods

    names = [name.strip() for name in text.split(",") if name.strip()]
    return [each for name in names for each in (all_methods() if name == "all" else (name,))]


def _shares(text: str) -> list[float]:
    try:
        return [float(Fraction(part.strip())) for part in text.split(",") if part.strip()]
    except (ValueError, ZeroDivisionError):
        raise InputError(f"--budgets takes shares and commas, such as 1/2,1/4 or 0.5,0.25, not {text!r}") from None


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"--lengths takes numbers and commas, such as 512,2048, not {text!r}") from None


def _need(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError(package, "torch", "carrel eval-kv")


def _write(found: KVEvaluation, output: Path | None) -> list[str]:
    """Write the files; without matplotlib the results alone."""
    from carrel.evaluation.kv_report import plot

    if output is None or not found.rows:
        return []
    output.mkdir(parents=True, exist_ok=True)
    results = output / "results.json"
    results.write_text(found.to_json(), encoding="utf-8")
    written = [results]
    try:
        written += plot(found, output / "accuracy")
    except (InputError, MissingDependencyError) as error:
        warn(f"no figure was drawn: {error}")
    return [os.fspath(path) for path in written]


def _show(found: KVEvaluation, files: list[str], *, as_json: bool) -> None:
    from carrel.evaluation.kv_report import table

    if as_json:
        emit({**json.loads(found.to_json()), "files": files})
    else:
        show(table(found))
        for file in files:
            note(f"written: {file}")
