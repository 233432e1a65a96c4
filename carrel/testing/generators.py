"""What every generator must hold to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from carrel.errors import InputError
from carrel.generation import replies
from carrel.generation.answering import check_generator
from carrel.generation.base import Generator
from carrel.generation.chat import ChatGenerator
from carrel.testing.raising import raised
from carrel.types import CitationsEvent, Completion, Passage, Prompt, TextEvent, UsageEvent

_PIER = "The pier was built in 1894 by the harbour company. It is ninety metres long."
_FERRY = "The ferry leaves at nine in the morning. The last ferry returns at eighteen."


class GeneratorConformance(ABC):
    """Replies are of the right kind, events come in order and say what ``complete`` says; citations quote exactly.

    Usage that the generator leaves out counts as what Carrel fills in.
    """

    @abstractmethod
    def make(self) -> Generator:
        """Return a generator; one with a seed or temperature 0, so that two calls agree."""

    def prompt(self) -> Prompt:
        passages = (
            Passage("pier.txt", 0, len(_PIER), _PIER, title="Pier"),
            Passage("ferry.txt", 100, 100 + len(_FERRY), _FERRY, title="Ferry"),
        )
        return Prompt("When was the pier built?", passages)

    def test_what_it_says_of_itself(self) -> None:
        generator = check_generator(self.make())
        assert generator.name and generator.tokenizer.name
        assert generator.context_window is None or generator.context_window > 0
        assert generator.count_tokens(_PIER) == generator.tokenizer.count(_PIER) > 0

    def test_a_completion_accounts_for_itself(self) -> None:
        self._check(self._complete(self.prompt()))

    def test_without_passages_there_are_no_citations(self) -> None:
        completion = self._complete(Prompt("When was the pier built?"))
        assert completion.citations == ()
        self._check(completion)

    def test_the_same_prompt_gives_the_same_completion(self) -> None:
        assert self._complete(self.prompt()) == self._complete(self.prompt())

    def test_events_come_in_order(self) -> None:
        events = list(self.make().stream(self.prompt()))
        order = [(TextEvent, CitationsEvent, UsageEvent).index(type(event)) for event in events]
        assert order == sorted(order), order
        assert order.count(1) == order.count(2) == 1, order

    def test_the_stream_says_what_the_completion_says(self) -> None:
        completion, said = self._complete(self.prompt()), list(replies.stream(self.make(), self.prompt()))
        whole = said[-1]
        assert isinstance(whole, Completion)
        assert "".join(event.text for event in said if isinstance(event, TextEvent)) == whole.text == completion.text
        assert whole.citations == completion.citations
        assert (whole.usage, whole.finish_reason) == (completion.usage, completion.finish_reason)
        assert whole.logprobs == completion.logprobs
        assert (whole.model, whole.confidence) == (completion.model, completion.confidence)
        assert set(whole.metrics) == set(completion.metrics)

    def test_a_reply_is_no_longer_than_its_prompt_allows(self) -> None:
        short, no_text = replace(self.prompt(), max_tokens=4), replace(self.prompt(), max_tokens=0)
        usage = self._complete(short).usage
        generator = self.make()
        if isinstance(generator, ChatGenerator):
            assert usage.completion_tokens <= 4, usage
            raised(InputError, lambda: generator.complete(no_text))
            raised(InputError, lambda: list(generator.stream(no_text)))

    def _complete(self, prompt: Prompt) -> Completion:
        """The reply as Carrel takes it: GenerationError where it is of the wrong kind."""
        return replies.complete(self.make(), prompt)

    def _check(self, completion: Completion) -> None:
        usage = completion.usage
        assert completion.text
        assert usage.prompt_tokens >= 0 and usage.completion_tokens >= 0 and usage.cached_tokens >= 0
        assert usage.cached_tokens <= usage.prompt_tokens
        assert usage.prompt_tokens > 0 and usage.tokenizer and completion.model
        assert completion.confidence is None or 0 <= completion.confidence <= 1
        passages = self.prompt().passages
        for citation in completion.citations:
            assert 1 <= citation.number <= len(passages), citation
            passage = passages[citation.number - 1]
            assert citation.document_id == passage.document_id, citation
            assert passage.start <= citation.start < citation.end <= passage.end, citation
            quoted = passage.text[citation.start - passage.start : citation.end - passage.start]
            assert citation.quote == quoted, citation
