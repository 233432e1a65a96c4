"""JSON schemas of the arguments of tools: the part of the standard that function-calling clients share.

Reference: JSON Schema 2020-12. Known here: objects with named properties, strings, integers, numbers, booleans and
arrays of one kind, with ``enum``, ``minimum``, ``maximum``, ``minLength``, ``maxLength``, ``minItems``, ``maxItems``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from carrel.errors import InputError
from carrel.inputs import well_formed

Schema = Mapping[str, Any]

_TYPES = ("object", "array", "string", "integer", "number", "boolean")
_SAID = {
    "object": "an object", "array": "a list", "string": "a text", "integer": "a whole number", "number": "a number",
    "boolean": "true or false",
}  # fmt: skip
_KNOWN = frozenset({
    "type", "description", "title", "default", "examples", "enum", "properties", "required", "additionalProperties",
    "items", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
})  # fmt: skip
_SHOWN = 40  # characters of a value that a message repeats


def check_schema(schema: object, where: str = "the schema of the arguments") -> None:
    """Raise InputError for what is no schema, or one that says more than is checked here."""
    if not isinstance(schema, Mapping) or schema.get("type") not in _TYPES:
        raise InputError(f"{where} is a JSON schema with a type ({', '.join(_TYPES)}), not {schema!r:.100}")
    strange = sorted(f"{name}" for name in schema if name not in _KNOWN)
    if strange:
        raise InputError(
            f"{where} has {', '.join(strange)}, which is not checked here. Known: {', '.join(sorted(_KNOWN))}"
        )
    if schema.get("additionalProperties", False) is not False:
        raise InputError(f"{where} takes properties that it does not name; set additionalProperties to False")
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        raise InputError(f"{where} has properties that are no mapping: {properties!r:.100}")
    missing = [name for name in schema.get("required", ()) if name not in properties]
    if missing:
        raise InputError(f"{where} requires {missing[0]!r}, which is none of its properties")
    for name, inner in properties.items():
        check_schema(inner, f"{where}, {name}")
    if schema["type"] == "array":
        check_schema(schema.get("items"), f"{where}, items")


def checked(value: object, schema: Schema, where: str = "") -> Any:
    """A value that a schema allows, as it is meant: whole numbers as int, optional properties that are null left out.

    Parameters
    ----------
    where : how messages call the value.

    Raises
    ------
    ValueError : the schema does not allow it; says what is wrong and what is wanted, in one line.
    """
    value = _whole(value, schema["type"])
    if not _is_of(value, schema["type"]):
        if not where and schema["type"] == "object":
            raise ValueError(f"the arguments are a JSON object, not {shown(value)}")
        raise ValueError(f"{where or 'it'} is {_SAID[schema['type']]}, not {shown(value)}")
    if "enum" in schema and value not in schema["enum"]:
        raise ValueError(f"{where or 'it'} is one of {', '.join(map(shown, schema['enum']))}, not {shown(value)}")
    _check_bounds(value, schema, where)
    if isinstance(value, Mapping):
        return _checked_object(value, schema, where)
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [checked(item, schema["items"], f"{where}[{place}]") for place, item in enumerate(value)]
    return value


def _checked_object(value: Mapping[Any, Any], schema: Schema, where: str) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", ())
    for name in value:
        if name not in properties:
            takes = ", ".join(properties) or "no arguments"
            raise ValueError(f"there is no {shown(name)}{' in ' + where if where else ''}; it takes {takes}")
    given = {name: item for name, item in value.items() if item is not None or name in required}
    for name in required:
        if name not in given:
            raise ValueError(f"{_joined(where, name)} is missing")
    return {name: checked(item, properties[name], _joined(where, name)) for name, item in given.items()}


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _whole(value: object, kind: str) -> object:
    """A number without a fraction as an int, where one is wanted: JSON knows no difference."""
    is_whole = isinstance(value, float) and math.isfinite(value) and value == int(value)
    return int(value) if kind == "integer" and is_whole else value  # type: ignore[call-overload]


def _is_of(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "number":
        return isinstance(value, (int, float)) and math.isfinite(value)
    kinds: dict[str, type] = {"object": Mapping, "array": list, "string": str, "integer": int}
    return kind in kinds and isinstance(value, kinds[kind])


def _check_bounds(value: Any, schema: Schema, where: str) -> None:
    size, unit = value, ""
    least, most = schema.get("minimum"), schema.get("maximum")
    if isinstance(value, str):
        size, unit, least, most = len(value), " characters", schema.get("minLength"), schema.get("maxLength")
    elif isinstance(value, list):
        size, unit, least, most = len(value), " items", schema.get("minItems"), schema.get("maxItems")
    elif isinstance(value, Mapping):
        return
    verb = "has" if unit else "is"
    if least is not None and size < least:
        wanted = f"{verb} at least {least}{unit}, not {shown(size)}" if size or not unit else "is empty"
        raise ValueError(f"{where or 'it'} {wanted}")
    if most is not None and size > most:
        raise ValueError(f"{where or 'it'} {verb} at most {most}{unit}, not {shown(size)}")


def shown(value: object) -> str:
    """A value as a message repeats it: short, on one line, and in ASCII, so that its tokens are bounded."""
    try:
        said = ascii(value) if not isinstance(value, int) or abs(value) < 10**18 else "a huge number"
    except (RecursionError, ValueError):  # nested, or a number, beyond what Python writes
        said = "something huge"
    return said if len(said) <= _SHOWN else f"{said[: _SHOWN - 3]}..."


def strict(schema: Schema) -> dict[str, Any]:
    """A schema for structured output, where every property is required: those that are optional may be null.

    Bounds are left out: not every server knows them, and ``checked`` holds to them anyway.
    """
    out = {name: schema[name] for name in ("type", "description", "enum") if name in schema}
    if schema["type"] == "array":
        out["items"] = strict(schema["items"])
    if schema["type"] == "object":
        properties: Mapping[str, Schema] = schema.get("properties", {})
        required: Sequence[str] = schema.get("required", ())
        out["properties"] = {
            name: strict(inner) if name in required else {"anyOf": [strict(inner), {"type": "null"}]}
            for name, inner in properties.items()
        }
        out["required"], out["additionalProperties"] = list(properties), False
    return out
