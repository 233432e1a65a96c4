"""The shipped embedder over windows longer than it was trained for, without training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import Vectors, digest, unit
from carrel.embeddings.minilm import CLS, SEP, MiniLM
from carrel.embeddings.onnx_edit import constants, with_inputs
from carrel.embeddings.token_states import Ids, weighted_states, windows_of
from carrel.errors import InputError, ModelError
from carrel.sessions import open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Method = Literal["interpolated", "grouped", "recurrent", "parallel"]
_LAYERS, _HIDDEN = 6, 384
_TABLE = "position_embeddings"
_POSITIONS = f"{_TABLE}.out"  # the rows of the table: made an input
_DROPPED = ("position_ids", f"{_TABLE}.picked", f"{_TABLE}.scales", f"{_TABLE}.float", _POSITIONS)
_QUERIES = tuple(f"encoder.layer.{layer}.attention.{part}" for layer in range(_LAYERS) for part in ("scale", "bias"))
_SAME = 0.02  # how far apart, in cosine, windows are that still count as one
_ATTENDED = 4096 * 4096  # pairs of tokens that are attended to at once, in all threads: 0.8 GB in twelve heads


class ExtendedMiniLM(MiniLM):
    """all-MiniLM-L6-v2 with a window of thousands of tokens, from positions that it was trained for.

    A pass of 512 tokens or less is that of MiniLM, number for number, unless a temperature is given. All methods but
    "parallel" read a long text in one pass, in time and memory that grow with the square of its length (4,096 tokens:
    2 s, 0.8 GB), and what is longer than the window in several, which are averaged.

    Reference: Zhu et al., "LongEmbed", arXiv 2404.12096; the temperature: Zhou et al., "Length-Induced Embedding
    Collapse in PLM-based Models", arXiv 2410.24200 (TempScale).

    Parameters
    ----------
    window : the most tokens whose states are asked for at once.
    method : "parallel": the text is read in passes of the trained length that do not see each other and overlap by
        half; a text of any length has one vector, in which they count by their ``distinctness``. The others say what
        stands at the places past the trained ones. "interpolated": positions are squeezed between the trained ones,
        and what lies between two of them is their weighted mean; "grouped": neighbours share a position;
        "recurrent": they begin again.
    temperature : of attention, in every pass and for questions, too: below 1 a token attends to fewer others, which
        keeps long texts apart. "length": 1 up to 512 tokens, then log 512 / log n. None: as trained, 1.
    trained : how many positions, from the first on, are used for long texts; MiniLM has 512, and saw 128 of them in
        its training on sentences.
    model : the embedder whose files and threads are used; the shipped one by default.
    """

    name: ClassVar[str] = "all-MiniLM-L6-v2 extended"
    citation: ClassVar[str] = "Zhu et al., LongEmbed, arXiv 2404.12096"

    def __init__(
        self,
        window: int = 4096,
        method: Method = "parallel",
        temperature: float | Literal["length"] | None = None,
        model: MiniLM | None = None,
        *,
        trained: int = 128,
    ) -> None:
        own = model or MiniLM()
        super().__init__(own.folder, own.threads)
        self._plain = own.fingerprint
        self.own_window = own.window
        if method not in get_args(Method):
            known = ", ".join(get_args(Method))
            raise InputError(f"there is no method {method!r} to extend a window. There are: {known}")
        if window < self.own_window:
            raise InputError(f"the window of {own.name} is {self.own_window} without extension; {window} is less")
        if not self.special_tokens < trained <= self.own_window:
            raise InputError(f"trained is a number of positions from 3 to {self.own_window}, not {trained}")
        if temperature not in (None, "length") and not (isinstance(temperature, (int, float)) and temperature > 0):
            raise InputError(f"a temperature is above 0, or 'length', or None; not {temperature!r}")
        self.window, self.method, self.temperature, self.trained = window, method, temperature, trained
        attended = trained if method == "parallel" else window
        self.threads = max(1, min(self.threads, _ATTENDED // attended**2))

    @cached_property
    def fingerprint(self) -> str:
        return digest(
            "extended/2", self._plain, str(self.window), self.method, repr(self.temperature), str(self.trained)
        )

    @property
    def query_fingerprint(self) -> str:
        """That of MiniLM where short questions have its vectors."""
        return self._plain if self.temperature is None else self.fingerprint

    @cached_property
    def _model(self) -> bytes:
        path = self.folder / "model.onnx"
        try:
            return path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read the embedder in {self.folder}: {error!r}. Reinstall carrel.") from error

    @cached_property
    def _session(self) -> InferenceSession:
        """The shipped graph with the rows of its positions, and what scales its queries, as inputs."""
        added: dict[str, tuple[int | str, ...]] = {_POSITIONS: ("batch", "tokens", _HIDDEN)}
        added |= {name: (3 * _HIDDEN,) for name in _QUERIES}
        changed = with_inputs(self._model, added, _DROPPED)
        return open_session(self.folder / "model.onnx", "the extended embedder", changed)

    @cached_property
    def _positions(self) -> NDArray[np.float32]:
        """(512, 384): what the model adds to the token at each place."""
        found = constants(self._model, (f"{_TABLE}.int8", f"{_TABLE}.scale"))
        rows: NDArray[np.float32] = found[f"{_TABLE}.int8"].astype(np.float32) * found[f"{_TABLE}.scale"]
        return rows

    @cached_property
    def _queries(self) -> Mapping[str, NDArray[Any]]:
        """The scales and biases of the fused query, key and value weights, (1152,) each."""
        return constants(self._model, _QUERIES)

    def states(self, ids: Ids) -> Vectors:
        """(tokens, 384): the last layer's states of one pass; InputError where they do not fit the window."""
        if len(ids) <= self.own_window - self.special_tokens or self.method != "parallel":
            return super().states(ids)
        if len(ids) > self.window - self.special_tokens:
            raise InputError(f"{len(ids)} tokens do not fit the window of {self.name} ({self.window}, two its own)")
        found = np.zeros((len(ids), self.dimension), np.float32)  # (T, D)
        for part, states in weighted_states(self, ids, overlap=self._parallel // 2, room=self._parallel):
            found[part] += states
        return found

    def _embed(self, ids: Ids) -> Vectors:
        extended = self.method == "parallel" and self.window > self.own_window
        return self._run(ids) if extended else super()._embed(ids)

    def _run(self, ids: Ids) -> Vectors:
        if len(ids) <= self.own_window - self.special_tokens or self.method != "parallel":
            return super()._run(ids)
        parts = windows_of(len(ids), self._parallel, self._parallel // 2)
        vectors = np.stack([super(ExtendedMiniLM, self)._run(ids[part]) for part in parts])  # (windows, D)
        return unit(distinctness(vectors) @ vectors)

    @property
    def _parallel(self) -> int:
        """The tokens of one of the parallel windows."""
        return self.trained - self.special_tokens

    def _feed(self, ids: Ids) -> dict[str, NDArray[Any]]:  # type: ignore[override]  # settings matter here
        tokens = np.concatenate([[CLS], ids, [SEP]]).astype(np.int64)  # (T,)
        feed: dict[str, NDArray[Any]] = {
            "input_ids": tokens[None],
            "attention_mask": np.ones((1, len(tokens)), np.int32),
            _POSITIONS: self._rows(len(tokens))[None],
        }
        temperature = self._temperature(len(tokens))
        if temperature != 1:  # a query divided by the temperature is attention divided by it
            share = np.ones(3 * _HIDDEN, np.float32)
            share[:_HIDDEN] = 1 / temperature
            feed |= {name: value * share for name, value in self._queries.items()}
        return feed

    def _rows(self, length: int) -> NDArray[np.float32]:
        """(T, 384): the rows of the position table for a pass of this length."""
        if length <= self.own_window or self.method == "parallel":
            return self._positions[:length]
        return rows_at(self._positions, PLACES[self.method](length, self.trained))

    def _temperature(self, length: int) -> float:
        if self.temperature == "length":
            return math.log(self.own_window) / math.log(max(length, self.own_window))
        return 1.0 if self.temperature is None else float(self.temperature)


def distinctness(vectors: Vectors) -> NDArray[np.float32]:
    """(windows,): how much each window counts in the vector of the whole, from their unit vectors (windows, D).

    A window counts less the more others say the same, and more the further it is from what the text is about on the
    whole: so one fact among much alike is not averaged away. All count alike where all are alike.
    """
    alike = np.exp((vectors @ vectors.T - 1) / _SAME).sum(axis=1)  # (windows,): 1 where no other resembles it
    theme = unit((vectors / alike[:, None]).sum(axis=0))
    apart = np.maximum(1 - vectors @ theme, 1e-3)
    weights: NDArray[np.float32] = np.sqrt(apart) / alike
    return weights


def interpolated_positions(length: int, trained: int) -> NDArray[np.float64]:
    """(length,): places from 0 to trained - 1, evenly apart."""
    return np.linspace(0, trained - 1, length)


def grouped_positions(length: int, trained: int) -> NDArray[np.float64]:
    """(length,): each place as often as it takes, neighbours together."""
    return (np.arange(length) // math.ceil(length / trained)).astype(np.float64)


def recurrent_positions(length: int, trained: int) -> NDArray[np.float64]:
    """(length,): all places in turn, over and over."""
    return (np.arange(length) % trained).astype(np.float64)


PLACES: dict[str, Callable[[int, int], NDArray[np.float64]]] = {
    "interpolated": interpolated_positions,
    "grouped": grouped_positions,
    "recurrent": recurrent_positions,
}


def rows_at(table: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float32]:
    """(places, D) rows of a table (positions, D); between two of them, their weighted mean."""
    low = np.minimum(places.astype(np.int64), len(table) - 1)
    share = (places - low).astype(np.float32)[:, None]
    if not share.any():
        return table[low]
    high = np.minimum(low + 1, len(table) - 1)
    mixed: NDArray[np.float32] = table[low] * (1 - share) + table[high] * share
    return mixed
