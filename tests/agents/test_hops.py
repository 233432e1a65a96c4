"""Following what was found: names, follow-ups, links and the fused ranking, against plain oracles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import hops
from carrel.agents.hops import Followed, FollowUp, Seed
from carrel.errors import InputError
from carrel.retrieval.pruned_packing import Key, key_of
from carrel.types import Passage, Scores

BRAND = "Brand is a play by the Norwegian playwright Henrik Ibsen. It is a verse tragedy."
QUESTION = "What country was the author of Brand a citizen of?"
TITLES = ("Brand (play)", "Henrik Ibsen", "Nora Ibsen", "Oslo", "")


def passage(
    name: str,
    text: str = "Some text.",
    title: str = "",
    relevance: float | None = None,
    dense: float | None = None,
) -> Passage:
    return Passage(name, 0, len(text), text, title=title, scores=Scores(dense=dense, relevance=relevance))


def seed(name: str, text: str, title: str = "", weight: float = 1.0) -> Seed:
    return Seed(passage(name, text, title), weight)


def test_names_are_whole_and_in_order() -> None:
    text = "The Rank Organisation bought Bank of the West in 1995. In May, O'Brien & Co met É. Zola at MTV."
    assert hops.names(text) == ["Rank Organisation", "Bank of the West", "May", "O'Brien", "Zola", "MTV"]


def test_names_of_the_question_and_of_no_letters_are_left_out() -> None:
    assert hops.names(BRAND, known=QUESTION) == ["Norwegian", "Henrik Ibsen"]
    assert hops.names("In 1995 it was X. He left.") == []


def test_a_name_stands_once_however_it_is_cut_off() -> None:
    assert hops.names("Oslo, the Oslo of Ibsen. OSLO") == ["Oslo", "Oslo of Ibsen"]


def test_the_subject_of_a_title_has_no_aside() -> None:
    assert hops.subject("Always (2011 film)") == "always"
    assert hops.subject("(What's the Story) Morning Glory?") == "morning glory"
    assert hops.subject("(1998)") == "1998"


def test_seeds_come_by_relevance_and_weigh_against_the_best() -> None:
    read = [passage("a", relevance=0.1), passage("b", relevance=0.4), passage("c"), passage("d", relevance=0.2)]
    found = hops.seeds(read, count=3)
    assert [(s.passage.document_id, s.weight) for s in found] == [("b", 1.0), ("d", 0.5), ("a", 0.25)]


def test_what_was_followed_is_no_seed_again_but_still_the_measure() -> None:
    read = [passage("a", relevance=0.5), passage("b", relevance=0.25)]
    (left,) = hops.seeds(read, followed=[key_of(read[0])])
    assert (left.passage, left.weight) == (read[1], 0.5)
    assert hops.seeds(read, followed=map(key_of, read)) == []


def test_without_any_relevance_all_seeds_weigh_the_same() -> None:
    assert [s.weight for s in hops.seeds([passage("a"), passage("b", relevance=0.0)])] == [1.0, 1.0]


def test_follow_ups_are_the_question_with_the_seed_and_its_names() -> None:
    found = hops.follow_ups(QUESTION, [seed("a", BRAND, "Brand (play)", 0.5)])
    assert found[0] == FollowUp(f"{QUESTION} Brand (play). {BRAND}", 0.5, False)
    assert [(f.query, f.is_name) for f in found[1:]] == [("Norwegian", True), ("Henrik Ibsen", True)]
    assert [f.limit for f in found] == [hops.BRIDGE_HITS, hops.NAME_HITS, hops.NAME_HITS]


def test_a_name_of_two_seeds_is_asked_once_with_the_greater_weight() -> None:
    chosen = [seed("a", "Ibsen wrote it.", weight=0.5), seed("b", "IBSEN left.", weight=1.0)]
    found = [f for f in hops.follow_ups("who?", chosen) if f.is_name]
    assert found == [FollowUp("Ibsen", 1.0, True)]


def test_what_was_asked_is_not_asked_again() -> None:
    first = hops.follow_ups(QUESTION, [seed("a", BRAND)])
    assert hops.follow_ups(QUESTION, [seed("a", BRAND)], asked=[f.query for f in first]) == []
    again = hops.follow_ups(QUESTION, [seed("a", BRAND)], asked=["henrik  ibsen"])
    assert [f.query for f in again if f.is_name] == ["Norwegian"]


def test_only_the_first_names_of_a_seed_are_asked() -> None:
    text = ". ".join(f"Name{'abcdefghijkl'[i]}" for i in range(12))
    assert sum(f.is_name for f in hops.follow_ups("who?", [seed("a", text)])) == hops.NAMES_EACH


def test_links_lead_to_what_a_seed_names_with_the_weight_of_the_surest() -> None:
    chosen = [seed("a", BRAND, "Brand (play)", 0.4), seed("b", "On Henrik Ibsen.", "Letters", 0.9)]
    ibsen, same = passage("c", title="Henrik Ibsen (poet)"), passage("d", title="Brand")
    part = passage("e", title="Nor")
    assert hops.links(chosen, [ibsen, same, part, passage("f")]) == {key_of(ibsen): 0.9}


def test_an_earlier_hop_decides_between_equals() -> None:
    """A passage that is named beats one that is not, all else equal, and one under a sure seed one under another."""
    start = passage("start", BRAND, "Brand (play)", 0.9, 0.5)
    chosen = [Seed(start, 1.0)]
    named, other = passage("z", title="Henrik Ibsen"), passage("a", title="Somebody")
    follow = FollowUp("q", 1.0, False)
    followed = [Followed(follow, (other,)), Followed(follow, (named,))]
    assert hops.ranked([start], [start], chosen, followed) == [start, named, other]
    assert hops.ranked([start], [start], [], followed) == [start, other, named]  # by their ids, unless one is named
    low, high = FollowUp("x", 0.2, True), FollowUp("y", 0.8, True)
    followed = [Followed(low, (passage("a"),)), Followed(high, (passage("z"),))]
    assert [p.document_id for p in hops.ranked([], [], [], followed)] == ["z", "a"]


def test_the_nearest_order_what_was_found_and_add_nothing() -> None:
    first, second, stranger = (passage(name, dense=0.1 * place) for place, name in enumerate("abc"))
    assert hops.ranked([first, second], [first, stranger, second], [], []) == [second, first]


def test_a_passage_keeps_its_relevance_when_a_follow_up_finds_it_again() -> None:
    read = passage("a", relevance=0.7)
    again = replace(read, scores=Scores(dense=0.1))
    assert hops.ranked([read], [], [], [Followed(FollowUp("q", 1.0, False), (again,))])[0].scores.relevance == 0.7


def test_a_hop_that_changes_only_the_order_or_the_tail_settles_it() -> None:
    a, b, c = (passage(name) for name in "abc")
    assert hops.settled([a, b, c], [b, a], count=2)
    assert not hops.settled([a, b, c], [a, c, b], count=2)
    assert not hops.settled([], [a])
    assert hops.settled([], [])


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_is_a_share(weight: float) -> None:
    with pytest.raises(InputError, match="weight of a seed"):
        Seed(passage("a"), weight)


@pytest.mark.parametrize("constant", [0, -1, float("nan")])
def test_the_constant_of_a_fusion_is_above_zero(constant: float) -> None:
    with pytest.raises(InputError, match="constant"):
        hops.fused_ranks([], constant)


KEYS = st.sampled_from([(name, 0, 1) for name in "abcdef"])
SCORINGS = st.lists(st.dictionaries(KEYS, st.sampled_from([0.0, 0.5, 1.0, 2.0])), max_size=4)


@given(SCORINGS, st.integers(1, 60))
def test_fused_ranks_are_those_of_the_definition(scorings: list[dict[Key, float]], constant: int) -> None:
    expected: dict[Key, float] = {}
    for scoring in scorings:
        for key, score in scoring.items():
            rank = 1 + sum(other > score for other in scoring.values())
            expected[key] = expected.get(key, 0.0) + 1 / (constant + rank)
    assert hops.fused_ranks(scorings, constant) == pytest.approx(expected)


@given(st.text(), st.text())
def test_names_stand_in_the_text_and_not_in_what_is_known(text: str, known: str) -> None:
    found = hops.names(text, known)
    assert len({hops.plain(name) for name in found}) == len(found)
    for name in found:
        assert f" {hops.plain(name)} " in f" {hops.plain(text)} "
        assert f" {hops.plain(name)} " not in f" {hops.plain(known)} "


PASSAGES = st.builds(
    lambda number, relevance: passage("abcde"[number], ("Some text.", BRAND)[number % 2], TITLES[number], relevance),
    st.integers(0, 4),
    st.none() | st.floats(0, 1),
)
FOLLOWED = st.builds(
    Followed,
    st.builds(FollowUp, st.just("q"), st.floats(0, 1), st.booleans()),
    st.lists(PASSAGES, max_size=4).map(tuple),
)


@given(st.lists(PASSAGES, max_size=5), st.lists(PASSAGES, max_size=5), st.lists(FOLLOWED, max_size=4))
def test_all_found_is_ranked_once(found: list[Passage], nearest: list[Passage], followed: list[Followed]) -> None:
    chosen = hops.seeds(found)
    ranking = [key_of(p) for p in hops.ranked(found, nearest, chosen, followed)]
    assert len(set(ranking)) == len(ranking)
    assert set(ranking) == {key_of(p) for p in (*found, *(p for f in followed for p in f.passages))}
    best_first = [key_of(p) for p in hops.ranked(found, nearest, chosen, followed[::-1])]
    assert best_first == ranking  # the order of the follow-ups decides nothing
