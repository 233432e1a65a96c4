"""Answers without a language model: the sentences that fit the question best, quoted exactly, or none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from carrel.embeddings.base import TextEncoder, Vectors
from carrel.generation.base import Generator
from carrel.generation.citations import cite
from carrel.generation.echoes import asks_for_code, code_spans, is_echo
from carrel.retrieval.indexes.lexical import query_terms
from carrel.retrieval.merging import trimmed
from carrel.retrieval.packing import SEPARATOR, render
from carrel.retrieval.sentences import split_sentences
from carrel.tokens import Tokenizer
from carrel.types import Completion, Passage, Prompt, Span, Usage

ABSTENTION = "The documents do not seem to answer this question."
_WORDS = re.compile(r"\w+")
_ROW = re.compile(r"\s*(?:\||[^\n:;|]{1,40}: [^\n;]*; )")
_LINE_END = re.compile(r"\n")
_MOST_SENTENCES = 48


@dataclass(frozen=True, slots=True)
class _Sentence:
    passage: Passage
    start: int
    end: int
    text: str
    is_code: bool = False


class ExtractiveGenerator(Generator):
    """Picks sentences by embedding similarity and shared words; abstains below a threshold.

    A simple answerer that needs no model beyond the embedder: it quotes, it does not reason.

    Parameters
    ----------
    encoder : embeds the question and the sentences.
    most_sentences : sentences quoted at most.
    tokenizer : counts the usage; the encoder's by default.
    threshold : least score of the best sentence, 0 to 1; below it the answer is an abstention. The default
        balances answers given where there is one against abstentions where there is none
        (training/extractive/calibrate.py).
    """

    name: ClassVar[str] = "extractive"
    cites = True

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        most_sentences: int = 2,
        threshold: float = 0.44,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.encoder, self.most_sentences, self.threshold = encoder, most_sentences, threshold
        self._tokenizer = tokenizer or encoder.tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def complete(self, prompt: Prompt) -> Completion:
        """Quote the best sentences of the prompt's passages, each with its citation."""
        found = _sentences(prompt.passages)
        found = [s for s in found if not is_echo(prompt.question, s.text, is_code=s.is_code)]
        sentences = found[:_MOST_SENTENCES]
        used = self.tokenizer.count(f"{render(prompt.passages)}{SEPARATOR}{prompt.question}")
        if not sentences:
            return self._abstain(used, 0.0)
        scores = self._scores(prompt.question, sentences)
        order = sorted(range(len(sentences)), key=lambda index: (-scores[index], index))
        best = float(scores[order[0]])
        if best < self.threshold:
            return self._abstain(used, best)
        if not asks_for_code(prompt.question):  # then code answers only what no prose does
            prose = [index for index in order if not sentences[index].is_code]
            order = prose if prose and scores[prose[0]] >= self.threshold else order
        best = float(scores[order[0]])
        chosen = [index for index in order[: self.most_sentences] if scores[index] >= 0.85 * best]
        return self._quote(prompt, [sentences[index] for index in chosen], used, best)

    def _scores(self, question: str, sentences: Sequence[_Sentence]) -> np.ndarray:
        """(sentences,): mean of the cosine and the share of the question's words, each under its heading."""
        texts = [f"{s.passage.prefix or s.passage.title}\n{s.text}" for s in sentences]
        vectors: Vectors = self.encoder.encode_texts([question, *texts])
        similarity = vectors[1:] @ vectors[0]
        scores: np.ndarray = 0.5 * similarity + 0.5 * _shares(question, texts)
        return scores

    def _abstain(self, used: int, best: float) -> Completion:
        usage = Usage(prompt_tokens=used, tokenizer=self.tokenizer.name)
        return Completion(ABSTENTION, usage, "abstained", self.name, (), max(0.0, best))

    def _quote(self, prompt: Prompt, chosen: Sequence[_Sentence], used: int, best: float) -> Completion:
        numbers = {id(passage): number for number, passage in enumerate(prompt.passages, start=1)}
        citations = tuple(cite(s.passage, numbers[id(s.passage)], s.start, s.end) for s in chosen)
        text = " ".join(f"{' '.join(c.quote.split())} [{c.number}]" for c in citations)
        usage = Usage(used, self.tokenizer.count(text), 0, self.tokenizer.name)
        return Completion(text, usage, "stop", self.name, citations, min(1.0, best))


def _sentences(passages: Sequence[Passage]) -> list[_Sentence]:
    """Every sentence of the kept parts, in the order of the passages."""
    out: list[_Sentence] = []
    for passage in passages:
        parts = [(passage.start, passage.end)] if passage.kept is None else [(s.start, s.end) for s in passage.kept]
        code = [Span(passage.start + s.start, passage.start + s.end) for s in code_spans(passage.text)]
        for start, end in parts:
            for span in split_sentences(passage.text, start - passage.start, end - passage.start):
                for row in table_rows(passage.text, span):
                    exact, text = trimmed(passage.start + row.start, passage.text[row.start : row.end])
                    if _says_something(text):
                        in_code = any(s.start < exact.end and exact.start < s.end for s in code)
                        out.append(_Sentence(passage, exact.start, exact.end, text, in_code))
    return out


def table_rows(text: str, span: Span) -> list[Span]:
    """The rows of a table, which have no full stops between them; else the sentence as it is."""
    if not _ROW.match(text, span.start, span.end):
        return [span]
    cuts = [span.start, *(m.end() for m in _LINE_END.finditer(text, span.start, span.end)), span.end]
    return [Span(start, end) for start, end in pairwise(cuts) if start < end]


def _says_something(text: str) -> bool:
    """Not a heading, a rule or a lone label."""
    words = _WORDS.findall(text)
    return len(words) >= 4 or (len(words) >= 2 and text[-1] in ".!?:;|)" and not text.startswith("#"))


def _shares(question: str, texts: Sequence[str]) -> np.ndarray:
    """(texts,): share of the question's words that each has, a rare word counting more than one that all have."""
    terms = sorted({_stem(term) for term in query_terms(question)})
    found = np.zeros((len(texts), len(terms)))
    for row, text in enumerate(texts):
        words = {_stem(word) for word in _WORDS.findall(text.lower())}
        found[row] = [term in words for term in terms]
    weights = np.log(1 + len(texts) / (1 + found.sum(axis=0)))
    shares: np.ndarray = found @ weights / max(float(weights.sum()), 1e-9)
    return shares


def _stem(word: str) -> str:
    """A crude stem: enough to match plurals and verb endings."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
