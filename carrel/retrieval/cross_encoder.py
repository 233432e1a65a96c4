"""Cross-encoders of sentence-transformers behind the Reranker contract (extra ``rerank``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.errors import InputError, MissingDependencyError, ModelError
from carrel.reader.reading import without_surrogates
from carrel.retrieval.reranking import Reranker
from carrel.types import Passage

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

Floats = NDArray[np.float64]


def sigmoid(logits: Floats) -> Floats:
    """Probabilities of logits, element by element."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -700, 700))), np.float64)


class CrossEncoderReranker(Reranker):
    """Any cross-encoder of sentence-transformers that reads question and passage together and gives one number.

    Probabilities are the activation of ``scale * logit + shift``. The defaults are right for models
    trained with binary cross-entropy; for others, fit scale and shift on questions of your own (Platt,
    1999), or the probabilities order passages and mean nothing else. What is longer than the model's
    window is read up to its end. Models pad their batches, so scores differ in the last digits with
    what else is read; ``batch_size=1`` makes them exact.

    Parameters
    ----------
    model : a folder, the name of a model on the Hugging Face hub, or a loaded ``CrossEncoder``.
    scale, shift : the calibration.
    activation : from calibrated logits (passages,) to probabilities; the sigmoid by default.
    batch_size : passages read at once.
    download : whether a model that is not on this machine may be fetched from the hub; its files are
        otherwise looked for in folders and in the hub's cache only.
    trust_remote_code : whether code that comes with the model may be run. Read it first.
    device : such as "cuda"; the best there is by default.

    Raises
    ------
    MissingDependencyError : sentence-transformers is not installed.
    ModelError : there is no such model on this machine, it cannot be loaded, or it is none for ranking.
    """

    name: ClassVar[str] = "cross_encoder"
    citation: ClassVar[str] = "Nogueira and Cho, Passage Re-ranking with BERT, arXiv 1901.04085"

    def __init__(
        self,
        model: str | Path | CrossEncoder,
        *,
        scale: float = 1.0,
        shift: float = 0.0,
        activation: Callable[[Floats], Floats] = sigmoid,
        batch_size: int = 32,
        download: bool = False,
        trust_remote_code: bool = False,
        device: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is a number of passages, 1 or more, not {batch_size}")
        if not (np.isfinite([scale, shift]).all() and scale > 0):
            raise InputError(f"a calibration has a scale above 0 and a finite shift, not {scale} and {shift}")
        self.scale, self.shift, self.activation, self.batch_size = scale, shift, activation, batch_size
        loaded = _load(model, download, trust_remote_code, device) if isinstance(model, str | Path) else model
        self.model: CrossEncoder = loaded
        outputs = int(self.model.num_labels)
        if outputs != 1:
            raise ModelError(f"{model} gives {outputs} numbers for a passage; a model for ranking gives one")
        self._lock = Lock()  # its tokenizer cannot serve two threads at once

    def scores(self, question: str, passages: Sequence[Passage]) -> Floats:
        if not passages:
            return np.empty(0, np.float64)
        from torch.nn import Identity

        asked = without_surrogates(question)
        pairs = [(asked, without_surrogates(_shown(passage))) for passage in passages]
        with self._lock:
            logits = self.model.predict(
                pairs,
                batch_size=self.batch_size,
                show_progress_bar=False,
                activation_fn=Identity(),
                convert_to_numpy=True,
            )
        calibrated = self.scale * np.asarray(logits, np.float64).reshape(len(passages)) + self.shift
        return np.asarray(self.activation(calibrated), np.float64)


def _shown(passage: Passage) -> str:
    above = passage.prefix or passage.title
    return f"{above}\n{passage.text}" if above else passage.text


def _load(model: str | Path, download: bool, trust_remote_code: bool, device: str | None) -> CrossEncoder:
    try:
        from sentence_transformers import CrossEncoder
    except ImportError as error:
        raise MissingDependencyError("sentence-transformers", "rerank", "CrossEncoderReranker") from error
    try:
        loaded: CrossEncoder = CrossEncoder(
            str(model), device=device, local_files_only=not download, trust_remote_code=trust_remote_code
        )
        loaded.tokenizer.split_special_tokens = True  # "[SEP]" in a text is text
        return loaded
    except Exception as error:  # transformers raises errors of many kinds for what it cannot find or read
        raise ModelError(explained(model, error, download, trust_remote_code)) from error


def explained(model: str | Path, error: Exception, download: bool, trust_remote_code: bool) -> str:
    """Why a model of the hub could not be loaded, and what to do."""
    reason = " ".join(str(error).split())
    if "trust_remote_code" in reason and not trust_remote_code:
        advice = "It comes with code of its own: read it, and if you trust it, pass trust_remote_code=True."
    elif download or Path(model).is_dir():
        advice = "Check its name and its files."
    else:
        advice = "Name a folder that holds it, or pass download=True to fetch it from the Hugging Face hub."
    return f"cannot load {model}: {reason[:300]} {advice}"
