"""Windows that cover a text, the weights of their seams, and pooling against a naive oracle."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.token_states import (
    TokenModel,
    Tokens,
    pooled,
    seam_weights,
    weighted_states,
    windows_of,
)
from carrel.errors import InputError
from tests.embeddings.token_models import WindowedWords


@given(length=st.integers(0, 400), room=st.integers(1, 60), data=st.data())
def test_windows_cover_every_token_with_the_overlap_asked_for(length, room, data) -> None:
    overlap = data.draw(st.integers(0, room - 1))
    windows = windows_of(length, room, overlap)
    covered = np.zeros(length, int)
    for window in windows:
        assert 0 <= window.start < window.stop <= length and window.stop - window.start == min(room, length)
        covered[window] += 1
    assert (covered > 0).all()
    for one, other in pairwise(windows):
        assert one.stop - other.start >= overlap and one.start < other.start


@pytest.mark.parametrize("overlap", [-1, 10, 11])
def test_an_overlap_that_leaves_no_step_is_refused(overlap) -> None:
    with pytest.raises(InputError, match="overlap must be"):
        windows_of(30, 10, overlap)


@given(length=st.integers(1, 80), overlap=st.integers(0, 60), first=st.booleans(), last=st.booleans())
def test_weights_are_above_nothing_and_whole_at_the_ends_of_the_text(length, overlap, first, last) -> None:
    weights = seam_weights(length, overlap, first, last)
    assert weights.shape == (length,) and (weights > 0).all() and (weights <= 1).all()
    if first and last:
        assert (weights == 1).all()


def naive(model: WindowedWords, ids: np.ndarray, overlap: int, room: int) -> np.ndarray:
    """(tokens, dimension): the weighted mean of each token's states, one at a time."""
    windows = windows_of(len(ids), room, overlap)
    out = np.zeros((len(ids), model.dimension))
    total = np.zeros(len(ids))
    for index, window in enumerate(windows):
        states = model.states(ids[window])
        weights = seam_weights(len(states), overlap, index == 0, index == len(windows) - 1)
        for offset in range(len(states)):
            out[window.start + offset] += weights[offset] * states[offset]
            total[window.start + offset] += weights[offset]
    return out / total[:, None]


@given(length=st.integers(1, 70), data=st.data())
def test_pooling_is_the_mean_of_the_merged_states(length, data) -> None:
    model = WindowedWords()
    room = data.draw(st.integers(2, model.window - model.special_tokens))
    overlap = data.draw(st.integers(0, room - 1))
    ids = np.array(data.draw(st.lists(st.integers(0, 9), min_size=length, max_size=length)), np.int64)
    tokens = Tokens(ids, np.arange(length), np.arange(length) + 1)
    cuts = st.tuples(st.integers(0, length), st.integers(0, length))
    pieces = [slice(*sorted(cut)) for cut in data.draw(st.lists(cuts, max_size=6))]
    found = pooled(model, tokens, pieces, overlap=overlap, room=room, threads=data.draw(st.sampled_from([1, 2])))
    merged = naive(model, ids, overlap, room)
    assert found.shape == (len(pieces), model.dimension) and found.dtype == np.float32
    for vector, piece in zip(found, pieces, strict=True):
        start = piece.start if piece.stop > piece.start else max(0, piece.start - 1)
        expected = merged[start : max(piece.stop, start + 1)].mean(axis=0)
        assert np.allclose(vector, expected, atol=1e-5)


def test_what_the_windows_give_a_token_sums_to_its_state() -> None:
    model = WindowedWords()
    ids = np.arange(37)
    total = np.zeros((37, model.dimension))
    for window, states in weighted_states(model, ids, overlap=5):
        total[window] += states
    assert np.allclose(total, naive(model, ids, 5, 10), atol=1e-5)


def test_windows_without_a_wanted_token_are_not_read() -> None:
    model = WindowedWords()
    tokens = Tokens(np.arange(1000), np.arange(1000), np.arange(1000) + 1)
    pooled(model, tokens, [slice(500, 504)], overlap=2)
    assert 1 <= len(model.passes) <= 2


def test_a_text_without_tokens_has_nothing_to_pool() -> None:
    with pytest.raises(InputError, match="without tokens"):
        pooled(WindowedWords(), WindowedWords().tokenize(" \n"), [slice(0, 1)], overlap=0)


def test_the_shipped_embedder_shows_its_token_states() -> None:
    model = MiniLM()
    assert isinstance(model, TokenModel)
    text = "The pier was built in 1894. 渡轮 🚢 leaves " + "x" * 300
    tokens = model.tokenize(text)
    assert (tokens.starts[:-1] <= tokens.starts[1:]).all() and (tokens.starts < tokens.ends).all()
    assert tokens.ends[-1] == len(text)
    states = model.states(tokens.ids)
    assert states.shape == (len(tokens), 384) and states.dtype == np.float32
    with pytest.raises(InputError, match="512"):
        model.states(np.full(511, 1000))
    assert model.states(np.empty(0, np.int64)).shape == (0, 384)
    assert len(model.tokenize(" ")) == 0


def test_token_offsets_are_those_of_the_tokenizer() -> None:
    model = MiniLM()
    text = "Naïve café, e-mail: a.b@c.de — 3.14 and 東京. אבג"
    tokens = model.tokenize(text)
    assert list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)) == model.tokenizer.offsets(text)
