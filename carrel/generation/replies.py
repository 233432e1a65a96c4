"""What a generator returns, checked where it comes in: no reply of the wrong kind goes further, none is uncounted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, get_args

from carrel.errors import CarrelError, GenerationError
from carrel.inputs import well_formed
from carrel.types import (
    Citation,
    CitationsEvent,
    Completion,
    FinishReason,
    Ledger,
    MarksEvent,
    Prompt,
    ShortAnswer,
    SourcesEvent,
    TextEvent,
    Usage,
    UsageEvent,
)

if TYPE_CHECKING:
    from carrel.generation.base import Generator

_REASONS = get_args(FinishReason)
_EVENTS = (SourcesEvent, TextEvent, MarksEvent, CitationsEvent, UsageEvent)


def complete(generator: Generator, prompt: Prompt) -> Completion:
    """The reply of a generator, checked, with its name and its usage.

    Raises
    ------
    GenerationError : the generator raised an error that is not Carrel's, or returned what is no completion.
    """
    try:
        completion: object = generator.complete(prompt)
    except CarrelError:
        raise
    except Exception as error:
        _failed(generator, "complete", error)
    return checked(generator, "complete", prompt, completion)


async def acomplete(generator: Generator, prompt: Prompt) -> Completion:
    """The same of a generator with an ``acomplete`` of its own."""
    try:
        completion: object = await generator.acomplete(prompt)
    except CarrelError:
        raise
    except Exception as error:
        _failed(generator, "acomplete", error)
    return checked(generator, "acomplete", prompt, completion)


def checked(generator: Generator, method: str, prompt: Prompt, completion: object) -> Completion:
    """What a generator returned, if it is a completion in every part; its name and usage are filled in."""
    if not isinstance(completion, Completion):
        _refuse(generator, method, completion, "a carrel.types.Completion")
    return _sound(generator, method, prompt, completion)


def stream(generator: Generator, prompt: Prompt) -> Iterator[TextEvent | Completion]:
    """The text of a generator's stream as it comes, then all that it said as one completion, like ``complete``'s."""
    texts: list[str] = []
    whole = Completion("")
    for event in _events(generator, prompt):
        if isinstance(event, TextEvent):
            if not isinstance(event.text, str):
                _refuse(generator, "stream", event, "an event with a text")
            texts.append(event.text)
            yield event
        elif isinstance(event, CitationsEvent):
            whole = replace(whole, citations=event.citations, answers=event.answers)
        elif isinstance(event, UsageEvent):
            whole = replace(
                whole,
                usage=event.usage,
                finish_reason=event.finish_reason,
                logprobs=event.logprobs,
                metrics=event.metrics,
                model=event.model,
                confidence=event.confidence,
            )
        elif not isinstance(event, (SourcesEvent, MarksEvent)):
            _refuse(generator, "stream", event, "an event of carrel.types")
    yield _sound(generator, "stream", prompt, replace(whole, text="".join(texts)))


def ending(completion: Completion) -> tuple[CitationsEvent, UsageEvent]:
    """What follows the text of a stream: all else that a completion has."""
    return (
        CitationsEvent(completion.citations, completion.answers),
        UsageEvent(
            completion.usage,
            Ledger(completion.usage.tokenizer),
            completion.finish_reason,
            completion.logprobs,
            completion.metrics,
            completion.model,
            completion.confidence,
        ),
    )


def reason_of(error: Exception, most: int | None = None) -> str:
    """The kind of an error and what it says; with ``most``, on one line, and no more of what it says than that."""
    kind, said = type(error).__name__, str(error).strip()
    if most is not None:
        said = " ".join(said.split())[:most]
    return f"{kind}: {said}" if said else kind


def _events(generator: Generator, prompt: Prompt) -> Iterator[object]:
    """What the stream yields. An error of whoever reads it is not the generator's."""
    try:
        returned: object = generator.stream(prompt)
        if isinstance(returned, (str, *_EVENTS)) or not hasattr(returned, "__iter__"):
            _refuse(generator, "stream", returned, "events of carrel.types, one after the other")
        events: Iterator[object] = iter(returned)
    except CarrelError:
        raise
    except Exception as error:
        _failed(generator, "stream", error)
    try:
        while True:
            try:
                event = next(events)
            except StopIteration:
                return
            except CarrelError:
                raise
            except Exception as error:
                _failed(generator, "stream", error)
            yield event
    finally:  # whoever stops reading early stops the generator, too
        if hasattr(events, "close"):
            events.close()


