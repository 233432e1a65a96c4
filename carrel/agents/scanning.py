"""Reads a text from end to end with the embedded models: what each of its sentences has to do with a question."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carrel.agents.notes import Line, log_odds
from carrel.compression.base import passage_sentences
from carrel.retrieval.indexes.lexical import query_terms
from carrel.types import Passage

if TYPE_CHECKING:
    from carrel.embeddings.base import TextEncoder
    from carrel.tokens import Tokenizer

_K1, _B = 1.2, 0.75
_WORD = re.compile(r"\w+")


def scan(question: str, passages: Sequence[Passage], encoder: TextEncoder, tokenizer: Tokenizer) -> list[Line]:
    """The sentences of passages as lines, in order: each with the log-odds that its passage is one to answer from.

    That is the reranker's calibrated relevance, from the reader, the cosine and BM25 among these passages. A line is
    as sharp as it is likely that the pruner would keep it, times its passage's relevance.
    """
    from carrel.reader.methods import ReaderPruner, ReaderReranker, shipped_reader

    if not passages:
        return []
    reader = shipped_reader()
    measured = with_scores(question, passages, encoder)
    relevance = ReaderReranker(reader).checked_scores(question, measured)
    spans = [passage_sentences(passage) for passage in passages]
    kept = ReaderPruner(reader).checked_scores(question, passages, spans)
    return [
        Line(
            passage.document_id,
            span.start,
            span.end,
            tokenizer.count(passage.text[span.start - passage.start : span.end - passage.start]),
            log_odds(float(share)),
            score * float(share),
        )
        for passage, share, row, scores in zip(passages, relevance, spans, kept, strict=True)
        for span, score in zip(row, scores, strict=True)
    ]


def with_scores(question: str, passages: Sequence[Passage], encoder: TextEncoder) -> list[Passage]:
    """The passages with cosine and BM25 for the question, as if they had been retrieved among one another."""
    vectors = encoder.encode_texts([passage.text for passage in passages])  # (passages, dimension)
    dense = vectors @ encoder.encode_queries([question])[0]
    lexical = bm25(question, [passage.text for passage in passages])
    return [
        replace(passage, scores=replace(passage.scores, dense=float(cosine), lexical=float(score)))
        for passage, cosine, score in zip(passages, dense, lexical, strict=True)
    ]


def bm25(question: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts,) BM25 of texts for a question, with the word frequencies of these very texts (Robertson et al., 1994)."""
    counts = [Counter(_WORD.findall(text.lower())) for text in texts]
    lengths = np.array([count.total() for count in counts], np.float64)
    mean = lengths.mean() or 1.0 if len(texts) else 1.0
    scores = np.zeros(len(texts))
    for term in query_terms(question):
        found = np.array([count[term] for count in counts], np.float64)
        holding = int((found > 0).sum())
        weight = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
        scores += weight * found * (_K1 + 1) / (found + _K1 * (1 - _B + _B * lengths / mean))
    return scores
