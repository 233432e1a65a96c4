"""What is not a document's, made of the document alone: an adapter learns on it to leave its model as it is.

Two kinds. The document's own questions with some words replaced by any others of the vocabulary: about somebody else,
mostly, and no two documents need to know each other for it. And its own text with every word replaced by another
throughout, a question from it behind: what the model reads in its context it must go on to use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from carrel.memory.parametric.training import Example

_READ = 96  # tokens of a text in another vocabulary
_TRANSLATED = 0.03  # share of such texts


def strangers(own: Sequence[Example], vocabulary: Sequence[int], count: int, seed: int = 0) -> list[Example]:
    """``count`` texts that are not the document's; a few less where they came out as one of its own.

    Parameters
    ----------
    own : what the document's adapter learns. vocabulary : the tokens that may stand for others; no special ones.
    """
    chance = np.random.default_rng(seed)
    words = np.array(vocabulary, np.int64)
    known = {example.ids[: example.first] for example in own}
    asked = [example for example in own if example.first > 2] or list(own)
    found = []
    for number in chance.integers(len(asked), size=count).tolist():
        if chance.random() < _TRANSLATED:
            text = translated(own, words, chance)
        else:
            text = renamed(asked[number], words, chance)
        if text.ids[: text.first] not in known:
            found.append(replace(text, first=1))
    return found


def renamed(example: Example, words: np.ndarray, chance: np.random.Generator) -> Example:
    """An example with one word or more of what is read replaced, each wherever it stands there."""
    ids = np.array(example.ids)
    read = ids[1 : example.first] if example.first > 2 else ids[1:]
    different = np.unique(read)
    changed = different[chance.random(len(different)) < 0.3]
    if not len(changed):
        changed = chance.choice(different, 1)
    for word in changed.tolist():
        ids[1:][ids[1:] == word] = chance.choice(words)
    return Example(tuple(ids.tolist()), example.first)


def translated(own: Sequence[Example], words: np.ndarray, chance: np.random.Generator) -> Example:
    """Several examples after one another in another vocabulary, the last of them one that stood there before."""
    picked = [own[at] for at in chance.permutation(len(own))[:_READ]]
    ids: list[int] = [picked[0].ids[0]]
    for example in picked:
        if len(ids) + len(example.ids) > _READ and len(ids) > 1:
            break
        ids += example.ids[1:]
    ids += picked[0].ids[1:]
    ids = ids[: 2 * _READ]
    other = dict(zip(np.unique(ids[1:]).tolist(), chance.choice(words, len(np.unique(ids[1:]))).tolist(), strict=True))
    kept = chance.random() < 0.5  # half of the words stay: else the marks between the sentences would never be seen
    return Example((ids[0], *(one if kept and one % 2 else other[one] for one in ids[1:])), 1)
