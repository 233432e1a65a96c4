"""ThinkSum: each passage is asked on its own (think), and code, not the model, combines what they say (sum)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from carrel.agents.base import Bind, Score, Steps, flow
from carrel.agents.combining import RULES, Rule, combined
from carrel.agents.pieces import Texts, units
from carrel.agents.reducing import as_written, cut_up, skipped
from carrel.agents.replying import Note, Written, ask_as, note_of
from carrel.agents.tasks import REPAIR
from carrel.agents.thinking import THINK, WHY, Thought, named, read_thought
from carrel.errors import CarrelError, ContextOverflowError, InputError, RefusalError, ReplyFormatError
from carrel.generation.binding import Bound
from carrel.inputs import check_texts, well_formed
from carrel.options import check_question
from carrel.types import Prompt

_MOST_CITED = 3


@dataclass(frozen=True, slots=True)
class Summed:
    """The answer that is the most probable by all passages together.

    Attributes
    ----------
    answer : it cites those of the passages for it that bear it out; its confidence is its probability.
    distribution : every answer with its probability, the most probable first; what is missing from 1 is none of them.
    thoughts : of each passage that was read, in their order. ``skipped`` : those that were not, and why.
    """

    answer: Written
    distribution: Mapping[str, float]
    thoughts: tuple[Thought, ...]
    skipped: tuple[str, ...] = ()


@flow("Ozturkler et al., ThinkSum: Probabilistic Reasoning over Sets Using Large Language Models, arXiv 2210.01293")
def think_sum(
    question: str, texts: Texts, *, choices: Sequence[str] | None = None, rule: Rule = "mixture", weighted: bool = False
) -> Steps[Summed]:
    """Ask about each passage side by side, and combine the probabilities of their answers by a rule.

    Parameters
    ----------
    question : asked about each passage on its own.
    texts : passages or documents; what does not fit a prompt is several.
    choices : the answers that there are; None for an open question.
    rule : "mixture", "product" or "vote" (carrel.agents.combining).
    weighted : whether passages count by their relevance to the question, which the reader scores.

    Raises
    ------
    InputError : there is nothing to read, or a parameter is of no use. ContextOverflowError : question and choices
        fill the window. RefusalError, ReplyFormatError : not one passage could be asked.
    """
    question, known = check_question(question), _checked(choices)
    if rule not in RULES:
        raise InputError(f"thoughts are combined by 'mixture', 'product' or 'vote', not {rule!r}")
    prompts: list[Prompt] = []
    for unit in units(texts):
        cut = yield from cut_up(_asked(question, known), (unit,))
        prompts += [replace(prompt, passages=(passage,)) for prompt in cut for passage in prompt.passages]
    made: list[Thought | tuple[str, CarrelError]] = yield [_thought(prompt, known) for prompt in prompts]
    thoughts = [each for each in made if isinstance(each, Thought)]
    thoughts = thoughts if known else named(thoughts)
    failed = [each for each in made if not isinstance(each, Thought)]
    if not thoughts:
        raise failed[0][1]
    if weighted:
        scores: tuple[float, ...] = yield Score(question, tuple(each.passage for each in thoughts))
        thoughts = [replace(each, weight=score) for each, score in zip(thoughts, scores, strict=True)]
    telling = [each for each in thoughts if each.answers]
    totals = combined([each.answers for each in telling], [each.weight for each in telling], rule, known)
    answer = yield from _answer(question, totals, telling)
    return Summed(answer, totals, tuple(thoughts), tuple(why for why, _ in failed))


def _checked(choices: Sequence[str] | None) -> tuple[str, ...]:
    if choices is None:
        return ()
    texts = [] if isinstance(choices, str) else check_texts("choices", "a choice", choices)
    known = tuple(dict.fromkeys(" ".join(well_formed(text).split()) for text in texts))
    if len(known) < 2 or not all(known):
        raise InputError(
            f"choices are two different texts at least, or None for an open question, not {choices!r:.100}"
        )
    return known


def _asked(question: str, choices: tuple[str, ...]) -> Prompt:
    what = "the number of one of the choices in the notes" if choices else "the answer, in a few words"
    notes = tuple(f"{number}. {choice}" for number, choice in enumerate(choices, start=1))
    repair = (REPAIR.format(why=WHY),)  # room for it is kept; it is taken out before anything is asked
    return Prompt(question, task=THINK.format(what=what), notes=(*notes, *repair), max_tokens=64)


def _thought(prompt: Prompt, choices: tuple[str, ...]) -> Steps[Thought | tuple[str, CarrelError]]:
    """What a passage says; or why it could not be asked. A reply of the wrong form is asked for once more."""
    asked = replace(prompt, notes=prompt.notes[:-1])
    try:
        said = yield from ask_as(asked, lambda reply: read_thought(reply, choices), example="ANSWER: 1\nCONFIDENCE: 80")
    except (RefusalError, ReplyFormatError, ContextOverflowError) as error:
        return skipped(prompt, error), error
    return Thought(prompt.passages[0], *said)


def _answer(question: str, totals: Mapping[str, float], thoughts: Sequence[Thought]) -> Steps[Written]:
    """The most probable answer, with citations in the passages that give it and bear it out."""
    if not totals:
        return as_written(Note())
    best = next(iter(totals))
    giving = [each for each in thoughts if max(each.answers, key=lambda name: each.answers[name]) == best]
    giving = sorted(giving, key=lambda each: -each.weight * each.answers[best])[:_MOST_CITED]
    passages = tuple(each.passage for each in giving)
    text = f"{best} {''.join(f'[{number}]' for number in range(1, len(passages) + 1))}".strip()
    bound: Bound = yield Bind(text, passages, question)
    return as_written(note_of(Written(text, bound.citations, passages, bound.unsupported)), totals[best])
