"""The reader that ships with Carrel: one small cross-encoder that ranks, prunes, answers and abstains."""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import digest
from carrel.embeddings.minilm import CLS, SEP, available_cores
from carrel.errors import ModelError
from carrel.reader.reading import Floats, Reading, seams, windows, without_surrogates
from carrel.sessions import open_session
from carrel.tokens import FileTokenizer, model_folder

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReaderInput:
    """A passage as the reader sees it: the heading path above it, which is never quoted, and its text."""

    prefix: str
    text: str


@dataclass(frozen=True, slots=True)
class _Window:
    """One run of the model: the whole input, and which tokens of the text it shows."""

    ids: Ints  # (N,)
    first: int
    last: int
    text_at: int  # where in the input the text starts


_Output = tuple[Floats, Floats]  # (2,) relevance and answerable; (N, 3) keep, start and end of each token


class ReaderModel:
    """Relevance, sentences to keep and answer spans from one pass over (question, headings, passage).

    Every window runs on its own, in as many threads as the machine has cores, so that a reading never
    depends on what else was read. A passage longer than the window is read in overlapping windows:
    each token's scores come from the window in which it stands farthest from an edge, the passage's
    own from its best window. Readings are kept for the last questions, under a hash of what was read
    and without the text, so that reranking, pruning and answering share one pass.

    One model may be used from several threads, and after a fork. Text is data: names of special tokens
    in it are words like any other.

    Reference: Chirkova et al., "Provence: efficient and robust context pruning for retrieval-augmented
    generation", arXiv 2501.16214 (reranking and pruning in one cross-encoder).

    Parameters
    ----------
    folder : where ``model.onnx``, ``tokenizer.json`` and ``provenance.json`` are; the shipped ones by default.
    threads : windows read at once; the number of cores by default.
    remembered : readings kept in memory; a long passage counts for as many as it has windows.
    """

    name: ClassVar[str] = "carrel-reader"
    citation: ClassVar[str] = "Chirkova et al., Provence, arXiv 2501.16214"
    languages: ClassVar[frozenset[str]] = frozenset({"English"})
    window: ClassVar[int] = 320
    overlap: ClassVar[int] = 96
    max_question_tokens: ClassVar[int] = 64
    max_prefix_tokens: ClassVar[int] = 48

    def __init__(self, folder: Path | None = None, threads: int | None = None, remembered: int = 512) -> None:
        self.folder = folder or model_folder("reader")
        self.threads = threads or available_cores()
        self._remembered = remembered
        self._known: OrderedDict[bytes, Reading] = OrderedDict()
        self._size = 0  # windows of what is known
        self._lock = Lock()
        _MODELS.add(self)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What the weights were made of, and the hashes of the files (``files_sha256``)."""
        try:
            content: dict[str, Any] = json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))
            _ = [content["files_sha256"][name] for name in ("model.onnx", "tokenizer.json")]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"cannot read the reader in {self.folder}: {error!r}. Reinstall carrel.") from error
        return content

    @cached_property
    def fingerprint(self) -> str:
        """Made of the recorded hashes of the model's files; ``carrel doctor`` checks the files against them."""
        return digest("reader/1", json.dumps(self.provenance["files_sha256"], sort_keys=True))

    @property
    def tokenizer(self) -> FileTokenizer:
        with _loading.lock:
            return self._tokenizer

    @property
    def _session(self) -> InferenceSession:
        with _loading.lock:
            return self._opened

    @cached_property
    def _tokenizer(self) -> FileTokenizer:
        tokenizer = FileTokenizer(self.folder / "tokenizer.json", name=self.name)
        if not tokenizer.rust.encode_special_tokens:  # shared by the models of a folder; not to be set while in use
            tokenizer.rust.encode_special_tokens = True  # "[SEP]" in a text is text
        return tokenizer

    @cached_property
    def _opened(self) -> InferenceSession:
        return open_session(self.folder / "model.onnx", "the reader")

    def read(self, question: str, inputs: Sequence[ReaderInput]) -> list[Reading]:
        """One Reading for each input, in the order given; those read before for the same question are not read again.

        Raises
        ------
        ModelError : the model's files are missing or damaged.
        """
        keys = [_key(question, item) for item in inputs]
        with self._lock:
            known = {key: self._known[key] for key in keys if key in self._known}
        new = {key: item for key, item in zip(keys, inputs, strict=True) if key not in known}
        known.update(zip(new, self._read(question, list(new.values())), strict=True))
        with self._lock:
            for key in keys:
                self._remember(key, known[key])
        return [known[key] for key in keys]

    def _remember(self, key: bytes, reading: Reading) -> None:
        if key not in self._known:
            self._size += self._weight(reading)
        self._known[key] = reading
        self._known.move_to_end(key)
        while self._size > self._remembered:
            _, oldest = self._known.popitem(last=False)
            self._size -= self._weight(oldest)

    def _weight(self, reading: Reading) -> int:
        return 1 + len(reading.keep) // self.window

    def _read(self, question: str, inputs: Sequence[ReaderInput]) -> list[Reading]:
        if not inputs:
            return []
        tokenizer = self.tokenizer.rust
        asked = tokenizer.encode(without_surrogates(question), add_special_tokens=False).ids[: self.max_question_tokens]
        prefixes = tokenizer.encode_batch(
            [without_surrogates(item.prefix) for item in inputs], add_special_tokens=False
        )
        texts = tokenizer.encode_batch([without_surrogates(item.text) for item in inputs], add_special_tokens=False)
        parts = [
            self._windows(asked, prefix.ids[: self.max_prefix_tokens], text.ids)
            for prefix, text in zip(prefixes, texts, strict=True)
        ]
        outputs = iter(self._run_all([window for part in parts for window in part], 2 + len(asked)))
        return [
            _merged([(window, next(outputs)) for window in part], np.asarray(text.offsets, np.int64).reshape(-1, 2))
            for part, text in zip(parts, texts, strict=True)
        ]

    def _windows(self, asked: list[int], prefix: list[int], text: list[int]) -> list[_Window]:
        head = [CLS, *asked, SEP, *prefix]
        return [
            _Window(np.array([*head, *text[first:last], SEP], np.int64), first, last, len(head))
            for first, last in windows(len(text), self.window - len(head) - 1, self.overlap)
        ]

    def _run_all(self, read: Sequence[_Window], segment: int) -> list[_Output]:
        if len(read) == 1 or self.threads == 1:
            return [self._run(window, segment) for window in read]
        _ = self._session  # opened before the threads ask for it
        longest_first = sorted(range(len(read)), key=lambda index: -len(read[index].ids))
        with ThreadPoolExecutor(self.threads) as pool:  # a new one costs 0.1 ms, and nothing is left to wait for
            done = pool.map(lambda index: self._run(read[index], segment), longest_first)
            found = dict(zip(longest_first, done, strict=True))
        return [found[index] for index in range(len(read))]

    def _run(self, window: _Window, segment: int) -> _Output:
        """Read one window; its second segment (headings and text) starts at token ``segment``."""
        tokens = window.ids[None, :]  # (1, N)
        types = np.ones(tokens.shape, np.int64)
        types[0, :segment] = 0
        feed = {
            "input_ids": tokens,
            "position_ids": np.arange(tokens.shape[1], dtype=np.int64)[None, :],
            "token_type_ids": types,
            "attention_mask": np.ones(tokens.shape, np.int32),
        }
        of_window, of_tokens = self._session.run(["window_logits", "token_logits"], feed)
        return of_window[0], of_tokens[0]


