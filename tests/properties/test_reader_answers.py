"""Answers of the reader are quotations, whatever the passages; scores do not depend on the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.compression.base import passage_sentences
from carrel.reader.methods import Reader, ReaderAnswerer, ReaderReranker
from carrel.reader.model import ReaderModel
from carrel.retrieval.merging import keeping, kept_spans
from carrel.testing.passages import ODD_TEXTS
from carrel.types import Passage, Scores

FORGETFUL = Reader(ReaderModel(remembered=0))
questions = st.one_of(st.sampled_from(["When was the pier built?", "", "\0", "🚢?", "why " * 90]), st.text(max_size=40))
texts = st.one_of(
    st.sampled_from([*ODD_TEXTS[:-1], "The pier was built in 1894. It is old.", "In 1894 the pier was built."]),
    st.text(max_size=60),
)
scores = st.builds(Scores, dense=st.one_of(st.none(), st.floats(-1, 1)), lexical=st.none())
passages = st.lists(
    st.builds(lambda text, start, given: Passage("d", start, start + len(text), text, scores=given),
              texts, st.integers(0, 99), scores),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=30)
@given(questions, passages, st.data())
def test_answers_are_quotations_of_what_was_kept(question: str, found: list[Passage], data: st.DataObject) -> None:
    pruned = []
    for passage in found:
        kept = [span for span in passage_sentences(passage) if data.draw(st.booleans())]
        pruned.append(keeping(passage, kept) if data.draw(st.booleans()) else passage)
    candidates = ReaderAnswerer(FORGETFUL).candidates(question, pruned, 50)
    for candidate in candidates:
        assert 0 <= candidate.probability <= 1
        for place in candidate.places:
            passage = pruned[place.number - 1]
            assert place.text == passage.text[place.start - passage.start : place.end - passage.start] != ""
            assert any(span.start <= place.start and place.end <= span.end for span in kept_spans(passage))


@settings(max_examples=30)
@given(questions, passages)
def test_relevance_and_answers_do_not_depend_on_the_batch(question: str, found: list[Passage]) -> None:
    reranker, answerer = ReaderReranker(FORGETFUL), ReaderAnswerer(FORGETFUL)
    together = reranker.scores(question, found)
    assert np.array_equal(together, np.concatenate([reranker.scores(question, [passage]) for passage in found]))
    assert np.array_equal(together, reranker.scores(question, found[::-1])[::-1])
    answers = answerer.find(question, found)
    for number, passage in enumerate(found, start=1):
        alone = [replace(answer, number=number) for answer in answerer.find(question, [passage])]
        assert alone == [answer for answer in answers if answer.number == number]
