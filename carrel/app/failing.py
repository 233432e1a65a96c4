"""How commands fail: one clean message, an exit code, and with ``--json`` an error document on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import typer
from typer.core import TyperGroup

from carrel.app.console import complain, emit, note
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


CODES_HELP = (
    "Exit codes: 0 ok; 1 something failed, or a file that was named could not be added; 2 bad usage or input; "
    "3 no answer: the documents do not hold one, or nothing was found; 4 a problem with the library (missing, busy, "
    "read-only, damaged, written by a newer version, or found by doctor); 130 interrupted."
)


def code_of(error: CarrelError) -> Code:
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
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        context: Any = getattr(error, "ctx", None)
        hint = f"See: {context.command_path} --help" if context is not None else ""
        message = str(error.format_message())  # type: ignore[attr-defined]
        raise stop("UsageError", _as_sentence(message), Code.BAD_INPUT, as_json=as_json, hint=hint) from error


def _as_sentence(message: str) -> str:
    """A parser's message in the form of ours: no capital, one line."""
    line = " ".join(message.split())
    return line[:1].lower() + line[1:] if line[1:2].islower() else line


class Commands(TyperGroup):
    """All commands. Errors raised on purpose become one message; others keep their traceback."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with _reported(_wants_json(args)):
            return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj = _wants_json(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _reported(bool(ctx.obj)):
            return super().invoke(ctx)


def _wants_json(args: Sequence[str]) -> bool:
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options
