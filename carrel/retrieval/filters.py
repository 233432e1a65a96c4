"""Metadata filters, compiled to SQL: ``{"year": {">=": 2020}, "kind": "report"}``.

A filter is typed: a number matches numbers, a text matches texts, true and false match booleans. It can
narrow what a tenant sees and never widen it: tenant and collection are not metadata.

A list of values is one parameter of the query, however long. Conditions and nesting have limits, since SQLite has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, select, text, true
from sqlalchemy.sql import exists

from carrel.errors import FilterError
from carrel.retrieval.store import schema

Where = Mapping[str, object]
MOST_CONDITIONS = 100
MOST_LEVELS = 8

_COLUMNS: dict[str, ColumnElement[Any]] = {
    "id": schema.documents.c.key,
    "title": schema.documents.c.title,
    "source": schema.documents.c.source,
    "media_type": schema.documents.c.media_type,
    "modified_at": schema.documents.c.modified_at,
    "added_at": schema.documents.c.added_at,
}
_BEYOND = 2**63
_LISTS = (list, tuple, set, frozenset)
_ORDERINGS = ("<", "<=", ">", ">=")
_OPERATORS = ("==", "!=", *_ORDERINGS, "in", "not in", "exists", "contains")


def compile_filter(where: Where | None) -> ColumnElement[bool]:
    """The condition on ``documents`` that a filter means.

    Raises
    ------
    FilterError : an unknown operator, a value of a type that cannot be compared, or more than ``MOST_CONDITIONS``
        or ``MOST_LEVELS``; the text lists what can be.
    """
    if where is None:
        return true()
    if (found := _conditions(where, 1)) > MOST_CONDITIONS:
        raise FilterError(
            f"the filter has {found:,} conditions, and can have {MOST_CONDITIONS:,}."
            ' Give the values of one field as a list: {"id": ["a", "b"]}'
        )
    return _all(where)


def _conditions(where: object, level: int) -> int:
    """How many conditions a filter has, all levels of it together."""
    if level > MOST_LEVELS:
        raise FilterError(f"the filter is nested more than {MOST_LEVELS} levels deep. Write it flatter.")
    if not isinstance(where, Mapping):
        raise FilterError(f"a filter is a mapping of fields to conditions, not {type(where).__name__}")
    found = 0
    for field, condition in where.items():
        if field == "any":
            if not isinstance(condition, Sequence) or isinstance(condition, (str, bytes)):
                raise FilterError('"any" takes a list of filters: {"any": [{"year": 2020}, {"year": 2021}]}')
            found += sum(_conditions(part, level + 1) for part in _merged(condition))
        elif field == "not":
            if not isinstance(condition, Mapping):
                raise FilterError('"not" takes a filter: {"not": {"kind": "draft"}}')
            found += _conditions(condition, level + 1)
        else:
            found += max(1, len(condition)) if isinstance(condition, Mapping) else 1
    return found


def _merged(parts: Sequence[Any]) -> list[Any]:
    """The alternatives of an ``any``, with those that are values of one field as one list of values."""
    values: dict[object, list[object]] = {}
    rest: list[object] = []
    for part in parts:
        if isinstance(part, Mapping) and len(part) == 1:
            ((field, value),) = part.items()
            if field not in ("any", "not") and not isinstance(value, Mapping):
                values.setdefault(field, []).extend(value if isinstance(value, _LISTS) else [value])
                continue
        rest.append(part)
    return [*({field: found} for field, found in values.items()), *rest]


def _all(where: Mapping[str, Any]) -> ColumnElement[bool]:
    return and_(true(), *(_clause(field, condition) for field, condition in where.items()))


def _clause(field: str, condition: Any) -> ColumnElement[bool]:
    if field == "any":
        return or_(false(), *(_all(part) for part in _merged(condition)))
    if field == "not":
        return not_(_all(condition))
    if not isinstance(condition, Mapping):
        return _compare(field, "in" if isinstance(condition, _LISTS) else "==", condition)
    if not condition:
        raise FilterError(f"the condition on {field!r} is empty. Use one of: {', '.join(_OPERATORS)}")
    return and_(*(_compare(field, operator, value) for operator, value in condition.items()))


def _check_text(text: object) -> None:
    """Refuse what no database can hold: a field that is no text, and halves of surrogate pairs."""
    if not isinstance(text, str):
        raise FilterError(f"the name of a field is a text, not {text!r}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FilterError(f"{text!r} is no valid text ({error.reason})") from error


def _compare(field: str, operator: str, value: object) -> ColumnElement[bool]:
    _check_text(field)
    if operator not in _OPERATORS:
        raise FilterError(f"unknown operator {operator!r} on {field!r}. Use one of: {', '.join(_OPERATORS)}")
    if operator == "exists":
        if not isinstance(value, bool):
            raise FilterError(f"'exists' on {field!r} takes true or false, not {value!r:.100}")
        found = _exists(field)
        return found if value else not_(found)
    if operator == "contains":
        return _contains(field, value)
    if operator in ("in", "not in"):
        if not isinstance(value, _LISTS):
            raise FilterError(f"{operator!r} on {field!r} takes a list of values")
        matched = _equals_any(field, value)
        return matched if operator == "in" else not_(matched)
    if operator in ("==", "!="):
        matched = _equals(field, value)
        return matched if operator == "==" else not_(matched)
    return _ordered(field, operator, value)


def _member(field: str, column: str) -> ColumnElement[Any]:
    """The type or the value of a metadata field, NULL where it is missing.

    By its decoded name: a JSON path would see names as they are escaped, and quotes in them as syntax.
    """
    members = func.json_each(schema.documents.c.metadata).table_valued("key", "value", "type")
    return select(members.c[column]).select_from(members).where(members.c.key == field).scalar_subquery()


def _type(field: str) -> ColumnElement[Any]:
    return func.coalesce(_member(field, "type"), "missing")


def _value(field: str) -> ColumnElement[Any]:
    return _member(field, "value")


def _types(field: str, value: object) -> tuple[str, ...]:
    """The JSON types that a value of this Python type may equal."""
    if isinstance(value, bool):
        return ("true", "false")
    if isinstance(value, (int, float)):
        if value != value or (isinstance(value, int) and not -_BEYOND <= value < _BEYOND):
            raise FilterError(f"cannot compare {field!r} with {value!r}: it is no number, or one beyond 64 bits")
        return ("integer", "real")
    if isinstance(value, str):
        _check_text(value)
        return ("text",)
    raise FilterError(f"cannot compare {field!r} with a {type(value).__name__}. Use a text, a number, true or false.")


def _equals(field: str, value: object) -> ColumnElement[bool]:
    if value is None:
        return not_(_exists(field))
    types = _types(field, value)
    if field in _COLUMNS:
        return func.coalesce(_COLUMNS[field] == value, false()) if _column_takes(field, value) else false()
    return and_(_type(field).in_(types), _value(field) == value)


def _equals_any(field: str, values: Iterable[object]) -> ColumnElement[bool]:
    """Equal to one of the values. All texts are one parameter, as a JSON list, and so are all numbers."""
    single: dict[bool | None, None] = {}
    odd: list[str] = []  # texts with a NUL, where SQLite's JSON ends
    many: dict[tuple[str, ...], list[object]] = {}
    for value in values:
        if value is None or isinstance(value, bool):
            single[value] = None
            continue
        types = _types(field, value)
        if isinstance(value, str) and "\0" in value:
            odd.append(value)
        else:
            many.setdefault(types, []).append(value)
    clauses = [_equals(field, value) for value in single]
    for types, alike in many.items():
        if field in _COLUMNS and not _column_takes(field, alike[0]):
            continue
        listed = json.dumps(alike, ensure_ascii=False)
        if "text" not in types:
            listed = listed.replace("Infinity", "9e999")  # which JSON does not have
        items = func.json_each(listed).table_valued("value")
        left = _COLUMNS[field] if field in _COLUMNS else _value(field)
        among = left.in_(select(items.c.value))
        clauses.append(func.coalesce(among, false()) if field in _COLUMNS else and_(_type(field).in_(types), among))
    if odd and field in _COLUMNS:
        clauses.append(func.coalesce(_COLUMNS[field].in_(odd), false()))
    return or_(false(), *clauses)


def _ordered(field: str, operator: str, value: object) -> ColumnElement[bool]:
    types = _types(field, value)
    if isinstance(value, bool):
        raise FilterError(f"{operator!r} on {field!r} needs a number or a text, not {value!r}")
    left = _COLUMNS.get(field)
    if left is None:
        left = _value(field)
    elif not _column_takes(field, value):
        raise FilterError(
            f"{field!r} is compared with {'a number (seconds since 1970)' if field.endswith('_at') else 'a text'}"
        )
    compared = left.op(operator)(value)
    return func.coalesce(compared, false()) if field in _COLUMNS else and_(_type(field).in_(types), compared)


def _column_takes(field: str, value: object) -> bool:
    return isinstance(value, str) != field.endswith("_at")


def _exists(field: str) -> ColumnElement[bool]:
    if field in _COLUMNS:
        return _COLUMNS[field].is_not(None)
    return _type(field).not_in(("missing", "null"))


def _contains(field: str, value: object) -> ColumnElement[bool]:
    """A list holds the value, or a text holds it as a part."""
    if not isinstance(value, (str, int, float)):
        raise FilterError(f"'contains' on {field!r} takes a text or a number")
    types = _types(field, value)
    if field in _COLUMNS:
        return func.coalesce(func.instr(_COLUMNS[field], str(value)) > 0, false())
    items = func.json_each(func.iif(_type(field) == "array", _value(field), "[]")).table_valued("value", "type")
    in_list = exists(select(text("1")).select_from(items).where(items.c.value == value, items.c.type.in_(types)))
    in_text = and_(_type(field) == "text", func.instr(_value(field), str(value)) > 0)
    return or_(in_list, in_text) if isinstance(value, str) else in_list


__all__ = ["MOST_CONDITIONS", "MOST_LEVELS", "Where", "compile_filter"]
