"""What agents may do with a memory."""

from __future__ import annotations

import pytest

import carrel
from carrel.errors import BudgetError, InputError
from carrel.memory.tools import memory_tools
from carrel.testing import HashEncoder


def test_a_tool_recalls_what_another_remembered(make) -> None:
    with make() as memory:
        recall, remember = memory.as_tools(budget=100)
        assert (recall.name, remember.name) == ("recall", "remember")
        assert remember.call({"note": "The user's goat\nis called Zora."}) == "It is kept."
        assert [(turn.text, turn.speaker) for turn in memory.turns()] == [
            ("The user's goat is called Zora.", "assistant")
        ]
        (recall, _) = memory.in_session("next").as_tools(budget=100)
        assert "goat is called Zora." in recall.call({"question": "What is the goat called?"})
        assert memory.tokenizer.count(recall.call({"question": "goat " * 50})) <= 100


def test_mistakes_of_a_model_are_answered_in_words(make) -> None:
    with make() as memory:
        recall, remember = memory.as_tools()
        assert recall.call({"question": "goat"}) == "Nothing of this was said."
        assert "has no words" in recall.call({"question": "?"})
        assert "is empty" in remember.call({"note": "  "})
        assert "question" in recall.call({})
        assert memory.turns() == []


def test_budgets_are_checked(make) -> None:
    with make() as memory:
        for budget in (0, 63, True, "x"):
            with pytest.raises(BudgetError):
                memory_tools(memory, budget=budget)  # type: ignore[arg-type]


def test_the_tools_of_a_library_may_be_of_a_memory(tmp_path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        memory = library.memory(user="ann")
        tools = {tool.name: tool for tool in library.as_tools(memory=memory)}
        assert list(tools) == ["search", "read", "list", "recall", "remember"]
        tools["remember"].call({"note": "Ann keeps bees."})
        assert [turn.text for turn in memory.turns()] == ["Ann keeps bees."]
        with pytest.raises(InputError, match="either notes or a memory"):
            library.as_tools(memory=memory, notes=[])
        with pytest.raises(InputError, match="a memory is an object of"):
            library.as_tools(memory="ann")  # type: ignore[arg-type]
