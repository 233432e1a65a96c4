"""Which of several answers stands: what all gave, or what is chosen; else the one with more to show for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from carrel.agents.base import Steps
from carrel.agents.reducing import together
from carrel.agents.replying import Written, ask_in_form, note_of, read_number, words
from carrel.agents.tasks import CHOICE
from carrel.errors import ContextOverflowError, RefusalError, ReplyFormatError
from carrel.types import Prompt


def voted(question: str, answers: Sequence[Written]) -> Steps[tuple[int, str]]:
    """The place of the answer that stands, from 0; and, where nobody could be made to choose, why.

    Who abstains or says nothing is no candidate, and answers of the same words need no choice. Where there is none to
    be had, that with the most citations stands, the first of equals. Of answers that are too long for one prompt as
    much is shown as fits.
    """
    said = [place for place, answer in enumerate(answers) if not answer.abstained and answer.text.strip()]
    if len({words(answers[place].text) for place in said}) < 2:
        return (said[0] if said else 0), ""
    notes = [note_of(answers[place]) for place in said]
    numbered = [replace(note, text=f"Answer {number}: {note.text}") for number, note in enumerate(notes, start=1)]
    try:
        prompt = yield from together(Prompt(question, task=CHOICE, kind="choice", max_tokens=16), numbered)
        number = yield from ask_in_form(prompt, read_number(len(said)), example="1")
        return said[number - 1], ""
    except (RefusalError, ReplyFormatError, ContextOverflowError) as error:
        best = max(said, key=lambda place: len(answers[place].citations))  # the first of equals
        return best, f"no answer was chosen, and that with the most citations stands: {error}"
