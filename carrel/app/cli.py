"""The command `carrel`: its commands, their groups and their examples. Nothing heavy is imported for help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import carrel
from carrel.app import adding, asking, evaluating, looking
from carrel.app.failing import CODES_HELP, Commands

app = typer.Typer(
    cls=Commands,
    name="carrel",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=CODES_HELP,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"carrel {carrel.__version__}")
        raise typer.Exit


@app.callback()
def carrel_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find, select and cite the passages that answer a question, inside a token budget, offline."""


_COMMANDS: dict[str, list[tuple[str, Callable[..., None], list[str]]]] = {
    "Ask": [
        (
            "ask",
            asking.ask,
            ["ask 'When was the pier built?'", "ask --explain when was the pier built", "ask --json 'Who built it?' -w year=1887"],
        ),
        (
            "context",
            asking.context,
            ["context 'What changed in the tariff?' --budget 500", "context 'Who may enter?' --cutoff adaptive > prompt.txt"],
        ),
        ("search", asking.search, ["search crane wind limit -k 5", "search 'spill at night' -w kind=report --explain"]),
        ("why", asking.why, ["why handbook/tariff.md 'What does a berth cost?'", "why notice-7 crane limits --budget 200"]),
    ],
    "Fill the library": [
        (
            "add",
            adding.add,
            ["add documents/ report.pdf", "add documents/ --dry-run", "date | carrel add - --id today --title 'The date'"],
        ),
        ("sync", adding.sync, ["sync documents/", "sync documents/ --dry-run"]),
        ("remove", adding.remove, ["remove documents/old.pdf", "remove notice-7 notice-8 --purge"]),
        ("purge", adding.purge, ["purge", "purge --library other/"]),
        ("reindex", adding.reindex, ["reindex", "reindex --collection letters"]),
    ],
    "Look": [
        ("list", looking.list_documents, ["list", "list -w 'title~tariff'", "list -w 'modified_at>=2024-01-01' --json"]),
        ("show", looking.show_document, ["show documents/report.pdf", "show notice-7 --text > notice.txt"]),
        ("doctor", looking.doctor, ["doctor", "doctor --repair"]),
        ("methods", looking.methods, ["methods", "methods --json"]),
        (
            "eval",
            evaluating.evaluate,
            ["eval data/squad --limit 200", "eval data/* --whole --configurations default,dense --output results.json"],
        ),
    ],
}

for _panel, _commands in _COMMANDS.items():
    for _name, _function, _examples in _commands:
        _epilog = "\n\n".join(["Examples:", *(f"  $ {example if '| carrel' in example else f'carrel {example}'}" for example in _examples)])
        app.command(_name, rich_help_panel=_panel, epilog=_epilog)(_function)


def main() -> None:
    """Run the command line."""
    app(prog_name="carrel")
