"""The needle model's texts, read again by a reader that knows nothing of how they are made."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from training.needle_lm import data
from training.needle_lm.data import CLOSE, COPY, LOOK_UP, NOTHING, TWO_HOP, batch, copy_row, exam, look_up_row
from training.needle_lm.language import (
    AGAIN,
    ATTRIBUTES,
    BEGIN,
    CONTROL,
    END,
    ENTITIES,
    FIELDS,
    FILLER,
    MARKS,
    RELATIONS,
    STOP,
    UNKNOWN,
    VALUES,
    VOCABULARY,
    text,
    tokenizer_json,
)

SEEDS = st.integers(0, 2**32)
FACT = re.compile(rf"\b({'|'.join(ENTITIES)}) ({'|'.join(FIELDS)}) ([a-z]{{4}}|\d\d) \.")
ASKED = re.compile(r"\? (\w+) (\w+)(?: (\w+))? = (\w+) </s>")
Row = tuple[np.ndarray, np.ndarray]


def told(words: str) -> dict[tuple[str, str], list[str]]:
    """What a text says of each entity and field."""
    facts: dict[tuple[str, str], list[str]] = {}
    for entity, field, value in FACT.findall(words):
        facts.setdefault((entity, field), []).append(value)
    return facts


def answer_to(facts: dict[tuple[str, str], list[str]], entity: str, fields: list[str]) -> str:
    """The one right answer; an error where there is none or more than one."""
    for field in fields:
        [entity] = facts[entity, field]
    return entity


@given(SEEDS, st.integers(data.SHORTEST, 500), st.floats(0, 1))
def test_every_question_has_exactly_one_right_answer_before_it(seed: int, length: int, share: float) -> None:
    ids, kinds = look_up_row(np.random.default_rng(seed), length, share)
    words = text(ids)
    questions = list(ASKED.finditer(words))
    assert len(questions) == words.count("?") >= 1
    for found in questions:
        entity, *fields, answer = [part for part in found.groups() if part is not None]
        before = told(words[: found.start()])
        assert answer_to(before, entity, fields) == answer
        assert all(len(values) == 1 for values in told(words).values())
        assert fields[0] in RELATIONS or len(fields) == 1
        place = words[: found.start(4)].count(" ")
        assert kinds[place] == (TWO_HOP if len(fields) == 2 else LOOK_UP) and kinds[place + 1] == CLOSE
    assert (kinds != NOTHING).sum() == 2 * len(questions)


@given(SEEDS, st.integers(data.SHORTEST, 600))
def test_what_is_copied_follows_from_the_two_words_before_it(seed: int, length: int) -> None:
    ids, kinds = copy_row(np.random.default_rng(seed), length)
    row = ids.tolist()
    mark = row.index(AGAIN)
    first, again = row[1:mark], row[mark + 1 :]
    pairs = list(itertools.pairwise(first))
    assert len(set(pairs)) == len(pairs)
    start = pairs.index((again[0], again[1]))
    assert first[start : start + len(again)] == again
    assert np.flatnonzero(kinds).tolist() == list(range(mark + 3, length)) and set(kinds[mark + 3 :]) == {COPY}


@given(SEEDS, st.integers(data.SHORTEST, 300), st.integers(1, 5), st.floats(0, 1), st.floats(0, 1))
def test_rows_have_the_length_asked_for_and_begin_as_they_should(
    seed: int, length: int, rows: int, two_hop: float, copying: float
) -> None:
    made = batch(np.random.default_rng(seed), length, rows, two_hop, copying)
    assert made.ids.shape == made.kinds.shape == (rows, length) and made.ids.dtype == np.int64
    assert (made.ids[:, 0] == BEGIN).all() and (made.kinds[:, 0] == NOTHING).all()
    assert ((made.ids > BEGIN) & (made.ids < len(VOCABULARY)))[:, 1:].all()


@given(SEEDS)
def test_a_seed_makes_the_same_rows_again_and_another_makes_others(seed: int) -> None:
    first, again, other = (batch(np.random.default_rng(s), 64, 4, 0.5, 0.5) for s in (seed, seed, seed + 1))
    assert np.array_equal(first.ids, again.ids) and np.array_equal(first.kinds, again.kinds)
    assert not np.array_equal(first.ids, other.ids)


def test_the_shares_asked_for_are_kept() -> None:
    rows = batch(np.random.default_rng(0), 256, 400, two_hop_share=0.2, copying=0.25)
    copies = (rows.kinds == COPY).any(axis=1)
    assert copies.mean() == pytest.approx(0.25, abs=0.07)
    hops = (rows.kinds == TWO_HOP).sum() / ((rows.kinds == TWO_HOP) | (rows.kinds == LOOK_UP)).sum()
    assert hops == pytest.approx(0.2, abs=0.05)
    plain = batch(np.random.default_rng(0), 128, 50, two_hop_share=0.0, copying=0.0)
    assert not np.isin(plain.kinds, (TWO_HOP, COPY)).any()


def test_questions_stand_between_the_facts_too() -> None:
    rows = [look_up_row(np.random.default_rng(seed), 200, 0.3)[0].tolist() for seed in range(60)]
    woven = [row for row in rows if STOP in row[row.index(END) :]]
    assert 15 <= len(woven) <= 45


@pytest.mark.parametrize("length", [64, 257, 1024, 4096])
@pytest.mark.parametrize(("hops", "filled"), [(1, 0.0), (1, 0.75), (2, 0.0)])
def test_an_exam_asks_what_its_context_answers(length: int, hops: int, filled: float) -> None:
    made = exam(np.random.default_rng(length), length, 16, hops=hops, filled=filled)
    count, each = made.questions.shape
    assert len(made.context) + each == length and each == 3 + hops
    assert 0 < count <= 16 and len({tuple(q) for q in made.questions.tolist()}) == count
    facts = told(text(made.context))
    for question, answer, place in zip(made.questions, made.answers, made.places, strict=True):
        mark, entity, *fields, end = text(question).split()
        assert (mark, end) == ("?", "=") and len(fields) == hops
        assert answer_to(facts, entity, fields) == VOCABULARY[answer] == VOCABULARY[made.context[place]]
    silent = len(made.context) - 1 - 4 * len(facts)
    assert (silent <= 3) if not filled else (0.7 * length < silent < 0.8 * length)


@pytest.mark.parametrize("hops", [1, 2])
def test_needles_stand_at_every_depth(hops: int) -> None:
    chance = np.random.default_rng(5)
    made = [exam(chance, 512, 16, hops=hops) for _ in range(20)]
    depths = np.concatenate([each.places / len(each.context) for each in made])
    assert (np.histogram(depths, bins=5, range=(0, 1))[0] > 0.1 * len(depths)).all()


def test_most_facts_share_one_half_of_their_key_with_others() -> None:
    facts = data.draw_facts(np.random.default_rng(0), 500)
    assert len({*zip(facts.entities.tolist(), facts.fields.tolist(), strict=True)}) == 500
    shared = [np.bincount(column)[column] > 1 for column in (facts.entities, facts.fields)]
    assert (shared[0] | shared[1]).mean() > 0.9
    links = np.isin(facts.fields, [VOCABULARY.index(word) for word in RELATIONS])
    assert links.mean() == pytest.approx(0.25, abs=0.06)
    assert (facts.values[links] != facts.entities[links]).all()
    assert {VOCABULARY[v] for v in facts.values[~links]} <= set(VALUES)


def test_no_word_is_of_two_kinds() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert len(VOCABULARY) == sum(map(len, (CONTROL, MARKS, ATTRIBUTES, RELATIONS, VALUES, FILLER, ENTITIES)))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(tokenizer_json())


@given(seed=SEEDS)
def test_the_tokenizer_reads_a_text_back_to_the_same_tokens(tokenizer: Tokenizer, seed: int) -> None:
    row = batch(np.random.default_rng(seed), 96, 1, 0.5, 0.5).ids[0].tolist()
    assert tokenizer.encode(text(row), add_special_tokens=False).ids == row
    assert tokenizer.encode(text(row[1:])).ids == row
    assert tokenizer.decode(row, skip_special_tokens=False) == text(row)


def test_the_tokenizer_takes_text_as_people_write_it(tokenizer: Tokenizer) -> None:
    wanted = "<s> bado age 41 . fiju city 07 . ? bado age ="
    assert tokenizer.encode("Bado age 41.\nFIJU city 07.  ?bado age=").ids == tokenizer.encode(wanted[4:]).ids
    assert tokenizer.encode("Zürich qux").ids == [BEGIN, UNKNOWN, UNKNOWN]
    assert tokenizer.get_vocab_size() == len(VOCABULARY)
    assert [tokenizer.token_to_id(word) for word in VOCABULARY] == list(range(len(VOCABULARY)))
