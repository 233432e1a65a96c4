"""What is not a document's, made of the document alone: an adapter learns on it to leave its model as it is.

Two kinds. The document's own questions with some words replaced by any others of the vocabulary: about somebody else,
mostly, and no two documents need to know each other for it. And its own text with every word replaced by another
throughout, a question from it behind: what the model reads in its context it must go on to use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from carrel.memory.parametric.examples import Example

_READ = 96  # tokens of a text in another vocabulary
_TRANSLATED = 0.03  # share of such texts
_BETWEEN = 4  # tokens before an answer


def strangers(own: Sequence[Example], vocabulary: Sequence[int], count: int, seed: int = 0) -> list[Example]:
    """``count`` texts that are not the document's; a few less where they came out as one of its own.

    Parameters
    ----------
    own : what the document's adapter learns. vocabulary : the tokens that may stand for others; no special ones.
    """
    chance = np.random.default_rng(seed)
    words = np.array(vocabulary, np.int64)
    known = {example.ids[: example.first] for example in own}
    asked = [example for example in own if example.asked[1]] or list(own)
    found = []
    for number in chance.integers(len(asked), size=count).tolist():
        if chance.random() < _TRANSLATED:
            text = translated(asked, words, chance)
        else:
            text = renamed(asked[number], words, chance)
        if text.ids[: text.first] not in known:
            found.append(replace(text, first=1))
    return found


def renamed(example: Example, words: np.ndarray, chance: np.random.Generator) -> Example:
    """An example with one word or more of its question replaced, each wherever it stands there; a text throughout.

    What is around a question (instructions, the marks of a chat) stays, for it stands around all others as well.
    """
    ids = np.array(example.ids)
    start, end = _asked(example)
    different = np.unique(ids[start:end])
    changed = different[chance.random(len(different)) < 0.3]
    if not len(changed):
        changed = chance.choice(different, 1)
    for word in changed.tolist():
        ids[start:end][ids[start:end] == word] = chance.choice(words)
    return Example(tuple(ids.tolist()), example.first)


def _asked(example: Example) -> tuple[int, int]:
    whole = example.first if example.first > 1 else len(example.ids)
    return example.asked if example.asked[1] else (1, whole)


def translated(own: Sequence[Example], words: np.ndarray, chance: np.random.Generator) -> Example:
    """Several questions with their answers after one another in another vocabulary, the last one stood there before."""
    picked = [_told(own[at]) for at in chance.permutation(len(own))[:_READ]]
    ids: list[int] = [own[0].ids[0]]
    for told in picked:
        if len(ids) + len(told) > _READ and len(ids) > 1:
            break
        ids += told
    ids += picked[0]
    ids = ids[: 2 * _READ]
    other = dict(zip(np.unique(ids[1:]).tolist(), chance.choice(words, len(np.unique(ids[1:]))).tolist(), strict=True))
    kept = chance.random() < 0.5  # half of the words stay: else the marks between the sentences would never be seen
    return Example((ids[0], *(one if kept and one % 2 else other[one] for one in ids[1:])), 1)


def _told(example: Example) -> list[int]:
    """A question, what parts it from its answer, and that; at most so much of what is around them as stands there."""
    start, end = _asked(example)
    between = example.ids[max(end, example.first - _BETWEEN) : example.first]
    return [*example.ids[start:end], *between, *example.ids[max(end, example.first) :]]
