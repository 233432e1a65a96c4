"""Refine: the first piece of a long text answers the question, and every further piece mends the answer so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

from carrel.agents.base import Fitted, Steps, flow
from carrel.agents.pieces import Texts, halves, piece_beside, units
from carrel.agents.reducing import as_written, check_tokens, kept_short, said, shorter, skipped
from carrel.agents.replying import Note, Written, with_evidence, write
from carrel.agents.room import with_passages
from carrel.agents.tasks import DATA, MARKS, NOTHING
from carrel.errors import CarrelError, ContextOverflowError, RefusalError
from carrel.options import check_question
from carrel.types import Passage, Prompt

START = (
    "The passages are the next piece of a long text. Answer the question from them, and from nothing else, as far as"
    f" they tell. {MARKS} {DATA} If they tell nothing about it, reply with the single word {NOTHING}."
)
REFINE = (
    "The notes are an answer to the question from the text so far. The first passages are what it quotes; the others"
    " are the next piece of the text. Write the answer anew, whole: keep what stands, correct what the piece"
    f" contradicts, add what it tells. {MARKS} {DATA} If the piece changes nothing, reply with the single word"
    f" {NOTHING}."
)


@dataclass(frozen=True, slots=True)
class Refined:
    """What was found by refining.

    Attributes
    ----------
    answer : the last draft, with citations in the text that was read; abstained where no piece tells anything.
    drafts : every answer that was given on the way, in order; a piece that changes nothing gives none.
    pieces : how many pieces were read.
    skipped : pieces that could not be read, as their first words and why.
    """

    answer: Written
    drafts: tuple[Note, ...]
    pieces: int
    skipped: tuple[str, ...] = ()


@flow("Chase et al., LangChain: the refine chain over documents, github.com/langchain-ai/langchain, 2022")
def refine(question: str, texts: Texts, *, piece_tokens: int | None = None, answer_tokens: int = 256) -> Steps[Refined]:
    """Read a text of any length in its order, with nothing but the answer so far and what it quotes.

    Parameters
    ----------
    question : what is to be answered.
    texts : a document, or several, or passages, in the order in which they are read.
    piece_tokens : the most tokens of a piece; by default all that the window holds.
    answer_tokens : the most tokens of an answer; a longer one is cut at the end of a sentence.

    Raises
    ------
    InputError : there is nothing to read. ContextOverflowError : the question fills the window.
    RefusalError : the model declines to read any piece at all.
    """
    question = check_question(question)
    check_tokens(piece_tokens=piece_tokens, answer_tokens=answer_tokens)
    start = Prompt(question, task=START, max_tokens=answer_tokens)
    yield from with_passages(replace(start, task=REFINE))
    waiting, drafts, unread, pieces = [units(texts)], [Note()], [], 0  # what is read next is the last of those waiting
    confidence: float | None = None
    errors: list[CarrelError] = []
    while waiting:
        draft = drafts[-1]
        asked = replace(start, task=REFINE if draft.text else START)
        prompt, piece, left = yield from _beside(draft, asked, waiting.pop(), piece_tokens)
        waiting += [left] if left else []
        try:
            written = yield from write(prompt, stream=not waiting)
        except (RefusalError, ContextOverflowError) as error:
            parts = halves(piece) if isinstance(error, ContextOverflowError) else []
            waiting += parts  # whoever serves the model counts otherwise
            errors += [] if parts else [error]
            unread += [] if parts else [skipped(replace(prompt, passages=piece), error)]
            continue
        pieces += 1
        note = yield from kept_short(said(written), answer_tokens)
        if note.text.strip():
            drafts.append(note)
            confidence = written.confidence
    if errors and not pieces:
        raise errors[0]
    return Refined(as_written(drafts[-1], confidence), tuple(drafts[1:]), pieces, tuple(unread))


def _beside(
    draft: Note, asked: Prompt, left: tuple[Passage, ...], limit: int | None
) -> Steps[tuple[Prompt, tuple[Passage, ...], tuple[Passage, ...]]]:
    """The prompt with the next piece and as much of the draft as leaves room for it; the piece; what is left.

    Where the window is small, the draft is cut until the piece is no shorter than it: else a text would be read a
    sentence at a time.
    """
    while True:
        fitted: Fitted | None = None
        try:
            shown, fitted = yield from piece_beside(draft, asked, left, limit)
        except ContextOverflowError:
            if not draft.text:
                raise
        if fitted is None or (limit is None and fitted.left and _length(fitted.taken) < len(draft.text)):
            draft = shorter(with_evidence(draft, 0))
            continue
        notes = (shown.text,) if shown.text else ()
        return replace(asked, passages=(*shown.evidence, *fitted.taken), notes=notes), fitted.taken, fitted.left


def _length(passages: tuple[Passage, ...]) -> int:
    return sum(len(passage.text) for passage in passages)
