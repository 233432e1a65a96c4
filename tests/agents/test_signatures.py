"""Tools of one's own: what clients are told of them, and how a model's mistakes are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from carrel.agents.signatures import Result, Signature, Tool
from carrel.errors import InputError

ALONE = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "naïve"])
def test_a_name_that_clients_refuse_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        Signature(name, "", ALONE)


def test_a_tool_takes_an_object() -> None:
    with pytest.raises(InputError, match="arguments by their names"):
        Signature("echo", "", {"type": "string"})


def _halved(arguments: Mapping[str, Any]) -> str:
    if arguments["n"] % 2:
        raise InputError("only even numbers can be halved")
    return str(arguments["n"] // 2)


HALVE = Tool("halve", "Halve it.", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
             run=_halved)  # fmt: skip


def test_a_tool_of_ones_own() -> None:
    assert HALVE.call({"n": 8}) == "4" == HALVE.call('{"n": 8}') == HALVE.call({"n": 8.0})
    assert HALVE.call({"n": 7}) == "only even numbers can be halved"
    assert HALVE.result({"n": 8}) == Result("4") and HALVE.result({"n": 8}).besides == "4"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "n is missing"), ({"n": None}, "n is a whole number, not None"), ({"n": "8"}, "not '8'"),
        ({"n": 8, "m": 1}, "there is no 'm'; it takes n"),
        ("{", "the arguments are a JSON object, not '{'"), ([8], "a JSON object"),
        ('{"n":' * 9999, "a JSON object"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_told_in_words(arguments: Any, told: str) -> None:
    said = HALVE.call(arguments)
    assert said.startswith("halve was not called: ") and told in said, said


def test_a_bug_of_a_tool_is_an_error() -> None:
    def broken(arguments: Mapping[str, Any]) -> str:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        Tool("broken", "", ALONE, run=broken).call({})


def test_what_is_told_is_shortened() -> None:
    tool = Tool("halve", "", HALVE.parameters, run=_halved, shorten=lambda text: text[:9])
    assert tool.call({}) == "halve was" and tool.call({"n": 7}) == "only even" and tool.call({"n": 8}) == "4"


def test_what_a_client_does_to_a_schema_is_its_own_affair() -> None:
    for said in (HALVE.as_openai()["function"]["parameters"], HALVE.as_mcp()["inputSchema"]):
        said["properties"]["n"]["type"] = "string"
        said["required"].append("m")
    assert HALVE.call({"n": 8}) == "4"
