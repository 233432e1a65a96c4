"""How much there is in a turn to remember."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.memory.importance import importance


@pytest.mark.parametrize("text", ["", "Hi!", "Thanks!", "Ok, great!", "Good morning!", "lol", "...", "Bye, see you!"])
def test_small_talk_is_nothing(text: str) -> None:
    assert importance(text) == 0.0


def test_what_lasts_counts_more() -> None:
    told = importance("My daughter Mia was born on 3 May, we moved to Lisbon.")
    asked = importance("How was your day then?")
    assert told > 0.6 > 0.2 > asked


@given(st.text(max_size=300))
def test_it_is_a_share_and_the_same_each_time(text: str) -> None:
    assert 0.0 <= importance(text) <= 1.0
    assert importance(text) == importance(text)
