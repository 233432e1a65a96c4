"""The command `carrel`: its commands, their groups and their examples. Nothing heavy is imported for help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

import carrel
from carrel.app import (
    adapting,
    adding,
    asking,
    evaluating,
    evaluating_kv,
    evaluating_memory,
    flowing,
    looking,
    remembering,
)
from carrel.app.failing import Command, Commands

app = typer.Typer(
    cls=Commands,
    name="carrel",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"carrel {carrel.__version__}")
        raise typer.Exit


@app.callback()
def carrel_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, metavar="", help="Print the version.")
    ] = False,
) -> None:
    """Find, select and cite the passages that answer a question, inside a token budget, offline."""


_Entry = tuple[str, Callable[..., None], str]
_COMMANDS: Mapping[str, list[_Entry]] = {
    "Ask": [
        (
            "ask",
            asking.ask,
            """
            carrel ask "When was the pier built?"
            carrel ask --json "Who built it?" --where 'year>=1880'
            carrel ask --explain --user ann and in winter
            """,
        ),
        (
            "flow",
            flowing.flow,
            """
            carrel flow iterative "Who led the company that built the pier?" --explain
            carrel flow chain_of_agents "What was decided on the crane?" --document minutes.docx --explain
            carrel flow map_reduce "Which rules name a limit?" -d handbook.pdf --server http://localhost:8000/v1 --plan
            carrel flow literature_review "tides" --server http://localhost:8000/v1 --journal review.journal
            """,
        ),
        (
            "context",
            asking.context,
            """
            carrel context "What changed in the tariff?" --budget 500
            carrel context "Who may enter at night?" --cutoff adaptive > prompt.txt
            """,
        ),
        (
            "search",
            asking.search,
            """
            carrel search crane wind limit -k 5
            carrel search "oil spill at night" --where kind=report --explain
            """,
        ),
        (
            "why",
            asking.why,
            """
            carrel why handbook/tariff.md "What does a berth cost?"
            carrel why notice-7 "When must the crane stop?" --budget 200
            """,
        ),
    ],
    "Fill": [
        (
            "add",
            adding.add,
            """
            carrel add documents/ report.pdf
            carrel add documents/ --dry-run
            date | carrel add - --id today --title "The date" --meta kind=note
            """,
        ),
        (
            "sync",
            adding.sync,
            """
            carrel sync documents/
            carrel sync documents/ --dry-run --verbose
            """,
        ),
        (
            "remove",
            adding.remove,
            """
            carrel remove documents/old.pdf
            carrel remove notice-7 notice-8 --purge
            """,
        ),
        (
            "purge",
            adding.purge,
            """
            carrel purge
            carrel purge --library other-library
            """,
        ),
        (
            "reindex",
            adding.reindex,
            """
            carrel reindex
            carrel reindex --collection letters
            """,
        ),
        (
            "adapters",
            adapting.adapters,
            """
            carrel adapters train --model models/llama notice-7
            carrel adapters list
            carrel adapters remove notice-7
            """,
        ),
    ],
    "Look": [
        (
            "list",
            looking.list_documents,
            """
            carrel list
            carrel list --where 'title~tariff'
            carrel list --where 'modified_at>=2024-01-01' --json
            """,
        ),
        (
            "show",
            looking.show_document,
            """
            carrel show documents/report.pdf
            carrel show notice-7 --text > notice.txt
            """,
        ),
        (
            "doctor",
            looking.doctor,
            """
            carrel doctor
            carrel doctor --repair
            """,
        ),
        (
            "methods",
            looking.methods,
            """
            carrel methods
            carrel methods --json
            """,
        ),
        (
            "eval",
            evaluating.evaluate,
            """
            carrel eval data/squad --limit 200
            carrel eval data/squad --budgets 250,1000 --plot squad.svg
            carrel eval data/squad data/nq --whole --configurations default,dense --output results.json
            """,
        ),
        (
            "eval-kv",
            evaluating_kv.evaluate_kv,
            """
            carrel eval-kv models/llama --output results
            carrel eval-kv models/llama --methods int8,snapkv,paged --budgets 1/4,1/8 --lengths 4096
            carrel eval-kv models/llama --methods all --json > results.json
            """,
        ),
        (
            "eval-memory",
            evaluating_memory.evaluate_memory,
            """
            carrel eval-memory --data data/dialogues
            carrel eval-memory --data data/dialogues --dialogues 41,42 --budget 500 --plot memory.svg
            carrel eval-memory --data data/dialogues --json > memory.json
            """,
        ),
    ],
}


_MEMORY: list[_Entry] = [
    (
        "observe",
        remembering.observe,
        """
        carrel memory observe "My daughter starts school in August."
        carrel memory observe --user ann --session monday --speaker assistant "Noted."
        carrel memory observe --at 2024-05-03 "We moved to Bern."
        """,
    ),
    (
        "recall",
        remembering.recall,
        """
        carrel memory recall "When does school start?"
        carrel memory recall "Where did we live last May?" --budget 300 --explain
        carrel memory recall --user ann "What does she like?" --json
        """,
    ),
    (
        "list",
        remembering.list_turns,
        """
        carrel memory list --last 20
        carrel memory list --sessions --user ann
        carrel memory list --since 2024-05-01 --before 2024-06-01
        """,
    ),
    (
        "import",
        remembering.import_turns,
        """
        carrel memory import conversation.jsonl --user ann
        """,
    ),
    (
        "forget",
        remembering.forget,
        """
        carrel memory forget 12 13
        carrel memory forget --matching "credit card" --dry-run
        carrel memory forget --everything --user ann --purge --yes
        """,
    ),
]


def _paragraphs(text: str) -> str:
    """A docstring with one line a paragraph: the terminal breaks the lines."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _add(to: typer.Typer, panel: str, entries: list[_Entry]) -> None:
    for name, function, examples in entries:
        text = _paragraphs(function.__doc__ or "")
        to.command(name, cls=Command, rich_help_panel=panel, help=text, epilog=examples)(function)


for _panel, _entries in _COMMANDS.items():
    _add(app, _panel, _entries)
memory = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode="rich", add_completion=False)
_add(memory, "Commands", _MEMORY)
app.add_typer(
    memory,
    name="memory",
    rich_help_panel="Remember",
    help="Keep what users say, recall it, and forget it: observe, recall, list, import, forget.",
)


def main() -> None:
    """Run the command line."""
    app(prog_name="carrel")
