"""What every memory must hold to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime, timezone

from carrel.errors import CarrelError, EmptyQuestionError
from carrel.memory.base import Memory, Recollection
from carrel.testing.raising import raised
from carrel.tokens import Tokenizer, shipped_tokenizer
from carrel.types import Prompt

_SAID = (
    ("user", "My goat is called Zora, and she is four years old."),
    ("assistant", "What a fine name for a goat."),
    ("user", "We moved from Lisbon to Bern in the spring."),
    ("Mia", "I start school in August.\nI have a red bag."),
    ("user", "東京に行きたい"),
)


class MemoryConformance(ABC):
    """Turns are kept as they were said, ids grow, budgets hold, and bad input is refused in words."""

    @abstractmethod
    def make(self) -> Memory:
        """Return a new, empty memory."""

    def tokenizer(self) -> Tokenizer:
        """Return what counts its budgets."""
        return shipped_tokenizer()

    def told(self) -> Memory:
        """A memory to which some things were said."""
        memory = self.make()
        for day, (speaker, text) in enumerate(_SAID):
            memory.observe(text, speaker=speaker, said_at=1_700_000_000.0 + 86_400 * day)
        return memory

    def test_it_has_a_name(self) -> None:
        assert type(self.make()).name

    def test_a_turn_is_given_back_as_it_was_said(self) -> None:
        memory = self.make()
        before = datetime.now(timezone.utc).timestamp()
        turn = memory.observe(" My goat. \n", speaker="Mia")
        assert (turn.text, turn.speaker) == (" My goat. \n", "Mia")
        assert before <= turn.said_at <= datetime.now(timezone.utc).timestamp()
        at = datetime(2024, 5, 3, tzinfo=timezone.utc)
        assert memory.observe("Then.", said_at=at).said_at == at.timestamp()
        assert 0 <= turn.importance <= 1

    def test_ids_grow(self) -> None:
        memory = self.make()
        ids = [memory.observe(text).id for _, text in _SAID]
        assert ids == sorted(set(ids))

    def test_what_was_said_is_recalled(self) -> None:
        found = self.told().recall("What is the goat called?", budget=300)
        assert isinstance(found, Recollection)
        assert (found.query, found.budget) == ("What is the goat called?", 300)
        assert "Zora" in self.shown(found)

    def test_a_budget_is_never_exceeded(self) -> None:
        memory = self.told()
        for budget in (0, 1, 5, 12, 20, 40, 1000):
            found = memory.recall("When did we move to Bern, and what is the goat called?", budget=budget)
            assert found.tokens <= budget
            for part in (found.stable, found.text, "\n".join(turn.text for turn in found.recent)):
                assert self.tokenizer().count(part) <= budget

    def test_an_empty_memory_recalls_nothing(self) -> None:
        found = self.make().recall("What is the goat called?")
        assert (found.recalled, found.recent, found.text) == ((), (), "")

    def test_the_same_question_is_answered_the_same(self) -> None:
        memory = self.told()
        assert memory.recall("Who starts school?").text == memory.recall("Who starts school?").text

    def test_a_recollection_goes_into_a_prompt(self) -> None:
        found = self.told().recall("What is the goat called?", budget=300)
        prompt = found.into(Prompt("What is the goat called?"))
        assert prompt.question == "What is the goat called?"
        assert prompt.history == found.recent

    def test_bad_input_is_refused(self) -> None:
        memory = self.told()
        raised(EmptyQuestionError, lambda: memory.recall(" "))
        raised(CarrelError, lambda: memory.observe(""))
        raised(CarrelError, lambda: memory.observe("x", said_at=float("inf")))
        raised(CarrelError, lambda: memory.recall("x", budget=-1))

    @staticmethod
    def shown(found: Recollection) -> str:
        """All that a prompt would show of it."""
        return "\n".join([found.stable, *(turn.text for turn in found.recent), found.text])
