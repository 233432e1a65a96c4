"""Map-reduce: every piece of a long text is asked on its own, side by side; the answer is made from what they say."""

from __future__ import annotations

from dataclasses import dataclass

from carrel.agents.base import Steps, flow
from carrel.agents.pieces import Texts, units
from carrel.agents.reducing import Reading, answered, check_tokens, cut_up, read_piece, told
from carrel.agents.replying import Note, Written
from carrel.agents.room import with_passages
from carrel.agents.tasks import ANSWER_FROM_NOTES, ANSWER_PIECE, DATA, MARKS
from carrel.options import check_question
from carrel.types import Prompt

MERGE = (
    "The notes were taken from different parts of what was read, on behalf of somebody who will answer the question"
    " from your note alone; the passages are what they quote. Make one note of them: keep what matters for the"
    f" question, say each thing once, and where they contradict each other, say so. {MARKS} {DATA}"
)


@dataclass(frozen=True, slots=True)
class Reduced:
    """What map-reduce found.

    Attributes
    ----------
    answer : made from the notes, with citations in the text that was read; abstained where every piece says nothing.
    levels : the notes of the pieces, without those that say nothing, then what each round of merging made of them.
    pieces : how many pieces were asked.
    skipped : pieces that could not be read, and groups that could not be merged, as their first words and why.
    """

    answer: Written
    levels: tuple[tuple[Note, ...], ...]
    pieces: int
    skipped: tuple[str, ...] = ()


@flow("Dean and Ghemawat, MapReduce: Simplified Data Processing on Large Clusters, OSDI 2004")
def map_reduce(
    question: str, texts: Texts, *, piece_tokens: int | None = None, note_tokens: int = 256
) -> Steps[Reduced]:
    """Ask each piece of a text of any length by itself, and answer from all that they say.

    Parameters
    ----------
    question : what is to be answered.
    texts : a document, or several, or passages, in their order.
    piece_tokens : the most tokens of a piece; by default all that the window holds.
    note_tokens : the most tokens that are noted of a piece, or of a group of notes that are merged.

    Raises
    ------
    InputError : there is nothing to read. ContextOverflowError : the question fills the window.
    RefusalError : the model declines to answer, or to read any piece at all.
    """
    question = check_question(question)
    check_tokens(piece_tokens=piece_tokens, note_tokens=note_tokens)
    merge = Prompt(question, task=MERGE, kind="notes", max_tokens=note_tokens)
    final = Prompt(question, task=ANSWER_FROM_NOTES)
    for prompt in (merge, final):  # better now than after all pieces were read
        yield from with_passages(prompt)
    asked = Prompt(question, task=ANSWER_PIECE, kind="notes", max_tokens=note_tokens)
    prompts = yield from cut_up(asked, units(texts), piece_tokens)
    found: list[list[Reading]] = yield [read_piece(prompt) for prompt in prompts]
    readings = [reading for each in found for reading in each]
    made = yield from answered(final, merge, told(readings))
    skipped = tuple(reading.skipped for reading in readings if reading.error)
    return Reduced(made.answer, made.levels, len(prompts), (*skipped, *made.unmerged))
