"""Encoders that read texts of any length: prompts, windows, and the mean of what the windows say."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from carrel.embeddings.base import TextEncoder, Vectors, digest, unit
from carrel.embeddings.folder import ModelFolder
from carrel.embeddings.instructions import Prompts, Template
from carrel.embeddings.token_states import Ids, Tokens, tokens_of
from carrel.errors import InputError, ModelError
from carrel.inputs import well_formed
from carrel.tokens import FileTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RustTokenizer

Role = Literal["query", "document"]
_CHUNK_TOKENS = 256


class LoadedTokenizer(FileTokenizer):
    """A tokenizer of the tokenizers library that is in memory already."""

    def __init__(self, rust: RustTokenizer, name: str) -> None:
        from tokenizers import Tokenizer as RustTokenizer

        own = RustTokenizer.from_str(rust.to_str())  # the model's own may cut and pad
        own.no_truncation()
        own.no_padding()
        self._name, self._own = name, own

    @property
    def rust(self) -> RustTokenizer:
        return self._own

    @cached_property
    def _content(self) -> str:
        return digest(self._own.to_str())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadedTokenizer) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


@dataclass(frozen=True, slots=True)
class Pass:
    """What a model reads at once: its tokens, and how many of them come before the text (special ones, the prompt)."""

    ids: list[int]
    before: int

    def __len__(self) -> int:
        return len(self.ids)


class WindowedEncoder(TextEncoder):
    """A plain encoder, and a TokenModel, over a model that reads at most ``window`` tokens at once.

    A text is read with its prompt before it. One that is longer is read in windows that share half of what they
    hold, each with the prompt, and their vectors are averaged by their lengths: nothing is cut unseen.
    """

    prompts: Prompts

    @cached_property
    @abstractmethod
    def tokenizer(self) -> FileTokenizer:
        """Counts the window."""

    @abstractmethod
    def _vectors(self, passes: Sequence[Pass], role: Role) -> Vectors:
        """(passes, dimension), of any length."""

    @abstractmethod
    def _states(self, read: Pass) -> Vectors:
        """(tokens, dimension): the states of all tokens of a pass."""

    # -- what it is -----------------------------------------------------------------------------

    def _settle(
        self, folder: ModelFolder, prompts: Prompts, window: int | None, languages: frozenset[str] | None
    ) -> None:
        """Take window, prompts and languages from the folder, where the user gives no others."""
        found = window if window is not None else folder.window
        if found is None:
            raise InputError(f"no file in {folder.path} says how many tokens the model reads: give window=")
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            raise InputError(f"window is a number of tokens, 1 or more, not {window!r}")
        self.window, self.max_chunk_tokens, self.prompts = found, min(_CHUNK_TOKENS, found), prompts
        self.languages = folder.languages if languages is None else frozenset(languages)

    @cached_property
    def dimension(self) -> int:  # type: ignore[override]
        return int(self._vectors([self._pass([], self.prompts.document)], "document").shape[1])

    @cached_property
    def _special(self) -> tuple[list[int], list[int]]:
        """The special tokens that the model has before and after every text."""
        plain, whole = (self.tokenizer.rust.encode("a", add_special_tokens=special).ids for special in (False, True))
        for place in range(len(whole) - len(plain) + 1):
            if whole[place : place + len(plain)] == plain:
                return whole[:place], whole[place + len(plain) :]
        raise ModelError(f"the tokenizer of {self.name} writes a text otherwise with its special tokens than without")

    @property
    def special_tokens(self) -> int:
        """Tokens of a pass over a document that are not the document's: special ones, and its prompt."""
        before, after = self._around(self.prompts.document)
        return len(before) + len(after)

    # -- encoding -------------------------------------------------------------------------------

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts, "document")

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        return self._encode(questions, "query")

    def _encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """(texts, dimension), unit length."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        template = self.prompts.query if role == "query" else self.prompts.document
        passes: list[Pass] = []
        owners: list[int] = []
        weights: list[int] = []
        for index, read in enumerate(self._passes([well_formed(text).strip() for text in texts], template)):
            passes += [made for made, _ in read]
            weights += [length for _, length in read]
            owners += [index] * len(read)
        vectors = unit(self._vectors(passes, role))  # (passes, D)
        if len(passes) == len(texts):
            return vectors
        total = np.zeros((len(texts), vectors.shape[1]), np.float32)
        np.add.at(total, owners, vectors * np.array(weights, np.float32)[:, None])
        return unit(total)

    def _passes(self, texts: Sequence[str], template: Template) -> Iterator[list[tuple[Pass, int]]]:
        """The passes over each text, with the number of its tokens that each reads."""
        first, last = self._special
        room = self.window - len(first) - len(last)
        before = len(self._around(template)[0])
        for text, ids in zip(texts, self.tokenizer.ids_many([template.around(text) for text in texts]), strict=True):
            if not ids and not before + len(last):
                ids = [self._filler]
            if len(ids) <= room:
                yield [(Pass([*first, *ids, *last], before), max(1, len(ids)))]
            else:
                yield list(self._windows(text, template))

    def _windows(self, text: str, template: Template) -> Iterator[tuple[Pass, int]]:
        """A text in windows, with its prompt around each of them."""
        tokens = list(self.tokenizer.tokens(template.around(text)))
        begin, end = len(template.before), len(template.before) + len(text)
        before = [id for id, _, stop in tokens if stop <= begin]
        after = [id for id, start, stop in tokens if start >= end and stop > begin]
        inside = [id for id, _, _ in tokens[len(before) : len(tokens) - len(after)]]
        first, last = self._special
        counted = len(self._around(template)[0])  # as in a pass that has the whole text
        room = self.window - len(first) - len(before) - len(after) - len(last)
        self._check_room(room, len(before) + len(after))
        step = max(1, room // 2)
        for start in range(0, max(1, len(inside) - room // 2), step):
            window = inside[start : start + room]
            yield Pass([*first, *before, *window, *after, *last], counted), len(window)

    def _check_room(self, room: int, prompt_tokens: int) -> None:
        if room < 1:
            raise InputError(
                f"the prompt of {self.name} takes {prompt_tokens} tokens and leaves no room for a text in its window"
                f" of {self.window}. Give a shorter one."
            )

    # -- token states ---------------------------------------------------------------------------

    def tokenize(self, text: str) -> Tokens:
        """The tokens of a text of any length, with their offsets; no special tokens."""
        return tokens_of(self.tokenizer, well_formed(text))

    def states(self, ids: Ids) -> Vectors:
        """(tokens, dimension): the last layer's states of one pass, after the prompt for documents.

        Raises
        ------
        InputError : the tokens do not fit the window. ModelError : the model's states cannot be pooled as they are.
        """
        if len(ids) > self.window - self.special_tokens:
            raise InputError(
                f"{len(ids)} tokens do not fit the window of {self.name} ({self.window}, {self.special_tokens} of them"
                " its own)"
            )
        if not len(ids):
            return np.empty((0, self.dimension), np.float32)
        read = self._pass(ids.tolist(), self.prompts.document)
        found = self._states(read)[read.before : read.before + len(ids)]
        if found.shape[1] != self.dimension:
            raise ModelError(
                f"the token states of {self.name} have {found.shape[1]} dimensions and its vectors {self.dimension}:"
                " its way of pooling leaves nothing to pool anew"
            )
        return np.asarray(found, np.float32)

    def _around(self, template: Template) -> tuple[list[int], list[int]]:
        """The tokens before and after a text."""
        first, last = self._special
        before, after = self.tokenizer.ids_many([template.before, template.after])
        return [*first, *before], [*after, *last]

    def _pass(self, ids: list[int], template: Template) -> Pass:
        before, after = self._around(template)
        whole = [*before, *ids, *after]
        return Pass(whole or [self._filler], len(before))

    @cached_property
    def _filler(self) -> int:
        """What stands for an empty text, where a model has no special tokens."""
        rust: Any = self.tokenizer.rust
        for name in ("</s>", "<|endoftext|>", "<pad>", "[PAD]"):
            found = rust.token_to_id(name)
            if found is not None:
                return int(found)
        return 0


def batches(passes: Sequence[Pass], most_tokens: int) -> Iterator[list[int]]:
    """Indexes of passes, longest first, as batches of at most so many tokens with their padding, one pass at least."""
    order = sorted(range(len(passes)), key=lambda index: -len(passes[index]))
    start = 0
    while start < len(order):
        count = max(1, most_tokens // max(1, len(passes[order[start]])))
        yield order[start : start + count]
        start += count
