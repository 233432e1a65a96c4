"""The command that measures: eval."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carrel.app import options as given
from carrel.app import shapes
from carrel.app.console import emit, note, show
from carrel.app.progress import shown_progress
from carrel.errors import InputError, MissingDependencyError
from carrel.inputs import check_source

if TYPE_CHECKING:
    from carrel.evaluation import Dataset, Evaluation

_CONFIGURATIONS = "default,fast,dense,lexical"


def _folder(text: str) -> Path:
    return check_source("the folder of a question set", text)


Folders = Annotated[
    list[Path],
    typer.Argument(
        parser=_folder, metavar="DATASET_DIR", help="A folder with corpus.jsonl and queries.jsonl, or both as .gz."
    ),
]
Configurations = Annotated[
    str,
    typer.Option(
        "--configurations",
        metavar="NAME,...",
        help="Rows of the table. One more, first, is always there: the beginnings of the documents in stored"
        " order, whatever the question, which every method must beat.",
    ),
]
Budgets = Annotated[
    str | None,
    typer.Option("--budgets", metavar="TOKENS,...", help="Context budgets; by default from 64 to 4,000."),
]
Limit = Annotated[
    int | None, typer.Option("--limit", "-k", metavar="N", help="Questions of each set at most, drawn at random.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of that draw and of the intervals.")]
Whole = Annotated[bool, given.flag("--whole", help="Merge the sets: each is asked against all documents.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write every question's scores as JSON.")
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw recall against tokens, as .svg or .png.")
]
Keep = Annotated[
    Path | None,
    typer.Option("--keep", metavar="FOLDER", help="Keep the libraries here: the next run embeds nothing again."),
]
Quiet = Annotated[bool, given.flag("--quiet", "-q", help="No progress.")]


def evaluate(
    folders: Folders,
    configurations: Configurations = _CONFIGURATIONS,
    budgets: Budgets = None,
    limit: Limit = None,
    seed: Seed = 0,
    whole: Whole = False,
    output: Output = None,
    plot: Plot = None,
    keep: Keep = None,
    quiet: Quiet = False,
    as_json: given.AsJson = False,
) -> None:
    """Measure retrieval on question sets with known evidence.

    Libraries are made in a temporary folder. Needs no model beyond the shipped ones; --plot needs matplotlib.
    """
    from carrel.evaluation import evaluate as run
    from carrel.evaluation import report
    from carrel.evaluation.runner import BUDGETS

    _check_plot(plot)
    names = [name.strip() for name in configurations.split(",") if name.strip()]
    sizes = _numbers(budgets) if budgets else BUDGETS
    datasets = _load(folders, whole=whole, limit=limit, seed=seed)
    shown: list[dict[str, object]] = []
    for dataset in datasets:
        with shown_progress(quiet) as tell:

            def progress(what: str, done: int, total: int, name: str = dataset.name) -> None:
                figures = "documents are embedded" if what == "library" else f"{done:,} of {total:,} questions"
                tell(f"{name}, {what}", done, total, figures)

            found = run(dataset, names, budgets=sizes, library_path=keep, progress=progress, seed=seed)
        mark = dataset.name if len(datasets) > 1 else ""
        files = _write(found, output, plot, mark)
        shown.append(shapes.evaluation(found, files) if as_json else {})
        if not as_json:
            show(report.table(found))
        for file in files:
            note(f"written: {file}")
    if as_json:
        emit({"evaluations": shown})


def _load(folders: Sequence[Path], *, whole: bool, limit: int | None, seed: int) -> list[Dataset]:
    from carrel.evaluation import load_collection, load_dataset

    folders = list({folder.resolve(): folder for folder in folders}.values())  # one named twice is measured once
    if whole:
        return [load_collection(folders, limit=limit, seed=seed)]
    return [load_dataset(folder, limit=limit, seed=seed) for folder in folders]


def _check_plot(plot: Path | None) -> None:
    """Find out before the work, not after it, that the figure cannot be drawn."""
    if plot is None:
        return
    from carrel.evaluation.figures import FORMATS

    if plot.suffix not in ("", *FORMATS):
        raise InputError(f"a plot is written as {' or '.join(FORMATS)}, not {plot.suffix!r}")
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("matplotlib", "eval", "--plot")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"--budgets takes numbers and commas, such as 64,500,2000, not {text!r}") from None


def _write(found: Evaluation, output: Path | None, plot: Path | None, mark: str) -> list[str]:
    """Write the files asked for; with several sets the name of each is part of its files' names."""
    from carrel.evaluation import report

    written: list[str] = []
    if output is not None:
        target = _marked(output, mark)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(found.to_json(), encoding="utf-8")
        written.append(str(target))
    if plot is not None:
        target = _marked(plot, mark)
        target.parent.mkdir(parents=True, exist_ok=True)
        written += [str(path) for path in report.plot(found, target)]
    return written


def _marked(path: Path, mark: str) -> Path:
    return path.with_name(f"{path.stem}-{mark}{path.suffix}") if mark else path
