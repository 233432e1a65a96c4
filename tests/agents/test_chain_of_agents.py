"""Chain of Agents, every branch by script: what is read, what is passed on, and what the answer rests on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import run
from carrel.agents.chain_of_agents import Chained, chain_of_agents
from carrel.agents.fitting import reply_room
from carrel.agents.tasks import ANSWER_FROM_NOTES, CHOICE, NOTES
from carrel.errors import ContextOverflowError, EmptyQuestionError, InputError, RefusalError
from carrel.testing import FakeGenerator
from carrel.tokens import shipped_tokenizer
from carrel.types import Citation, Completion, Document, Passage, Prompt

QUESTION = "When does the ferry leave?"
PLACES = [
    "The ferry leaves at nine.", "The pier has seven lamps.", "A whale was seen in May.", "The crane is painted red.",
    "Gulls nest on the roof.", "The ferry returns at six.", "Nets dry along the wall.", "The harbour master is Ada.",
]  # fmt: skip
DOCUMENT = Document("\n\n".join(f"{place} {'And so on. ' * 90}" for place in PLACES), "harbour", "Harbour")
WINDOW = 700


class Scripted(FakeGenerator):
    """Worker, manager and choice, each a function of the prompt; no prompt may go beyond the window."""

    def __init__(
        self,
        worker: Callable[[Prompt], Any] = lambda prompt: "Noted.",
        manager: Callable[[Prompt], Any] = lambda prompt: "At nine.",
        choice: Callable[[Prompt], Any] = lambda prompt: "1",
        **more: Any,
    ) -> None:
        self.roles = {NOTES: worker, ANSWER_FROM_NOTES: manager, CHOICE: choice}
        super().__init__(self.play, **{"context_window": WINDOW, **more})

    def play(self, prompt: Prompt) -> str | Completion:
        assert self.context_window is not None
        room = reply_room(prompt, self.context_window)
        assert self.prompt_tokens(prompt) + room <= self.context_window, prompt.kind
        said = self.roles[prompt.task](prompt)
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, Completion) else self.tokenizer.truncate(said, room)

    def of(self, task: str) -> list[Prompt]:
        return [prompt for prompt in self.prompts if prompt.task == task]


def _chain(generator: FakeGenerator, texts: Any = DOCUMENT, **more: Any) -> Chained:
    made = chain_of_agents(QUESTION, texts, **{"notes_tokens": 60, **more})
    return run(made, generator=generator, mode="fast", concurrency=1).result


def _quoting(prompt: Prompt) -> str:
    """What the passages say of the places, each with its mark."""
    passages = enumerate(prompt.passages, start=1)
    said = {place: f"{place[:-1]} [{n}]." for n, passage in passages for place in PLACES if place in passage.text}
    return "\n".join(said[place] for place in PLACES if place in said)


def _read(prompts: Sequence[Prompt], backwards: bool = False) -> str:
    """The text of the pieces in the order in which they were read, that of notes left out."""
    whole = [passage for prompt in prompts for passage in prompt.passages]
    return "".join("".join(passage.text.split()) for passage in whole)


def _plain(text: str) -> str:
    return "".join(text.split())


# -- one way ---------------------------------------------------------------------------------------


def test_workers_read_the_whole_text_in_order_and_a_manager_answers() -> None:
    generator = Scripted(lambda prompt: "Noted.", lambda prompt: "At nine.")
    found = _chain(generator)
    workers = generator.of(NOTES)
    assert found.pieces == len(workers) == len(found.notes) > 3
    assert _read(workers) == _plain(DOCUMENT.text)
    assert found.answer.text == "At nine." and not found.stopped_early and found.skipped == () == found.candidates
    assert all(prompt.kind == "notes" and prompt.max_tokens == 60 for prompt in workers)
    (manager,) = generator.of(ANSWER_FROM_NOTES)
    assert manager.kind == "answer" and manager.question == QUESTION
    assert manager.notes == ("Noted.",) and manager.passages == ()


def test_backwards_the_last_piece_is_read_first() -> None:
    generator = Scripted()
    _chain(generator, direction="backwards")
    starts = [prompt.passages[0].start for prompt in generator.of(NOTES)]
    assert starts[0] > starts[-1] and starts[-1] < 1200 and len(starts) > 3
    parts = {passage.start: passage.text for prompt in generator.of(NOTES) for passage in prompt.passages}
    assert _plain("".join(parts[start] for start in sorted(parts))) == _plain(DOCUMENT.text)


def test_notes_are_passed_on_with_what_they_quote() -> None:
    generator = Scripted(_quoting, _quoting)
    found = _chain(generator, notes_tokens=200)
    workers = generator.of(NOTES)
    for before, note in zip(workers[1:], found.notes, strict=False):
        assert before.notes == (note.text,) and before.passages[: len(note.evidence)] == note.evidence
    assert [citation.quote for citation in found.answer.citations] == PLACES
    for citation in found.answer.citations:
        assert DOCUMENT.text[citation.start : citation.end] == citation.quote and citation.document_id == "harbour"


def test_evidence_of_the_first_piece_survives_to_the_answer() -> None:
    def worker(prompt: Prompt) -> str:
        number = next((n for n, p in enumerate(prompt.passages, start=1) if "leaves at nine" in p.text), None)
        return f"The ferry leaves at nine [{number}]." if number else "Nothing."

    generator = Scripted(worker, lambda prompt: "The ferry leaves at nine [1].")
    found = _chain(generator)
    (citation,) = found.answer.citations
    assert citation.quote == "The ferry leaves at nine." and citation.start == 0 and citation.title == "Harbour"
    assert found.pieces > 3 and all(note.evidence[0].text == citation.quote for note in found.notes)


def test_a_mark_that_nothing_bears_out_is_no_evidence() -> None:
    generator = Scripted(lambda prompt: "The mayor resigned in 1931 [1].")
    found = _chain(generator, document_of(1))
    (note,) = found.notes
    assert note.evidence == () and len(note.unsupported) == 1 and "[" not in note.text


def document_of(paragraphs: int) -> Document:
    return Document("\n\n".join(PLACES[:paragraphs]), "short", "Harbour")


def test_citations_of_the_generator_are_checked_like_all_others() -> None:
    good = Citation(1, "short", 0, 25, "The ferry leaves at nine.")
    wrong = [
        replace(good, number=7), replace(good, number=0), replace(good, quote="The ferry leaves at ten."),
        replace(good, document_id="other"), replace(good, start=-5), replace(good, quote="", end=0),
    ]  # fmt: skip
    generator = Scripted(
        lambda prompt: Completion("Noted [1].", citations=(*wrong, good)),
        lambda prompt: Completion("At nine [1].", citations=(good, *wrong)),
    )
    found = _chain(generator, document_of(2))
    assert found.answer.citations == (good,)
    assert [passage.text for passage in found.notes[0].evidence] == [good.quote]


@pytest.mark.parametrize("line", ["ENOUGH", "enough.", " Enough: "])
def test_a_worker_that_has_enough_ends_the_reading(line: str) -> None:
    generator = Scripted(lambda prompt: f"{line}\nThe ferry leaves at nine [1].")
    found = _chain(generator)
    assert found.pieces == 1 and found.stopped_early
    assert found.notes[0].text == "The ferry leaves at nine [1]." and len(found.notes[0].evidence) == 1
    assert generator.of(ANSWER_FROM_NOTES)[0].notes == ("The ferry leaves at nine [1].",)


def test_on_the_last_piece_nothing_is_left_unread() -> None:
    found = _chain(Scripted(lambda prompt: "ENOUGH\nAll is said."), document_of(2))
    assert found.pieces == 1 and not found.stopped_early


def test_without_early_exit_all_is_read() -> None:
    generator = Scripted(lambda prompt: "ENOUGH\nSomething.")
    found = _chain(generator, early_exit=False)
    assert _read(generator.of(NOTES)) == _plain(DOCUMENT.text)
    assert not found.stopped_early and {note.text for note in found.notes} == {"Something."}


def test_a_piece_that_says_nothing_leaves_the_notes_as_they_were() -> None:
    abstained = Completion("NOTHING", finish_reason="abstained")
    replies = iter(["Of the ferry.", "", "  ", abstained, "Nothing.", "ENOUGH", "Never."])
    generator = Scripted(lambda prompt: next(replies))
    found = _chain(generator, piece_tokens=300)
    assert [prompt.notes for prompt in generator.of(NOTES)] == [()] + [("Of the ferry.",)] * 5
    assert generator.of(ANSWER_FROM_NOTES)[0].notes == ("Of the ferry.",)
    assert found.pieces == 6 and [note.text for note in found.notes] == ["Of the ferry."] * 6


@pytest.mark.parametrize("direction", ["forwards", "both"])
def test_where_no_worker_notes_anything_there_is_no_answer(direction: Any) -> None:
    generator = Scripted(lambda prompt: "NOTHING", lambda prompt: "At ten, as I remember.")
    found = _chain(generator, direction=direction)
    assert found.answer.abstained and found.answer.citations == () and found.pieces > 3
    assert generator.of(ANSWER_FROM_NOTES) == [] == generator.of(CHOICE)


def test_a_piece_that_a_worker_declines_is_said_and_the_others_are_read() -> None:
    for declining in (Completion("I cannot.", finish_reason="refused"), RefusalError("filtered")):
        generator = Scripted(lambda prompt, said=declining: said if "lamps" in _read([prompt]) else "Fine.")  # type: ignore[misc]
        found = _chain(generator)
        (why,) = found.skipped
        assert why.startswith("The ferry leaves at nine.") and ("declined" in why or why.endswith("filtered"))
        assert found.pieces == len(generator.of(NOTES)) - 1 > 2
        assert _read(generator.of(NOTES)) == _plain(DOCUMENT.text) and found.answer.text == "At nine."


def test_a_manager_that_declines_is_an_error() -> None:
    with pytest.raises(RefusalError, match="declined to reply to 'When does the ferry leave"):
        _chain(Scripted(manager=lambda prompt: Completion("No.", finish_reason="refused")))


def test_a_manager_that_abstains_cites_nothing() -> None:
    generator = Scripted(
        _quoting, lambda prompt: Completion("Not said [1].", finish_reason="abstained", confidence=0.1)
    )
    found = _chain(generator)
    assert found.answer.abstained and found.answer.citations == () and found.answer.confidence == 0.1


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
@pytest.mark.parametrize("text", [DOCUMENT.text, " ".join(DOCUMENT.text.split())])
def test_a_piece_too_long_for_its_server_is_read_in_halves(direction: Any, text: str) -> None:
    read: list[Prompt] = []

    def worker(prompt: Prompt) -> Any:
        if len(_read([prompt])) > 600:
            return ContextOverflowError("the server counts otherwise")
        read.append(prompt)
        return f"Note {len(read)}."

    found = _chain(Scripted(worker), Document(text, "d"), direction=direction)
    assert found.pieces == len(read) > 6 and found.answer.text == "At nine."
    if direction == "forwards":
        assert _read(read) == _plain(text)
    else:
        assert sorted(_read(read)) == sorted(_plain(text))
        assert read[0].passages[0].start > read[-1].passages[0].start
    assert [prompt.notes for prompt in read[1:]] == [(f"Note {number}.",) for number in range(1, len(read))]


def test_one_sentence_too_long_for_its_server_is_an_error() -> None:
    with pytest.raises(ContextOverflowError, match="never"):
        _chain(Scripted(lambda prompt: ContextOverflowError("never")))


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
def test_one_sentence_too_long_for_its_server_is_said_and_the_others_are_read(direction: Any) -> None:
    def worker(prompt: Prompt) -> Any:
        return ContextOverflowError("the server counts otherwise") if "whale" in _read([prompt]) else "Fine."

    text = Document("\n\n".join(PLACES), "d")
    found = _chain(Scripted(worker), text, direction=direction)
    (why,) = found.skipped
    assert why == f"{PLACES[2]}: the server counts otherwise"
    assert found.pieces >= 2 and found.answer.text == "At nine."


def test_where_no_worker_reads_anything_no_manager_is_asked() -> None:
    generator = Scripted(lambda prompt: Completion("I cannot.", finish_reason="refused"))
    with pytest.raises(RefusalError, match="I cannot"):
        _chain(generator)
    assert generator.of(ANSWER_FROM_NOTES) == []


def test_notes_that_are_too_long_for_the_manager_are_cut_and_not_the_end_of_it() -> None:
    generator = Scripted(lambda prompt: "word " * 300, context_window=700)
    found = _chain(generator, document_of(2), notes_tokens=349)
    (manager,) = generator.of(ANSWER_FROM_NOTES)
    assert found.answer.text == "At nine." and manager.notes and manager.notes[0] in found.notes[-1].text


def test_a_worker_that_says_more_than_it_may_is_cut_and_the_rest_is_read() -> None:
    generator = Scripted(lambda prompt: Completion("Noted. " + "word " * 2000))
    found = _chain(generator)
    assert _read(generator.of(NOTES)) == _plain(DOCUMENT.text) and found.answer.text == "At nine."
    assert all(prompt.notes[0].startswith("Noted. word") for prompt in generator.of(NOTES)[1:])


def test_a_window_without_room_for_a_sentence_is_an_error() -> None:
    with pytest.raises(ContextOverflowError, match="not enough for one sentence"):
        _chain(Scripted(context_window=150))


def test_no_more_of_a_piece_than_was_wanted() -> None:
    generator = Scripted()
    found = _chain(generator, piece_tokens=100)
    assert found.pieces > 15 and _read(generator.of(NOTES)) == _plain(DOCUMENT.text)


def test_several_texts_are_read_in_their_order() -> None:
    parts = [Document("One of the first.", "a"), Passage("b", 5, 19, "Two: a passage"), Document("Three.", "c")]
    generator = Scripted()
    _chain(generator, parts)
    assert [passage.document_id for passage in generator.of(NOTES)[0].passages] == ["a", "b", "c"]


def test_what_is_irrelevant_is_left_out_before_anything_is_read() -> None:
    texts = [Document("When does the ferry leave? The ferry leaves at nine.", "yes"), Document("Gulls nest.", "no")]
    generator = Scripted()
    _chain(generator, texts, least_relevance=0.5)
    assert [passage.document_id for prompt in generator.of(NOTES) for passage in prompt.passages] == ["yes"]
    everything = Scripted()
    _chain(everything, texts, least_relevance=0.0)
    assert len(everything.of(NOTES)[0].passages) == 2


def test_where_nothing_is_relevant_enough_the_best_is_read() -> None:
    generator = Scripted()
    _chain(
        generator, [Document("Gulls nest.", "gulls"), Document("The ferry is at sea.", "ferry")], least_relevance=1.0
    )
    assert [passage.document_id for passage in generator.of(NOTES)[0].passages] == ["ferry"]


@pytest.mark.parametrize(
    ("question", "texts", "more", "error"),
    [
        (QUESTION, Document("", "d"), {}, InputError),
        (QUESTION, [Document(" \n ", "d"), Document("", "e")], {}, InputError),
        (QUESTION, [], {}, InputError),
        (QUESTION, "a text", {}, InputError),
        (QUESTION, DOCUMENT, {"direction": "sideways"}, InputError),
        ("  ", DOCUMENT, {}, EmptyQuestionError),
    ],
)
def test_what_cannot_be_read_is_said(question: str, texts: Any, more: Any, error: type[Exception]) -> None:
    generator = Scripted()
    with pytest.raises(error):
        run(chain_of_agents(question, texts, **more), generator=generator)
    assert generator.prompts == []


# -- both ways -------------------------------------------------------------------------------------


def _two(answers: Sequence[Any], **more: Any) -> tuple[Scripted, Callable[[], Chained]]:
    """A manager that says one thing to the chain that reads forwards, another to the other."""
    said = iter(answers)
    generator = Scripted(_quoting, lambda prompt: next(said), **more)
    return generator, lambda: _chain(generator, document_of(3), direction="both")


def test_two_that_agree_need_no_choice() -> None:
    generator, go = _two(["The ferry leaves at nine [1].", "the ferry leaves at  nine"])
    found = go()
    assert generator.of(CHOICE) == []
    assert [answer.text for answer in found.candidates] == [
        "The ferry leaves at nine [1].",
        "the ferry leaves at  nine",
    ]
    assert found.answer == found.candidates[0]


@pytest.mark.parametrize(("reply", "chosen"), [("1", 0), ("2", 1), ("Answer 2.", 1)])
def test_of_two_that_differ_one_is_chosen(reply: str, chosen: int) -> None:
    generator, go = _two(
        ["The ferry leaves at nine [1].", "The pier has seven lamps [2]."], choice=lambda prompt: reply
    )
    found = go()
    (prompt,) = generator.of(CHOICE)
    assert prompt.notes == ("Answer 1: The ferry leaves at nine [1].", "Answer 2: The pier has seven lamps [2].")
    assert [passage.text for passage in prompt.passages] == PLACES[:2]
    assert (prompt.kind, prompt.max_tokens) == ("choice", 16)
    assert found.answer == found.candidates[chosen] and found.answer.citations[0].quote == PLACES[chosen]


def test_a_choice_that_cannot_be_read_is_asked_for_once_more() -> None:
    replies = iter(["Neither!", "2"])
    generator, go = _two(["At nine.", "At ten."], choice=lambda prompt: next(replies))
    assert go().answer.text == "At ten."
    first, second = generator.of(CHOICE)
    assert second.notes[:-1] == first.notes and "it names no number from 1 to 2" in second.notes[-1]


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ("3", "twice the model's reply could not be used"),
        (Completion("No.", finish_reason="refused"), "declined"),
        (ContextOverflowError("too long"), "too long"),
    ],
)
def test_without_a_choice_the_answer_with_more_citations_stands_and_it_is_said(choice: Any, why: str) -> None:
    generator, go = _two(["At nine.", "The ferry leaves at nine [1]."], choice=lambda prompt: choice)
    found = go()
    assert len(generator.of(CHOICE)) == (2 if choice == "3" else 1)
    assert found.answer == found.candidates[1] and found.answer.citations[0].quote == PLACES[0]
    assert "that with the most citations stands" in found.skipped[-1] and why in found.skipped[-1]


def test_without_a_choice_the_first_of_equals_stands() -> None:
    _, go = _two(["At nine.", "At ten."], choice=lambda prompt: "3")
    assert go().answer.text == "At nine."


_REFUSED = Completion("I cannot.", finish_reason="refused")


@pytest.mark.parametrize("failure", [_REFUSED, RefusalError("declined"), ContextOverflowError("declined: too long")])
@pytest.mark.parametrize("first", [True, False])
def test_an_answer_of_one_direction_is_not_lost_with_that_of_the_other(failure: Any, first: bool) -> None:
    good = "The ferry leaves at nine [1]."
    generator, go = _two([failure, good] if first else [good, failure])
    found = go()
    assert found.answer.text == good and found.candidates == (found.answer,) and generator.of(CHOICE) == []
    (citation,) = found.answer.citations
    assert citation.quote == PLACES[0]
    (why,) = found.skipped
    assert why.startswith("one direction has no answer: ") and "declined" in why


def test_where_both_directions_decline_it_is_an_error() -> None:
    _, go = _two([_REFUSED, _REFUSED])
    with pytest.raises(RefusalError, match="declined"):
        go()


def test_two_long_answers_are_both_shown_to_whoever_chooses() -> None:
    replies = iter(["nine " * 175, "ten " * 175])
    generator = Scripted(manager=lambda prompt: next(replies), choice=lambda prompt: "2", context_window=400)
    found = run(
        chain_of_agents(QUESTION, document_of(1), direction="both", notes_tokens=16), generator=generator, mode="fast",
    ).result  # fmt: skip
    (prompt,) = generator.of(CHOICE)
    assert prompt.notes[0].startswith("Answer 1: nine") and prompt.notes[1].startswith("Answer 2: ten")
    assert found.answer.text.startswith("ten")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Completion("Not said.", finish_reason="abstained"), "At ten."], "At ten."),
        (["At nine.", Completion("Not said.", finish_reason="abstained")], "At nine."),
        (["  ", "At ten."], "At ten."),
        ([Completion("No.", finish_reason="abstained"), Completion("None.", finish_reason="abstained")], "No."),
    ],
)
def test_who_abstains_is_no_candidate(answers: Sequence[Any], expected: str) -> None:
    generator, go = _two(answers)
    found = go()
    assert found.answer.text == expected and generator.of(CHOICE) == [] and len(found.candidates) == 2


# -- any lengths -----------------------------------------------------------------------------------

_pieces = st.sampled_from(
    [
        "The ferry leaves at nine. ",
        "港は静かだ。",
        "🚢 ",
        "x" * 300,
        "\n\n",
        "No end and no end ",
        "[1] said so.\n",
        " " * 99,
    ]
)


@given(
    st.text(min_size=1, max_size=60).filter(lambda text: bool(re.search(r"[^\W_]", text))),
    st.lists(st.tuples(_pieces, st.integers(1, 20)), min_size=1, max_size=5),
    st.integers(330, 1200), st.integers(16, 400), st.none() | st.integers(60, 300),
    st.sampled_from(["forwards", "backwards", "both"]), st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_whatever_the_lengths_every_prompt_fits_and_every_citation_is_a_quotation(
    question: str, text: list[tuple[str, int]], window: int, notes: int, limit: int | None, direction: Any,
    verbosity: int, shipped: bool,
) -> None:  # fmt: skip
    document = Document("".join(piece * count for piece, count in text), "d", "A Title")
    if not document.text.strip():
        return

    def say(prompt: Prompt) -> Completion:
        """Cites whole passages, as many as it is verbose; the reply is cut to its most tokens."""
        chosen = list(enumerate(prompt.passages, start=1))[: verbosity * 3]
        marks = "".join(f"So it says [{number}]. " for number, _ in chosen) + "word " * 400
        room = reply_room(prompt, window)
        citations = tuple(Citation(number, p.document_id, p.start, p.end, p.text) for number, p in chosen)
        return Completion(generator.tokenizer.truncate(marks, room), citations=citations)

    more = {"tokenizer": shipped_tokenizer()} if shipped else {}
    generator = Scripted(say, say, lambda prompt: "2", context_window=window, **more)
    made = chain_of_agents(question, document, direction=direction, notes_tokens=notes, piece_tokens=limit)
    try:
        found = run(made, generator=generator, mode="fast").result
    except ContextOverflowError:
        reply = min(notes, window // 2)
        rooms = {NOTES: window - 2 * reply, ANSWER_FROM_NOTES: window - window // 4 - reply}
        asked = generator.count_tokens(question)
        assert min(room - generator.count_tokens(task) - asked for task, room in rooms.items()) < 60, "there was room"
        return
    for answer in (found.answer, *found.candidates):
        for citation in answer.citations:
            assert document.text[citation.start : citation.end] == citation.quote
    if direction != "both":
        read = [p for prompt in generator.of(NOTES) for p in prompt.passages]
        marked = bytearray(len(document.text))
        for passage in read:
            assert document.text[passage.start : passage.end] == passage.text
            marked[passage.start : passage.end] = b"\1" * len(passage.text)
        assert all(marked[at] for at, character in enumerate(document.text) if not character.isspace())
