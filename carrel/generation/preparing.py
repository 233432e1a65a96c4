"""Asking, from a question to its prompt and from the reply to the answer; a memory is asked first, and told last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from carrel.errors import StoreReadOnlyError
from carrel.generation import replies
from carrel.generation.answering import built_in, check_generator, context_for, finish
from carrel.generation.base import Generator
from carrel.generation.remembered import Remembered
from carrel.inputs import check_flag, check_kind
from carrel.memory.base import Memory, Recollection, StoredTurn
from carrel.options import AskOptions, ContextOptions, Options, check_budget, check_history, check_question
from carrel.pipeline import Pipeline, Trail
from carrel.types import Answer, Context, Event, Prompt, SourcesEvent, TextEvent, Turn

if TYPE_CHECKING:
    from carrel.library import Library

MEMORY_SHARE = 3
"""A memory has at most one in so many tokens of the budget; what it leaves is the documents'."""
_TRIES = 4
_OWN = ("generator", "history", "memory", "remember")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is ready for its generator."""

    library: Library
    question: str
    generator: Generator
    trail: Trail
    prompt: Prompt
    context: Context
    options: Options
    memory: Memory | None

    def answer(self) -> Answer:
        """The whole answer, checked. Where there comes none, the question is remembered all the same."""
        with self._remembering_failure():
            completion = replies.complete(self.generator, self.prompt)
        found = finish(
            self.context,
            completion,
            self.library.document,
            self.trail,
            budget=self.options.budget,
            mode=self.options.mode,
        )
        found = replace(found, question=self.question)
        self._remember(found.text)
        return found

    def stream(self) -> Iterator[Event]:
        """The answer as events; a stream that is stopped early is not remembered."""
        from carrel.generation.streaming import written

        yield SourcesEvent(self.context)
        texts: list[str] = []
        with self._remembering_failure():
            for event in written(
                self.generator, self.prompt, self.context, self.library.document, self.trail, self.options
            ):
                if isinstance(event, TextEvent):
                    texts.append(event.text)
                yield event
        self._remember("".join(texts))

    @contextmanager
    def _remembering_failure(self) -> Iterator[None]:
        try:
            yield
        except (Exception, KeyboardInterrupt):
            self._remember("")
            raise

    def _remember(self, text: str) -> None:
        if self.memory is not None:
            self.memory.observe(self.question)
            if text.strip():
                self.memory.observe(text, speaker="assistant")


def prepare(library: Library, pipeline: Pipeline, question: str, options: AskOptions, selected: Options) -> Asked:
    """Make a question ready: recall what a memory holds, find the passages, and put both into the prompt.

    Parameters
    ----------
    options : as given to ``Library.ask``; ``selected`` : those of them that choose passages.

    Raises
    ------
    InputError, EmptyQuestionError, BudgetError, FilterError, ContextOverflowError
    """
    chosen, history = options.get("generator"), check_history(options.get("history", ()))
    memory, remember = options.get("memory"), options.get("remember", True)
    check_kind("a memory", memory, Memory)
    check_flag("remember", remember)
    if memory is not None and remember and memory.is_read_only:
        raise StoreReadOnlyError(
            "the memory was opened read-only: it cannot keep what is said. Open it without read_only, or ask with"
            " remember=False."
        )
    if chosen is None:
        generator = built_in(library.encoder, library.tokenizer, selected.mode)
    else:
        generator = check_generator(chosen)
    trail = Trail(generator.tokenizer)
    recollection, asked, sought = None, question, question
    if memory is not None:
        question = check_question(question)
        recollection, selected = _recalled(memory, question, selected, generator, trail, history)
        sought = recollection.rewritten
        asked = question if chosen is not None and (history or recollection.recent) else sought
        if chosen is None:
            generator = Remembered(generator, recollection, memory.zone)
    elif history:
        question = check_question(question)
        sought = _whole(question, history)
        asked = sought if chosen is None else question  # a generator that writes has the turns before it
    bare = Prompt(asked, history=history)
    around = recollection.into(bare) if recollection else bare
    context = context_for(pipeline, sought, selected, generator, trail, around)
    if asked == sought:
        around = replace(around, question=context.question)
    prompt = replace(around, passages=context.passages)
    return Asked(library, question, generator, trail, prompt, context, selected, memory if remember else None)


def _whole(question: str, history: tuple[Turn, ...]) -> str:
    """A follow-up question as it can be searched for; by rules, so that no model is asked twice."""
    from carrel.memory.followups import whole

    turns = [StoredTurn(place, "", turn.role, turn.text, 0.0) for place, turn in enumerate(history)]
    return whole(question, turns)


def _recalled(
    memory: Memory, question: str, options: Options, generator: Generator, trail: Trail, history: tuple[Turn, ...]
) -> tuple[Recollection, Options]:
    """What the memory holds, and the options with what it leaves of the budget, counted as the generator counts."""
    check_budget(options.budget)
    most = share = options.budget // MEMORY_SHARE
    for _ in range(_TRIES):
        found = memory.recall(question, budget=share)
        if history:  # the caller knows the last turns; they are not said twice
            found = replace(found, recent=())
        tokens = _tokens_of(found, generator)
        if tokens <= most:
            break
        share = share * most // (tokens + 1)
    else:
        found, tokens = replace(found, recent=(), recalled=(), stable="", text="", tokens=0), 0
    turns = sum(len(each.turns) for each in found.recalled)
    parts = [f"{len(found.recent)} last turns" if found.recent else "", f"{turns} recalled" if turns else ""]
    if found.rewritten != question:
        parts.append(f"asked as: {found.rewritten}")
    details = {"budget": most, "needed": found.needed, "answerable": found.answerable}
    reason = ", ".join(part for part in parts if part) or "nothing to remember"
    trail.add("recall", 1, turns + len(found.recent), reason, (None, tokens), details)
    return found, replace(options, budget=options.budget - tokens)


def _tokens_of(recollection: Recollection, generator: Generator) -> int:
    """Tokens that a recollection adds to a prompt as it is rendered."""
    bare = Prompt("?")
    return generator.prompt_tokens(recollection.into(bare)) - generator.prompt_tokens(bare)


def passage_options(options: AskOptions) -> ContextOptions:
    """Those of the keywords of ``ask`` that choose passages."""
    return cast("ContextOptions", {name: value for name, value in options.items() if name not in _OWN})
