"""Reading the constants of an ONNX model and giving it further inputs, without the onnx package.

A model is a protobuf message: fields of a number, a kind and a value, one after another. Only the fields that an edit
touches are understood here; all others are copied as they are. Numbers of fields: onnx.proto (ONNX, IR version 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from carrel.errors import ModelError

_GRAPH = 7  # of the model
_NODE, _CONSTANT, _INPUT = 1, 5, 11  # of the graph
_NODE_OUTPUT = 2
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9  # of a constant
_VALUE_NAME = 1  # of an input
_VARINT, _BYTES = 0, 2
_WIDTHS = {1: 8, 5: 4}  # bytes of fields of fixed size, by kind
_FLOAT = 1
_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 3: np.dtype("i1"), 6: np.dtype("<i4"), 7: np.dtype("<i8")}


class Field(NamedTuple):
    """A field of a message: its number, its value, and its bytes with the key before them."""

    number: int
    value: int | memoryview
    whole: memoryview

    @property
    def body(self) -> memoryview:
        """The bytes of a text, an array or a message within the message."""
        if isinstance(self.value, int):
            raise ModelError("a field of the model is a number where a message should be: the file is damaged")
        return self.value


def constants(model: bytes, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The constants of the model's graph that have these names.

    Raises
    ------
    ModelError : one is missing, or the file is not an ONNX model.
    """
    wanted = set(names)
    found: dict[str, NDArray[Any]] = {}
    for field in fields(_graph(model).body):
        if field.number == _CONSTANT and (name := _text(field.body, _NAME)) in wanted:
            found[name] = _array(field.body)
    if missing := wanted - set(found):
        raise ModelError(f"the model has no constant {sorted(missing)[0]!r}: it is not the one this was written for")
    return found


def with_inputs(model: bytes, added: Mapping[str, Sequence[int | str]], dropped: Iterable[str] = ()) -> bytes:
    """The model with further float32 inputs, and without what made them before.

    Parameters
    ----------
    added : shapes of the inputs, by their names; a name stands for any number. A constant that has this name becomes
        the input's default; a node's output becomes the input itself if the node is dropped.
    dropped : inputs and outputs of nodes that the graph should not have any more.
    """
    gone = set(dropped)
    kept = [field.whole for field in fields(_graph(model).body) if not _is_dropped(field, gone)]
    inputs = [_message(_INPUT, _value_info(name, shape)) for name, shape in added.items()]
    rest = [field.whole for field in fields(memoryview(model)) if field.number != _GRAPH]
    return b"".join([*rest, _message(_GRAPH, b"".join([*kept, *inputs]))])


def _is_dropped(field: Field, gone: set[str]) -> bool:
    if field.number == _NODE:
        return _text(field.body, _NODE_OUTPUT) in gone
    return field.number == _INPUT and _text(field.body, _VALUE_NAME) in gone


def _graph(model: bytes) -> Field:
    for field in fields(memoryview(model)):
        if field.number == _GRAPH:
            return field
    raise ModelError("the model has no graph: it is not an ONNX file")


def _text(message: memoryview, number: int) -> str:
    """The first text of this number; empty where there is none."""
    return next((str(field.body, "utf-8") for field in fields(message) if field.number == number), "")


def _array(message: memoryview) -> NDArray[Any]:
    shape: list[int] = []
    kind, raw = 0, memoryview(b"")
    for field in fields(message):
        if field.number == _DIMS:
            shape += [field.value] if isinstance(field.value, int) else _varints(field.value)
        elif field.number == _TYPE and isinstance(field.value, int):
            kind = field.value
        elif field.number == _RAW:
            raw = field.body
    if kind not in _TYPES:
        raise ModelError(f"a constant of the model has the type {kind}, which is not read here")
    found: NDArray[Any] = np.frombuffer(raw, _TYPES[kind]).reshape(shape)
    return found


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in order."""
    place = 0
    while place < len(message):
        start = place
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield Field(number, value, message[start:place])
            continue
        size, place = _varint(message, place) if kind == _BYTES else (_WIDTHS.get(kind, -1), place)
        if size < 0 or place + size > len(message):
            raise ModelError("the model ends early or is no ONNX file: it is damaged")
        place += size
        yield Field(number, message[place - size : place], message[start:place])


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place after it."""
    value = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
    raise ModelError("the model ends early or is no ONNX file: it is damaged")


def _varints(data: memoryview) -> list[int]:
    found, place = [], 0
    while place < len(data):
        value, place = _varint(data, place)
        found.append(value)
    return found


def _value_info(name: str, shape: Sequence[int | str]) -> bytes:
    """An input's name and type."""
    dims = b"".join(
        _message(1, _number(1, size) if isinstance(size, int) else _message(2, size.encode())) for size in shape
    )
    tensor = _number(1, _FLOAT) + _message(2, dims)
    return _message(_VALUE_NAME, name.encode()) + _message(2, _message(1, tensor))


def _number(number: int, value: int) -> bytes:
    return _packed(number << 3 | _VARINT) + _packed(value)


def _message(number: int, body: bytes) -> bytes:
    return _packed(number << 3 | _BYTES) + _packed(len(body)) + body


def _packed(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
