"""Where output goes: results to stdout, everything else to stderr; colours and wrapping only on a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

_UNWRAPPED = 100_000
_CONTROL = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}
_NOT_ON_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def clean(text: str) -> str:
    """The text without control characters: what a document holds must not steer the terminal."""
    return text.replace("\r\n", "\n").translate(_CONTROL)


def shown(id: str) -> str:  # noqa: A002
    """An id for people: on one line, and a path below the current folder relative to it."""
    here = os.path.join(os.getcwd(), "")
    return on_one_line(id[len(here) :] if id.startswith(here) else id)


def on_one_line(text: str) -> str:
    r"""A name or message with its control characters, line ends too, written as escapes such as ``\n``."""
    return _NOT_ON_A_LINE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _console(stream: TextIO) -> Console:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a name that the encoding cannot hold is no reason to stop
    console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        return Console(file=stream, highlight=False, markup=False, emoji=False, width=_UNWRAPPED, color_system=None)
    if os.environ.get("NO_COLOR"):
        return Console(file=stream, highlight=False, markup=False, emoji=False, color_system=None)
    return console


def stdout() -> Console:
    """For results."""
    return _console(sys.stdout)


def stderr() -> Console:
    """For progress, warnings and errors."""
    return _console(sys.stderr)


def show(*renderables: RenderableType, console: Console | None = None) -> None:
    """Print below one another; strings are cleaned. Away from a terminal nothing is wrapped or padded."""
    console = console or stdout()
    for item in renderables:
        drawn = Text(clean(item)) if isinstance(item, str) else item
        if console.is_terminal:
            console.print(drawn)
            continue
        with console.capture() as captured:
            console.print(drawn)
        console.file.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))
    console.file.flush()


def show_exactly(text: str) -> None:
    """Print a text as it is, with a line end; cleaned only for a terminal, and never wrapped by us."""
    console = stdout()
    console.file.write((clean(text) if console.is_terminal else text) + ("" if text.endswith("\n") else "\n"))
    console.file.flush()


def show_text(text: str) -> None:
    """Print a text: broken at words on a terminal, exactly as it is elsewhere."""
    if stdout().is_terminal:
        show(text)
    else:
        show_exactly(text)


def show_piece(text: str) -> None:
    """Print the next piece of a text that is being written, at once."""
    stream = sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(clean(text).encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def emit(value: object) -> None:
    """Print one JSON document on stdout."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(message: str) -> None:
    """Tell something beside the result."""
    show(Text(clean(message), style="dim"), console=stderr())


def warn(message: str) -> None:
    """Tell what a reader of the result should know."""
    show(Text.assemble(("warning: ", "bold yellow"), clean(message)), console=stderr())


def complain(message: str) -> None:
    """Tell an error."""
    show(Text.assemble(("error: ", "bold red"), clean(message)), console=stderr())
