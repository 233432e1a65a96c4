"""Checkpoints of Provence and OpenProvence behind the Pruner contract (extra ``rerank``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.compression.base import Pruner
from carrel.errors import InputError, MissingDependencyError, ModelError
from carrel.reader.reading import Reading, seams, without_surrogates
from carrel.retrieval.cross_encoder import explained
from carrel.types import Passage, Span

Floats = NDArray[np.float32]
_MOST_QUESTION_TOKENS = 128
_LONGEST_WINDOW = 4096
_LEAST_WINDOW = 256


class ProvencePruner(Pruner):
    """Keeps a sentence when the mean keep-probability of its tokens passes the threshold, as its model was trained.

    The model is asked for the probability of every token, and Carrel cuts into sentences by itself: so
    offsets are kept, and neither the model's own splitter nor what that needs (nltk) is used. Passages
    longer than the model's window are read in windows that overlap by a quarter.

    Known to be of this kind: ``hotchpotch/open-provence-reranker-*`` (MIT; they have code of their own)
    and ``naver/provence-reranker-debertav3-v1`` (CC BY-NC: not for commercial use).

    Reference: Chirkova et al., "Provence: efficient and robust context pruning for retrieval-augmented
    generation", arXiv 2501.16214.

    Parameters
    ----------
    model : a folder, the name of a model on the Hugging Face hub, or a loaded model.
    tokenizer : of a loaded model that does not have one as ``tokenizer``.
    threshold : sentences scored below it are left out by default; 0.1 is the authors' choice.
    trust_remote_code : whether the code that comes with the model may be run. Read it first; checkpoints
        of this kind do not load without.
    download : whether a model that is not on this machine may be fetched from the hub.
    window : tokens of one window, question included; the model's own by default, 4,096 at most.
    batch_size : windows read at once.
    device : such as "cuda"; the CPU by default.

    Raises
    ------
    MissingDependencyError : transformers or torch is not installed.
    ModelError : there is no such model on this machine, it cannot be loaded, or it does not score tokens.
    """

    name: ClassVar[str] = "provence"
    citation: ClassVar[str] = "Chirkova et al., Provence, arXiv 2501.16214"

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any = None,
        threshold: float = 0.1,
        trust_remote_code: bool = False,
        download: bool = False,
        window: int | None = None,
        batch_size: int = 8,
        device: str | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise InputError(f"a pruning threshold is between 0 and 1, not {threshold}")
        if batch_size < 1:
            raise InputError(f"batch_size is a number of windows, 1 or more, not {batch_size}")
        if window is not None and window < _LEAST_WINDOW:
            raise InputError(f"a window has {_LEAST_WINDOW} tokens or more, not {window}")
        if isinstance(model, str | Path):
            self.model, loaded = _load(model, trust_remote_code, download)
            tokenizer = tokenizer or loaded
        else:
            self.model, tokenizer = model, tokenizer or getattr(model, "tokenizer", None)
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                "pruning needs a fast tokenizer, which tells where its tokens are. Pass one as tokenizer=."
            )
        self.tokenizer, self.threshold, self.batch_size = tokenizer, threshold, batch_size
        if device is not None:
            self.model.to(device)
        self.model.eval()
        self.window = window or _window(self.model, tokenizer)
        self._lock = Lock()  # a tokenizer cannot serve two threads at once

    def scores(
        self, question: str, passages: Sequence[Passage], sentences: Sequence[Sequence[Span]]
    ) -> list[list[float]]:
        if not passages:
            return []
        out = []
        with self._lock:
            readings = self._read(question, passages)
        for passage, (reading, above), spans in zip(passages, readings, sentences, strict=True):
            shift = above - passage.start  # from the document to what was read
            out.append(reading.keep_scores([Span(span.start + shift, span.end + shift) for span in spans]))
        return out

    def _read(self, question: str, passages: Sequence[Passage]) -> list[tuple[Reading, int]]:
        """The keep-probabilities of what is read of each passage, and where in that its text starts."""
        headings = [passage.prefix or passage.title for passage in passages]
        shown = [
            without_surrogates(f"{heading}\n{passage.text}" if heading else passage.text)
            for heading, passage in zip(headings, passages, strict=True)
        ]
        encoded = self.tokenizer(
            [self._asked(question)] * len(shown),
            shown,
            truncation="only_second",
            max_length=self.window,
            stride=self.window // 4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            split_special_tokens=True,  # "[SEP]" in a text is text
        )
        texts = [  # where the text stands in each window
            [place for place, part in enumerate(encoded.sequence_ids(window)) if part == 1]
            for window in range(len(encoded["input_ids"]))
        ]
        kept = self._probabilities(encoded)
        offsets = [
            np.array(o, np.int64).reshape(-1, 2)[t] for o, t in zip(encoded["offset_mapping"], texts, strict=True)
        ]
        keep = [row[places] for row, places in zip(kept, texts, strict=True)]
        of = encoded["overflow_to_sample_mapping"]
        out = []
        for number, (heading, text) in enumerate(zip(headings, shown, strict=True)):
            own = [window for window, sample in enumerate(of) if sample == number]
            read = _joined(text, [offsets[w] for w in own], [keep[w] for w in own], self.window // 4)
            out.append((read, len(heading) + 1 if heading else 0))
        return out

    def _asked(self, question: str) -> str:
        """The question, cut where it would take the window for itself."""
        asked = without_surrogates(question)
        found = self.tokenizer(asked, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return asked if len(found) <= _MOST_QUESTION_TOKENS else asked[: found[_MOST_QUESTION_TOKENS - 1][1]]

    def _probabilities(self, encoded: Any) -> list[Floats]:
        """(tokens,) keep-probability of every token of every window, the longest windows first."""
        import torch

        names = [name for name in self.tokenizer.model_input_names if name in encoded]
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(lengths)), key=lambda window: -lengths[window])
        out: dict[int, Floats] = {}
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            rows = {name: [encoded[name][window] for window in batch] for name in names}
            padded = self.tokenizer.pad(rows, return_tensors="pt").to(self.model.device)
            with torch.inference_mode():
                logits = _token_logits(self.model(**padded)).float().cpu()  # (B, T, 2) or (B, T, 1) or (B, T)
            probabilities = (
                logits.softmax(-1)[..., 1] if logits.ndim == 3 and logits.shape[-1] == 2 else logits.sigmoid()
            )
            for row, window in enumerate(batch):
                out[window] = probabilities[row].reshape(-1)[: lengths[window]].numpy()
        return [out[window] for window in range(len(lengths))]


def _joined(text: str, offsets: Sequence[NDArray[np.int64]], keep: Sequence[Floats], overlap: int) -> Reading:
    """One reading of the windows of one text; each but the last ends ``overlap`` tokens after the next begins."""
    firsts = [0]
    for window in offsets[:-1]:
        firsts.append(firsts[-1] + len(window) - overlap)
    covering = [(first, first + len(window)) for first, window in zip(firsts, offsets, strict=True)]
    parts = [slice(a - first, b - first) for (first, _), (a, b) in zip(covering, seams(covering), strict=True)]
    places = np.concatenate([window[part] for window, part in zip(offsets, parts, strict=True)])
    values = np.concatenate([window[part] for window, part in zip(keep, parts, strict=True)])
    for place in places:  # some tokenizers give a token the space before it
        while place[0] + 1 < place[1] and text[place[0]].isspace():
            place[0] += 1
    zeros = np.zeros(len(values), np.float32)
    return Reading(0.0, 0.0, places, values, zeros, zeros)


def _token_logits(output: Any) -> Any:
    for name in ("pruning_logits", "compression_logits"):  # OpenProvence, Provence
        found = getattr(output, name, None)
        if found is not None:
            return found
    raise ModelError("the model scores no tokens: it is none of the Provence kind (no pruning_logits in its output)")


def _window(model: Any, tokenizer: Any) -> int:
    """The tokens that the model reads at once."""
    known = [getattr(model.config, "max_length", None), getattr(model.config, "max_position_embeddings", None)]
    sizes = [size for size in (*known, tokenizer.model_max_length) if isinstance(size, int) and size >= _LEAST_WINDOW]
    return min([*sizes, _LONGEST_WINDOW])


def _load(model: str | Path, trust_remote_code: bool, download: bool) -> tuple[Any, Any]:
    try:
        import torch  # noqa: F401
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingDependencyError("transformers", "rerank", "ProvencePruner") from error
    options = {"local_files_only": not download, "trust_remote_code": trust_remote_code}
    try:
        loaded = AutoModel.from_pretrained(str(model), **options)
        own = getattr(loaded, "tokenizer", None)
        return loaded, own if own is not None else AutoTokenizer.from_pretrained(str(model), **options)
    except Exception as error:  # transformers raises errors of many kinds for what it cannot find or read
        raise ModelError(explained(model, error, download, trust_remote_code)) from error
