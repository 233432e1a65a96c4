"""The embedded reader as worker and manager of flows: it quotes what matters, and answers from what was quoted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.agents.hops import follow_ups, seeds
from carrel.agents.tasks import ENOUGH, NOTHING
from carrel.compression.base import passage_sentences
from carrel.errors import GenerationError, InputError
from carrel.generation.base import Generator
from carrel.generation.citations import cite
from carrel.generation.extractive import ABSTENTION
from carrel.generation.marks import find_runs
from carrel.generation.reader import ReaderGenerator
from carrel.retrieval.packing import SEPARATOR, render
from carrel.retrieval.pruned_packing import key_of
from carrel.tokens import Tokenizer, shipped_tokenizer
from carrel.types import Citation, Completion, Passage, Prompt, Span, Usage

if TYPE_CHECKING:
    from carrel.embeddings.base import TextEncoder

_WINDOW = 2048
_NOTE_TOKENS = 256
_SCORED = re.compile(r"^\((0\.\d+|1\.0+)\) ")
_LEAST_WORDS = 3  # of a sentence that is worth a quotation


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence of a passage of the prompt, 1-based, and how much it matters, 0 to 1."""

    number: int
    span: Span
    score: float


class ReaderWorker(Generator):
    """Does what flows ask of a model by quoting: notes, summaries, choices and answers, offline.

    It writes nothing of its own. Notes are sentences with their scores, best kept within the tokens allowed;
    a summary is the sentences nearest to the middle of the text's meaning and to the question. What only a
    model that writes can do (plans, sections, structures) is an error that says so.

    Parameters
    ----------
    window : tokens of prompt and reply together, by which flows cut texts to pieces; the reader itself reads any.
    enough : confidence of an answer, 0 to 1, from which on notes begin with ENOUGH and the chain may stop.
    tokenizer : counts; the shipped embedder's by default.

    Raises
    ------
    InputError : a parameter is out of its range.
    """

    name: ClassVar[str] = "reader_worker"
    citation: ClassVar[str] = "Zhang et al., Chain of Agents, arXiv 2406.02818"
    cites = True

    def __init__(self, *, window: int = _WINDOW, enough: float = 0.9, tokenizer: Tokenizer | None = None) -> None:
        if isinstance(window, bool) or not isinstance(window, int) or window < 64:
            raise InputError(f"the window of a worker is a number of tokens, 64 or more, not {window!r}")
        if not 0 <= enough <= 1:
            raise InputError(f"enough is a confidence from 0 to 1, not {enough!r}")
        self.context_window, self.enough = window, enough
        self._tokenizer = tokenizer or shipped_tokenizer()
        self._manager = ReaderGenerator(tokenizer=self._tokenizer)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @cached_property
    def _encoder(self) -> TextEncoder:
        from carrel.embeddings.minilm import MiniLM

        return MiniLM()

    def complete(self, prompt: Prompt) -> Completion:
        """The reply to a step of a flow, by the prompt's kind.

        Raises
        ------
        GenerationError : the step wants a text that nobody has written yet.
        """
        if prompt.kind == "answer":
            return self._manager.complete(prompt)
        if prompt.kind == "notes":
            return self._notes(prompt)
        if prompt.kind == "summary":
            return self._quotation(prompt, self._salient(prompt))
        if prompt.kind == "choice":
            return self._choice(prompt)
        if prompt.kind == "queries":
            return self._queries(prompt)
        raise GenerationError(
            f"the embedded reader quotes, it does not write: this flow asks it for {prompt.kind!r}. Name a generator=,"
            " such as carrel.OpenAICompatible(...)."
        )

    # -- notes --------------------------------------------------------------------------------

    def _notes(self, prompt: Prompt) -> Completion:
        """The sentences that matter most, of those noted before and of the piece."""
        completion = self._quotation(prompt, self._told(prompt), scored=True)
        if not completion.citations:
            return completion
        quotes = tuple(_quote(prompt.passages, citation) for citation in completion.citations)
        answer = self._manager.complete(Prompt(prompt.question, quotes))
        if answer.finish_reason != "abstained" and (answer.confidence or 0.0) >= self.enough:
            return replace(completion, text=f"{ENOUGH}\n{completion.text}", confidence=answer.confidence)
        return replace(completion, confidence=answer.confidence)

    def _told(self, prompt: Prompt) -> list[_Sentence]:
        """All sentences with what the reader thinks of them; those noted before keep the score they had."""
        known = _noted(prompt)
        new = [number for number in range(1, len(prompt.passages) + 1) if number not in known]
        passages = [prompt.passages[number - 1] for number in new]
        out = [
            _Sentence(number, Span(passage.start, passage.end), known[number])
            for number, passage in enumerate(prompt.passages, start=1)
            if number in known
        ]
        for number, spans, scores in zip(new, *self._scores(prompt.question, passages), strict=True):
            out += [_Sentence(number, span, score) for span, score in zip(spans, scores, strict=True)]
        return out

    def _scores(self, question: str, passages: Sequence[Passage]) -> tuple[list[list[Span]], list[list[float]]]:
        """The sentences of passages, and for each the chance that it matters and its passage does."""
        from carrel.reader.methods import ReaderPruner, ReaderReranker, shipped_reader

        reader = shipped_reader()
        spans = [passage_sentences(passage) for passage in passages]
        kept = ReaderPruner(reader).checked_scores(question, passages, spans)
        relevance = ReaderReranker(reader).checked_scores(question, passages)
        return spans, [[score * float(share) for score in row] for row, share in zip(kept, relevance, strict=True)]

    # -- summaries ----------------------------------------------------------------------------

    def _salient(self, prompt: Prompt) -> list[_Sentence]:
        """All sentences with how near they are to the middle of the text's meaning, and to the question if any."""
        places = [
            (number, span)
            for number, passage in enumerate(prompt.passages, start=1)
            for span in passage_sentences(passage)
        ]
        if not places:
            return []
        texts = [_text(prompt.passages[number - 1], span) for number, span in places]
        vectors = self._encoder.encode_texts(texts)  # (sentences, dimension)
        middle = vectors.mean(axis=0)
        scores: NDArray[np.float64] = _unit(vectors @ middle)
        if prompt.question.strip():
            nearness = _unit(vectors @ self._encoder.encode_queries([prompt.question])[0])
            scores = (scores + nearness) / 2
        return [_Sentence(number, span, float(score)) for (number, span), score in zip(places, scores, strict=True)]

    # -- quoting ------------------------------------------------------------------------------

    def _quotation(self, prompt: Prompt, sentences: Sequence[_Sentence], scored: bool = False) -> Completion:
        """The best sentences that fit the reply, in the order of the prompt, each with its mark."""
        room = prompt.max_tokens or _NOTE_TOKENS
        chosen: list[tuple[_Sentence, str]] = []
        seen: set[str] = set()
        for sentence in sorted(sentences, key=lambda each: -each.score):
            text = _text(prompt.passages[sentence.number - 1], sentence.span)
            if len(text.split()) < _LEAST_WORDS or text in seen:
                continue
            line = f"{f'({sentence.score:.6f}) ' if scored else ''}{text} [{sentence.number}]"
            tokens = self._tokenizer.count(f"{line}\n")
            if tokens > room:
                if chosen:
                    break
                continue
            seen.add(text)
            chosen.append((sentence, line))
            room -= tokens
        chosen.sort(key=lambda pair: (pair[0].number, pair[0].span.start))
        used = self._tokenizer.count(f"{render(prompt.passages)}{SEPARATOR}{prompt.question}")
        if not chosen:
            text = NOTHING if prompt.passages else ABSTENTION
            usage = Usage(used, self._tokenizer.count(text), 0, self._tokenizer.name)
            return Completion(text, usage, "abstained", self.name)
        text = "\n".join(line for _, line in chosen)
        citations = tuple(
            cite(prompt.passages[sentence.number - 1], sentence.number, sentence.span.start, sentence.span.end)
            for sentence, _ in chosen
        )
        usage = Usage(used, self._tokenizer.count(text), 0, self._tokenizer.name)
        return Completion(text, usage, "stop", self.name, citations)

    # -- queries ------------------------------------------------------------------------------

    def _queries(self, prompt: Prompt) -> Completion:
        """What the passages lead to: the question with what each says most, and the names that they bring up."""
        spans, scores = self._scores(prompt.question, prompt.passages)
        telling = {
            key_of(passage): _text(passage, max(zip(row, values, strict=True), key=lambda pair: pair[1])[0])
            for passage, row, values in zip(prompt.passages, spans, scores, strict=True)
            if row
        }
        chosen = seeds(prompt.passages, telling, count=len(prompt.passages))
        lines = [f"({each.weight:.4f}) SEARCH: {each.query}" for each in follow_ups(prompt.question, chosen)]
        text = "\n".join(lines) or ENOUGH
        used = self._tokenizer.count(f"{render(prompt.passages)}{SEPARATOR}{prompt.question}")
        return Completion(text, Usage(used, self._tokenizer.count(text), 0, self._tokenizer.name), "stop", self.name)

    # -- choices ------------------------------------------------------------------------------

    def _choice(self, prompt: Prompt) -> Completion:
        """The number of the note that says what the reader itself would answer; else of the first."""
        own = self._manager.complete(Prompt(prompt.question, prompt.passages))
        words = [answer.text.lower() for answer in own.answers]
        numbers = (
            number for word in words for number, note in enumerate(prompt.notes, start=1) if word in note.lower()
        )
        return Completion(str(next(numbers, 1)), Usage(own.usage.prompt_tokens, 1, 0, self._tokenizer.name))


def _noted(prompt: Prompt) -> dict[int, float]:
    """The scores in the notes so far, by the numbers of the passages that they quote."""
    lines: Iterator[str] = (line for note in prompt.notes for line in note.splitlines())
    out: dict[int, float] = {}
    for line in lines:
        score = _SCORED.match(line)
        runs = list(find_runs(line))
        if score is not None and runs:
            out |= dict.fromkeys(runs[-1][-1].numbers, float(score[1]))
    return {number: score for number, score in out.items() if 1 <= number <= len(prompt.passages)}


def _text(passage: Passage, span: Span) -> str:
    """A sentence on one line."""
    return " ".join(passage.text[span.start - passage.start : span.end - passage.start].split())


def _quote(passages: Sequence[Passage], citation: Citation) -> Passage:
    return replace(
        passages[citation.number - 1], start=citation.start, end=citation.end, text=citation.quote, kept=None
    )


def _unit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Values moved and stretched to reach from 0 to 1."""
    low, high = float(values.min()), float(values.max())
    return (values.astype(np.float64) - low) / ((high - low) or 1.0)
