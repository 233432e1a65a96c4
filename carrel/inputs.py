"""What callers give, checked where it comes in: an error says what is wanted, a half character is made whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from carrel.errors import InputError

_SURROGATES = re.compile("[\ud800-\udfff]")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a Path has lost one of the two slashes


def well_formed(text: str) -> str:
    """The text with each surrogate, which is half a character, replaced by U+FFFD: offsets stay what they are."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def check_text(what: str, value: object) -> str:
    """The value, if it is a text.

    Parameters
    ----------
    what : how the message calls it, such as "a question".
    """
    if isinstance(value, str):
        return value
    advice = " Decode it first: value.decode()" if isinstance(value, (bytes, bytearray)) else ""
    raise InputError(f"{what} is a text, not {value!r:.100}.{advice}")


def check_texts(what: str, each: str, values: object) -> list[str]:
    """The values as a list, if they are texts; the names are for the message."""
    if not isinstance(values, Iterable) or isinstance(values, (bytes, bytearray)):
        raise InputError(f"{what} are texts, not {values!r:.100}")
    return [check_text(each, value) for value in values]


def check_kind(what: str, value: object, kind: type) -> None:
    """Raise InputError unless the value is None or of this kind."""
    if value is not None and not isinstance(value, kind):
        found = f"the class {value.__name__} itself" if isinstance(value, type) else f"{value!r:.100}"
        raise InputError(f"{what} is an object of {kind.__module__}.{kind.__qualname__}, not {found}")


def check_path(what: str, value: object) -> Path:
    """The value as a path, if it can name a file or a folder."""
    if not isinstance(value, (str, Path)):
        raise InputError(f"{what} is a path, as a text or a pathlib.Path, not {value!r:.100}")
    if value == "":
        raise InputError(f"{what} is an empty text. Name a file or a folder; the one you are in is: .")
    if "\0" in str(value):
        raise InputError(f"{what} cannot hold a NUL character: {value!r:.100}")
    return Path(value)


def check_source(what: str, value: object) -> Path:
    """The value as the path of what is read, which no address is."""
    path = check_path(what, value)
    if _is_address(value) and not os.path.lexists(path):
        raise InputError(f"{value} is an address, and only files and folders can be read. Save it as a file first.")
    return path


def _is_address(value: object) -> bool:
    text = os.fspath(value) if isinstance(value, (str, Path)) else ""
    return "://" in text or _ADDRESS.match(text) is not None


def check_flag(what: str, value: object) -> None:
    """Raise InputError unless the value is true or false."""
    if not isinstance(value, bool):
        raise InputError(f"{what} is True or False, not {value!r:.100}")


def check_progress(value: object) -> None:
    """Raise InputError unless the value is None or can be called."""
    if value is not None and not callable(value):
        raise InputError(f"progress is a function that is called with IngestProgress, not {value!r:.100}")


def library_folder(value: object) -> Path:
    """The folder of a library.

    Raises
    ------
    InputError : it is no path, or the address of a server.
    """
    path = check_path("the place of a library", value)
    if _is_address(value):
        raise InputError(
            f"{value} is an address, but a library can only be a folder so far. Name a folder, such as: my-library"
        )
    return path
