"""Carrel's values as JSON and back, by their declared types: what a journal keeps of replies."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from carrel.errors import InputError


def plain(value: object) -> Any:
    """A value as JSON holds it: dataclasses as mappings, tuples as lists, arrays as lists of numbers;
    an empty one as its shape.

    Raises
    ------
    InputError : a value that cannot be written so, such as an open file.
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist() if value.size else {"shape": list(value.shape)}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(item) for item in value]
    if isinstance(value, functools.partial):
        return [plain(value.func), plain(value.args), plain(value.keywords)]
    if inspect.isroutine(value) or inspect.isclass(value):  # methods, too: what they are bound to is not looked at
        return f"{value.__module__ or 'builtins'}.{value.__qualname__}"
    raise InputError(f"{value!r:.80} cannot be kept in a journal: a {type(value).__name__} is no plain value")


def digest(value: object) -> str:
    """A short fingerprint of a value's content; a request's includes its kind."""
    said = json.dumps([type(value).__name__, plain(value)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def restored(kind: Any, value: Any) -> Any:
    """A value of a declared type from what ``plain`` made of it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or origin is Literal or value is None:
        return value
    if origin in (Union, types.UnionType):
        return restored(_fitting(arguments, value), value)
    if is_dataclass(kind):
        hints = _hints(kind if isinstance(kind, type) else type(kind))
        return kind(**{name: restored(hints[name], item) for name, item in value.items()})  # type: ignore[operator]
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(restored(arguments[0], item) for item in value)
        return tuple(restored(each, item) for each, item in zip(arguments, value, strict=True))
    if origin is list:
        return [restored(arguments[0], item) for item in value]
    if kind is np.ndarray:
        return np.zeros(value["shape"], np.float32) if isinstance(value, dict) else np.asarray(value, np.float32)
    return value


def _fitting(kinds: Sequence[Any], value: Any) -> Any:
    """Which of a union's types a plain value is of: a mapping is the dataclass, a list the tuple or list."""
    for kind in kinds:
        if isinstance(value, dict) and is_dataclass(kind):
            return kind
        if isinstance(value, list) and get_origin(kind) in (tuple, list):
            return kind
    return Any


@lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
