"""Counting tokens. A budget is always counted by a named tokenizer; the shipped one is the default."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from carrel.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as RustTokenizer

_LONGEST_WORD = 100  # characters: WordPiece takes a longer run for one unknown word, whatever is in it
_PIECE = 64
_LONGEST_KEPT, _MOST_KEPT = 40, 65_536  # characters of a word whose count is kept, and words


@runtime_checkable
class Tokenizer(Protocol):
    """What a budget is counted with. Special tokens of a model are not counted: they are not text.

    Counts of one are taken for those of another only when the two are equal (``==``), whatever their names.
    """

    @property
    def name(self) -> str:
        """The name reports give it."""

    def count(self, text: str) -> int:
        """Number of tokens of ``text``."""

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Half-open character offsets of each token of ``text``."""

    def truncate(self, text: str, limit: int) -> str:
        """The longest prefix of ``text`` that ends with a token and has at most ``limit`` of them."""


class FileTokenizer:
    """A ``tokenizer.json`` read with the tokenizers library; nothing is ever downloaded."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path.resolve()
        self._name = name or path.parent.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileTokenizer) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def name(self) -> str:
        return self._name

    @cached_property
    def adds_up(self) -> bool:
        """Whether a text parted at line ends has the tokens of its parts: BERT's splitting never looks past a space."""
        return type(self.rust.pre_tokenizer).__name__ == "BertPreTokenizer"

    @cached_property
    def rust(self) -> RustTokenizer:
        return _load(self.path)

    @cached_property
    def _unknown(self) -> int | None:
        """The id that stands for a word without a token of its own, where the model has such a thing."""
        token = getattr(self.rust.model, "unk_token", None)
        return None if token is None else self.rust.token_to_id(token)

    def ids_many(self, texts: list[str]) -> list[list[int]]:
        """The input of a model. A run of letters too long to be looked up is read in pieces, not as one word."""
        encodings = self.rust.encode_batch_fast(texts, add_special_tokens=False)
        rows: list[list[int]] = [encoding.ids for encoding in encodings]
        for index, (row, text) in enumerate(zip(rows, texts, strict=True)):
            if self._unknown in row and len(text) > _LONGEST_WORD:
                rows[index] = [id for id, _, _ in self.tokens(text)]
        return rows

    def count(self, text: str) -> int:
        if not self._counts_words:
            return self._count(text)
        known, total = self._known, 0
        for word in text.replace("\n", " ").split(" "):
            count = known.get(word)
            if count is None:
                count = self._count(word)
                if len(word) <= _LONGEST_KEPT:
                    if len(known) >= _MOST_KEPT:
                        known.clear()
                    known[word] = count
            total += count
        return total

    @cached_property
    def _counts_words(self) -> bool:
        """Whether the tokens of a text are those of what stands between its spaces, so that each need be counted once.

        A text of common words is counted in a tenth of the time.
        """
        normaliser = type(self.rust.normalizer).__name__ in ("BertNormalizer", "NoneType")
        added = (token.content for token in self.rust.get_added_tokens_decoder().values())
        return self.adds_up and normaliser and not any(" " in content or "\n" in content for content in added)

    @cached_property
    def _known(self) -> dict[str, int]:
        """The tokens of words."""
        return {"": 0}

    def _count(self, text: str) -> int:
        ids = self.rust.encode_batch_fast([text], add_special_tokens=False)[0].ids  # fast: no offsets
        return len(ids) if self._unknown not in ids else len(self.offsets(text))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens are. A word without a token counts by its characters: another model will read them."""
        encoding = self.rust.encode(text, add_special_tokens=False)
        if self._unknown not in encoding.ids:
            return list(encoding.offsets)
        spans: list[tuple[int, int]] = []
        for id, start, end in self.tokens(text, encoding):
            spans += [(start, end)] if id != self._unknown else [(place, place + 1) for place in range(start, end)]
        return spans

    def tokens(self, text: str, encoding: Encoding | None = None, shift: int = 0) -> Iterator[tuple[int, int, int]]:
        """(id, start, end) of every token; what is too long for one word comes in pieces."""
        encoding = encoding or self.rust.encode(text, add_special_tokens=False)
        for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if id != self._unknown or end - start <= _LONGEST_WORD:
                yield id, start + shift, end + shift
                continue
            for place in range(start, end, _PIECE):
                yield from self.tokens(text[place : min(place + _PIECE, end)], shift=shift + place)

    def truncate(self, text: str, limit: int) -> str:
        return truncated(self, text, limit)


def truncated(tokenizer: Tokenizer, text: str, limit: int) -> str:
    """What ``Tokenizer.truncate`` promises, of any tokenizer that counts and has offsets."""
    offsets = tokenizer.offsets(text)
    if len(offsets) <= limit:
        return text
    ends = sorted({0, *(end for _, end in offsets)})  # several tokens may share a character, and so an end
    place = bisect_right(ends, offsets[limit - 1][1]) - 1 if limit > 0 else 0
    # Cut there, a text may have other tokens than it had before what follows: what counts is its own count.
    while place and tokenizer.count(text[: ends[place]]) > limit:
        place -= 1
    while place + 1 < len(ends) and tokenizer.count(text[: ends[place + 1]]) <= limit:
        place += 1
    return text[: ends[place]]


@lru_cache(maxsize=8)
def _load(path: Path) -> RustTokenizer:
    from tokenizers import Tokenizer as RustTokenizer

    try:
        tokenizer = RustTokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a missing or damaged file
        raise ModelError(
            f"cannot read the tokenizer {path}: {error}. Reinstall carrel, or name another file."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def model_folder(name: str) -> Path:
    """The folder of a model that ships with Carrel."""
    folder = Path(__file__).parent / "models" / name
    if not folder.is_dir():
        raise ModelError(f"the model {name!r} is missing from {folder}. Reinstall carrel.")
    return folder


@lru_cache(maxsize=1)
def shipped_tokenizer() -> FileTokenizer:
    """The tokenizer of the shipped embedder (WordPiece, 30,522 entries): it counts when no generator is named."""
    return FileTokenizer(model_folder("minilm") / "tokenizer.json", name="all-MiniLM-L6-v2")
