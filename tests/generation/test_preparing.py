"""Asking with a memory: what it holds goes into the prompt and the budget, and what was said is kept."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import carrel
from carrel.errors import InputError, RateLimitError, StoreReadOnlyError
from carrel.generation.preparing import MEMORY_SHARE
from carrel.memory.base import Memory, Recollection, StoredTurn
from carrel.testing import FakeGenerator, HashEncoder, WordTokenizer
from carrel.types import Document, Prompt, Turn

fixtures = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


class Planned(Memory):
    """Recalls what it was made with, and keeps what it observes."""

    name = "planned"

    def __init__(self, rewritten: str = "", text: str = "", stable: str = "", recent: tuple[Turn, ...] = ()) -> None:
        self.rewritten, self.text, self.stable, self.recent = rewritten, text, stable, recent
        self.said: list[tuple[str, str]] = []

    def observe(self, text, *, speaker="user", said_at=None) -> StoredTurn:
        self.said.append((speaker, text))
        return StoredTurn(len(self.said), "s", speaker, text, 0.0)

    def recall(self, query, *, budget=1000) -> Recollection:
        kept = WordTokenizer().truncate(self.text, budget)
        rewritten = self.rewritten or query
        return Recollection(query, rewritten, True, 1.0, self.recent, (), self.stable, kept, budget, budget)


@pytest.fixture
def library(tmp_path):
    with carrel.open(tmp_path / "library", encoder=HashEncoder(), tokenizer=WordTokenizer()) as library:
        ferries = [Document(f"The ferry to island {each} leaves at {each}.", f"f{each}") for each in range(1, 9)]
        library.add([*ferries, Document("The lamp burns.", "lamp")])
        yield library


def test_what_is_recalled_goes_into_the_prompt_and_the_turn_into_the_memory(library) -> None:
    memory = library.memory(user="ann", session="old")
    memory.observe("I am going to island 3, with my goat Zora.")
    generator = FakeGenerator("At 3 [1].")
    new = library.memory(user="ann", session="new")
    answer = library.ask("When does the ferry to island 3 leave for my goat?", generator=generator, memory=new)
    (prompt,) = generator.prompts
    assert "with my goat Zora" in "\n".join(prompt.notes)
    assert [(turn.speaker, turn.text) for turn in new.turns(session="new")] == [
        ("user", "When does the ferry to island 3 leave for my goat?"), ("assistant", answer.text),
    ]  # fmt: skip
    assert answer.ledger.entries[0].stage == "recall"
    library.ask("And the lamp?", generator=generator, memory=new)
    assert [turn.text for turn in generator.prompts[-1].history][:1] == [
        "When does the ferry to island 3 leave for my goat?"
    ]


def test_what_is_looked_for_is_the_whole_question(library) -> None:
    generator = FakeGenerator("At 3.")
    memory = Planned(rewritten="When does the ferry to island 5 leave?")
    answer = library.ask("And to 5?", generator=generator, memory=memory, limit=1)
    assert answer.context.passages[0].document_id == "f5"
    assert (answer.question, generator.prompts[0].question) == ("And to 5?", memory.rewritten)
    assert memory.said == [("user", "And to 5?"), ("assistant", "At 3.")]
    assert "asked as: When does the ferry to island 5 leave?" in answer.ledger.entries[0].reason


def test_a_generator_that_has_the_last_turns_is_asked_as_it_was_said(library) -> None:
    """A rewriting may go wrong: it serves the search alone."""
    generator = FakeGenerator("At 3.")
    memory = Planned(rewritten="When does the ferry to island 5 leave?", recent=(Turn("user", "When does it leave?"),))
    answer = library.ask("And to 5?", generator=generator, memory=memory, limit=1)
    assert answer.context.passages[0].document_id == "f5" and generator.prompts[0].question == "And to 5?"


def test_a_question_without_an_answer_is_kept(library) -> None:
    def fails(prompt: Prompt) -> str:
        raise RateLimitError("too many")

    for asking in (library.ask, lambda *words, **options: list(library.stream(*words, **options))):
        memory = Planned()
        with pytest.raises(RateLimitError):
            asking("When does it leave?", generator=FakeGenerator(fails), memory=memory)
        assert memory.said == [("user", "When does it leave?")]


def test_nothing_is_kept_unless_wanted(library) -> None:
    memory = Planned()
    library.ask("When?", generator=FakeGenerator("x"), memory=memory, remember=False)
    assert memory.said == []
    with pytest.raises(InputError, match="remember is True or False"):
        library.ask("When?", memory=memory, remember="no")
    with pytest.raises(InputError, match="a memory is an object of"):
        library.ask("When?", memory="ann")


def test_a_library_that_cannot_keep_the_answer_says_so_before_it_is_made(library) -> None:
    generator = FakeGenerator("x")
    with carrel.open(library.path, encoder=HashEncoder(), read_only=True) as reading:
        memory = reading.memory(user="ann")
        with pytest.raises(StoreReadOnlyError, match="remember=False"):
            reading.ask("When does it leave?", generator=generator, memory=memory)
        assert generator.prompts == []
        assert reading.ask("When does it leave?", generator=generator, memory=memory, remember=False).text == "x"


def test_a_stream_is_kept_when_it_is_done(library) -> None:
    memory = Planned(text="Island 3.")
    generator = FakeGenerator("At three.")
    events = list(library.stream("When does it leave?", generator=generator, memory=memory))
    assert len(events) > 3
    assert memory.said == [("user", "When does it leave?"), ("assistant", "At three.")]
    stopped = library.stream("And when?", generator=generator, memory=memory)
    next(stopped)
    stopped.close()
    assert len(memory.said) == 2


def test_turns_that_the_caller_gives_are_not_said_twice(library) -> None:
    generator = FakeGenerator("x")
    memory = Planned(recent=(Turn("user", "before"),))
    library.ask("When?", generator=generator, memory=memory, history=[Turn("user", "before")])
    assert [turn.text for turn in generator.prompts[0].history] == ["before"]


def test_without_a_generator_the_reader_answers(library) -> None:
    memory = library.memory(user="ann")
    answer = library.ask("When does the ferry to island 4 leave?", memory=memory)
    assert [turn.speaker for turn in memory.turns()] == ["user", "assistant"]
    assert memory.turns()[1].text == answer.text


@fixtures
@given(
    budget=st.integers(6, 200),
    text=st.integers(0, 120),
    stable=st.integers(0, 60),
    window=st.none() | st.integers(120, 400),
)
def test_memory_and_passages_share_one_budget(library, budget: int, text: int, stable: int, window) -> None:
    """Also where a memory counts otherwise, and gives more than it was asked for."""
    generator = FakeGenerator("x", context_window=window)
    memory = Planned(text="word " * text, stable="fact " * stable)
    try:
        answer = library.ask("When does the ferry leave?", generator=generator, memory=memory, budget=budget)
    except carrel.CarrelError:
        return
    (prompt,) = generator.prompts
    bare = Prompt(prompt.question)
    added = generator.prompt_tokens(prompt) - generator.prompt_tokens(bare)
    assert added <= budget + 4, "blank lines between parts are counted with none"
    remembered = Prompt(prompt.question, standing=prompt.standing, history=prompt.history, notes=prompt.notes)
    assert generator.prompt_tokens(remembered) - generator.prompt_tokens(bare) <= budget // MEMORY_SHARE
    assert answer.context.tokens <= budget
    if window is not None:
        assert generator.prompt_tokens(prompt) <= window


def test_a_follow_up_is_searched_for_as_the_history_makes_it_whole(library) -> None:
    """Without a memory, too: the reader is asked the whole question, a generator that has the turns its own words."""
    generator = FakeGenerator("The lamp [1].")
    history = (Turn("user", "What burns at night?"), Turn("assistant", "Nothing is known to burn."))
    answer = library.ask("And the lamp?", generator=generator, history=history, limit=1)
    assert answer.context.question == "What burns at night, the lamp?"
    assert answer.context.passages[0].document_id == "lamp"
    assert (answer.question, generator.prompts[0].question) == ("And the lamp?", "And the lamp?")
    assert library.ask("And the lamp?", history=history).question == "And the lamp?"


@pytest.mark.parametrize("question", ["When does the ferry to island 3 leave?", "What burns?"])
def test_a_whole_question_is_left_alone_by_its_history(library, question: str) -> None:
    history = (Turn("user", "When does the ferry to island 5 leave?"), Turn("assistant", "At 5."))
    assert library.ask(question, generator=FakeGenerator("At 3."), history=history).context.question == question
