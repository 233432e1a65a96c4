"""The contract of models that show the state of every token, and reading texts longer than their window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import Vectors
from carrel.errors import InputError
from carrel.tokens import FileTokenizer, Tokenizer

Ids = NDArray[np.int64]
_NONE: Ids = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text: their ids and half-open character offsets, each (tokens,), in order."""

    ids: Ids
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def between(self, start: int, end: int) -> slice:
        """The tokens that begin in ``[start, end)`` of the text: spans that tile it share its tokens out."""
        low, high = np.searchsorted(self.starts, (start, end))
        return slice(int(low), int(high))


def tokens_of(tokenizer: FileTokenizer, text: str) -> Tokens:
    """The tokens of a text as a ``tokenizer.json`` cuts it; a run of letters too long for one word comes in pieces."""
    rows = list(tokenizer.tokens(text))
    ids, starts, ends = (np.array(column, np.int64) for column in zip(*rows, strict=True)) if rows else [_NONE] * 3
    return Tokens(ids, starts, ends)


@runtime_checkable
class TokenModel(Protocol):
    """An encoder whose token states can be pooled at will.

    ``window`` is the most tokens of one pass, special tokens included; ``special_tokens`` how many a pass adds.
    """

    dimension: int
    window: int
    special_tokens: int

    @property
    def name(self) -> str:
        """How reports call it."""

    @property
    def languages(self) -> frozenset[str]:
        """What it was made for; empty: any."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the states would."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Counts the window."""

    def tokenize(self, text: str) -> Tokens:
        """The tokens of a text of any length, special tokens left out."""

    def states(self, ids: Ids) -> Vectors:
        """(tokens, dimension), float32, of one pass; raises InputError past the window."""

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        """(questions, dimension), unit length."""


def windows_of(length: int, room: int, overlap: int) -> list[slice]:
    """Windows of at most ``room`` tokens that cover ``length`` of them; neighbours share ``overlap`` or more.

    The last window is moved back so that it is full: no token is read with less around it than there could be.
    """
    if not 0 <= overlap < room:
        raise InputError(f"overlap must be 0 or more and below the {room} tokens of a pass, not {overlap}")
    if length <= room:
        return [slice(0, length)] if length else []
    starts = [*range(0, length - room, room - overlap), length - room]
    return [slice(start, start + room) for start in starts]


def pooled(
    model: TokenModel,
    tokens: Tokens,
    pieces: Sequence[slice],
    *,
    overlap: int,
    room: int | None = None,
    threads: int = 1,
) -> Vectors:
    """(pieces, dimension): the mean state of the tokens of each piece, each token read in its surroundings.

    A text longer than ``room``, by default what the window holds, is read in overlapping windows, and states of the
    overlap are averaged by ``seam_weights``. Windows that hold nothing of a piece are not read, and states are summed
    as they come, so memory does not grow with the text. A piece without tokens has the state of the token before it,
    or of the first.

    Raises
    ------
    InputError : the text has no tokens at all.
    """
    if not len(tokens):
        raise InputError("a text without tokens has no states to pool")
    pieces = [_not_empty(piece, len(tokens)) for piece in pieces]
    starts, stops = (np.array([getattr(piece, end) for piece in pieces], np.int64) for end in ("start", "stop"))
    total = np.zeros((len(pieces), model.dimension))
    for window, states in weighted_states(
        model, tokens.ids, overlap=overlap, room=room, threads=threads, wanted=pieces
    ):
        for index in np.flatnonzero((starts < window.stop) & (stops > window.start)):
            low, high = max(starts[index], window.start), min(stops[index], window.stop)
            total[index] += states[low - window.start : high - window.start].sum(axis=0)
    means: Vectors = (total / (stops - starts)[:, None]).astype(np.float32)
    return means


def _not_empty(piece: slice, length: int) -> slice:
    if piece.stop > piece.start:
        return piece
    before = max(0, min(piece.start, length) - 1)
    return slice(before, before + 1)


def weighted_states(
    model: TokenModel,
    ids: Ids,
    *,
    overlap: int,
    room: int | None = None,
    threads: int = 1,
    wanted: Sequence[slice] | None = None,
) -> Iterator[tuple[slice, Vectors]]:
    """Yield each window and its states, weighted so that what all windows give a token sums to its mean state.

    ``wanted`` leaves out the windows that hold no token of these slices.
    """
    windows = windows_of(len(ids), room or model.window - model.special_tokens, overlap)
    weights = [
        seam_weights(window.stop - window.start, overlap, index == 0, index == len(windows) - 1)
        for index, window in enumerate(windows)
    ]
    shares = np.zeros(len(ids), np.float32)
    for window, weight in zip(windows, weights, strict=True):
        shares[window] += weight
    read = [True] * len(windows)
    if wanted is not None:
        touched = np.zeros(len(ids) + 1, np.int64)  # how many slices begin less how many end
        for piece in wanted:
            touched[piece.start] += 1
            touched[piece.stop] -= 1
        inside = np.concatenate([[0], np.cumsum(np.cumsum(touched)[:-1] > 0)])
        read = [bool(inside[window.stop] > inside[window.start]) for window in windows]
    todo = [(window, weight) for window, weight, told in zip(windows, weights, read, strict=True) if told]
    for (window, weight), states in zip(todo, _read(model, ids, [window for window, _ in todo], threads), strict=True):
        yield window, states * (weight / shares[window])[:, None]


def _read(model: TokenModel, ids: Ids, windows: Sequence[slice], threads: int) -> Iterator[Vectors]:
    """The states of the windows, in order, a few at a time."""
    if threads == 1 or len(windows) < 2:
        yield from (model.states(ids[window]) for window in windows)
        return
    model.states(ids[:0])  # what is loaded lazily is loaded once
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Vectors]] = deque()
        for window in windows:  # nobody waits for the slowest of a batch, and few states are held
            ahead.append(pool.submit(model.states, ids[window]))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def seam_weights(length: int, overlap: int, first: bool, last: bool) -> NDArray[np.float32]:
    """(length,): what each state of a window counts beside those of its neighbours.

    It rises from the edge over the overlap, so that a token is taken mostly from the window it stands deeper in,
    and no chunk sees a jump. At the ends of the text nothing fades.
    """
    weights = np.ones(length, np.float32)
    ramp = np.arange(1, overlap + 1, dtype=np.float32) / (overlap + 1)
    ramp = ramp[:length]
    if not first:
        weights[: len(ramp)] = ramp
    if not last:
        weights[length - len(ramp) :] = np.minimum(weights[length - len(ramp) :], ramp[::-1])
    return weights
