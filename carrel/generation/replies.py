"""What a generator returns, checked where it comes in: no reply of the wrong kind goes further, none is uncounted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, get_args

from carrel.errors import CarrelError, GenerationError
from carrel.types import (
    Citation,
    CitationsEvent,
    Completion,
    FinishReason,
    Ledger,
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
_EVENTS = (SourcesEvent, TextEvent, CitationsEvent, UsageEvent)


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
    if not isinstance(completion, Completion):
        _refuse(generator, "complete", completion, "a carrel.types.Completion")
    return _sound(generator, "complete", prompt, completion)


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
            )
        elif not isinstance(event, SourcesEvent):
            _refuse(generator, "stream", event, "an event of carrel.types")
    yield _sound(generator, "stream", prompt, replace(whole, text="".join(texts)))


def ending(completion: Completion) -> tuple[CitationsEvent, UsageEvent]:
    """What follows the text of a stream, so that ``stream`` makes of it all the completion again."""
    return (
        CitationsEvent(completion.citations, completion.answers),
        UsageEvent(
            completion.usage,
            Ledger(completion.usage.tokenizer),
            completion.finish_reason,
            completion.logprobs,
            completion.metrics,
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
    usage, citations, confidence = completion.usage, completion.citations, completion.confidence
    answers = completion.answers
    if not isinstance(completion.text, str):
        _refuse(generator, method, completion.text, "a text as its text")
    if not isinstance(usage, Usage) or not all(map(_is_count, _counts(usage))) or not isinstance(usage.tokenizer, str):
        _refuse(generator, method, usage, "a carrel.types.Usage with numbers of tokens as its usage")
    if not isinstance(citations, (tuple, list)) or not all(isinstance(citation, Citation) for citation in citations):
        _refuse(generator, method, citations, "a tuple of carrel.types.Citation as its citations")
    if not isinstance(answers, (tuple, list)) or not all(isinstance(answer, ShortAnswer) for answer in answers):
        _refuse(generator, method, answers, "a tuple of carrel.types.ShortAnswer as its answers")
    if completion.finish_reason not in _REASONS:
        _refuse(generator, method, completion.finish_reason, f"one of {', '.join(_REASONS)} as its finish_reason")
    if confidence is not None and not (isinstance(confidence, (int, float)) and 0 <= confidence <= 1):
        _refuse(generator, method, confidence, "a number from 0 to 1, or None, as its confidence")
    if not isinstance(completion.model, str):
        _refuse(generator, method, completion.model, "a text as its model")
    if not usage.total_tokens:  # no prompt has none: nobody counted
        usage = counted(generator, prompt, completion.text)
    model = completion.model or generator.name
    return replace(completion, usage=usage, citations=tuple(citations), answers=tuple(answers), model=model)


def counted(generator: Generator, prompt: Prompt, text: str) -> Usage:
    """The tokens of a prompt as rendered and of a reply, by the generator's own tokenizer."""
    from carrel.generation.rendering import render_prompt

    tokenizer = generator.tokenizer
    return Usage(tokenizer.count(render_prompt(prompt)), tokenizer.count(text), 0, tokenizer.name)


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
    except Exception:
        return f"a {type(value).__name__}"
