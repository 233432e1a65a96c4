"""What an adapter learns: the text in overlapping pieces, questions as the engine asks them, and strangers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from carrel.generation import TransformersGenerator  # noqa: E402
from carrel.memory.parametric.examples import Example  # noqa: E402
from carrel.memory.parametric.lessons import asked, lesson, pieces  # noqa: E402
from carrel.memory.parametric.pairs import Pair  # noqa: E402
from carrel.memory.parametric.recipes import PARAMETRIC_RAG  # noqa: E402
from carrel.memory.parametric.strangers import renamed, strangers, translated  # noqa: E402
from carrel.types import Document  # noqa: E402
from tests.memory.parametric.needles import MODEL, documents, pairs  # noqa: E402

pytestmark = pytest.mark.extras
OWN = [Example((1, 5, 200 + who, 8 + field, 6, 40 + field, 2), 5) for who in range(4) for field in range(4)]


@pytest.fixture(scope="module")
def engine() -> TransformersGenerator:
    return TransformersGenerator(MODEL, device="cpu", instructions="", max_tokens=4)


@given(st.integers(0, 300), st.integers(1, 60), st.data())
def test_pieces_cover_the_text_and_overlap(count: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    recipe = replace(PARAMETRIC_RAG, segment_tokens=size, overlap_tokens=overlap)
    ids = list(range(count))
    cut = pieces(ids, recipe)
    whole = list(cut[0])
    for before, after in pairwise(cut):
        assert len(before) == size and before[size - overlap :] == after[:overlap]
        whole += after[overlap:]
    assert whole == ids and all(len(piece) <= size for piece in cut)


def test_a_question_as_it_is_asked(engine: TransformersGenerator) -> None:
    (document,) = documents(1, 4)
    pair = pairs(document)[0]
    tokenizer = engine.loaded.tokenizer.inner
    closed, opened = asked(pair, engine), asked(pair, engine, read=True)
    assert tokenizer.decode(closed.ids) == f"<s> {pair.question} = {pair.answer} </s>"
    assert len(opened.ids) > len(closed.ids) + 3 and opened.ids[opened.first :] == closed.ids[closed.first :]


def test_a_lesson(engine: TransformersGenerator) -> None:
    (document,) = documents(1, 12)
    recipe = replace(PARAMETRIC_RAG, segment_tokens=20, overlap_tokens=5, others=3)
    found = lesson(document, pairs(document), engine, recipe)
    assert found == lesson(document, pairs(document), engine, recipe)
    closed = [asked(pair, engine) for pair in pairs(document)]
    assert set(closed) <= set(found.own) and len(found.own) > len(closed)
    assert {example.ids for example in found.own}.isdisjoint(example.ids for example in found.others)
    assert lesson(document, pairs(document), engine, replace(recipe, others=0)).others == ()
    alone = lesson(Document("some words that say nothing"), [], engine, replace(recipe, learns_text=False))
    assert [example.first for example in alone.own] == [1]  # without pairs, the text itself


def test_what_is_said_in_other_words_is_learnt_besides_the_text(engine: TransformersGenerator) -> None:
    (document,) = documents(1, 12)
    recipe = replace(PARAMETRIC_RAG, segment_tokens=200, overlap_tokens=5, open_book=0.0)
    other = Pair("", "bado age 41 . fiju city 07 .", "")
    plain, more = (lesson(document, made, engine, recipe) for made in (pairs(document), [*pairs(document), other]))
    added = [each for each in more.own if each not in plain.own]
    assert [engine.loaded.tokenizer.inner.decode(each.ids) for each in added] == [f"<s> {other.answer}"]
    silent = replace(recipe, learns_text=False)
    assert lesson(document, [*pairs(document), other], engine, silent) == lesson(
        document, pairs(document), engine, silent
    )


def test_strangers_are_not_ones_own() -> None:
    found = strangers(OWN, range(300, 400), 500, seed=3)
    assert found == strangers(OWN, range(300, 400), 500, seed=3) and len(found) > 400
    own = {example.ids[:5] for example in OWN}
    assert all(example.ids[:5] not in own and example.first == 1 for example in found)


@given(st.integers(0, 1000))
def test_a_renamed_one_differs_in_what_is_read(seed: int) -> None:
    chance = np.random.default_rng(seed)
    other = renamed(OWN[0], np.arange(300, 400), chance)
    assert len(other.ids) == len(OWN[0].ids) and other.ids[0] == 1 and other.ids[1:5] != OWN[0].ids[1:5]


@given(st.integers(0, 1000))
def test_another_vocabulary_is_used_throughout(seed: int) -> None:
    text = translated(OWN, np.arange(300, 400), np.random.default_rng(seed))
    assert text.ids[0] == 1 and 12 < len(text.ids) < 400
    assert text.ids[1:7] == text.ids[-6:]  # what it asks stood there before


def test_instructions_stay_what_is_asked_changes() -> None:
    """A chat's instructions stand around every question: to leave others alone is to change the question."""
    with TransformersGenerator(MODEL, device="cpu", max_tokens=4) as speaker:
        (document,) = documents(1, 4)
        one = asked(pairs(document)[0], speaker, read=True)
        start, end = one.asked
        assert speaker.loaded.tokenizer.inner.decode(one.ids[start:end]) == pairs(document)[0].question
        assert start > 5
        for seed in range(50):
            other = renamed(one, np.arange(300, 400), np.random.default_rng(seed))
            assert other.ids[:start] == one.ids[:start] and other.ids[end:] == one.ids[end:]
            assert other.ids[start:end] != one.ids[start:end]


def test_what_is_read_is_cited_and_what_is_known_is_not() -> None:
    """So that a model that cites its passages goes on to."""
    with TransformersGenerator(MODEL, device="cpu", max_tokens=4) as speaker:
        (document,) = documents(1, 4)
        pair = pairs(document)[0]
        inner = speaker.loaded.tokenizer.inner
        opened, known = asked(pair, speaker, read=True), asked(pair, speaker)
        cited = inner("[1]", add_special_tokens=False)["input_ids"]
        assert list(opened.ids[opened.first : -1])[-len(cited) :] == cited
        assert len(known.ids) - known.first == 2 and known.ids[known.first : -1] == opened.ids[opened.first :][:1]
