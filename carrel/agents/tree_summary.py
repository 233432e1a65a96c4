"""Summaries of summaries: a long text is summarised piece by piece, then the summaries, until a single one is left."""

from __future__ import annotations

from dataclasses import dataclass

from carrel.agents.base import Steps, flow
from carrel.agents.pieces import Texts, units
from carrel.agents.reducing import Reading, as_written, check_tokens, cut_up, merged, read_piece, told
from carrel.agents.replying import Note, Written
from carrel.agents.room import with_passages
from carrel.agents.tasks import DATA, MARKS, SUMMARY
from carrel.inputs import check_text, well_formed
from carrel.types import Prompt

WHOLE = f"Summarise the passages: what they say that matters most, and nothing else. {MARKS} {DATA}"
FROM_SUMMARIES = (
    "The notes are summaries of consecutive parts of one text, in their order; the passages are what they quote. Make"
    " one summary of them all, as if of the text itself: say each thing once, keep what matters most{for_what}, add"
    f" nothing. {MARKS} {DATA}"
)


@dataclass(frozen=True, slots=True)
class TreeSummary:
    """A summary, and the tree that it is the root of.

    Attributes
    ----------
    summary : the root, with citations in the text itself; abstained where no piece says anything that matters.
    levels : the summaries of the pieces, then those of each level above, the root last; each with its evidence.
    pieces : how many pieces were summarised.
    skipped : what could not be summarised, as its first words and why.
    """

    summary: Written
    levels: tuple[tuple[Note, ...], ...]
    pieces: int
    skipped: tuple[str, ...] = ()


@flow("Wu et al., Recursively Summarizing Books with Human Feedback, arXiv 2109.10862")
def tree_summary(
    texts: Texts, *, question: str = "", tokens: int = 256, piece_tokens: int | None = None
) -> Steps[TreeSummary]:
    """Summarise a text of any length; pieces are read side by side, and so are the summaries of each level.

    A summary is of as many summaries of the level below as fit a prompt. What each quotes is carried to the root.

    Parameters
    ----------
    texts : a document, or several, or passages, in their order.
    question : what the summary is for; empty for one of everything.
    tokens : the most tokens of a summary, the root's included; a longer one is cut at the end of a sentence. Those
        that a model declines to merge stay side by side as they are.
    piece_tokens : the most tokens of a piece; by default all that the window holds.

    Raises
    ------
    InputError : there is nothing to read. ContextOverflowError : the question fills the window.
    RefusalError : the model declines to summarise any piece at all.
    """
    question = well_formed(check_text("a question", question)).strip()
    check_tokens(tokens=tokens, piece_tokens=piece_tokens)
    task = FROM_SUMMARIES.format(for_what=" for the question" if question else "")
    above = Prompt(question, task=task, kind="summary", max_tokens=tokens)
    yield from with_passages(above)  # better now than after all pieces were read
    asked = Prompt(question, task=SUMMARY if question else WHOLE, kind="summary", max_tokens=tokens)
    prompts = yield from cut_up(asked, units(texts), piece_tokens)
    found: list[list[Reading]] = yield [read_piece(prompt) for prompt in prompts]
    readings = [reading for each in found for reading in each]
    levels = [tuple(told(readings))]
    skipped = [reading.skipped for reading in readings if reading.error]
    while len(levels[-1]) > 1:
        notes, unmerged = yield merged(above, levels[-1])
        levels.append(tuple(notes))
        skipped += unmerged
    root = levels[-1][0] if levels[-1] else Note()
    return TreeSummary(as_written(root), tuple(filter(None, levels)), len(prompts), tuple(skipped))