def _sound(generator: Generator, method: str, prompt: Prompt, completion: Completion) -> Completion:
    """The completion, once every part of it is of its kind; what it left out is filled in."""
    for holds, value, wanted in _rules(completion):
        if not holds:
            _refuse(generator, method, value, wanted)
    usage = completion.usage
    if not usage.total_tokens:  # no prompt has none: nobody counted
        usage = counted(generator, prompt, completion.text)
    citations, answers = tuple(completion.citations), tuple(completion.answers)
    return replace(
        completion, usage=usage, citations=citations, answers=answers, model=completion.model or generator.name
    )


def _rules(of: Completion) -> Iterator[tuple[bool, object, str]]:
    """Whether each part is of its kind, the part, and what is wanted of it."""
    usage, confidence = of.usage, of.confidence
    has_counts = isinstance(usage, Usage) and all(map(_is_count, _counts(usage))) and isinstance(usage.tokenizer, str)
    is_likely = confidence is None or (isinstance(confidence, (int, float)) and 0 <= confidence <= 1)
    yield isinstance(of.text, str), of.text, "a text as its text"
    yield has_counts, usage, "a carrel.types.Usage with numbers of tokens as its usage"
    yield _has_only(of.citations, Citation), of.citations, "a tuple of carrel.types.Citation as its citations"
    yield _has_only(of.answers, ShortAnswer), of.answers, "a tuple of carrel.types.ShortAnswer as its answers"
    yield of.finish_reason in _REASONS, of.finish_reason, f"one of {', '.join(_REASONS)} as its finish_reason"
    yield is_likely, confidence, "a number from 0 to 1, or None, as its confidence"
    yield isinstance(of.model, str), of.model, "a text as its model"
    yield isinstance(of.logprobs, (tuple, list)), of.logprobs, "a tuple of tokens with their logarithms as its logprobs"
    yield isinstance(of.metrics, Mapping), of.metrics, "a mapping of names to numbers as its metrics"


def _has_only(items: object, kind: type) -> bool:
    return isinstance(items, (tuple, list)) and all(isinstance(item, kind) for item in items)


def counted(generator: Generator, prompt: Prompt, text: str) -> Usage:
    """The tokens of a prompt as rendered and of a reply, by the generator's own tokenizer."""
    from carrel.generation.rendering import render_prompt

    tokenizer = generator.tokenizer
    return Usage(tokenizer.count(render_prompt(prompt)), tokenizer.count(well_formed(text)), 0, tokenizer.name)


def _counts(usage: Usage) -> tuple[object, ...]:
    return usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _failed(generator: Generator, method: str, error: Exception) -> NoReturn:
    raise GenerationError(f"the generator {generator.name} failed in {method}(prompt): {reason_of(error)}") from error


def _refuse(generator: Generator, method: str, returned: object, wanted: str) -> NoReturn:
    """Say what came instead of what was wanted."""
    raise GenerationError(
        f"the generator {generator.name} returned {_short(returned)} from {method}(prompt), not {wanted}"
    )


def _short(value: object) -> str:
    """A text of at most a hundred characters or so; a value whose repr fails is named by its type."""
    try:
        return f"{value!r:.100}"
    except Exception:  # this is for an error's text, which must not become another error
        return f"a {type(value).__name__}"
