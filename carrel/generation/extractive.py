"""Answers without a language model: the sentences that fit the question best, quoted exactly, or none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from carrel.embeddings.base import TextEncoder, Vectors
from carrel.generation.base import Generator
from carrel.retrieval.indexes.lexical import query_terms
from carrel.retrieval.merging import trimmed
from carrel.retrieval.sentences import split_sentences
from carrel.tokens import Tokenizer
from carrel.types import Citation, Completion, Passage, Prompt, Usage

ABSTENTION = "The documents do not seem to answer this question."
_WORDS = re.compile(r"\w+")
_MOST_SENTENCES = 48


@dataclass(frozen=True, slots=True)
class _Sentence:
    passage: Passage
    start: int
    end: int
    text: str


class ExtractiveGenerator(Generator):
    """Picks sentences by embedding similarity and shared words; abstains below a threshold.

    A simple answerer that needs no model beyond the embedder: it quotes, it does not reason.

    Parameters
    ----------
    encoder : embeds the question and the sentences.
    most_sentences : sentences quoted at most.
    threshold : least score of the best sentence, 0 to 1; below it the answer is an abstention.
    """

    name: ClassVar[str] = "extractive"

    def __init__(self, encoder: TextEncoder, *, most_sentences: int = 2, threshold: float = 0.5) -> None:
        self.encoder, self.most_sentences, self.threshold = encoder, most_sentences, threshold

    @property
    def tokenizer(self) -> Tokenizer:
        return self.encoder.tokenizer

    def complete(self, prompt: Prompt) -> Completion:
        """Quote the best sentences of the prompt's passages, each with its citation."""
        sentences = _sentences(prompt.passages)[:_MOST_SENTENCES]
        used = sum(self.tokenizer.count(passage.text) for passage in prompt.passages)
        if not sentences:
            return self._abstain(used, 0.0)
        scores = self._scores(prompt.question, sentences)
        order = sorted(range(len(sentences)), key=lambda index: (-scores[index], index))
        best = float(scores[order[0]])
        if best < self.threshold:
            return self._abstain(used, best)
        chosen = [index for index in order[: self.most_sentences] if scores[index] >= 0.85 * best]
        return self._quote(prompt, [sentences[index] for index in chosen], used, best)

    def _scores(self, question: str, sentences: Sequence[_Sentence]) -> np.ndarray:
        """(sentences,): mean of the cosine under its heading and of the share of the question's words."""
        texts = [f"{s.passage.prefix or s.passage.title}\n{s.text}" for s in sentences]
        vectors: Vectors = self.encoder.encode_texts([question, *texts])
        similarity = vectors[1:] @ vectors[0]
        terms = {_stem(term) for term in query_terms(question)}
        shares = []
        for text in texts:
            words = {_stem(word) for word in _WORDS.findall(text.lower())}
            shares.append(len(terms & words) / max(1, len(terms)))
        scores: np.ndarray = 0.5 * similarity + 0.5 * np.array(shares)
        return scores

    def _abstain(self, used: int, best: float) -> Completion:
        usage = Usage(prompt_tokens=used, tokenizer=self.tokenizer.name)
        return Completion(ABSTENTION, usage, "abstained", self.name, (), max(0.0, best))

    def _quote(self, prompt: Prompt, chosen: Sequence[_Sentence], used: int, best: float) -> Completion:
        numbers = {id(passage): number for number, passage in enumerate(prompt.passages, start=1)}
        citations = tuple(
            Citation(
                number=numbers[id(s.passage)],
                document_id=s.passage.document_id,
                start=s.start,
                end=s.end,
                quote=s.text,
                title=s.passage.title,
                source=s.passage.source,
                page=s.passage.page,
            )
            for s in chosen
        )
        text = " ".join(f"{' '.join(c.quote.split())} [{c.number}]" for c in citations)
        usage = Usage(used, self.tokenizer.count(text), 0, self.tokenizer.name)
        return Completion(text, usage, "stop", self.name, citations, min(1.0, best))


def _sentences(passages: Sequence[Passage]) -> list[_Sentence]:
    """Every sentence of the kept parts, in the order of the passages."""
    out: list[_Sentence] = []
    for passage in passages:
        parts = [(passage.start, passage.end)] if passage.kept is None else [(s.start, s.end) for s in passage.kept]
        for start, end in parts:
            for span in split_sentences(passage.text, start - passage.start, end - passage.start):
                exact, text = trimmed(passage.start + span.start, passage.text[span.start : span.end])
                if _WORDS.search(text):
                    out.append(_Sentence(passage, exact.start, exact.end, text))
    return out


def _stem(word: str) -> str:
    """A crude stem: enough to match plurals and verb endings."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
