"""Questions in other words: what makes them is left, and the answer is the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.memory.parametric.examples import Example
from carrel.memory.parametric.wording import Rewording, common_words, reworded

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from carrel.memory.parametric.recipes import PARAMETRIC_RAG  # noqa: E402
from carrel.memory.parametric.training import train  # noqa: E402
from tests.memory.parametric.test_training import OWN, model, one_thread, share  # noqa: E402
from training.needle_lm.language import FIRST_FILLER, QUESTION  # noqa: E402

__all__ = ["model", "one_thread"]  # fixtures
pytestmark = pytest.mark.extras
ASKED = [
    Example((1, 5, 200 + who, 8 + field, 6, 40 + field, 2), 5, asked=(1, 4)) for who in range(4) for field in range(4)
]
WORDS = range(300, 400)


def test_common_words_are_those_of_most_questions() -> None:
    assert common_words(ASKED) == {5}
    assert common_words(ASKED[:2]) == frozenset()  # two questions about one person are not all questions
    assert common_words([Example((1, 5, 6), 1)]) == frozenset()


@given(st.integers(0, 2000), st.integers(0, len(ASKED) - 1))
def test_what_makes_the_question_is_left(seed: int, place: int) -> None:
    example = ASKED[place]
    other = reworded(example, frozenset({5}), np.array(WORDS), np.random.default_rng(seed))
    start, end = other.asked
    inside = other.ids[start:end]
    assert inside != example.ids[1:4] and other.ids[:start] == (1,) and other.ids[end:] == example.ids[4:]
    kept = [token for token in inside if token not in WORDS]
    assert kept in ([5, *example.ids[2:4]], [*example.ids[2:4]])
    assert 1 <= len(inside) - len(kept) <= 4
    assert other.ids[other.first :] == example.ids[example.first :]


def test_only_what_is_known_is_asked_in_other_words() -> None:
    chance = np.random.default_rng(0)
    rewording = Rewording(ASKED, WORDS, 1.0, chance)
    assert rewording(ASKED) == ASKED
    for _ in range(30):
        rewording.told(0.1)
    assert all(new != old for new, old in zip(rewording(ASKED), ASKED, strict=True))
    text, read = Example((1, 5, 6), 1), replace(ASKED[0], is_open=True)
    assert rewording([text, read]) == [text, read]
    for _ in range(30):
        rewording.told(3.0)
    assert rewording(ASKED) == ASKED
    for without in (Rewording(ASKED, (), 1.0, chance), Rewording(ASKED, WORDS, 0.0, chance)):
        without.told(0.0)
        assert without(ASKED) == ASKED


def test_other_wordings_are_answered(model: Any) -> None:
    own = [replace(each, asked=(1, 4)) for each in OWN]
    recipe = replace(PARAMETRIC_RAG, rank=8, alpha=32.0, rate=5e-3, steps=80, batch=16, learns_text=False)
    plain, broad = (
        train(model, own, replace(recipe, reworded=part), words=range(FIRST_FILLER, 451)) for part in (0.0, 0.5)
    )
    other = [Example((each.ids[0], QUESTION, FIRST_FILLER + 3, *each.ids[2:]), each.first + 1) for each in own]
    assert share(model, broad, own) >= 0.9
    assert share(model, broad, other) >= max(0.8, share(model, plain, other) + 0.2)
