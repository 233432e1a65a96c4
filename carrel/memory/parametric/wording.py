"""Questions in other words, for want of anybody who writes them: with words added anywhere, without those of them all.

A small model that learns a question in one wording answers it in that wording alone; where what makes it this question
is still in it, the answer is to be the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from carrel.memory.parametric.examples import Example

_KNOWN_BELOW = 1.0  # nats a token of the questions, as they fall: what is not known yet is asked as it is
_FORGETS = 0.8  # of that average, at each step
_MOST_ADDED = 4  # words
_COMMON = 0.5  # of the questions: a word that more of them have says nothing of what is asked
_LEFT_OUT = 0.3  # of the questions that are reworded: without those words


class Rewording:
    """Asks some of a document's questions in other words, once it knows them well enough.

    Parameters
    ----------
    own : the document's examples. words : tokens that may be added. share : of the questions of a step.
    """

    def __init__(self, own: Sequence[Example], words: Sequence[int], share: float, chance: np.random.Generator) -> None:
        self.words, self.share, self.chance = np.array(words, np.int64), share, chance
        self.common = common_words(own)
        self._loss = float("inf")

    def told(self, loss: float) -> None:
        """What a step lost on the document's own examples."""
        self._loss = loss if self._loss == float("inf") else _FORGETS * self._loss + (1 - _FORGETS) * loss

    def __call__(self, chosen: Sequence[Example]) -> list[Example]:
        """The examples of a step; questions that are asked with nothing to read may come in other words."""
        if not (self.share and len(self.words) and self._loss < _KNOWN_BELOW):
            return list(chosen)
        return [
            reworded(each, self.common, self.words, self.chance)
            if each.asked[1] and not each.is_open and self.chance.random() < self.share
            else each
            for each in chosen
        ]


def common_words(own: Sequence[Example]) -> frozenset[int]:
    """Tokens that stand in most questions: marks, and words such as "what"; none of a few questions."""
    asked = [set(each.ids[slice(*each.asked)]) for each in own if each.asked[1]]
    counted = Counter(token for each in asked for token in each)
    return frozenset(token for token, count in counted.items() if count > _COMMON * len(asked) and len(asked) > 2)


def reworded(example: Example, common: frozenset[int], words: np.ndarray, chance: np.random.Generator) -> Example:
    """A question with some words more, at random places, and perhaps without the common ones; the same answer."""
    start, end = example.asked
    ids = list(example.ids[start:end])
    if chance.random() < _LEFT_OUT:
        ids = [token for token in ids if token not in common] or ids
    for _ in range(int(chance.integers(1, _MOST_ADDED + 1))):
        ids.insert(int(chance.integers(len(ids) + 1)), int(chance.choice(words)))
    whole = (*example.ids[:start], *ids, *example.ids[end:])
    moved = len(whole) - len(example.ids)
    return Example(whole, example.first + moved, example.is_open, (start, end + moved))
