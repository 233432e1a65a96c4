"""The shipped memory against the kit, and the kit against memories that break its rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import carrel
from carrel.memory import ConversationMemory
from carrel.memory import open as open_memory
from carrel.memory.base import Memory, Recollection, StoredTurn
from carrel.testing import HashEncoder, MemoryConformance


class TestConversationMemory(MemoryConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self.folder, self.opened = tmp_path, list[ConversationMemory]()
        yield
        for memory in self.opened:
            memory.close()

    def make(self) -> ConversationMemory:
        folder = self.folder / f"{len(self.opened)}"
        self.opened.append(open_memory(folder, user="ann", encoder=HashEncoder()))
        return self.opened[-1]


class TestTheMemoryOfALibrary(TestConversationMemory):
    def make(self) -> ConversationMemory:
        library = carrel.open(self.folder / f"{len(self.opened)}", encoder=HashEncoder())
        memory = library.memory(user="ann", session="elsewhere")
        memory._on_close = library.close
        self.opened.append(memory)
        return memory


class Broken(Memory):
    """A memory around another, of which one thing is wrong."""

    name = "broken"

    def __init__(self, sound: Memory, fault: str) -> None:
        self.sound, self.fault = sound, fault

    def observe(self, text: str, *, speaker: str = "user", said_at: Any = None) -> StoredTurn:
        turn = self.sound.observe(text or "x", speaker=speaker, said_at=said_at)
        return replace(turn, text=text.strip()) if self.fault == "text" else turn

    def recall(self, query: str, *, budget: int = 1000) -> Recollection:
        found = self.sound.recall(query, budget=1000 if self.fault == "budget" else budget)
        if self.fault == "nothing":
            return replace(found, recent=(), recalled=(), text="", stable="")
        return found


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("text", lambda kit: kit.test_a_turn_is_given_back_as_it_was_said()),
        ("budget", lambda kit: kit.test_a_budget_is_never_exceeded()),
        ("nothing", lambda kit: kit.test_what_was_said_is_recalled()),
        ("empty", lambda kit: kit.test_bad_input_is_refused()),
    ],
)
def test_the_kit_notices(tmp_path: Path, fault: str, test: Any) -> None:
    with open_memory(tmp_path, user="ann", encoder=HashEncoder()) as memory:

        class Kit(MemoryConformance):
            def make(self) -> Memory:
                return Broken(memory, fault)

        with pytest.raises((AssertionError, pytest.fail.Exception)):
            test(Kit())
