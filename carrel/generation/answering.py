"""Around a generator: a context that its window holds, and an answer of which all that can be checked was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carrel.embeddings.base import ChunkEncoder, TextEncoder
from carrel.errors import BudgetError, ContextOverflowError, InputError
from carrel.generation.base import Generator
from carrel.generation.citations import verified, verified_answers, without_dangling_marks
from carrel.modes import make_mode
from carrel.options import Options, check_budget, check_question
from carrel.pipeline import Pipeline, Trail
from carrel.tokens import Tokenizer
from carrel.types import (
    Answer,
    Citation,
    Completion,
    Context,
    Document,
    Prompt,
    ShortAnswer,
    UnsupportedMark,
)

if TYPE_CHECKING:
    from carrel.generation.binding import Binder, Bound

MOST_REPLY_TOKENS = 512  # kept free in the window; a quarter of a small one


def built_in(encoder: ChunkEncoder, tokenizer: Tokenizer, mode: str) -> Generator:
    """What answers where no generator is named: the reader, or in the fast mode the sentences most like the question.

    Raises
    ------
    InputError : in the fast mode, where the encoder is not one of plain texts; the mode is unknown.
    """
    from carrel.generation.extractive import ExtractiveGenerator

    simple = ExtractiveGenerator(encoder, tokenizer=tokenizer) if isinstance(encoder, TextEncoder) else None
    if make_mode(mode).depth:
        from carrel.generation.reader import ReaderGenerator

        return ReaderGenerator(tokenizer=tokenizer, fallback=simple)
    if simple is None:
        raise InputError(f"the fast answerer needs a plain text encoder, not {encoder.name}. Name a generator.")
    return simple


def check_generator(generator: object) -> Generator:
    """The generator, if it is one.

    Raises
    ------
    InputError : it is not of a class derived from carrel.generation.base.Generator, or its context_window is
        neither None nor a number of tokens.
    """
    if isinstance(generator, Generator):
        _check_window(generator)
        return generator
    found = f"the class {generator.__name__} itself" if isinstance(generator, type) else f"a {type(generator).__name__}"
    raise InputError(
        "a generator is an object of a class derived from carrel.generation.base.Generator, with a name, a tokenizer"
        f" and complete(prompt), not {found}"
    )


def _check_window(generator: Generator) -> None:
    window: object = generator.context_window
    if window is not None and (not isinstance(window, int) or isinstance(window, bool) or window < 1):
        raise InputError(
            f"the context_window of a generator is a whole number of tokens above 0, or None where any prompt fits,"
            f" not {window!r:.100} as {generator.name} has it"
        )


def context_for(
    pipeline: Pipeline,
    question: str,
    options: Options,
    generator: Generator,
    trail: Trail,
    around: Prompt | None = None,
) -> Context:
    """The context of a question, in a budget that leaves room in the generator's window for all else and the reply.

    Parameters
    ----------
    around : what the prompt has besides the passages, such as its history.

    Raises
    ------
    ContextOverflowError : the window cannot hold the question, a reply and one sentence of the documents.
    """
    question = check_question(question)
    check_budget(options.budget)
    window, tokenizer = generator.context_window, generator.tokenizer
    if window is None:
        return pipeline.context(question, options, trail)
    asked = generator.fixed_tokens(replace(around or Prompt(question), question=question))
    reply = min(MOST_REPLY_TOKENS, window // 4)
    room = window - asked - reply
    if room >= options.budget:
        return pipeline.context(question, options, trail)
    overflow = ContextOverflowError(
        f"{generator.name} reads {window:,} tokens (counted by {tokenizer.name}). The question{_besides(around)} has"
        f" {asked:,}, {reply:,} are kept for the reply, and what is left cannot hold one sentence with its source."
        " Ask more briefly, or take a generator with a larger window."
    )
    if room < 1:
        raise overflow
    try:
        return pipeline.context(question, replace(options, budget=room), trail)
    except BudgetError as error:
        raise overflow from error


def finish(
    context: Context,
    completion: Completion,
    read: Callable[[str], Document],
    trail: Trail,
    *,
    budget: int,
    streamed: bool = False,
    mode: str = "fast",
    binder: Binder | None = None,
) -> Answer:
    """The answer that a completion makes, with its line in the ledger.

    Marks of a generator that cites nothing itself are bound to what they name (carrel.generation.binding): by the
    reader, in the fast mode by rules alone.

    Parameters
    ----------
    read : gives a document by its id, to check the citations against.
    budget : the one that was asked for.
    streamed : the text has been passed on already, so that its marks can only be counted.
    binder : has judged some of the text's marks while it came.
    """
    bound = _bound(completion, context, mode, binder)
    checked = _checked(context, completion, read, bound, streamed)
    trail.add(
        "answer",
        len(context.passages),
        len(checked.citations),
        "; ".join(_parts(checked, context, budget)),
        (completion.usage.prompt_tokens, completion.usage.completion_tokens),
        {
            "generator": completion.model,
            "confidence": completion.confidence,
            "citations_dropped": checked.dropped,
            "marks_without_source": checked.removed + checked.left,
            "marks_unsupported": len(checked.unsupported),
            **completion.metrics,
        },
    )
    return Answer(
        context.question,
        checked.text,
        checked.citations,
        context,
        checked.abstained,
        completion.confidence,
        completion.usage,
        trail.ledger(),
        checked.answers,
        checked.unsupported,
    )


@dataclass(frozen=True, slots=True)
class _Checked:
    """What is shown of a completion, and what was wrong with it."""

    abstained: bool
    text: str
    citations: tuple[Citation, ...]
    answers: tuple[ShortAnswer, ...]
    unsupported: tuple[UnsupportedMark, ...]
    dropped: int  # citations that are not in the source as quoted
    removed: int  # marks without a source, no longer in the text
    left: int  # and those that are


def _checked(
    context: Context, completion: Completion, read: Callable[[str], Document], bound: Bound | None, streamed: bool
) -> _Checked:
    given = bound.citations if bound else completion.citations
    true = verified(given, read, context)
    answers = verified_answers(completion.answers, read, context)
    text, removed, left = without_dangling_marks(completion.text, given, true, len(context.passages))
    if streamed:
        text, removed, left = completion.text, 0, removed + left
    dropped = len(given) - len(true)
    if completion.finish_reason == "abstained":
        return _Checked(True, text, (), (), (), dropped, removed, left)
    return _Checked(False, text, true, answers, bound.unsupported if bound else (), dropped, removed, left)


def _parts(checked: _Checked, context: Context, budget: int) -> list[str]:
    """What an answer's line in the ledger says."""
    cited = f"{_counted(len(checked.citations), 'citation')} verified"
    parts = ["abstained: no answer is sure enough" if checked.abstained else cited]
    faults = (
        (checked.dropped, "citation", "dropped, not in the source as quoted"),
        (checked.removed, "mark", "without a source removed from the text"),
        (checked.left, "mark", "without a source left in the text"),
        (len(checked.unsupported), "mark", "that the passage does not support"),
    )
    parts += [f"{_counted(number, what)} {fault}" for number, what, fault in faults if number]
    if context.budget < budget:
        parts.append(f"the window left {context.budget:,} of {budget:,} tokens for the context")
    return parts


def _bound(completion: Completion, context: Context, mode: str, binder: Binder | None) -> Bound | None:
    """What the marks of a text lead to; None where its generator has cited, or there is nothing to look for."""
    if completion.citations or completion.finish_reason == "abstained" or not may_have_marks(completion.text):
        return None
    return (binder or make_binder(context, mode)).finish(completion.text)


def may_have_marks(text: str) -> bool:
    """Whether a text has a bracket of the kinds that marks have."""
    return "[" in text or "【" in text


def make_binder(context: Context, mode: str) -> Binder:
    """What binds marks to the passages of a context: by the reader, in the fast mode by rules alone."""
    from carrel.generation.binding import Binder
    from carrel.generation.rules import RuleVerifier
    from carrel.generation.verification import Verifier

    verifier: Verifier = RuleVerifier()
    if make_mode(mode).depth:
        from carrel.reader.verifier import ReaderVerifier

        verifier = ReaderVerifier()
    return Binder(context.passages, context.question, verifier)


def _besides(around: Prompt | None) -> str:
    """What the window holds with the question."""
    if around is None:
        return ""
    history = f" with {_counted(len(around.history), 'turn')} of history" if around.history else ""
    return f"{history}{' and what was recalled' if around.notes or around.standing else ''}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