def _merged(read: Sequence[tuple[_Window, _Output]], offsets: Ints) -> Reading:
    """One reading of the windows of one passage."""
    relevance, answerable = np.max([of_window for _, (of_window, _) in read], axis=0).tolist()
    tokens = np.empty((len(offsets), 3), np.float32)
    own = seams([(window.first, window.last) for window, _ in read])
    for (window, (_, of_tokens)), (first, last) in zip(read, own, strict=True):
        shift = window.text_at - window.first
        tokens[first:last] = of_tokens[first + shift : last + shift]
        tokens[first:last, 1:] -= of_tokens[0, 1:]  # above no answer, so that windows can be compared
    keep: Floats = np.float32(1) / (1 + np.exp(-np.clip(tokens[:, 0], -80, 80)))  # beyond that, exp would overflow
    return Reading(relevance, answerable, offsets, keep, tokens[:, 1].copy(), tokens[:, 2].copy())


def _key(question: str, item: ReaderInput) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    for part in (question, item.prefix, item.text):
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.digest()


class _Loading:
    """One of several threads loads what is missing, the others wait."""

    lock = Lock()


_loading = _Loading()
_MODELS: WeakSet[ReaderModel] = WeakSet()


def _renew_locks() -> None:
    """In a forked process: another thread of the parent may have held them, and is not here to let go."""
    _loading.lock = Lock()
    for model in _MODELS:
        model._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
