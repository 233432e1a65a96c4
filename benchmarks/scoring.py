"""Scores of one context or ranking against one question's gold; per-question values, so that they can be paired."""

from __future__ import annotations

import math
import re
import string
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from corpora import Document, Question
from counting import TokenCounter
from systems.base import FilledContext, Piece, Reply

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=10_000)
def normalised(text: str) -> str:
    """Normalise as SQuAD's evaluation does: lower case, no punctuation, no articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def holds_answer(texts: Iterable[str], answers: Sequence[str]) -> bool:
    """Return whether any gold answer stands in the texts as whole words."""
    joined = f" {' '.join(normalised(text) for text in texts)} "
    return any(f" {answer} " in joined for answer in map(normalised, answers) if answer)


class SpanScorer:
    """Token recall, precision and IoU of contexts against gold character spans.

    Reference and retrieved tokens are sets of token positions in the documents. Precision and IoU divide by every
    token in the context, so that overlapping chunks, titles and headers count.
    """

    def __init__(
        self, documents: Sequence[Document], counter: TokenCounter, handed_over: Callable[[Document], str]
    ) -> None:
        """Take the documents with gold spans, and how the system was given them."""
        self._handed = {document.id: handed_over(document) for document in documents}
        self._shift = {d.id: len(self._handed[d.id]) - len(d.text) for d in documents}
        offsets = {document.id: counter.offsets(document.text) for document in documents}
        self._starts = {key: [start for start, _ in spans] for key, spans in offsets.items()}
        self._ends = {key: [end for _, end in spans] for key, spans in offsets.items()}
        self._unspaced: dict[str, tuple[str, list[int]]] = {}
        self._found: dict[tuple[str, str], tuple[int, int] | None] = {}
        self.unlocated = 0

    def tokens(self, document_id: str, start: int, end: int) -> range:
        """Return the positions of the tokens that overlap a character span of the document's text."""
        first = bisect_right(self._ends[document_id], start)
        return range(first, max(first, bisect_left(self._starts[document_id], end)))

    def locate(self, piece: Piece) -> tuple[int, int] | None:
        """Return a piece's span in the document's text, ignoring white space where the system changed it."""
        handed, shift = self._handed[piece.document_id], self._shift[piece.document_id]
        if piece.start is not None and handed.startswith(piece.text, piece.start):
            span: tuple[int, int] | None = (piece.start, piece.start + len(piece.text))
        else:
            key = (piece.document_id, piece.text)
            if key not in self._found:
                self._found[key] = self._search(*key)
            span = self._found[key]
        return span and (max(0, span[0] - shift), max(0, span[1] - shift))

    def _search(self, document_id: str, text: str) -> tuple[int, int] | None:
        handed = self._handed[document_id]
        if (start := handed.find(text)) >= 0:
            return start, start + len(text)
        if document_id not in self._unspaced:
            positions = [i for i, character in enumerate(handed) if not character.isspace()]
            self._unspaced[document_id] = ("".join(handed[i] for i in positions), positions)
        unspaced, positions = self._unspaced[document_id]
        wanted = "".join(text.split())
        if not wanted or (first := unspaced.find(wanted)) < 0:
            return None
        return positions[first], positions[first + len(wanted) - 1] + 1

    def score(self, question: Question, context: FilledContext) -> dict[str, float]:
        """Return recall, precision and IoU of one context."""
        wanted = {
            (gold.document_id, token)
            for gold in question.gold
            if gold.start is not None and gold.end is not None
            for token in self.tokens(gold.document_id, gold.start, gold.end)
        }
        got: set[tuple[str, int]] = set()
        for piece in context.pieces:
            if piece.document_id not in self._handed:
                continue  # a document without gold spans: its tokens count in the context only
            span = self.locate(piece)
            if span is None:
                self.unlocated += 1
            else:
                got.update((piece.document_id, token) for token in self.tokens(piece.document_id, *span))
        common = len(wanted & got)
        return {
            "span_recall": common / len(wanted),
            "span_precision": common / context.tokens if context.tokens else 0.0,
            "span_iou": common / (len(wanted) + context.tokens - common),
        }


def context_scores(question: Question, context: FilledContext, spans: SpanScorer | None) -> dict[str, float]:
    """Return every score of one context that the question's gold allows."""
    gold = question.gold_documents
    inside = {piece.document_id for piece in context.pieces}
    scores: dict[str, float] = {
        "gold_documents": len(gold & inside) / len(gold),
        "all_gold_documents": float(gold <= inside),
        "tokens": context.tokens,
    }
    if question.answers:
        texts = [piece.text for piece in context.pieces if piece.document_id in gold]
        scores["answer"] = float(holds_answer([context.text], question.answers))
        scores["answer_in_gold"] = float(holds_answer(texts, question.answers))
    if spans is not None and all(g.start is not None for g in question.gold):
        scores |= spans.score(question, context)
    return scores


def ranking_scores(question: Question, pieces: Sequence[Piece]) -> dict[str, float]:
    """Return the scores of the ranked, deduplicated documents: nDCG@10, recall, and whether the first is gold."""
    ranked = list(dict.fromkeys(piece.document_id for piece in pieces))
    gold = question.gold_documents
    gain = sum(1 / math.log2(rank + 2) for rank, document in enumerate(ranked[:10]) if document in gold)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, len(gold))))
    return {
        "hit@1": float(bool(ranked) and ranked[0] in gold),
        "ndcg@10": gain / ideal,
        "recall@10": len(gold & set(ranked[:10])) / len(gold),
        "recall@100": len(gold & set(ranked[:100])) / len(gold),
    }


def reply_scores(question: Question, reply: Reply) -> dict[str, float]:
    """Return exact match of the first answer and of the first three, F1 of the first, and whether it abstained.

    As in SQuAD's evaluation, against the nearest of the gold answers; an abstention is an error, for every
    question here has an answer.
    """
    gold = [answer for answer in map(normalised, question.answers) if answer]
    given = [normalised(answer) for answer in reply.answers]
    return {
        "em": float(any(answer in gold for answer in given[:1])),
        "em3": float(any(answer in gold for answer in given[:3])),
        "f1": max((word_f1(given[0], answer) for answer in gold), default=0.0) if given else 0.0,
        "abstained": float(reply.abstained),
    }


def word_f1(given: str, gold: str) -> float:
    """Return the harmonic mean of the shares of words that two normalised texts have in common."""
    ours, theirs = given.split(), gold.split()
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0
