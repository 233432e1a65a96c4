import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.writing_plan import (
    LEAST_WORDS,
    MOST_POINT,
    MOST_SECTIONS,
    Planned,
    example,
    outline,
    read_plan,
    scaled,
    wanted_sections,
)


@pytest.mark.parametrize(
    ("line", "point", "words"),
    [
        ("The harbour - 200 words", "The harbour", 200),
        ("1. Berths: how they are given – 1,200 words.", "Berths: how they are given", 1200),
        ("Paragraph 3 - Main Point: Pilots, their work - Word Count: 400 words", "Pilots, their work", 400),
        ("Paragraph 3 - Main Point: [Pilots] - Word Count: [e.g., 400 words]", "Pilots", 400),
        ("- **The tariff of 2024** — about 300 words", "The tariff of 2024", 300),
        ("* The storm of 2024: 300", "The storm of 2024", 300),
        ("7) Weather (150 words)", "Weather", 150),
        ("港の歴史 - 300", "港の歴史", 300),
    ],
)
def test_a_line_is_a_main_point_and_its_words(line, point, words):
    assert read_plan()(f"Here is the plan:\n{line}\nTotal - 99 words\n") == (Planned(point, words),)


@pytest.mark.parametrize(
    "reply", ["", "I cannot plan this.", "It was in 2024", " - 300 words", "Total: 300 words", "A - 1 word\n" * 51]
)
def test_what_is_no_plan_is_said_to_be_none(reply):
    with pytest.raises(ValueError, match="1 to 50 lines"):
        read_plan()(reply)


def test_a_revised_plan_has_as_many_sections():
    assert len(read_plan(2)("A - 10\nB - 20")) == 2
    with pytest.raises(ValueError, match="plan of 3 lines"):
        read_plan(3)("A - 10\nB - 20")


def test_hostile_lines_are_read_in_time():
    began = time.perf_counter()
    with pytest.raises(ValueError, match="plan"):
        read_plan()("\n".join(["a" + " -" * 40_000 + " x 300", "a - " * 20_000 + "300", "[" * 90_000]))
    assert time.perf_counter() - began < 2
    (long,) = read_plan()("x" * 900 + " - 5 words")
    assert len(long.point) == MOST_POINT


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=MOST_SECTIONS), st.integers(-500, 40_000))
def test_a_plan_is_scaled_to_the_word(counts, words):
    plan = [Planned(f"p{number}", count) for number, count in enumerate(counts)]
    new = scaled(plan, words)
    assert sum(each.words for each in new) == max(words, LEAST_WORDS * len(plan))
    assert [each.point for each in new] == [each.point for each in plan]
    assert min(each.words for each in new) >= LEAST_WORDS
    for a, b, old_a, old_b in zip(new[:-1], new[1:], plan[:-1], plan[1:], strict=True):
        assert not (old_a.words < old_b.words) or a.words <= b.words + 1


def test_proportions_are_kept():
    new = scaled([Planned("a", 100), Planned("b", 300)], 800)
    assert [each.words for each in new] == [175, 625]


@given(st.integers(1, MOST_SECTIONS), st.integers(1, MOST_SECTIONS))
def test_the_outline_is_short_and_holds_the_section(sections, number):
    number = min(number, sections)
    plan = [Planned(f"point {place}", 100) for place in range(1, sections + 1)]
    lines = outline(plan, number).splitlines()
    assert f"{number}. point {number} - 100 words" in lines and len(lines) <= 13
    numbered = sum("point" in line for line in lines)
    hidden = sum(int(line.strip("(").split()[0]) for line in lines if line.startswith("("))
    assert numbered + hidden == sections


@pytest.mark.parametrize(("words", "sections"), [(1, 1), (300, 1), (3000, 10), (10**6, 50)])
def test_how_many_sections(words, sections):
    assert wanted_sections(words) == sections
    assert len(read_plan(sections)(example(sections, 300))) == sections
