"""How much of a text a prompt can take: pieces that fill a generator's window and never overflow it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from carrel.agents.base import MOST_REPLY_TOKENS, Fit, Fitted
from carrel.errors import ContextOverflowError
from carrel.generation.base import Generator
from carrel.retrieval.packing import SEPARATOR, block, header
from carrel.retrieval.sentences import split_sentences
from carrel.types import Passage, Prompt

_CHARACTERS_A_TOKEN = 12
"""So many characters of a long text are looked at for each token of room."""
_LEAD = re.compile(r"\s*")  # it is not rendered
_LOOK = 40  # characters after a cut that tell whether a sentence ends there


def reply_room(prompt: Prompt, window: int) -> int:
    """Tokens kept free in a window for the reply to a prompt."""
    most = min(MOST_REPLY_TOKENS, window // 4)
    return most if prompt.max_tokens is None else min(prompt.max_tokens, window // 2)


def fit(request: Fit, generator: Generator) -> Fitted:
    """Take passages while the prompt with them, as rendered, and its reply fit the window.

    Counts are those of the generator's own tokenizer over the rendered prompt (promise 1).

    Raises
    ------
    ContextOverflowError : the prompt alone leaves no room for one passage's first sentence, or does not fit itself.
    """
    passages, window = request.passages, generator.context_window
    if window is None and request.limit is None:
        return Fitted(passages, ())
    room = _room(request, generator)
    if not passages and room >= 0:
        return Fitted((), ())
    taken, left = _estimated(request, room, generator)
    while taken and not _fits(request, taken, generator):  # counts that do not add up cost text, never the window
        cut = taken.pop()
        if cut.kept and not taken:
            taken = _kept_parts(cut)
            continue
        is_whole = cut.kept is not None or (request.whole and bool(taken))
        shorter = None if is_whole else _without_last_sentence(cut, halve=not taken)
        if shorter is not None:
            taken.append(shorter)
        left = _joined(cut, shorter, left)
    if not taken:
        raise ContextOverflowError(
            f"{generator.name} reads {window or request.limit:,} tokens, and the prompt leaves {max(room, 0):,} of them"
            " for a passage, which is not enough for one sentence. Use a model with a larger window, shorter notes, or"
            " a shorter question."
        )
    return Fitted(tuple(taken), tuple(left))


def _room(request: Fit, generator: Generator) -> int:
    """Tokens that passages may have."""
    window, rooms = generator.context_window, []
    if window is not None:
        rooms.append(window - reply_room(request.prompt, window) - generator.prompt_tokens(request.prompt))
    if request.limit is not None:
        rooms.append(request.limit)
    return min(rooms)


def _fits(request: Fit, taken: Sequence[Passage], generator: Generator) -> bool:
    """Whether a prompt with the passages taken fits, counted as it will be rendered."""
    prompt, window = request.prompt, generator.context_window
    whole = replace(prompt, passages=(*prompt.passages, *taken))
    if window is not None and generator.prompt_tokens(whole) + reply_room(prompt, window) > window:
        return False
    if request.limit is None:
        return True
    number = len(prompt.passages)
    text = SEPARATOR.join(block(passage, number + place) for place, passage in enumerate(taken, start=1))
    return generator.count_tokens(text) <= request.limit


def _estimated(request: Fit, room: int, generator: Generator) -> tuple[list[Passage], list[Passage]]:
    """Passages in their order while their tokens add up to no more than the room, the last one cut."""
    taken: list[Passage] = []
    waiting = deque(request.passages)
    while waiting:
        passage, number = waiting.popleft(), len(request.prompt.passages) + len(taken) + 1
        lead = _lead(passage.text)
        looked_at = passage.text[: lead + max(room, 1) * _CHARACTERS_A_TOKEN]
        if passage.kept is not None or len(looked_at) == len(passage.text):
            size = generator.count_tokens(block(passage, number) + SEPARATOR)
            if size <= room:
                taken.append(passage)
                room -= size
                continue
        if request.whole and taken:
            waiting.appendleft(passage)
            break
        if passage.kept is not None:  # sentence by sentence
            waiting.extendleft(reversed(_kept_parts(passage)))
            continue
        room -= generator.count_tokens(header(passage, number) + "\n" + SEPARATOR)
        prefix = looked_at[:lead] + generator.tokenizer.truncate(looked_at[lead:], max(room, 0))
        first = _head(passage, prefix, words=not taken)
        if first is None:
            waiting.appendleft(passage)
            break
        return [*taken, first], _joined(passage, first, list(waiting))
    return taken, list(waiting)


def _head(passage: Passage, prefix: str, *, words: bool) -> Passage | None:
    """The whole sentences of a passage that stand in a prefix of it; where not even one does, words, or None."""
    if not prefix.strip():
        return None
    if len(prefix) == len(passage.text):
        return passage
    reach = len(prefix) + _lead(passage.text, len(prefix))  # white space after a sentence is not rendered
    near = split_sentences(passage.text, 0, min(len(passage.text), reach + _LOOK))
    end = max((span.end for span in near if span.end <= reach), default=0)
    if not passage.text[:end].strip():
        if not words:
            return None
        cut = max(prefix.rfind(" "), prefix.rfind("\n"))
        end = cut if cut > 0 and prefix[:cut].strip() and not passage.text[len(prefix)].isspace() else len(prefix)
    return part(passage, 0, end)


def _without_last_sentence(passage: Passage, *, halve: bool) -> Passage | None:
    """A passage without its last sentence; where it has only one, without its last half, or None."""
    starts = [span.start for span in split_sentences(passage.text) if passage.text[: span.start].strip()]
    if not starts and not halve:
        return None
    end = starts[-1] if starts else (_lead(passage.text) + len(passage.text)) // 2
    return part(passage, 0, end) if passage.text[:end].strip() else None


def _lead(text: str, start: int = 0) -> int:
    """How many characters of white space there are at a place of a text."""
    found = _LEAD.match(text, start)
    return found.end() - start if found else 0


def _kept_parts(passage: Passage) -> list[Passage]:
    """What a pruner kept of a passage, each piece as a passage."""
    return [part(passage, span.start - passage.start, span.end - passage.start) for span in passage.kept or ()]


def part(passage: Passage, start: int, end: int) -> Passage:
    """What stands between two places of a passage's text, as a passage."""
    return replace(
        passage, start=passage.start + start, end=passage.start + end, text=passage.text[start:end], kept=None
    )


def _joined(whole: Passage, first: Passage | None, left: Sequence[Passage]) -> list[Passage]:
    """What is left when ``first`` was taken of ``whole``, and then the others; parts that were one are one again."""
    rest = whole if first is None else part(whole, first.end - whole.start, len(whole.text))
    if not rest.text.strip():
        return list(left)
    if left and _continues(rest, left[0]):
        return [replace(rest, end=left[0].end, text=rest.text + left[0].text), *left[1:]]
    return [rest, *left]


def _continues(before: Passage, after: Passage) -> bool:
    """Whether a passage goes on where another was cut."""
    if before.kept is not None or after.kept is not None:
        return False
    return before.document_id == after.document_id and before.end == after.start and before.prefix == after.prefix
