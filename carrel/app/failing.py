"""How commands fail: one clean message, an exit code, and with ``--json`` an error document on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from inspect import cleandoc
from typing import Any

import typer
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from carrel.app.console import complain, emit, note, show
from carrel.errors import CarrelError, InputError, StoreError

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""The command line parser's own base class: typer has had it from click, and brings its own since."""


class Code(IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2
    NO_ANSWER = 3
    LIBRARY = 4
    INTERRUPTED = 130
    CLOSED_PIPE = 141  # 128 + SIGPIPE, as shells report it of other programs


CODES_HELP = (
    (Code.OK, "ok"),
    (Code.FAILED, "something failed, or a file that was named could not be added"),
    (Code.BAD_INPUT, "bad usage or input"),
    (Code.NO_ANSWER, "no answer: the documents do not seem to hold one, or nothing was found"),
    (Code.LIBRARY, "the library: missing, busy, read-only, damaged, newer than this Carrel, or not in order (doctor)"),
    (Code.INTERRUPTED, "interrupted"),
    (Code.CLOSED_PIPE, "what read the output had enough, as in: carrel list | head"),
)


def code_of(error: CarrelError) -> Code:
    """The exit code that stands for an error."""
    if isinstance(error, InputError):
        return Code.BAD_INPUT
    return Code.LIBRARY if isinstance(error, StoreError) else Code.FAILED


def stop(kind: str, message: str, code: Code, *, as_json: bool, hint: str = "") -> typer.Exit:
    """Report a failure; raise what is returned."""
    if as_json:
        emit({"error": {"type": kind, "message": message}})
    complain(message)
    if hint:
        note(hint)
    return typer.Exit(int(code))


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    try:
        yield
    except CarrelError as error:
        raise stop(type(error).__name__, str(error), code_of(error), as_json=as_json) from error
    except KeyboardInterrupt as error:
        raise stop("Interrupted", "interrupted", Code.INTERRUPTED, as_json=as_json) from error
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        _drop_output()  # rich makes a SystemExit of a closed pipe
        raise typer.Exit(int(Code.CLOSED_PIPE)) from error
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        context: Any = getattr(error, "ctx", None)
        hint = f"See: {context.command_path} --help" if context is not None else ""
        message = str(error.format_message())  # type: ignore[attr-defined]
        raise stop("UsageError", _as_sentence(message), Code.BAD_INPUT, as_json=as_json, hint=hint) from error


def _drop_output() -> None:
    """Nobody reads any more: what is still buffered must not fail again when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (BrokenPipeError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _as_sentence(message: str) -> str:
    """A parser's message in the form of ours: no capital, one line."""
    line = " ".join(message.split())
    return line[:1].lower() + line[1:] if line[1:2].islower() else line


class Command(TyperCommand):
    """One command; its epilog is its examples, a line each."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        epilog, self.epilog = self.epilog, None
        try:
            super().format_help(ctx, formatter)
        finally:
            self.epilog = epilog
        show(Text(" Examples", style="bold"), _indented(cleandoc(epilog or "")), "")


class Commands(TyperGroup):
    """All commands. Errors raised on purpose become one message; others keep their traceback."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        table = Table.grid(padding=(0, 2, 0, 0))
        for code, meaning in CODES_HELP:
            table.add_row(Text(f"{int(code)}", justify="right"), meaning)
        show(Text(" Exit codes", style="bold"), _indented(table), "")

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with _reported(_wants_json(args)):
            return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj = _wants_json(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _reported(bool(ctx.obj)):
            return super().invoke(ctx)


def _indented(item: RenderableType) -> Padding:
    return Padding(item, (0, 0, 0, 3), expand=False)


def _wants_json(args: Sequence[str]) -> bool:
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options
