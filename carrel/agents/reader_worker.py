"""The embedded reader as worker and manager of flows: it quotes what matters, and answers from what was quoted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.agents.hops import follow_ups, seeds
from carrel.agents.notes import Line, Notes, choose, in_order, log_odds, read
from carrel.agents.scanning import scan, with_scores
from carrel.agents.tasks import ENOUGH, NOTHING
from carrel.compression.base import passage_sentences
from carrel.errors import GenerationError, InputError
from carrel.generation.base import Generator
from carrel.generation.citations import cite
from carrel.generation.extractive import ABSTENTION
from carrel.generation.marks import find_runs
from carrel.generation.reader import ReaderGenerator
from carrel.retrieval.packing import SEPARATOR, render
from carrel.tokens import Tokenizer, shipped_tokenizer
from carrel.types import Citation, Completion, Passage, Prompt, Span, Usage, page_at

if TYPE_CHECKING:
    from carrel.embeddings.base import TextEncoder

_WINDOW = 32_768
SHARP_TOKENS = 250
"""Of the notes, for single sentences; the rest is for one stretch of the text, which holds what most questions ask."""
HEADER_TOKENS = 12
_NOTE_TOKENS = 256
_SCORED = re.compile(r"^\((0\.\d+|1\.0+), sharpest at (\d+): (0\.\d+|1\.0+)\) ")
_READ = re.compile(r"^\((\d+) tokens read, level (-?\d+\.\d+)\)$")
_LEAST_WORDS = 3  # of a sentence that is worth a quotation


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence of a passage of the prompt, 1-based, and how much it matters, 0 to 1."""

    number: int
    span: Span
    score: float


_Quotation = tuple[int, Passage, float, Line]


class ReaderWorker(Generator):
    """Does what flows ask of a model by quoting: notes, summaries, choices and answers, offline.

    It writes nothing of its own. Notes are quotations, as many as the tokens allowed: the sharpest sentences, and the
    stretch of the text that speaks most for holding the answer (carrel.agents.notes). Each has its score;
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

    def __init__(self, *, window: int = _WINDOW, enough: float = 0.5, tokenizer: Tokenizer | None = None) -> None:
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
            return self._answer(prompt)
        if prompt.kind == "notes":
            return self._notes(prompt)
        if prompt.kind == "summary":
            return self._summary(prompt)
        if prompt.kind == "choice":
            return self._choice(prompt)
        if prompt.kind == "queries":
            return self._queries(prompt)
        raise GenerationError(
            f"the embedded reader quotes, it does not write: this flow asks it for {prompt.kind!r}. Name a generator=,"
            " such as carrel.generation.OpenAICompatible(...)."
        )

    # -- notes --------------------------------------------------------------------------------

    def _notes(self, prompt: Prompt) -> Completion:
        """The sharpest sentences and the best stretch, of what was noted before and of the piece."""
        quoted, before, seen = _noted(prompt, self._tokenizer)
        piece = [passage for number, passage in enumerate(prompt.passages, start=1) if number not in quoted]
        lines = scan(prompt.question, piece, self._encoder, self._tokenizer)
        known = read(seen, lines)
        every = in_order(before, lines)
        room = prompt.max_tokens or _NOTE_TOKENS
        texts = len({line.document_id for line in every})  # of one text one stretch, of several one each
        sharp = min(SHARP_TOKENS, room // 2)
        runs = choose(every, room, level=known.level, most=max(1, texts), sharp_tokens=sharp, each=HEADER_TOKENS)
        quotes = [quote for run in runs for quote in _quotes(prompt.passages, [every[index] for index in run])]
        if not quotes:
            return self._nothing(prompt)
        answer = self._answer(Prompt(prompt.question, tuple(passage for _, passage, _, _ in quotes)))
        sure = answer.confidence if answer.finish_reason != "abstained" else 0.0
        heading = f"({known.seen_tokens} tokens read, level {known.level:.6f})"
        text = "\n".join([heading, *(_noting(*each) for each in quotes)])
        if (sure or 0.0) >= self.enough:
            text = f"{ENOUGH}\n{text}"
        citations = tuple(_whole(passage, number) for number, passage, _, _ in quotes)
        usage = Usage(self._used(prompt), self._tokenizer.count(text), 0, self._tokenizer.name)
        return Completion(text, usage, "stop", self.name, citations, answer.confidence)

    def _answer(self, prompt: Prompt) -> Completion:
        """The reader's answer; passages that nobody retrieved are scored first, as if they had been."""
        passages = prompt.passages
        if passages and all(passage.scores.dense is None for passage in passages):
            passages = tuple(with_scores(prompt.question, passages, self._encoder))
        return self._manager.complete(replace(prompt, passages=passages))

    def _nothing(self, prompt: Prompt) -> Completion:
        text = NOTHING if prompt.passages else ABSTENTION
        usage = Usage(self._used(prompt), self._tokenizer.count(text), 0, self._tokenizer.name)
        return Completion(text, usage, "abstained", self.name)

    def _used(self, prompt: Prompt) -> int:
        return self._tokenizer.count(f"{render(prompt.passages)}{SEPARATOR}{prompt.question}")

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

    def _summary(self, prompt: Prompt) -> Completion:
        """The most salient sentences that fit the reply, in the order of the prompt, each with its mark."""
        room = prompt.max_tokens or _NOTE_TOKENS
        chosen: list[tuple[_Sentence, str]] = []
        seen: set[str] = set()
        for sentence in sorted(self._salient(prompt), key=lambda each: -each.score):
            text = _text(prompt.passages[sentence.number - 1], sentence.span)
            line = f"{text} [{sentence.number}]"
            tokens = self._tokenizer.count(f"{line}\n")
            if len(text.split()) < _LEAST_WORDS or text in seen or tokens > room:
                continue
            seen.add(text)
            chosen.append((sentence, line))
            room -= tokens
        if not chosen:
            return self._nothing(prompt)
        chosen.sort(key=lambda pair: (pair[0].number, pair[0].span.start))
        text = "\n".join(line for _, line in chosen)
        citations = tuple(
            cite(prompt.passages[sentence.number - 1], sentence.number, sentence.span.start, sentence.span.end)
            for sentence, _ in chosen
        )
        usage = Usage(self._used(prompt), self._tokenizer.count(text), 0, self._tokenizer.name)
        return Completion(text, usage, "stop", self.name, citations)

    # -- queries ------------------------------------------------------------------------------

    def _queries(self, prompt: Prompt) -> Completion:
        """What the passages lead to: the question with what each says most, and the names that they bring up."""
        chosen = seeds(prompt.passages, count=len(prompt.passages))
        lines = [
            f"({each.weight:.4f}) SEARCH: {' '.join(each.query.split())}"
            for each in follow_ups(prompt.question, chosen)
        ]
        text = "\n".join(lines) or ENOUGH
        usage = Usage(self._used(prompt), self._tokenizer.count(text), 0, self._tokenizer.name)
        return Completion(text, usage, "stop", self.name)

    # -- choices ------------------------------------------------------------------------------

    def _choice(self, prompt: Prompt) -> Completion:
        """The number of the note that says what the reader itself would answer; else of the first."""
        own = self._answer(Prompt(prompt.question, prompt.passages))
        words = [answer.text.lower() for answer in own.answers]
        numbers = (
            number for word in words for number, note in enumerate(prompt.notes, start=1) if word in note.lower()
        )
        return Completion(str(next(numbers, 1)), Usage(own.usage.prompt_tokens, 1, 0, self._tokenizer.name))


