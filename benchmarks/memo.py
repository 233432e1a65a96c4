"""A memo of embeddings on disk, for quality runs only: the peers embed slowly and the same chunks come again.

What an encoder returns for a text does not depend on who asked, so a text embedded for the whole collection need not
be embedded again for its single corpus. Timing runs never use this.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024  # texts embedded before they are written
PASSED_THROUGH = {"prompt_name", "prompt", "normalize_embeddings", "task"}
IGNORED = {"batch_size", "show_progress_bar", "convert_to_numpy", "device", "pool"}


class EmbeddingMemo:
    """Vectors by (encoder, its settings, text) in one SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open the file, made when missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows = sqlite3.connect(path, timeout=60)
        self._rows.execute("CREATE TABLE IF NOT EXISTS vector (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        self._rows.execute("PRAGMA synchronous = OFF")
        self.found = self.embedded = 0

    def encode(
        self, settings: object, texts: Sequence[str], embed: Callable[[list[str]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Return one vector a text, embedding only the texts that are not in the file."""
        prefix = json.dumps(settings, sort_keys=True).encode()
        keys = [hashlib.sha256(prefix + b"\0" + text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        vectors = {key: vector for key in set(keys) if (vector := self._read(key)) is not None}
        missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}.items())
        self.found += len(texts) - len(missing)
        started = time.perf_counter()
        for first in range(0, len(missing), BLOCK):
            block = missing[first : first + BLOCK]
            for (key, _), vector in zip(block, embed([text for _, text in block]), strict=True):
                vectors[key] = np.asarray(vector, dtype=np.float32)
                self._rows.execute("INSERT OR REPLACE INTO vector VALUES (?, ?)", (key, vectors[key].tobytes()))
            self._rows.commit()
            self.embedded += len(block)
            if len(missing) > BLOCK:
                elapsed = time.perf_counter() - started
                sys.stderr.write(f"  embedded {first + len(block)} of {len(missing)} in {elapsed:.0f} s\n")
        return np.stack([vectors[key] for key in keys]) if keys else np.zeros((0, 0), np.float32)

    def _read(self, key: bytes) -> NDArray[np.float32] | None:
        row = self._rows.execute("SELECT value FROM vector WHERE key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[0], dtype=np.float32)


def memoise_sentence_transformers(memo: EmbeddingMemo) -> None:
    """Make every SentenceTransformer.encode of this process ask the memo first."""
    model_class = import_module("sentence_transformers").SentenceTransformer
    original = model_class.encode
    versions = [version(name) for name in ("sentence-transformers", "transformers", "torch")]

    def encode(self: Any, inputs: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the wrapped signature
        asked = {name: value for name, value in options.items() if value is not None and name not in IGNORED}
        defaults = {"convert_to_tensor": False, "output_value": "sentence_embedding", "precision": "float32"}
        plain = all(asked.pop(name, value) == value for name, value in defaults.items())
        single = isinstance(inputs, str)
        texts = [inputs] if single else list(inputs)
        if args or not plain or set(asked) - PASSED_THROUGH or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"the memo does not know this call of encode: {args} {sorted(options)}")
        settings = ["sentence-transformers", versions, self.max_seq_length, self.default_prompt_name, asked]
        vectors = memo.encode(settings, texts, lambda missing: original(self, missing, **options))
        return vectors[0] if single else vectors

    model_class.encode = encode


def memoise_txtai(memo: EmbeddingMemo) -> None:
    """Make txtai's own Hugging Face encoder ask the memo first."""
    encoder_class = import_module("txtai.vectors.dense.huggingface").HFVectors
    original = encoder_class.encode
    versions = [version(name) for name in ("txtai", "transformers", "torch")]

    def encode(self: Any, data: Any, category: Any = None) -> Any:  # noqa: ANN401 - the wrapped signature
        settings = ["txtai", versions, self.config.get("method"), self.config.get("maxlength"), category]
        return memo.encode(settings, data, lambda missing: original(self, missing, category))

    encoder_class.encode = encode


def memoise(system: str, path: Path) -> EmbeddingMemo | None:
    """Install the memo for a system; Carrel embeds for itself and gets none."""
    if system == "carrel":
        return None
    memo = EmbeddingMemo(path)
    memoise_sentence_transformers(memo)
    if system == "txtai":
        memoise_txtai(memo)
    return memo
