"""Reducing: groups that fit, notes made shorter, nothing lost that could be kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.agents import Flow, run
from carrel.agents.base import Steps
from carrel.agents.fitting import reply_room
from carrel.agents.reducing import (
    Reading,
    answered,
    as_written,
    check_tokens,
    cut_up,
    grouped,
    kept_short,
    merged,
    read_piece,
    said,
    shorter,
    together,
    told,
    with_notes,
)
from carrel.agents.replying import Note, Written
from carrel.errors import ContextOverflowError, InputError, RefusalError
from carrel.generation.extractive import ABSTENTION
from carrel.testing import FakeGenerator
from carrel.types import Completion, Passage, Prompt

PROMPT = Prompt("what?", max_tokens=20)


def passage(name: str, words: int) -> Passage:
    text = " ".join(f"{name}{number}" for number in range(words)) + "."
    return Passage(name, 0, len(text), text)


def note(name: str, words: int, evidence: int = 0) -> Note:
    return Note(" ".join([name] * words) + (" [1]." if evidence else "."), (passage(name, evidence),) * bool(evidence))


def play(steps: Steps[object], generator: FakeGenerator) -> object:
    return run(Flow("test", {}, lambda: steps), generator=generator, mode="fast").result


def asked_of(generator: FakeGenerator, window: int) -> None:
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window


def test_tokens_are_numbers_from_16() -> None:
    check_tokens(a=None, b=16)
    for wrong in (15, True, 20.0, "20"):
        with pytest.raises(InputError, match="note_tokens"):
            check_tokens(note_tokens=wrong)  # type: ignore[arg-type]


def test_a_text_is_cut_up_and_nothing_is_lost() -> None:
    text = " ".join(f"Sentence number {number} stands here." for number in range(60))
    prompts = play(cut_up(PROMPT, (Passage("d", 0, len(text), text),)), FakeGenerator(context_window=60))
    assert isinstance(prompts, list) and len(prompts) > 5
    assert "".join(each.text for prompt in prompts for each in prompt.passages) == text


def test_a_piece_that_is_too_long_for_the_server_is_read_in_halves() -> None:
    def reply(prompt: Prompt) -> str:
        if len(prompt.passages) > 1:
            raise ContextOverflowError("too long")
        return f"It says {prompt.passages[0].document_id}."

    prompt = Prompt("what?", (passage("a", 3), passage("b", 3), passage("c", 3)))
    readings = play(read_piece(prompt), FakeGenerator(reply))
    assert [each.note.text for each in readings] == ["It says a.", "It says b.", "It says c."]  # type: ignore[attr-defined]


def test_a_sentence_that_is_too_long_for_the_server_is_skipped_and_named() -> None:
    error = ContextOverflowError("too long")
    [reading] = play(read_piece(Prompt("what?", (passage("a", 3),))), FakeGenerator(error))  # type: ignore[misc]
    assert reading.error is error and reading.skipped == "a0 a1 a2.: too long" and not reading.note.text


def test_what_a_reply_says() -> None:
    assert said(Written("NOTHING.")) == said(Written(ABSTENTION)) == said(Written("x", abstained=True)) == Note()
    assert said(Written("ENOUGH:\nIt is so.")).text == "It is so."
    assert said(Written("Enough was said.\nIt is so.")).text == "Enough was said.\nIt is so."


def test_a_note_is_cut_at_the_end_of_a_sentence() -> None:
    long = Note("One two three. Four five six seven. " * 20)
    short = play(kept_short(long, 20), FakeGenerator())
    assert isinstance(short, Note) and long.text.startswith(short.text) and short.text.endswith(".")
    assert 10 <= FakeGenerator().count_tokens(short.text) <= 28
    assert play(kept_short(Note("short"), 20), FakeGenerator()) == Note("short")
    assert play(kept_short(long, None), FakeGenerator()) == long


def test_shorter_takes_evidence_first() -> None:
    full = Note("one [1] two [2]. three", (passage("a", 2), passage("b", 2)))
    assert shorter(full).evidence == full.evidence[:1]
    assert "[2]" not in shorter(full).text and "[1]" in shorter(full).text
    bare = shorter(shorter(full))
    assert not bare.evidence and shorter(bare).text and len(shorter(bare).text) < len(bare.text)


def test_notes_fit_with_all_of_their_evidence_or_not_at_all() -> None:
    notes = [note("a", 5, 10), note("b", 5, 10)]
    made = play(with_notes(PROMPT, notes), FakeGenerator(context_window=100))
    assert isinstance(made, Prompt) and len(made.passages) == 2 and "[2]" in made.notes[1]
    assert play(with_notes(PROMPT, notes), FakeGenerator(context_window=55)) is None
    assert play(with_notes(PROMPT, [note("a", 80)]), FakeGenerator(context_window=55)) is None
    assert play(with_notes(PROMPT, [note("a", 5)]), FakeGenerator(context_window=55)) is not None


def test_together_keeps_the_evidence_that_matters_most() -> None:
    said = ("Bread was baked on Monday.", "The pier was built in 1894.", "Cats sleep most of the day.")
    evidence = tuple(Passage(text[:4], 0, len(text), text) for text in said)
    full = Note("Bread [1]. Pier [2]. Cats [3].", evidence)
    prompt = Prompt("When was the pier built?", max_tokens=20)
    made = play(together(prompt, [full]), FakeGenerator(context_window=52))
    assert isinstance(made, Prompt) and made.passages == evidence[1:2] and made.notes == ("Bread. Pier [1]. Cats.",)
    nobody = play(together(replace(prompt, question=""), [full]), FakeGenerator(context_window=52))
    assert isinstance(nobody, Prompt) and nobody.passages == evidence[:2]  # by their order


def test_together_cuts_the_longest_text_where_no_evidence_is_left() -> None:
    made = play(together(PROMPT, [note("a", 200), note("b", 5)]), FakeGenerator(context_window=60))
    assert isinstance(made, Prompt) and made.notes[1] == "b b b b b." and made.notes[0].startswith("a a a")
    with pytest.raises(ContextOverflowError):
        play(together(Prompt("long " * 100), []), FakeGenerator(context_window=60))


def test_groups_are_neighbours_two_at_least() -> None:
    notes = [note(name, 12) for name in "abcde"]
    groups = play(grouped(PROMPT, notes), FakeGenerator(context_window=70))
    assert [[each.text[0] for each in group] for _, group in groups] == [["a", "b", "c"], ["d", "e"]]  # type: ignore[attr-defined]
    pairs = play(grouped(PROMPT, [note(name, 50) for name in "abc"]), FakeGenerator(context_window=70))
    assert [len(group) for _, group in pairs] == [2, 1]  # type: ignore[attr-defined]


def test_what_is_not_merged_is_joined_and_named() -> None:
    notes = [note("a", 3, 4), note("b", 3, 4)]
    for reply, named in (
        (RefusalError("no"), True),
        (Completion("no", finish_reason="refused"), True),
        ("NOTHING", False),
    ):
        found, failures = play(merged(PROMPT, notes), FakeGenerator(reply))  # type: ignore[misc]
        assert [each.text for each in found] == ["a a a [1].\nb b b [2]."] and len(found[0].evidence) == 2
        assert bool(failures) is named


def test_one_note_is_merged_with_nothing() -> None:
    found = play(merged(PROMPT, [note("a", 3)]), FakeGenerator(RefusalError("never asked")))
    assert found == ([note("a", 3)], [])


def test_without_notes_nothing_is_asked() -> None:
    made = play(answered(PROMPT, PROMPT, []), FakeGenerator(RefusalError("never asked")))
    assert made.answer.abstained and made.answer.text == ABSTENTION  # type: ignore[attr-defined]


def test_told_raises_only_where_nothing_was_read() -> None:
    failed, empty, full = Reading(error=RefusalError("no")), Reading(), Reading(note("a", 1))
    assert told([failed, full, empty]) == [full.note] and told([failed, empty]) == [] and told([]) == []
    with pytest.raises(RefusalError, match="no"):
        told([failed, failed])


def test_a_note_as_written_cites_all_of_its_evidence() -> None:
    written = as_written(note("a", 3, 4), 0.5)
    assert [(each.number, each.quote) for each in written.citations] == [(1, "a0 a1 a2 a3.")]
    assert written.confidence == 0.5 and not written.abstained


@settings(max_examples=40)  # each may embed its evidence
@given(
    sizes=st.lists(st.tuples(st.integers(1, 150), st.integers(0, 60)), min_size=1, max_size=9),
    window=st.integers(50, 200),
    reply=st.sampled_from(["NOTHING", "short. [1]", "long " * 300, "[1] " * 90, "x" * 900]),
)
def test_however_long_the_notes_the_answer_is_reached_within_the_window(
    sizes: list[tuple[int, int]], window: int, reply: str
) -> None:
    generator = FakeGenerator(reply, context_window=window)
    notes = [note(f"n{place}", *size) for place, size in enumerate(sizes)]
    made = play(answered(PROMPT, PROMPT, notes), generator)
    asked_of(generator, window)
    assert [len(level) for level in made.levels] == sorted({len(level) for level in made.levels}, reverse=True)  # type: ignore[attr-defined]