def _noted(prompt: Prompt, tokenizer: Tokenizer) -> tuple[set[int], list[Line], Notes]:
    """What the notes so far say: the numbers of what they quote, its sentences as lines, and how much was read.

    All sentences of a quotation have its score, and the one that was its sharpest is as sharp as it was.
    """
    quoted: dict[int, float] = {}
    sharp: dict[tuple[int, int], float] = {}
    seen = Notes()
    for line in (line for note in prompt.notes for line in note.splitlines()):
        heading, score, runs = _READ.match(line), _SCORED.match(line), list(find_runs(line))
        if heading is not None:
            tokens = int(heading[1])
            seen = Notes((), tokens, tokens * float(heading[2]))
        elif score is not None and runs:
            numbers = [number for number in runs[-1][-1].numbers if 1 <= number <= len(prompt.passages)]
            for number in numbers:
                quoted[number] = max(float(score[1]), quoted.get(number, 0.0))
                sharp[number, int(score[2])] = float(score[3])
    lines = []
    for number, probability in sorted(quoted.items()):
        passage = prompt.passages[number - 1]
        spans = passage_sentences(passage)
        for span in spans:
            text = passage.text[span.start - passage.start : span.end - passage.start]
            odds, own = log_odds(probability), sharp.get((number, span.start), 0.0)
            lines.append(Line(passage.document_id, span.start, span.end, tokenizer.count(text), odds, own))
    return set(quoted), lines, seen


def _quotes(passages: Sequence[Passage], run: Sequence[Line]) -> Iterator[_Quotation]:
    """A run as what it quotes of each passage of the prompt, with its mean probability and how sharp it is."""
    for number, passage in enumerate(passages, start=1):
        inside = [line for line in run if _holds(passage, line)]
        if inside:
            odds = sum(line.tokens * line.score for line in inside) / max(1, sum(line.tokens for line in inside))
            start, end = inside[0].start, inside[-1].end
            text = passage.text[start - passage.start : end - passage.start]
            sharpest = max(inside, key=lambda line: line.sharp)
            yield (
                number,
                replace(passage, start=start, end=end, text=text, kept=None),
                1 / (1 + math.exp(-odds)),
                sharpest,
            )


def _noting(number: int, passage: Passage, probability: float, sharpest: Line) -> str:
    """A line of notes: the quotation's score, where its sharpest sentence begins in the document, and how sharp."""
    sharp = f"sharpest at {sharpest.start}: {sharpest.sharp:.6f}"
    return f"({probability:.6f}, {sharp}) {_shown(passage.text)} [{number}]"


def _holds(passage: Passage, line: Line) -> bool:
    return passage.document_id == line.document_id and passage.start <= line.start and line.end <= passage.end


def _whole(passage: Passage, number: int) -> Citation:
    """A citation of all of a quotation: not trimmed, so that what stood side by side still does."""
    return Citation(
        number, passage.document_id, passage.start, passage.end, passage.text, passage.title, passage.source,
        page_at(passage.pages, passage.start),
    )  # fmt: skip


def _shown(text: str) -> str:
    """The beginning and the end of a quotation, on one line without brackets: it stands whole in the evidence."""
    words = text.replace("[", "(").replace("]", ")").split()
    return " ".join(words if len(words) <= 24 else [*words[:12], "…", *words[-12:]])


def _text(passage: Passage, span: Span) -> str:
    """A sentence on one line."""
    return " ".join(passage.text[span.start - passage.start : span.end - passage.start].split())


def _unit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Values moved and stretched to reach from 0 to 1."""
    low, high = float(values.min()), float(values.max())
    return (values.astype(np.float64) - low) / ((high - low) or 1.0)
