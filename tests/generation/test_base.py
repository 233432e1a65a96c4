"""What every generator has for nothing."""

from __future__ import annotations

from carrel.generation.base import Generator
from carrel.testing import GeneratorConformance, WordTokenizer
from carrel.types import Citation, CitationsEvent, Completion, Ledger, Prompt, TextEvent, Usage, UsageEvent

CITATION = Citation(1, "pier.txt", 0, 3, "The")
USAGE = Usage(5, 2, 0, "words")


class Fixed(Generator):
    """Always the same reply."""

    name = "fixed"

    @property
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer()

    def complete(self, prompt: Prompt) -> Completion:
        if not prompt.passages:
            return Completion("Nothing.", USAGE, "abstained", self.name)
        return Completion("In 1894.", USAGE, "length", self.name, (CITATION,), 0.5)


class TestFixed(GeneratorConformance):
    def make(self) -> Fixed:
        return Fixed()


def test_a_stream_is_the_whole_reply_at_once() -> None:
    prompt = TestFixed().prompt()
    assert list(Fixed().stream(prompt)) == [
        TextEvent("In 1894."),
        CitationsEvent((CITATION,)),
        UsageEvent(USAGE, Ledger("words"), "length", model="fixed", confidence=0.5),
    ]


def test_it_counts_with_its_own_tokenizer() -> None:
    assert Fixed().count_tokens("The pier, built.") == 5
    assert Fixed().context_window is None
