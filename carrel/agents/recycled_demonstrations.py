"""Recycled demonstrations: questions and answers made from the very context, shown before the real question is put."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from carrel.agents.base import Fit, Fitted, Steps, flow
from carrel.agents.demonstrations import (
    DEMONSTRATE,
    WHY,
    Demonstration,
    distinct,
    is_answered,
    number_of,
    read_lines,
    turns,
)
from carrel.agents.pieces import Texts, units
from carrel.agents.reducing import skipped
from carrel.agents.replying import Written, ask_in_form, write
from carrel.agents.room import with_passages
from carrel.agents.tasks import DATA, MARKS
from carrel.errors import ContextOverflowError, InputError, RefusalError, ReplyFormatError
from carrel.options import check_question
from carrel.types import Passage, Prompt

ANSWER = (
    "Answer the question from the passages, and from nothing else. First name the passages that the answer rests on,"
    " on a line of its own, like this: Passages: [2][5]. Then give the answer. The questions before, if any, were"
    f" about the same passages. {MARKS} {DATA}"
)
_PIECE = 3
"""Passages that a demonstration may be about."""


@dataclass(frozen=True, slots=True)
class Demonstrated:
    """An answer, and what was shown before it was asked for.

    Attributes
    ----------
    answer : marks are the numbers of its passages, the context; the passages it rests on are named first.
    demonstrations : those shown, each verified.
    dropped : those that were not, and why: an answer that stands nowhere, a form that was wrong twice, no room.
    left_out : passages of the text for which the window had no room: those from the end.
    """

    answer: Written
    demonstrations: tuple[Demonstration, ...] = ()
    dropped: tuple[str, ...] = ()
    left_out: int = 0


@flow(
    "Cattan et al., Can Few-shot Work in Long-Context? Recycling the Context to Generate Demonstrations,"
    " arXiv 2406.13632"
)
def recycled_demonstrations(
    question: str, texts: Texts, *, demonstrations: int = 3, seed: int = 0
) -> Steps[Demonstrated]:
    """Show how questions about this context are answered, then ask: the context itself is in the prompt once.

    Parameters
    ----------
    question : what is to be answered.
    texts : the context, documents or passages; what the window does not hold of it is left out.
    demonstrations : how many are asked for, side by side.
    seed : of the places of the text that they are made from.

    Raises
    ------
    InputError : there is nothing to read, or a parameter is of no use. RefusalError : the model declines to answer.
    ContextOverflowError : the question fills the window.
    """
    question = check_question(question)
    if isinstance(demonstrations, bool) or not isinstance(demonstrations, int) or demonstrations < 0:
        raise InputError(f"demonstrations are a number, 0 or more, not {demonstrations!r}")
    asked, context = Prompt(question, task=ANSWER), units(texts)
    first: Fitted = yield Fit(asked, context)
    starts = list(range(0, len(first.taken), _PIECE))
    places = sorted(random.Random(seed).sample(starts, min(demonstrations, len(starts))))
    made: list[Demonstration | str] = yield [_made(first.taken[place : place + _PIECE]) for place in places]
    kept, dropped = distinct(question, made)
    while True:
        numbers = [number_of(each, context) for each in kept]
        past = (turn for each, number in zip(kept, numbers, strict=True) for turn in turns(each, number))
        prompt, fitted = replace(asked, history=tuple(past)), Fitted((), context)
        try:
            fitted = yield Fit(prompt, context)
        except ContextOverflowError:
            if not kept:
                raise
        shown = [number <= len(fitted.taken) and is_answered(each, fitted.taken[number - 1])
                 for each, number in zip(kept, numbers, strict=True)]  # fmt: skip
        if all(shown):
            break
        unseen = kept.pop(max(place for place, is_shown in enumerate(shown) if not is_shown))
        dropped.append(f"{unseen.question}: the window has no room for it, or not for its passage beside it")
    answer = yield from write(replace(prompt, passages=fitted.taken), stream=True)
    return Demonstrated(answer, tuple(kept), tuple(dropped), len(fitted.left))


def _made(piece: tuple[Passage, ...]) -> Steps[Demonstration | str]:
    """A demonstration from some passages; or why there is none."""
    prompt = Prompt("", task=DEMONSTRATE, kind="demonstration", max_tokens=160)
    few = " ".join(piece[0].pieces[0].split()[:3])
    try:
        prompt, _ = yield from with_passages(prompt, piece, why=WHY)
        lines = yield from ask_in_form(prompt, read_lines, example=f"QUESTION: What?\nPASSAGE: [1]\nANSWER: {few}")
    except (RefusalError, ReplyFormatError, ContextOverflowError) as error:
        return skipped(replace(prompt, passages=piece), error)
    question, number, answer = lines
    if not 1 <= number <= len(prompt.passages):
        return f"{question}: it rests on passage {number}, which there is not"
    made = Demonstration(question, answer, prompt.passages[number - 1])
    return made if is_answered(made, made.passage) else f"{question}: its passage does not say {answer!r}"
