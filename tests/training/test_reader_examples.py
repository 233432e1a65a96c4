"""What the reader is taught with: the data parted, questions made unanswerable, windows and their labels."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from config import FULL, SMALL
from data import Question, fraction, holds, load_pairs, load_questions, normal, read, sentence_spans, spread, trim
from features import IGNORED, Featuriser, batches
from hypothesis import given
from hypothesis import strategies as st
from mine import _label
from swaps import OPPOSITES, Swaps

from carrel.retrieval.sentences import split_sentences
from carrel.tokens import shipped_tokenizer
from carrel.types import Passage
from examples import Examples, Window, labelled, without

CONFIG = SMALL.with_changes(examples=None)
TEXT = "Belford lies on the Arno. It was founded by Ada Falk in 1412. About 9,120 people live there today."


def question(text: str = "Who founded Belford?", answer: str = "Ada Falk", context: str = TEXT) -> Question:
    start = context.find(answer)
    spans = ((start, start + len(answer)),) if answer else ()
    return Question("q", "squad2", text, context, "Belford", spans, False)


@pytest.fixture(scope="module")
def questions(data: Path) -> list[Question]:
    return load_questions(data, CONFIG)


@pytest.fixture(scope="module")
def made(data: Path, questions: list[Question]) -> Examples:
    """Examples whose candidates are all other paragraphs."""
    pool = {
        q.document: {"document": q.document, "title": q.title, "text": q.context, "chunks": [[0, len(q.context)]]}
        for q in questions
    }
    candidates = []
    for q in questions:
        rows = []
        for row in list(pool.values())[::3]:
            passage = Passage(document_id=row["document"], start=0, end=len(row["text"]), text=row["text"])
            label = _label(passage, q, [q.context[s:e] for s, e in q.answers])
            rows.append({"document": row["document"], "start": 0, "end": len(row["text"]), "label": label})
        candidates.append({"id": q.id, "candidates": rows})
    fillers = [
        {"question": p.question, "sentence": p.sentence, "fillers": [f"this is filler {n} ." for n in range(12)]}
        for p in load_pairs(data, CONFIG, questions)
    ]
    return Examples(questions, candidates, list(pool.values()), fillers, CONFIG)


def test_no_document_is_on_both_sides(questions: list[Question]) -> None:
    for key in (lambda q: q.document, lambda q: (q.source, q.title) if q.title else q.document):
        learnt = {key(q) for q in questions if not q.held_out}
        assert learnt and not learnt & {key(q) for q in questions if q.held_out}
    held_out = {q.source for q in questions if q.held_out}
    assert held_out == {"squad2", "nq_qed"}
    assert len({q.title for q in questions if q.held_out and q.source == "squad2"}) == CONFIG.held_out_articles


def test_answers_are_where_they_are_said_to_be(data: Path, questions: list[Question]) -> None:
    rows = {(row["id"], row["context"]): row for row in read(data / "train" / "squad2.jsonl.gz")}
    checked = 0
    for q in (q for q in questions if q.source == "squad2"):
        wanted = [answer["text"] for answer in rows[q.id, q.context]["answers"]]
        assert [q.context[start:end] for start, end in q.answers] == wanted
        checked += len(wanted)
    assert checked > 20


def test_pairs_do_not_show_held_out_sentences(data: Path, questions: list[Question]) -> None:
    chosen = next(q for q in questions if q.held_out)
    told = next(chosen.context[s.start : s.end].strip().lower() for s in split_sentences(chosen.context))
    pairs = load_pairs(data, CONFIG, questions)
    hidden = {normal(q.context[s.start : s.end]) for q in questions if q.held_out for s in split_sentences(q.context)}
    assert normal(told) in hidden
    assert pairs and not {normal(pair.sentence) for pair in pairs} & hidden


def test_rows_are_spread_over_the_file() -> None:
    rows: list[dict[str, Any]] = [{"n": n} for n in range(10)]
    assert [row["n"] for row in spread(rows, 4)] == [0, 2, 5, 7]
    assert spread(rows, None) == spread(rows, 99) == rows


@given(st.text(), st.text())
def test_a_fraction_is_of_the_text_alone(first: str, second: str) -> None:
    assert 0 <= fraction(first) < 1
    assert (fraction(first) == fraction(second)) == (first == second)


@given(st.text(alphabet=" \na.b", max_size=12), st.data())
def test_trimming_takes_only_white_space(text: str, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, len(text)))
    end = draw.draw(st.integers(start, len(text)))
    a, b = trim(text, start, end)
    assert start <= a <= b <= end and text[a:b] == text[start:end].strip()


@pytest.mark.parametrize(
    ("passage", "answers", "found"),
    [
        ("Built in 1412, by Ada.", ["1412"], True),
        ("Built in 14120.", ["1412"], False),
        ("The Adalbert house.", ["Ada"], False),
        ("It is THE arno!", ["the Arno"], True),
        ("Nothing.", ["the"], False),  # an article alone is no answer
        ("Nothing.", [], False),
    ],
)
def test_a_passage_holds_an_answer_as_whole_words(passage: str, answers: list[str], found: bool) -> None:
    assert holds(passage, answers) == found


@pytest.mark.parametrize("answer", ["Ada Falk", "1412", "Arno"])
def test_the_answers_sentence_can_be_taken_out(answer: str) -> None:
    q = question(answer=answer)
    rest = without(q.context, q.answers)
    assert rest and answer not in rest
    assert all(sentence in TEXT for sentence in rest.split(". "))


def test_a_text_that_says_it_twice_is_not_used() -> None:
    text = "Ada Falk founded it. Many praise Ada Falk for it."
    assert without(text, ((0, 8),)) == ""
    assert without("Ada Falk founded it.", ((0, 8),)) == ""


def test_an_epoch_depends_on_its_number_alone(made: Examples) -> None:
    assert made.epoch(0) == made.epoch(0)
    assert made.epoch(0) != made.epoch(1)
    assert len(made.epoch(0)) == len(made.questions) + len(made.fillers)


def windows(made: Examples) -> list[Window]:
    return [window for number in range(3) for group in made.epoch(number) for window in group]


def test_windows_come_from_training_documents(made: Examples, questions: list[Question]) -> None:
    hidden = [q for q in questions if q.held_out]
    shown = {window.text for window in windows(made)}
    assert not shown & {q.context for q in hidden}
    assert not {window.question for window in windows(made)} & {q.question for q in hidden} - {
        q.question for q in questions if not q.held_out
    }


def test_labels_agree_with_each_other_and_the_data(made: Examples) -> None:
    answers = {(q.question, q.context[s:e]) for q in made.questions for s, e in q.answers}
    seen = set()
    for window in windows(made):
        kept = [window.text[start:end] for start, end in window.keep or ()]
        if window.answer is not None:
            answer = window.text[window.answer[0] : window.answer[1]]
            assert (window.question, answer) in answers and window.answerable == window.relevance == 1
            assert any(answer in sentence for sentence in kept)
        elif window.span_known:
            assert window.answerable == 0 and not kept and window.relevance != 1
        seen.add((window.relevance, window.answerable, window.span_known, window.answer is not None))
    assert (1.0, 1.0, True, True) in seen  # the right passage
    assert (0.0, 0.0, True, False) in seen  # a wrong one
    assert (None, 0.0, True, False) in seen  # its own, without the answer
    assert (1.0, 1.0, False, False) in seen  # a sentence pair: where in it is not known


def test_a_negative_does_not_hold_the_answer(made: Examples) -> None:
    wanted: dict[str, set[str]] = {}
    for q in made.questions:
        wanted.setdefault(q.question, set()).update(q.context[s:e] for s, e in q.answers)
    wrong = [w for w in windows(made) if w.relevance == 0 and w.question in wanted]
    drawn_at_random = sum(holds(w.text, wanted[w.question]) for w in wrong)
    assert len(wrong) > 100 and drawn_at_random < 0.1 * len(wrong)  # a tenth of them are any chunk at all


def test_a_changed_question_is_another_question(made: Examples) -> None:
    swaps, changed = Swaps(made.questions, SMALL), 0
    for number, q in enumerate(made.questions):
        new = swaps.changed(q, random.Random(number))
        assert new == swaps.changed(q, random.Random(number))
        if new is not None:
            changed += 1
            assert normal(new) != normal(q.question) and new
    assert changed > 0


def test_names_numbers_and_senses_are_swapped() -> None:
    asked = [
        "Who was the first mayor of Belford?", "Who lived in Thornwick in 1650?", "Did Ada Falk found Belford in 1412?",
    ]  # fmt: skip
    swaps = Swaps([question(text, "", TEXT) for text in asked], SMALL)
    got = {swaps.changed(question(asked[0], "", TEXT), random.Random(n)) for n in range(60)}
    assert "Who was the last mayor of Belford?" in got
    assert any(new and "Thornwick" in new for new in got)
    assert any(new and " was not " in new for new in got)
    years = {swaps.changed(question(asked[2], "", TEXT), random.Random(n)) for n in range(60)}
    assert any(new and "1650" in new for new in years)


def test_a_passage_is_about_someone_else_wherever_the_question_finds_its_name() -> None:
    asked = [question("Who founded the Belford Mill?", "", TEXT), question("Who was Thornwick named after?", "", TEXT)]
    text = "By the river stands the Belford Mill. The Belford Mill was built by Ada Falk."
    mill = question("Who built the Belford Mill?", "Ada Falk", text)
    swaps = Swaps([*asked, mill, question("Did old Thornwick have a mill?", "", TEXT)], SMALL)
    new = {swaps.rewritten(mill, text, random.Random(number)) for number in range(20)}
    assert new - {None} and all("Belford Mill" not in one and "Ada Falk" in one for one in new if one)
    assert swaps.rewritten(question("Who built the Ada Falk?", "Ada Falk", text), text, random.Random(0)) is None


def test_names_in_lower_case_are_swapped_where_that_is_asked_for() -> None:
    small = question("who founded belford in 1412", "Ada Falk", "In Belford lived Ada Falk of Thornwick since 1412.")
    known = [question("Did old Thornwick have a mill?", "", TEXT)]
    for any_case in (True, False):
        swaps = Swaps(known, SMALL.with_changes(any_case=any_case, negated=0.0))
        got = {swaps.changed(small, random.Random(number)) for number in range(30)} - {None}
        assert any("thornwick" in one for one in got) is any_case


def second(made: Examples, **changes: Any) -> Examples:
    """The same questions in a course with other numbers."""
    pool, candidates = list(made.pool.values()), [{"id": k, "candidates": v} for k, v in made.candidates.items()]
    return Examples(made.questions, candidates, pool, made.fillers, CONFIG.with_changes(**changes))


def test_a_course_may_show_sets_more_or_less_often(made: Examples) -> None:
    own = {q.question for q in made.questions if q.source == "squad2"}
    once, twice = (
        [w for group in second(made, copies=copies, pairs=pairs, swapped_question=0.0).epoch(0) for w in group]
        for copies, pairs in ((1, 1.0), (2, 0.3))
    )
    asked_once, asked_twice = (sum(w.question in own and not w.retrieved for w in ws) for ws in (once, twice))
    assert 1.6 * asked_once < asked_twice < 2.4 * asked_once
    paired = {row["question"] for row in made.fillers} - own
    assert 0 < len({w.question for w in twice} & paired) < len({w.question for w in once} & paired)


def test_what_differs_a_little_stands_beside_what_answers(made: Examples) -> None:
    groups = second(made, contrast=1.0, removed_sentence=0.0, swapped_question=0.0, negatives=1).epoch(0)
    pairs = [group for group in groups if sum(not w.retrieved for w in group) == 2]
    assert len(pairs) > 10
    for right, other, *_ in pairs:
        assert right.answer and right.relevance == right.answerable == 1
        assert other.answer is None and other.answerable == 0 and other.relevance is None
        assert (right.question == other.question) != (right.text == other.text)


def test_what_was_retrieved_weighs_as_the_course_says(made: Examples) -> None:
    groups = made.epoch(0)[:40]
    featuriser = Featuriser(shipped_tokenizer(), CONFIG.with_changes(retrieved_weight=0.25))
    [*parts] = batches(featuriser.groups(groups), 10**9)
    weights = [0.25 if w.retrieved else 1.0 for group in groups for w in group]
    assert parts[0].weights.tolist() == weights and 0 < weights.count(0.25) < len(weights)


def test_opposites_go_both_ways() -> None:
    assert OPPOSITES["first"] == "last"
    assert all(OPPOSITES[OPPOSITES[word]] in OPPOSITES for word in OPPOSITES)


FEATURISER = Featuriser(shipped_tokenizer(), FULL)


def shown(window: Window, features: Any, first: int, last: int) -> str:
    return shipped_tokenizer().rust.decode(features.ids[first : last + 1].tolist())


def test_labels_stand_on_the_tokens_they_are_of() -> None:
    q = question()
    window = labelled(q.question, "Belford", TEXT, q.answers, relevance=1.0, keep=q.answers)
    [[features]] = FEATURISER.groups([[window]])
    assert shown(window, features, features.start, features.end) == "ada falk"
    kept = np.flatnonzero(features.keep == 1)
    assert shown(window, features, kept[0], kept[-1]) == "it was founded by ada falk in 1412."
    assert (np.diff(kept) == 1).all()
    asked = len(shipped_tokenizer().rust.encode(q.question, add_special_tokens=False).ids)
    assert features.types.tolist() == [0] * (asked + 2) + [1] * (len(features.ids) - asked - 2)
    assert (features.keep[: asked + 3] == -1).all() and features.keep[-1] == -1  # question, title, closing mark


def test_no_answer_is_the_first_token_and_the_unknown_is_ignored() -> None:
    nothing = labelled("Who?", "", TEXT, (), relevance=None)
    pair = Window("Who?", "", TEXT, 1.0, 1.0, ((0, 25),), None, False)
    [[first, second]] = FEATURISER.groups([[nothing, pair]])
    assert (first.start, first.end, first.relevance, first.answerable) == (0, 0, -1, 0)
    assert (second.start, second.end, second.relevance) == (IGNORED, IGNORED, 1)
    assert (first.keep[first.types == 1][:-1] == 0).all()


@pytest.mark.parametrize("before", [0, 40, 90, 200])
def test_a_long_passage_shows_its_answer(before: int) -> None:
    text = "Some words stand here for no reason. " * before + TEXT + " More words follow it all. " * 60
    q = question(context=text)
    window = labelled(q.question, "", text, q.answers, relevance=1.0, keep=q.answers)
    [[features]] = FEATURISER.groups([[window]])
    assert len(features.ids) == FULL.window
    assert shown(window, features, features.start, features.end) == "ada falk"
    assert (features.keep[features.start : features.end + 1] == 1).all()


def test_batches_hold_every_window_once_and_groups_whole() -> None:
    groups = [
        [labelled(f"Question {g}?", "", TEXT[: 20 + 5 * w], (), relevance=float(w == 0)) for w in range(1 + g % 3)]
        for g in range(12)
    ]
    features = FEATURISER.groups(groups)
    made = batches(features, 120)
    assert sum(len(b.lengths) for b in made) == sum(map(len, groups)) and len(made) > 2
    assert [i for b in made for i in b.ids.tolist()] == [i for group in features for f in group for i in f.ids]
    for batch in made:
        assert batch.lengths.sum() == len(batch.ids) == len(batch.types) == len(batch.keep)
        assert sorted(set(batch.groups.tolist())) == list(range(batch.groups.max() + 1))
    sizes = [len(set(b.groups.tolist())) for b in made]
    assert sum(sizes) == len(groups)  # no group in two batches
    assert all(b.lengths.sum() <= 120 or size == 1 for b, size in zip(made, sizes, strict=True))
    assert batches([], 100) == []


def test_the_answers_sentences_are_those_it_touches() -> None:
    first, second, _ = split_sentences(TEXT)
    assert sentence_spans(TEXT, [(first.end - 3, second.start + 2)]) == [first, second]
    assert sentence_spans(TEXT, [(first.start, first.end)]) == [first]
