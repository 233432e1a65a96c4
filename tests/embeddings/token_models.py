"""A token model for tests: no weights, states that depend on what else is in the window."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from carrel.embeddings.base import Vectors, unit
from carrel.embeddings.token_states import Ids, Tokens
from carrel.errors import InputError
from carrel.testing.tokenizers import WordTokenizer
from carrel.tokens import Tokenizer

_TOKEN = re.compile(r"\w+|[^\w\s]")


class WindowedWords:
    """A token's state is its own random vector, plus a tenth of the mean of all in its window."""

    def __init__(self, window: int = 12, dimension: int = 16, special_tokens: int = 2) -> None:
        self.window, self.dimension, self.special_tokens = window, dimension, special_tokens
        self.name, self.languages, self.fingerprint = "words", frozenset[str](), f"words/{window}/{dimension}"
        self.passes: list[int] = []  # the length of each

    @property
    def tokenizer(self) -> Tokenizer:
        return WordTokenizer()

    def tokenize(self, text: str) -> Tokens:
        found = [(self._id(match.group()), *match.span()) for match in _TOKEN.finditer(text)]
        columns = np.array(found, np.int64).reshape(-1, 3).T
        return Tokens(columns[0], columns[1], columns[2])

    @staticmethod
    def _id(word: str) -> int:
        return int.from_bytes(hashlib.blake2b(word.lower().encode("utf-8", "replace"), digest_size=4).digest(), "big")

    def states(self, ids: Ids) -> Vectors:
        if len(ids) > self.window - self.special_tokens:
            raise InputError(f"{len(ids)} tokens do not fit")
        if len(ids):
            self.passes.append(len(ids))
        rows = [np.random.default_rng(int(token)).standard_normal(self.dimension) for token in ids]
        own = np.array(rows, np.float32).reshape(-1, self.dimension)
        mean = own.mean(axis=0, keepdims=True) if len(own) else own
        return (own + 0.1 * mean).astype(np.float32)

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        out = np.zeros((len(questions), self.dimension), np.float32)
        for row, question in zip(out, questions, strict=True):
            ids = self.tokenize(question).ids
            if len(ids):
                row += self.states(ids[: self.window - self.special_tokens]).mean(axis=0)
        return unit(out)
