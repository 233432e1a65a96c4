"""A tokenizer for tests, and what every tokenizer must hold to."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from itertools import pairwise

from carrel.tokens import Tokenizer

_TOKENS = re.compile(r"\w+|[^\w\s]")

TEXTS = (
    "",
    " ",
    "word",
    "The ferry leaves at nine; the last one returns at eighteen-thirty.",
    "  leading and trailing space \n",
    "two\n\nparagraphs\twith a tab",
    "naïve café, Straße, Ωmega, 東京の港, 🚢 and e\u0301 combining",
    "internationalisation of uncharacteristically long-winded hyperparameterisations",
    "a" * 300,
    "x = foo_bar(1, 2.5) # comment",
)


class WordTokenizer:
    """Words and punctuation marks, each a token: quick, exact, and easy to count in the head."""

    name = "words"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def count(self, text: str) -> int:
        return sum(1 for _ in _TOKENS.finditer(text))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _TOKENS.finditer(text)]

    def truncate(self, text: str, limit: int) -> str:
        offsets = self.offsets(text)
        if len(offsets) <= limit:
            return text
        return text[: offsets[limit - 1][1]] if limit > 0 else ""


class TokenizerConformance(ABC):
    """Counting, offsets and truncation must tell the same story, for budgets rest on all three."""

    texts: tuple[str, ...] = TEXTS

    @abstractmethod
    def make(self) -> Tokenizer:
        """Return a new tokenizer."""

    def test_it_has_a_name_and_the_methods(self) -> None:
        tokenizer = self.make()
        assert isinstance(tokenizer, Tokenizer)
        assert tokenizer.name

    def test_nothing_has_no_tokens(self) -> None:
        assert self.make().count("") == 0
        assert self.make().offsets("") == []

    def test_offsets_are_as_many_as_the_count(self) -> None:
        tokenizer = self.make()
        for text in self.texts:
            assert len(tokenizer.offsets(text)) == tokenizer.count(text), text

    def test_offsets_lie_in_the_text_in_order(self) -> None:
        tokenizer = self.make()
        for text in self.texts:
            offsets = tokenizer.offsets(text)
            assert all(0 <= start <= end <= len(text) for start, end in offsets), text
            assert all(first[0] <= second[0] for first, second in pairwise(offsets)), text

    def test_truncation_gives_the_longest_prefix_that_fits(self) -> None:
        tokenizer = self.make()
        for text in self.texts:
            count = tokenizer.count(text)
            for limit in range(count + 2):
                prefix = tokenizer.truncate(text, limit)
                assert text.startswith(prefix), (text, limit)
                assert tokenizer.count(prefix) <= limit, (text, limit)
                if limit >= count:
                    assert prefix == text, (text, limit)
                else:
                    ends = sorted({0, *(end for _, end in tokenizer.offsets(text))})
                    assert len(prefix) in ends, (text, limit)
                    longer = text[: next(end for end in ends if end > len(prefix))]
                    assert tokenizer.count(longer) > limit, (text, limit)

    def test_counting_twice_gives_the_same(self) -> None:
        first, second = self.make(), self.make()
        assert [first.count(text) for text in self.texts] == [second.count(text) for text in self.texts]
