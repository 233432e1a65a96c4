"""Texts of facts: every question has one right answer in its context, and the same seed draws the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")
from carrel.errors import InputError, ModelError
from carrel.generation.kv.lookups import ChatLookUps, WordLookUps, look_ups
from tests.generation.kv.needle_cases import WORDS, letter_tokenizer, word_tokenizer

pytestmark = pytest.mark.extras
WORD_TOKENIZER, LETTER_TOKENIZER = word_tokenizer(), letter_tokenizer()


def said(tokenizer: Any, ids: Any) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


@given(st.integers(24, 300), st.integers(1, 12), st.integers(0, 2**32), st.sampled_from([1, 2]))
def test_words_every_answer_follows_from_the_facts(length: int, questions: int, seed: int, hops: int) -> None:
    texts = WordLookUps(WORDS, WORD_TOKENIZER, hops)
    try:
        found = texts.draw(length, questions, (seed, length))
    except InputError:
        assert hops == 2  # by chance, no relation leads to an entity of which anything is said
        return
    assert found == texts.draw(length, questions, (seed, length))
    assert len(found.context) == length
    assert found.context[0] == 1 and 1 not in found.context[1:]
    text = said(WORD_TOKENIZER, found.context)
    fields = "|".join([*WORDS["attributes"], *WORDS["relations"]])
    matched = re.findall(rf"(\S+) ({fields}) (\S+) \.", text)
    facts = {(entity, field): value for entity, field, value in matched}
    assert len(facts) == len(matched)
    assert 1 <= len(found.questions) <= questions
    assert len({asked.ids for asked in found.questions}) == len(found.questions)
    for asked in found.questions:
        mark, entity, *path, equals = said(WORD_TOKENIZER, asked.ids).split()
        assert (mark, equals, len(path)) == ("?", "=", hops)
        for field in path:
            entity = facts[entity, field]
        assert entity == asked.answer
    assert found.longest == 3 + hops


def test_half_of_the_words_say_nothing() -> None:
    found = WordLookUps(WORDS, WORD_TOKENIZER).draw(161, 5, (0,))
    text = said(WORD_TOKENIZER, found.context).split()
    assert sum(word in WORDS["filler"] for word in text) == 80


def test_another_seed_is_another_text() -> None:
    texts = WordLookUps(WORDS, WORD_TOKENIZER)
    assert texts.draw(100, 5, (0, 1)).context != texts.draw(100, 5, (0, 2)).context


def test_words_are_right_as_they_are_alone() -> None:
    texts = WordLookUps(WORDS, WORD_TOKENIZER)
    assert texts.is_right(" 07 ", "07")
    assert not texts.is_right("7", "07")
    assert not texts.is_complete("07")


def test_words_too_short_a_context() -> None:
    with pytest.raises(InputError, match="9 tokens hold no question"):
        WordLookUps(WORDS, WORD_TOKENIZER, 2).draw(9, 5, (0,))
    with pytest.raises(InputError, match="1 or 2 hops, not 3"):
        WordLookUps(WORDS, WORD_TOKENIZER, 3)


def test_words_that_are_not_one_token() -> None:
    with pytest.raises(ModelError, match="not one token each"):
        WordLookUps(WORDS, LETTER_TOKENIZER).draw(200, 3, (0,))


@pytest.mark.parametrize("broken", ["{", "[]", "{}", json.dumps({**WORDS, "filler": []})])
def test_a_damaged_language(tmp_path: Path, broken: str) -> None:
    (tmp_path / "language.json").write_text(broken)
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / "language.json"))):
        look_ups(tmp_path, WORD_TOKENIZER)


def test_the_language_decides(tmp_path: Path) -> None:
    assert isinstance(look_ups(tmp_path, LETTER_TOKENIZER), ChatLookUps)
    (tmp_path / "language.json").write_text(json.dumps(WORDS))
    assert isinstance(look_ups(tmp_path, WORD_TOKENIZER), WordLookUps)


def test_a_chat_template_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no chat template and no language\.json"):
        look_ups(tmp_path, letter_tokenizer(None))


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("length", [500, 1500])
def test_english_every_answer_follows_from_the_text(length: int, hops: int) -> None:
    texts = ChatLookUps(LETTER_TOKENIZER, hops)
    found = texts.draw(length, 6, (3, length))
    assert found == texts.draw(length, 6, (3, length))
    assert length - 120 < len(found.context) <= length
    text = said(LETTER_TOKENIZER, found.context)
    codes = dict(re.findall(r"The code of the (\w+ \w+) is (\d{4})\.", text))
    neighbours = dict(re.findall(r"The neighbour of the (\w+ \w+) is the (\w+ \w+)\.", text))
    assert " was " in text
    for asked in found.questions:
        whole = text + said(LETTER_TOKENIZER, asked.ids)
        assert whole.endswith("Answer with the number alone. <assistant> ")
        (name,) = re.findall(r"What is the code of the (?:neighbour of the )?(\w+ \w+)\?", whole)
        assert codes[neighbours[name] if hops == 2 else name] == asked.answer


def test_english_the_first_number_counts() -> None:
    texts = ChatLookUps(LETTER_TOKENIZER)
    assert texts.is_right("The code is 4,817.", "4817")
    assert texts.is_right("4817", "4817")
    assert not texts.is_right("1234, not 4817", "4817")
    assert not texts.is_right("I do not know", "4817")
    assert texts.is_complete("4817.")
    assert not texts.is_complete("It is 48")


def test_english_too_short_a_context() -> None:
    with pytest.raises(InputError, match="20 tokens hold no question"):
        ChatLookUps(LETTER_TOKENIZER).draw(20, 5, (0,))
