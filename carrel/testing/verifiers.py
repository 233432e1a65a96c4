"""What every verifier must hold to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from carrel.generation.verification import LEAST_SCORE, Verification, Verifier
from carrel.testing.passages import QUESTION, odd_passages, plain_passages
from carrel.types import Passage, Span

_ABSTENTIONS = (
    "",
    " \n",
    "The documents do not seem to answer this question.",
    "I do not know.",
    "The passages do not mention the year.",
    "Shall I look further?",
    "...",
)
_SENTENCES = (
    "The pier was built in 1894 by the harbour company.",
    "It is ninety metres long.",
    "Dr. Hale runs the ferry.",
    "Gulls follow the ferry for bread.",
)
_NOWHERE = ("The pier was built in 1777.", "1777", "The pier is 61 metres long.", "Dr. Hale runs 17 ferries.")
_ANSWERS = (*_SENTENCES, *_NOWHERE, "In 1894, the pier was built by the harbour company.", "1894", "Ferries are blue.")
_KEPT = "It is ninety metres long."


class VerifierConformance(ABC):
    """Every sentence gets a verdict that holds however it is written down, with exact evidence and a reason."""

    question: str = QUESTION

    @abstractmethod
    def make(self) -> Verifier:
        """Return a verifier; two calls give one that judges alike."""

    def passages(self) -> list[Passage]:
        return plain_passages()

    def verify(self, answer: str, passages: Sequence[Passage] | None = None) -> Verification:
        """Judge an answer to the question."""
        return self.make().verify(answer, self.passages() if passages is None else passages, self.question)

    def test_what_it_says_of_itself(self) -> None:
        verifier = self.make()
        assert isinstance(verifier.name, str) and verifier.name
        assert isinstance(verifier.citation, str) and isinstance(verifier.languages, frozenset)
        assert self.verify("1894").verifier == verifier.name

    def test_what_claims_nothing_has_no_verdict(self) -> None:
        for answer in _ABSTENTIONS:
            found = self.verify(answer)
            assert found.sentences == () and found.supported, answer

    def test_a_sentence_of_a_passage_is_supported(self) -> None:
        for sentence in _SENTENCES:
            (verdict,) = self.verify(sentence).sentences
            assert verdict.supported and verdict.evidence, sentence
            assert verdict.evidence[0].quote == sentence

    def test_a_number_that_stands_nowhere_is_not_supported(self) -> None:
        for answer in _NOWHERE:
            assert not self.verify(answer).supported, answer

    def test_without_passages_nothing_is_supported(self) -> None:
        for answer in _ANSWERS:
            (verdict,) = self.verify(answer, []).sentences
            assert not verdict.supported and verdict.evidence == (), answer

    def test_verdicts_account_for_themselves(self) -> None:
        for passages in (self.passages(), odd_passages()):
            for answer in (*_ANSWERS, *(passage.text for passage in odd_passages())):
                self._check(answer, passages, self.verify(answer, passages))

    def test_a_verdict_does_not_depend_on_how_the_sentence_is_written_down(self) -> None:
        for answer in _ANSWERS:
            plain = self._verdicts(self.verify(answer))
            for written in (answer[0].lower() + answer[1:], f"  {answer}\n\n", f"{answer} [1]", f"{answer} [2][3]"):
                assert self._verdicts(self.verify(written)) == plain, written

    def test_a_verdict_does_not_depend_on_the_order_of_the_passages(self) -> None:
        there, back = self.passages(), self.passages()[::-1]
        for answer in _ANSWERS:
            first, second = self.verify(answer, there), self.verify(answer, back)
            assert self._verdicts(first) == self._verdicts(second), answer
            for one, other in zip(first.sentences, second.sentences, strict=True):
                assert [replace(c, number=0) for c in one.evidence] == [replace(c, number=0) for c in other.evidence]

    def test_the_same_input_gives_the_same_verdicts(self) -> None:
        for answer in _ANSWERS:
            assert self.verify(answer) == self.verify(answer)

    def test_only_what_was_kept_is_evidence(self) -> None:
        first = self.passages()[0]
        start = first.start + first.text.index(_KEPT)
        pruned = replace(first, kept=(Span(start, start + len(_KEPT)),))
        assert not self.verify(_SENTENCES[0], [pruned]).supported
        (verdict,) = self.verify(_KEPT, [pruned]).sentences
        assert verdict.supported and [citation.quote for citation in verdict.evidence] == [_KEPT]

    def _verdicts(self, found: Verification) -> list[tuple[bool, float, tuple[str, ...]]]:
        return [(v.supported, round(v.score, 6), tuple(p.lower() for p in v.problems)) for v in found.sentences]

    def _check(self, answer: str, passages: Sequence[Passage], found: Verification) -> None:
        assert found.supported == (not found.unsupported)
        ends = [0]
        for verdict in found.sentences:
            assert answer[verdict.span.start : verdict.span.end] == verdict.text
            assert verdict.span.start >= ends[-1]
            ends.append(verdict.span.end)
            assert 0 <= verdict.score <= 1
            assert verdict.supported == (verdict.score >= LEAST_SCORE and not verdict.problems)
            assert verdict.supported or verdict.problems, "it does not say what speaks against the sentence"
            assert verdict.evidence or not verdict.supported
            for citation in verdict.evidence:
                passage = passages[citation.number - 1]
                assert citation.document_id == passage.document_id
                assert passage.start <= citation.start < citation.end <= passage.end
                assert citation.quote == passage.text[citation.start - passage.start : citation.end - passage.start]
