"""The command that measures what a model still finds when keys are dropped, quantised or not read: eval-kv."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from carrel.app import options as given
from carrel.app.console import complain, emit, note, show, stdout, warn
from carrel.app.failing import Code
from carrel.app.progress import shown_progress
from carrel.errors import InputError, MissingDependencyError
from carrel.inputs import check_source

if TYPE_CHECKING:
    from carrel.evaluation.kv_results import KVEvaluation

RESULTS, FIGURE = "results.json", "accuracy"  # files in --output; the figure in each of FORMATS


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
        " clustered, clustered2, lambda); all for every tested press of kvpress. Rows for dense and random"
        " eviction are always there.",
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
    asked = None if methods is None else [name.strip() for name in methods.split(",") if name.strip()]
    if asked == []:
        raise InputError("--methods names no method: name some, such as int8,snapkv, or dense for the baselines alone")
    _check_writable(output)
    with shown_progress(quiet) as tell:
        tell("loading the model", 0, None, "")
        from carrel.generation.kv.evaluation import evaluate_kv as run
        from carrel.generation.kv.evaluation import load_model
        from carrel.generation.kv.lookups import look_ups
        from carrel.generation.kv.measured_methods import chosen_methods

        names, left_out = (None, {}) if asked is None else chosen_methods(asked)

        loaded, tokenizer = load_model(model, device=device, dtype=dtype)
        texts = look_ups(model, tokenizer, 2 if two_hop else 1)

        def progress(done: int, total: int, what: str) -> None:
            tell(model.name, done, total, f"{100 * done // max(1, total)} %, {what}")

        found = run(
            loaded, texts, names=names, budgets=shares, lengths=sizes, contexts=contexts,
            questions=questions, seed=seed, progress=progress,
        )  # fmt: skip
    found = replace(found, manifest=replace(found.manifest, left_out={**left_out, **found.manifest.left_out}))
    failure = _tell(found, output, as_json=as_json)
    if failure:
        complain(failure)
        raise typer.Exit(int(Code.FAILED))
    if found.manifest.interrupted:
        complain("interrupted: these are the figures until then")
        raise typer.Exit(int(Code.INTERRUPTED))


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


def _check_writable(output: Path | None) -> None:
    """Find out before anything is measured whether the files can be written. Leaves nothing behind.

    Raises
    ------
    InputError : they cannot.
    """
    from carrel.evaluation.figures import FORMATS

    if output is None:
        return
    missing = [folder for folder in (output, *output.parents) if not os.path.lexists(folder)]
    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=output):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        there = next(folder for folder in (output, *output.parents) if os.path.lexists(folder))
        raise InputError(f"--output is a folder, and {there} is not") from error
    except OSError as error:
        raise InputError(f"--output: nothing can be written in {output}: {error.strerror or error}") from error
    finally:
        for folder in missing:  # the deepest first
            with suppress(OSError):
                folder.rmdir()
    for file in (output / name for name in (RESULTS, *(FIGURE + suffix for suffix in FORMATS))):
        if file.is_dir():
            raise InputError(f"--output: {file} has to be written, and it is a folder")
        if file.exists() and not os.access(file, os.W_OK):
            raise InputError(f"--output: {file} has to be written, and it is read-only")


def _tell(found: KVEvaluation, output: Path | None, *, as_json: bool) -> str:
    """Show the results and write the files; returns what went wrong with the files.

    The table comes first, and what becomes of it does not keep the files from being written.
    """
    from carrel.evaluation.kv_report import table

    files: list[str] = []
    if as_json:
        failure = _write(found, output, files)
        error = {"error": {"type": "OSError", "message": failure}} if failure else {}
        emit({**json.loads(found.to_json()), "files": files, **error})
        return failure
    try:
        show(table(found, stdout().width))
    finally:
        failure = _write(found, output, files)
    for file in files:
        note(f"written: {file}")
    return failure


def _write(found: KVEvaluation, output: Path | None, files: list[str]) -> str:
    """Write the files, without matplotlib the results alone, and add their paths; returns why it ended early."""
    from carrel.evaluation.kv_report import plot

    if output is None or not found.rows:
        return ""
    try:
        output.mkdir(parents=True, exist_ok=True)
        results = output / RESULTS
        results.write_text(found.to_json(), encoding="utf-8")
        files.append(os.fspath(results))
        files += map(os.fspath, plot(found, output / FIGURE))
    except (InputError, MissingDependencyError) as error:
        warn(f"no figure was drawn: {error}")
    except OSError as error:
        return f"{error.filename or output} cannot be written: {error.strerror or error}"
    return ""
