"""Where the documents do not answer a question about the user, what the user said is quoted, word for word."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

import carrel
from carrel.generation.base import Generator
from carrel.generation.extractive import ABSTENTION
from carrel.generation.remembered import Remembered, telling
from carrel.memory.base import Recalled, Recollection, StoredTurn
from carrel.testing import FakeGenerator, GeneratorConformance, WordTokenizer
from carrel.types import Completion, Prompt, TextEvent, Usage, UsageEvent

MAY = datetime(2026, 5, 12, 11, tzinfo=timezone.utc).timestamp()


def turn(id: int, text: str, speaker: str = "user") -> StoredTurn:  # noqa: A002
    return StoredTurn(id, "s", speaker, text, MAY + id)


def recollection(*found: Recalled, query: str = "Where do I live?", answerable: float = 0.9) -> Recollection:
    return Recollection(query, query, True, answerable, (), (), "", "", 0, 1000, found)


MARTA = Recalled((turn(7, "My sister Marta moved to York."),), 9.0)
HULL = Recalled((turn(1, "I live in Hull."),), 9.0)


class Abstaining(Generator):
    name = "abstaining"
    cites = True

    tokenizer = WordTokenizer()

    def complete(self, prompt: Prompt) -> Completion:
        return Completion(ABSTENTION, Usage(7, 0, 0, self.tokenizer.name), "abstained", "abstaining", (), 0.1)


def test_the_turn_is_quoted_with_its_day() -> None:
    found = Remembered(Abstaining(), recollection(HULL)).complete(Prompt("Where do I live?"))
    assert found.text == "You said on 12 May 2026: “I live in Hull.”"
    assert (found.finish_reason, found.citations, found.confidence) == ("stop", (), 0.9)
    assert found.usage.prompt_tokens == 7 and found.usage.completion_tokens > 0 and found.metrics["quoted_turns"] == 1


def test_what_the_documents_answer_is_theirs() -> None:
    answerer = FakeGenerator("In Hull [1].")
    assert Remembered(answerer, recollection(HULL)).complete(Prompt("Where?")).text == "In Hull [1]."


@pytest.mark.parametrize(
    ("found", "query", "answerable", "ids"),
    [
        ((HULL,), "Where do I live?", 0.9, [1]),
        ((HULL,), "Where do I live?", 0.4, []),
        ((HULL,), "When does the ferry leave?", 0.9, []),  # nobody's memory knows
        ((MARTA,), "Where does Marta live?", 0.9, [7]),
        ((MARTA,), "Where is Marta’s flat?", 0.9, [7]),
        ((MARTA,), "Where is Marta’s flat?", 0.4, []),
        ((MARTA,), "Where is York?", 0.9, []),  # that she lives there makes it no question about her
        ((), "Where do I live?", 0.9, []),
        ((Recalled((turn(3, "Where do I live?"),), 9.5), HULL), "Where do I live?", 0.9, [1]),
        ((Recalled((turn(3, "You live in Rome.", "assistant"),), 9.5), HULL), "Where do I live?", 0.9, [1]),
        ((Recalled((turn(4, "I sleep in York."),), 9.5), HULL), "Where do I live?", 0.9, [4, 1]),
        ((Recalled((turn(4, "I sleep in York."),), 19.5), HULL), "Where do I live?", 0.9, [4]),
        ((Recalled((turn(4, "I moved to York."),), 9.5, superseded=HULL.turns), HULL), "Where do I live?", 0.9, [4]),
        ((Recalled((turn(5, "Rex barks.", "Ann"),), 9.0),), "What does Ann's dog do?", 0.9, [5]),
    ],
)  # fmt: skip
def test_which_turns_tell(found, query, answerable, ids) -> None:
    assert [one.id for one in telling(recollection(*found, query=query, answerable=answerable))] == ids


def test_others_are_named_and_lines_are_joined() -> None:
    told = recollection(Recalled((turn(1, "Rex  barks.\nA lot.", "Ann"),), 9.0), query="What does Ann's dog do?")
    assert Remembered(Abstaining(), told).complete(Prompt("?")).text == "Ann said on 12 May 2026: “Rex barks. A lot.”"


def test_a_library_answers_from_its_memory(tmp_path: Path) -> None:
    """With the shipped embedder and reader; an abstention stays one where nobody said anything of it."""
    with carrel.open(tmp_path / "library") as library:
        library.add_text("The ferry to Skye leaves Mallaig at 09:40 in summer. It carries cars.", id="ferry")
        memory = library.memory(user="ann", session="old")
        memory.observe("My sister Marta is a vet in York.", said_at=MAY)
        memory.observe("I am allergic to peanuts.", said_at=MAY + 60)
        memory.flush()
        new = library.memory(user="ann", session="new")
        answer = library.ask("Where does my sister work?", memory=new)
        assert answer.text == "You said on 12 May 2026: “My sister Marta is a vet in York.”"
        assert not answer.abstained and answer.citations == () and answer.confidence == pytest.approx(0.85, abs=0.15)
        line = next(entry for entry in answer.ledger.entries if entry.stage == "answer")
        assert line.details["quoted_turns"] == 1
        events = list(library.stream("What am I allergic to?", memory=new))
        assert "".join(one.text for one in events if isinstance(one, TextEvent)).endswith("“I am allergic to peanuts.”")
        assert isinstance(events[-1], UsageEvent) and events[-1].finish_reason == "stop"
        assert "09:40" in library.ask("When does the ferry to Skye leave?", memory=new).text
        new.observe("My boat is called Nora.", said_at=MAY)
        assert "“My boat is called Nora.”" in library.ask("What is my boat called?", memory=new).text  # of today
        assert library.ask("What is my blood type?", memory=new).abstained
        assert library.ask("Where does my sister work?").abstained  # nobody's memory was given
        bob = library.memory(user="bob", session="new")
        assert library.ask("Where does my sister work?", memory=bob).abstained


class TestRemembered(GeneratorConformance):
    def make(self) -> Generator:
        return Remembered(Abstaining(), recollection(HULL))
