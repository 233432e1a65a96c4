"""The one tokenizer that counts for every system: the embedding model's word pieces."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer


class TokenCounter:
    """Counts and cuts text by tokens, without special tokens, truncation or padding."""

    def __init__(self, model: Path) -> None:
        """Read `tokenizer.json` of the model folder."""
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.count = lru_cache(maxsize=30_000)(self._count)

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return each token's half-open character span."""
        offsets: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return offsets

    def cut(self, text: str, tokens: int) -> str:
        """Return the longest prefix of the text that has at most this many tokens."""
        offsets = self.offsets(text)
        if len(offsets) <= tokens:
            return text
        kept = tokens
        while kept > 0 and len(self.offsets(text[: offsets[kept - 1][1]])) > tokens:
            kept -= 1  # a word cut short can fall into more pieces than it had
        return text[: offsets[kept - 1][1]] if kept > 0 else ""
