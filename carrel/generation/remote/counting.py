"""Counting tokens for a model that is elsewhere: by its server, or by another tokenizer with a margin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from carrel.tokens import Tokenizer, shipped_tokenizer, truncated

if TYPE_CHECKING:
    from tiktoken import Encoding

_REMEMBERED = 4096  # counts of texts
Tokenize = Callable[[str], tuple[int, list[str]]]


class ServerTokenizer:
    """Counts with the server's own tokenizer (vLLM's ``/tokenize``), and remembers what it was told.

    Parameters
    ----------
    name : that of the model.
    tokenize : asks the server: the number of tokens of a text, and the tokens as it writes them (or none).
    """

    def __init__(self, name: str, tokenize: Tokenize) -> None:
        self.name = name
        self._tokenize = lru_cache(_REMEMBERED)(tokenize)

    def count(self, text: str) -> int:
        return self._tokenize(text)[0] if text else 0

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Exact where the server's tokens spell the text (byte-level BPE); else spread evenly over it."""
        if not text:
            return []
        count, written = self._tokenize(text)
        return _spelled(text, written) if len(written) == count else _spread(text, count)

    def truncate(self, text: str, limit: int) -> str:
        return truncated(self, text, limit)


class MarginTokenizer:
    """Counts with the shipped tokenizer and a margin, where a model's own cannot be had; its name says so.

    A count is the larger of ``1 + margin`` times the shipped tokenizer's, and a token for every four bytes, which is
    what code and white space cost.
    """

    def __init__(self, model: str = "", margin: float = 0.25, base: Tokenizer | None = None) -> None:
        self.margin, self.base = margin, base or shipped_tokenizer()
        of = f", in place of {model}'s" if model else ""
        self.name = f"{self.base.name} + {margin:.0%}{of}"

    def count(self, text: str) -> int:
        return max(math.ceil((1 + self.margin) * self.base.count(text)), math.ceil(len(text.encode()) / 4))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return _spread(text, self.count(text))

    def truncate(self, text: str, limit: int) -> str:
        return truncated(self, text, limit)


class TiktokenTokenizer:
    """OpenAI's own tokenizers. The package fetches a vocabulary when it is first used: never without being asked to.

    Raises
    ------
    ImportError : tiktoken is not installed. KeyError : it does not know the model.
    """

    def __init__(self, model: str) -> None:
        import tiktoken

        self._encoding: Encoding = tiktoken.encoding_for_model(model)
        self.name = f"tiktoken {self._encoding.name}"

    def count(self, text: str) -> int:
        return len(self._encoding.encode(text, disallowed_special=()))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        tokens = self._encoding.encode(text, disallowed_special=())
        return _by_bytes(text, [len(self._encoding.decode_single_token_bytes(token)) for token in tokens])

    def truncate(self, text: str, limit: int) -> str:
        return truncated(self, text, limit)


def _spread(text: str, count: int) -> list[tuple[int, int]]:
    """As many pieces as there are tokens, all about as long."""
    places = [index * len(text) // count for index in range(count + 1)] if count else []
    return list(pairwise(places))


def _spelled(text: str, tokens: Sequence[str]) -> list[tuple[int, int]]:
    """Offsets of byte-level BPE tokens; spread evenly where they do not spell the text."""
    alphabet = _alphabet()
    try:
        sizes = [len(bytes(alphabet[character] for character in token)) for token in tokens]
        whole = bytes(alphabet[character] for token in tokens for character in token)
    except KeyError:
        return _spread(text, len(tokens))
    return _by_bytes(text, sizes) if whole == text.encode() else _spread(text, len(tokens))


def _by_bytes(text: str, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Character offsets of pieces of so many bytes; a piece that begins inside a character has all of it."""
    starts, ends = [], []
    for index, character in enumerate(text):
        for _ in character.encode():
            starts.append(index)
            ends.append(index + 1)
    out, place = [], 0
    for size in sizes:
        last = min(place + size, len(starts)) - 1
        out.append((starts[min(place, last)], ends[last]) if size else (starts[last], starts[last]))
        place += size
    return out


@lru_cache(maxsize=1)
def _alphabet() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte (Radford et al., GPT-2, 2019), turned round."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(rest)}
