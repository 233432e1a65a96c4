"""The command that measures how much of the evidence a memory brings back: eval-memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carrel.app import options as given
from carrel.app.console import emit, note, show
from carrel.app.progress import shown_progress
from carrel.errors import InputError, MissingDependencyError
from carrel.inputs import check_source

if TYPE_CHECKING:
    from carrel.evaluation.memory import MemoryEvaluation


def _folder(text: str) -> Path:
    return check_source("the folder of dialogues", text)


Data = Annotated[
    Path,
    typer.Option(
        "--data",
        parser=_folder,
        metavar="FOLDER",
        envvar="CARREL_DATA",
        help="A folder of dialogues, each a folder with turns.jsonl.gz and queries.jsonl.gz; or one dialogue.",
    ),
]
Names = Annotated[
    str | None, typer.Option("--dialogues", metavar="NAME,...", help="Only these dialogues; all by default.")
]
Budget = Annotated[int, typer.Option("--budget", "-b", metavar="TOKENS", min=1, help="Tokens of memory at most.")]
WithReader = Annotated[bool, given.flag("--reader", help="A row with the shipped reader reading the best turns too.")]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw the table to a .svg or .png, with matplotlib.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the figures there, as JSON.")
]
Quiet = Annotated[bool, given.flag("--quiet", "-q", help="No progress.")]


def evaluate_memory(
    data: Data,
    dialogues: Names = None,
    budget: Budget = 1000,
    reader: WithReader = False,
    plot: Plot = None,
    output: Output = None,
    quiet: Quiet = False,
    as_json: given.AsJson = False,
) -> None:
    """Measure how much of the evidence conversation memory brings back within a budget, and when it abstains.

    Long dialogues with questions about them (LoCoMo's format); beside Carrel stand the nearest turns, the best by
    words, and the last ones. Nothing but the shipped models runs.
    """
    _check_writable("--output", output)
    _check_writable("--plot", plot)
    with shown_progress(quiet) as tell:
        tell("loading", 0, None, "")
        from carrel.evaluation.dialogues import load_dialogues
        from carrel.evaluation.memory import evaluate_memory as run

        names = tuple(name.strip() for name in (dialogues or "").split(",") if name.strip())
        found = run(
            load_dialogues(data, names),
            budget=budget,
            reader=reader,
            progress=lambda what, done, total: tell(what, done, total, f"{done:,} of {total:,} questions"),
        )
    written = _write(found, plot, output)
    if as_json:
        emit({**json.loads(found.to_json()), "files": written})
        return
    from carrel.evaluation.memory_report import table

    show(table(found))
    for file in written:
        note(f"written: {file}")


def _check_writable(option: str, file: Path | None) -> None:
    """Find out before anything is measured whether a file can be written."""
    if file is None:
        return
    if option == "--plot":
        from importlib.util import find_spec

        if find_spec("matplotlib") is None:
            raise MissingDependencyError(package="matplotlib", extra="eval", purpose="Plotting results")
        if file.suffix not in (".svg", ".png"):
            raise InputError(f"--plot: a plot is written as .svg or .png, not {file.name!r}")
    if file.is_dir():
        raise InputError(f"{option}: {file} is a folder; name a file in it")
    if not file.absolute().parent.is_dir():
        raise InputError(f"{option}: there is no folder {file.absolute().parent}; make it first")


def _write(found: MemoryEvaluation, plot: Path | None, output: Path | None) -> list[str]:
    written: list[str] = []
    try:
        if output is not None:
            output.write_text(found.to_json() + "\n", encoding="utf-8")
            written.append(str(output))
        if plot is not None:
            from carrel.evaluation.memory_report import plot as draw

            written += [str(file) for file in draw(found, plot)]
    except OSError as error:
        raise InputError(f"{error.filename or 'the file'} cannot be written: {error.strerror or error}") from error
    return written
