import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.constraints import Constraint, Forbidden, Headings, MustMention, Words, count_words, mentions
from carrel.errors import InputError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("It's 1,200 m long [1][23].", 4),
        ("a long-range, well—known pier", 5),
        ("東京の港", 4),
        ("## A heading\n- an item", 4),
    ],
)
def test_words_are_counted_without_marks(text, count):
    assert count_words(text) == count


@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), max_size=30))
def test_plain_words_are_counted_as_they_are_split(words):
    assert count_words(" ".join(words) + " [2].") == len(words)


def test_whole_words_are_mentioned_in_any_case_and_over_line_ends():
    assert mentions("At last the\n  PIER was there.", "the pier")
    assert not mentions("The piers were there.", "pier")
    assert mentions("Written in C++, of course.", "c++")
    assert mentions("(0.5 m)", "0.5 m")
    assert not mentions("harbour", "arb")


def test_a_constraint_of_nothing_says_nothing():
    nothing = Constraint()
    assert nothing.told(1) == nothing.told(None) == nothing.fault("x", 1) == nothing.whole_fault(["x"]) == ""


def test_words_in_one_section():
    constraint = MustMention("the pier", section=2)
    assert constraint.told(2) == 'This section mentions "the pier".' and constraint.told(1) == ""
    assert constraint.told(None) == 'Section 2 mentions "the pier".'
    assert constraint.fault("nothing", 2) == 'it does not mention "the pier"'
    assert constraint.fault("nothing", 1) == constraint.fault("The pier.", 2) == ""
    assert constraint.whole_fault(["a"]) == 'there is no section 2, which was to mention "the pier"'
    assert constraint.whole_fault(["a", "b"]) == ""


def test_words_in_every_nth_section():
    constraint = MustMention("rain", every=3)
    assert [bool(constraint.told(number)) for number in range(1, 7)] == [False, False, True] * 2
    assert [bool(constraint.fault("sun", number)) for number in range(1, 7)] == [False, False, True] * 2
    assert "3 divides" in constraint.told(None) and constraint.whole_fault(["sun"] * 6) == ""


def test_words_anywhere():
    constraint = MustMention("rain")
    assert constraint.told(1) == constraint.told(None) != "" and constraint.fault("sun", 1) == ""
    assert constraint.whole_fault(["sun", "Rain."]) == "" and "nowhere" in constraint.whole_fault(["sun"])


def test_counts_of_words():
    whole, one = Words(3, 5), Words(most=2, section=1)
    assert whole.whole_fault(["a b", "c"]) == "" and whole.fault("a", 1) == "" == whole.told(1)
    assert whole.whole_fault(["a b"]) == "the text has 2 words, and is to have 3 to 5"
    assert whole.told(None) == "The whole text has 3 to 5 words."
    assert one.fault("a b c", 1) == "it has 3 words, and is to have at most 2"
    assert one.fault("a b c", 2) == one.fault("a b", 1) == one.whole_fault(["a"]) == one.told(2) == ""
    assert one.told(1) == "This section has at most 2 words." and one.told(None) == "Section 1 has at most 2 words."
    assert Words(2, section=4).whole_fault(["a"]) == "there is no section 4"
    assert Words(2).whole_fault(["a"]).endswith("at least 2")


def test_words_that_must_not_stand_there():
    constraint = Forbidden("in conclusion")
    assert constraint.fault("In\nconclusion, yes.", 1) == 'it says "in conclusion", which it must not'
    assert constraint.fault("In a conclusion.", 1) == "" and "in conclusion" in constraint.told(None)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("\n## The pier\nIt is long.\n### Its roof\nGulls.", ""),
        ("The pier\n## It", "does not begin"),
        ("# The pier\nIt", "does not begin"),
        ("#pier", "does not begin"),
        ("", "does not begin"),
        ("## The pier\nIt\n## More\n# Most", "2 more headings"),
    ],
)
def test_headings(text, fault):
    found = Headings(2).fault(text, 1)
    assert fault in found and bool(fault) == bool(found)
    assert '"## "' in Headings(2).told(3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MustMention(" "),
        lambda: MustMention(3),
        lambda: MustMention("a", section=1, every=1),
        lambda: MustMention("a", section=0),
        lambda: MustMention("a", every=True),
        lambda: Words(),
        lambda: Words(5, 4),
        lambda: Words(-1, 4),
        lambda: Words(1, section=0),
        lambda: Forbidden(""),
        lambda: Headings(0),
        lambda: Headings(7),
    ],
)
def test_constraints_of_no_use_are_errors(make):
    with pytest.raises(InputError):
        make()
