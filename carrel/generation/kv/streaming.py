"""A text without end over a cache that does not grow: what does not fit is forgotten, what was unexpected stays."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, cache_utils

from carrel.asynchronous import stop_if_cancelled
from carrel.errors import InputError
from carrel.generation.kv.application import inverse_frequencies, is_applied
from carrel.generation.kv.caches import GrowingLayer
from carrel.generation.kv.context_model import attends_to_all, check_kind, lock_of
from carrel.generation.kv.entropies import follow, retained
from carrel.generation.kv.oracles import rotate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Retain = Literal["sirllm", "window", "random"]
_Cache: Any = cache_utils.Cache
_PIECES = 4  # a text is read in pieces of the budget's fourth part at most
_SPARE = 32  # of the budget, this part is freed at once while tokens come one by one
_PROBED, _TURNED_WRONGLY = 7, 0.05  # a position, and the share of a key's length by which it may miss it


class BoundedLayer(GrowingLayer):
    """Keys and values of one layer in buffers of ``capacity`` tokens, made when the first come."""

    def __init__(self, capacity: int) -> None:
        nothing = torch.empty(1, 0, 0, 0)
        super().__init__(nothing, nothing)
        self._capacity = capacity

    def update(
        self, key_states: Tensor, value_states: Tensor, cache_kwargs: dict[str, Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        if not self._keys.shape[1]:
            self._keys, self._values = (
                states.new_zeros(*states.shape[:2], self._capacity, states.shape[3])
                for states in (key_states, value_states)
            )
        return super().update(key_states, value_states, cache_kwargs)

    def keep(self, index: Tensor) -> None:
        """Keep the tokens at index, (Hkv or 1, N), in that order; zeros are written over the others."""
        number = index.shape[-1]
        for buffer in (self._keys, self._values):
            places = index.to(buffer.device)[None, :, :, None].expand(1, buffer.shape[1], -1, buffer.shape[3])
            buffer[:, :, :number] = buffer.gather(2, places)
            buffer[:, :, number:] = 0
        self._length = number

    def turn(self, angles: Tensor) -> None:
        """Turn the keys by rotary angles, (Hkv or 1, N, D / 2 or fewer)."""
        self.keys.copy_(rotate(self.keys.float(), angles.to(self._keys.device)[None]))


class BoundedCache(_Cache):  # type: ignore[misc]
    """Layers of a fixed size."""

    def __init__(self, layers: int, capacity: int) -> None:
        super().__init__(layers=[BoundedLayer(capacity) for _ in range(layers)])


class RetentiveStream:
    """What a model keeps of a text without end, in at most ``budget`` keys of a head.

    Tokens are read as they come, and before there would be more keys than ``budget`` some are dropped for good: never
    the first ``sinks`` and the last ones, and of the others those with the lowest scores. A score is how little the
    model expected the token; it fades with every turn, so that in the end the old makes room.

    Positions: a key stays where it was read, with gaps where others have gone, as far as the model's window reaches.
    Then the gaps are closed, and every key is turned by what it moved. So a text may be longer than any window, and
    no key is turned (and rounded) with every token. As long as nothing has been dropped, all is as in the model's own
    cache. (StreamingLLM and the paper close the gaps each time; what is found again is the same.)

    Parameters
    ----------
    model : a decoder of the transformers library with rotary positions, whose layers all attend to all tokens.
    budget : keys of a head, at least ``sinks`` + 2; memory for them is taken at once.
    retain : "sirllm"; "window", a window that slides behind the sinks (StreamingLLM, arXiv 2309.17453); or "random",
        other tokens in every head: the floor.
    sinks : tokens at the start that always stay. recent : the share of the budget that is for the last tokens.
    decay : what all scores are multiplied by at the end of a turn, above 0 and at most 1.
    window : positions that the model knows, at least the budget; its own by default. seed : of "random".

    Raises
    ------
    InputError : an argument is of no use, or the model is not of that kind.

    Reference: Yao et al., "SirLLM: Streaming Infinite Retentive LLM", arXiv 2405.12528.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        budget: int,
        *,
        retain: Retain = "sirllm",
        sinks: int = 4,
        recent: float = 0.25,
        decay: float = 1.0,
        window: int | None = None,
        seed: int = 0,
    ) -> None:
        config = model.config.get_text_config(decoder=True)
        limit = window or getattr(config, "max_position_embeddings", None) or 0
        _check_arguments(budget, retain, sinks, recent, decay, limit)
        _check_model(model)
        self.model, self.budget, self.retain = model, budget, retain
        self.sinks, self.recent, self.decay, self.window = sinks, recent, decay, limit
        self._layers = int(config.num_hidden_layers)
        self._heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        weight: Any = model.get_input_embeddings().weight
        self._device: torch.device = weight.device
        self._frequencies = inverse_frequencies(model).float().to(self._device)
        self._lock = lock_of(model)
        self._draws = torch.Generator().manual_seed(seed)
        self.clear()
        self._check_rotation()

    def clear(self) -> None:
        """Forget everything."""
        rows = self._layers * self._heads if self.retain == "random" else 1
        self._cache = BoundedCache(self._layers, self.budget)
        self._order = torch.zeros(rows, 0, dtype=torch.int64, device=self._device)  # (R, N): tokens before it
        self._positions = self._order  # (R, N), ascending: what the keys are turned to
        self._scores = torch.zeros(rows, 0, device=self._device)  # (R, N)
        self._next = self.tokens = 0
        self._expected: Tensor | None = None  # (1, V)

    @property
    def kept(self) -> int:
        """Keys of a head now."""
        return int(self._order.shape[1])

    @property
    def kept_tokens(self) -> Tensor:
        """Which tokens of the text those are, counted from 0: (R, N), a row for all heads or, random, for each."""
        return self._order.clone()

    @property
    def size_bytes(self) -> int:
        """Memory of the keys and values."""
        return sum(layer.size_bytes for layer in self._bounded)

    def fork(self) -> RetentiveStream:
        """The same once more, for what is not to be remembered."""
        other = copy.copy(self)
        with self._lock:
            other._cache = copy.deepcopy(self._cache)
            other._draws = self._draws.clone_state()
        return other

    def read(self, ids: Sequence[int]) -> Tensor:
        """Read tokens; the logits after the last, (V,) in float32. With no tokens: after those read before."""
        size = self._room(_PIECES)
        with self._lock, torch.inference_mode():
            for start in range(0, len(ids), size):
                stop_if_cancelled()
                self._read(list(ids[start : start + size]))
        if self._expected is None:
            raise InputError("Nothing has been read yet.")
        return self._expected[0].float()

    def end_turn(self) -> None:
        """What was said before this fades."""
        self._scores = self._scores * self.decay

    def _read(self, piece: list[int]) -> None:
        if self.kept + len(piece) > self.budget:
            self._evict(self.budget - max(len(piece), self._room(_SPARE)))
        if self._next + len(piece) > self.window:
            self._close_gaps()
        tokens = torch.tensor([piece], device=self._device)
        places = torch.arange(self._next, self._next + len(piece), device=self._device)
        output = self.model(input_ids=tokens, past_key_values=self._cache, use_cache=True, position_ids=places[None])
        logits = output.logits[0].to(self._device)  # (N, V)
        rows = self._scores.shape[0]
        if self.retain == "random":
            scores = torch.rand(rows, len(piece), generator=self._draws).to(self._device)
        else:
            scores = follow(self._expected, logits, tokens[0])[None]
        order = torch.arange(self.tokens, self.tokens + len(piece), device=self._device).expand(rows, -1)
        self._order = torch.cat([self._order, order], dim=1)
        self._positions = torch.cat([self._positions, places.expand(rows, -1)], dim=1)
        self._scores = torch.cat([self._scores, scores], dim=1)
        self._next += len(piece)
        self.tokens += len(piece)
        self._expected = logits[-1:].clone()

    def _room(self, part: int) -> int:
        """Such a part of the budget, but never a sink's place."""
        return max(1, min(self.budget // part, self.budget - self.sinks - 1))

    def _evict(self, number: int) -> None:
        recent = number if self.retain == "window" else int(self.recent * self.budget)
        index = retained(self._scores, number, sinks=self.sinks, recent=recent)  # (R, number)
        self._scores, self._order = self._scores.gather(1, index), self._order.gather(1, index)
        self._positions = self._positions.gather(1, index)
        for layer, rows in zip(self._bounded, self._by_layer(index), strict=True):
            layer.keep(rows)

    def _close_gaps(self) -> None:
        target = torch.arange(self.kept, device=self._device)
        angles = (target - self._positions)[..., None] * self._frequencies  # (R, N, D / 2)
        for layer, rows in zip(self._bounded, self._by_layer(angles), strict=True):
            layer.turn(rows)
        self._positions = target.expand(self._positions.shape)
        self._next = self.kept

    @property
    def _bounded(self) -> list[BoundedLayer]:
        layers: list[BoundedLayer] = self._cache.layers
        return layers

    def _by_layer(self, rows: Tensor) -> list[Tensor]:
        """(R, ...) as (Hkv or 1, ...) for each layer."""
        return [rows] * self._layers if rows.shape[0] == 1 else list(torch.split(rows, self._heads))

    def _check_rotation(self) -> None:
        """Raise InputError where a key of the first layer, turned, is not what the model makes at the other place."""
        first, second = (self._key_at(position) for position in (0, _PROBED))  # (1, Hkv, 1, D)
        turned = rotate(first, _PROBED * self._frequencies.to(first.device))
        if float((turned - second).norm()) > _TURNED_WRONGLY * float(second.norm()):
            raise InputError(
                f"{type(self.model).__name__} turns its keys in a way that is not known here: they cannot be moved."
            )

    def _key_at(self, position: int) -> Tensor:
        cache: Any = DynamicCache(config=self.model.config)
        words = int(self.model.config.get_text_config(decoder=True).vocab_size)
        ids = torch.tensor([[words // 2]], device=self._device)  # any but padding, whose key may be zeros
        place = torch.full_like(ids, position)
        with self._lock, torch.inference_mode():
            self.model(input_ids=ids, past_key_values=cache, use_cache=True, position_ids=place)
        key: Tensor = cache.layers[0].keys.float()
        return key


def _check_model(model: PreTrainedModel) -> None:
    check_kind(model)
    if is_applied(model):
        raise InputError("This model's attention is sparse now: close the generator that made it so first.")
    if not attends_to_all(model):
        raise InputError(
            f"{type(model).__name__} has layers with a sliding window, or rotary frequencies that change with the"
            " length: what it keeps of an endless text cannot be chosen."
        )


def _check_arguments(budget: int, retain: str, sinks: int, recent: float, decay: float, window: int) -> None:
    if retain not in ("sirllm", "window", "random"):
        raise InputError(f"retain is 'sirllm', 'window' or 'random', not {retain!r}.")
    if sinks < 0:
        raise InputError(f"sinks is a number of tokens, 0 or more, not {sinks}.")
    if budget < sinks + 2:
        raise InputError(f"A budget of {budget} keys is too small: {sinks} sinks, a token and its successor take more.")
    if window < budget:
        raise InputError(
            f"The model knows {window:,} positions, fewer than a budget of {budget:,} keys: use a smaller one."
        )
    if not 0 <= recent <= 1:
        raise InputError(f"recent is a share of the budget from 0 to 1, not {recent}.")
    if not 0 < decay <= 1 or math.isnan(decay):
        raise InputError(f"decay is above 0 and at most 1, not {decay}.")
