"""Facts of a text: what a model quotes of a piece, each looked up in the piece before it counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from carrel.agents.base import Steps
from carrel.agents.pieces import halves
from carrel.agents.quotations import Quoted, find_quotation, read_quotations, says_nothing
from carrel.agents.replying import ask_as, quoted
from carrel.agents.tasks import DATA, NOTHING
from carrel.errors import CarrelError, ContextOverflowError, RefusalError, ReplyFormatError
from carrel.types import Completion, Passage, Prompt

FACTS = (
    "Quote what the passages hold that matters for the question, word for word. Write each quotation on a line of its"
    ' own, after the number of its passage, like this: [2] "the words as they stand there". Change nothing, leave'
    f" nothing out, and do not answer the question. {DATA} If nothing matters for it, reply with the single word"
    f" {NOTHING}."
)
WHY = f'it is neither lines such as [2] "the words as they stand there" nor the word {NOTHING}'
_EXAMPLE_WORDS = 30


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of a piece, or of a part of one."""

    piece: tuple[Passage, ...]
    facts: tuple[Passage, ...] = ()
    hallucinated: tuple[str, ...] = ()
    error: CarrelError | None = None


def facts_of(prompt: Prompt) -> Steps[list[Reading]]:
    """Ask for the facts of a prompt's passages; in halves, where it turns out to be too long.

    A reply of the wrong form is asked for once more. What cannot be read is a Reading with its error.
    """
    piece = prompt.passages
    try:
        return [(yield from _asked(prompt))]
    except ContextOverflowError as error:  # whoever serves the model counts otherwise
        parts = halves(piece)[::-1]
        if not parts:
            return [Reading(piece, error=error)]
        first, second = yield [facts_of(replace(prompt, passages=part)) for part in parts]
        return [*first, *second]
    except (RefusalError, ReplyFormatError) as error:
        return [Reading(piece, error=error)]


def _asked(prompt: Prompt) -> Steps[Reading]:
    """The facts of a reply: as its generator cited them, or as they are found where it says that it quotes."""
    example = f'[1] "{" ".join(prompt.passages[0].pieces[0].split()[:_EXAMPLE_WORDS])}"'

    def read(reply: Completion) -> Reading:
        if reply.citations:
            return _cited(reply, prompt.passages)
        lines = read_quotations(reply.text)
        if not lines and not says_nothing(reply.text):
            raise ValueError(WHY)
        return _found(lines, prompt.passages)

    return (yield from ask_as(prompt, read, example=example))


def _cited(reply: Completion, piece: tuple[Passage, ...]) -> Reading:
    """Citations that stand in the piece as they quote."""
    facts, wrong = [], []
    for citation in sorted(reply.citations, key=lambda each: (each.number, each.start)):
        inside = 1 <= citation.number <= len(piece) and _stands(quoted(citation, piece), piece[citation.number - 1])
        if inside:
            facts.append(quoted(citation, piece))
        else:
            wrong.append(citation.quote)
    return Reading(piece, tuple(facts), tuple(wrong))


def _stands(quote: Passage, passage: Passage) -> bool:
    if quote.document_id != passage.document_id or not passage.start <= quote.start < quote.end <= passage.end:
        return False
    return passage.text[quote.start - passage.start : quote.end - passage.start] == quote.text


def _found(lines: list[Quoted], piece: tuple[Passage, ...]) -> Reading:
    """Quotations where they stand in the piece, in its order; the words of those that do not."""
    found = [(line.words, find_quotation(line, piece)) for line in lines]
    places = sorted((at for _, at in found if at), key=lambda at: (at[0], at[1].start))
    return Reading(piece, tuple(fact for _, fact in places), tuple(words for words, at in found if at is None))
