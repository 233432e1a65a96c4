"""The embedder that ships with Carrel: all-MiniLM-L6-v2 as a fused int8 ONNX graph."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import TextEncoder, Vectors, digest
from carrel.embeddings.token_states import Ids, Tokens, tokens_of
from carrel.errors import InputError, ModelError
from carrel.sessions import open_session
from carrel.tokens import FileTokenizer, model_folder

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CLS, SEP = 101, 102
_FEW_TOKENS = 32  # of all texts together: embedded before threads would have begun


class MiniLM(TextEncoder):
    """all-MiniLM-L6-v2 on the CPU, 384 dimensions, English, without torch.

    Every text runs on its own, in as many threads as the machine has cores: no padding is computed,
    and a vector does not depend on what else was in a batch. Texts past the window of 512 tokens are
    embedded window by window (with half a window of overlap) and averaged, so nothing is cut unseen.

    Reference: Wang et al., "MiniLM: Deep Self-Attention Distillation", arXiv 2002.10957; Reimers and
    Gurevych, "Sentence-BERT", arXiv 1908.10084.

    Parameters
    ----------
    folder : where ``model.onnx`` and ``tokenizer.json`` are; the shipped ones by default.
    threads : texts embedded at once; the number of cores by default.
    """

    name: ClassVar[str] = "all-MiniLM-L6-v2"
    citation: ClassVar[str] = (
        "Wang et al., MiniLM, arXiv 2002.10957; Reimers and Gurevych, Sentence-BERT, arXiv 1908.10084"
    )
    languages: frozenset[str] = frozenset({"English"})

    def __init__(self, folder: Path | None = None, threads: int | None = None) -> None:
        self.folder = folder or model_folder("minilm")
        self.threads = threads or available_cores()
        self.dimension, self.window, self.max_chunk_tokens = 384, 512, 256
        self.special_tokens = 2

    @cached_property
    def fingerprint(self) -> str:
        """Made of the recorded hashes of the model's files; ``carrel doctor`` checks the files against them."""
        try:
            known = json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))["files_sha256"]
            size_bytes = (self.folder / "model.onnx").stat().st_size
            return digest("minilm/2", known["model.onnx"], known["tokenizer.json"], str(size_bytes))
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"cannot read the embedder in {self.folder}: {error!r}. Reinstall carrel.") from error

    @cached_property
    def tokenizer(self) -> FileTokenizer:
        return FileTokenizer(self.folder / "tokenizer.json", name=self.name)

    @cached_property
    def _session(self) -> InferenceSession:
        return open_session(self.folder / "model.onnx", "the embedder")

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """(texts, 384), unit length; an empty text has the vector of an empty input."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        ids = [np.asarray(row, np.int64) for row in self.tokenizer.ids_many(list(texts))]
        if len(ids) == 1:
            return self._embed(ids[0])[None, :]
        vectors = np.empty((len(ids), self.dimension), np.float32)
        _ = self._session  # loaded once, before the threads ask for it
        if sum(map(len, ids)) <= _FEW_TOKENS:
            return np.stack([self._embed(row) for row in ids])
        longest_first = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        with ThreadPoolExecutor(self.threads) as pool:
            for index, vector in zip(
                longest_first, pool.map(lambda i: self._embed(ids[i]), longest_first), strict=True
            ):
                vectors[index] = vector
        return vectors

    def _embed(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        room = self.window - 2
        if len(ids) <= room:
            return self._run(ids)
        windows = [ids[start : start + room] for start in range(0, len(ids) - room // 2, room // 2)]
        total = np.sum([self._run(window) * len(window) for window in windows], axis=0)
        return np.asarray(total / np.linalg.norm(total), np.float32)

    def tokenize(self, text: str) -> Tokens:
        """The tokens of a text of any length, with their offsets; no special tokens."""
        return tokens_of(self.tokenizer, text)

    def states(self, ids: Ids) -> Vectors:
        """(tokens, 384): the last layer's states of one pass over at most 510 tokens."""
        if len(ids) > self.window - self.special_tokens:
            raise InputError(
                f"{len(ids)} tokens do not fit the window of {self.name} ({self.window}, two of them its own)"
            )
        found: Vectors = self._session.run(["token_embeddings"], self._feed(ids))[0][0, 1:-1]
        return found

    def _run(self, ids: Ids) -> Vectors:
        output: Vectors = self._session.run(["sentence_embedding"], self._feed(ids))[0][0]
        return output

    @staticmethod
    def _feed(ids: Ids) -> dict[str, NDArray[np.generic]]:
        """What the graph takes for one pass over these tokens."""
        tokens = np.empty((1, len(ids) + 2), np.int64)  # (1, T)
        tokens[0, 0], tokens[0, 1:-1], tokens[0, -1] = CLS, ids, SEP
        return {
            "input_ids": tokens,
            "position_ids": np.arange(tokens.shape[1], dtype=np.int64)[None, :],
            "attention_mask": np.ones(tokens.shape, np.int32),
        }


def available_cores() -> int:
    """Cores this process may use (a container may have fewer than the machine)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
