"""Structurization: a text as scope, aspects and descriptions, each bound to what it rests on; put beside a question."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from carrel.agents.base import Bind, Steps, flow
from carrel.agents.outlines import SCHEMA, STRUCTURE, WHY, Aspect, Structure, read_outline, rendered
from carrel.agents.pieces import Texts, units
from carrel.agents.reducing import as_written, check_tokens, skipped
from carrel.agents.replying import Note, Written, ask_in_form, note_of
from carrel.agents.room import with_passages
from carrel.agents.tasks import DATA
from carrel.errors import CarrelError, ContextOverflowError, MalformedReplyError, RefusalError, ReplyFormatError
from carrel.generation.answering import may_have_marks
from carrel.generation.binding import Bound
from carrel.inputs import check_text, well_formed
from carrel.types import Prompt


@dataclass(frozen=True, slots=True)
class Structured:
    """A text and its structure.

    Attributes
    ----------
    text : the structure as lines; marks are numbers of its ``passages``, which are what the descriptions quote. For a
        prompt: ``Prompt(question, found.text.passages, notes=(found.text.text,))``.
    parts : the structures of the pieces, in their order.
    skipped : pieces that have none, as their first words and why.
    """

    text: Written
    parts: tuple[Structure, ...]
    skipped: tuple[str, ...] = ()


@flow("Liu et al., Enhancing LLM's Cognition via Structurization, arXiv 2407.16434")
def structure(
    texts: Texts, question: str = "", *, piece_tokens: int | None = 1500, tokens: int = 768
) -> Steps[Structured]:
    """Rewrite a text as its structure, in one round; what each description rests on is looked up, and cited.

    Parameters
    ----------
    texts : a document, or several, or passages, in their order.
    question : what the structure is for; empty for one of everything.
    piece_tokens : the most tokens of a piece; each has a structure of its own. None for all that the window holds.
    tokens : the most tokens of a structure, its JSON included.

    Raises
    ------
    InputError : there is nothing to read. ContextOverflowError : the question fills the window.
    RefusalError, ReplyFormatError : not one piece could be structured.
    """
    question = well_formed(check_text("a question", question)).strip()
    check_tokens(piece_tokens=piece_tokens, tokens=tokens)
    task = f"{STRUCTURE.format(for_what=', as far as it matters for the question' if question else '')} {DATA}"
    asked = Prompt(question, task=task, schema=SCHEMA, kind="structure", max_tokens=tokens)
    left, prompts = units(texts), list[Prompt]()
    while left:
        prompt, left = yield from with_passages(asked, left, why=WHY, limit=piece_tokens)
        prompts.append(prompt)
    made: list[Structure | tuple[str, CarrelError]] = yield [_structured(prompt) for prompt in prompts]
    parts = tuple(each for each in made if isinstance(each, Structure))
    failed = [each for each in made if not isinstance(each, Structure)]
    if failed and not parts:
        raise failed[0][1]
    return Structured(as_written(rendered(parts)), parts, tuple(why for why, _ in failed))


def _structured(prompt: Prompt) -> Steps[Structure | tuple[str, CarrelError]]:
    """The structure of a piece, or why it has none."""
    example = json.dumps({"scope": "The text", "aspects": [{"aspect": "One side", "descriptions": ["What it says."]}]})
    try:
        try:
            outline = yield from ask_in_form(prompt, read_outline, example=example)
        except MalformedReplyError:  # nothing holds this model to a schema: the words of the task alone
            outline = yield from ask_in_form(replace(prompt, schema=None), read_outline, example=example)
    except (RefusalError, ReplyFormatError, ContextOverflowError) as error:
        return skipped(prompt, error), error
    scope, aspects = outline
    bound: list[list[Note]] = yield [_bound(said, prompt) for _, said in aspects]
    named = zip((name for name, _ in aspects), bound, strict=True)
    return Structure(scope, tuple(Aspect(name, tuple(notes)) for name, notes in named if notes))


def _bound(descriptions: tuple[str, ...], prompt: Prompt) -> Steps[list[Note]]:
    """Descriptions with what they rest on; marks that nothing bears out are taken out."""
    marked = [said for said in descriptions if may_have_marks(said)]
    found: list[Bound] = yield [Bind(said, prompt.passages, prompt.question) for said in marked]
    bound = dict(zip(marked, found, strict=True))
    none = Bound((), ())
    return [
        note_of(Written(said, each.citations, prompt.passages, each.unsupported))
        for said in descriptions
        for each in (bound.get(said, none),)
        if any(map(str.isalpha, said))
    ]
