"""Sparse attention in a model of the transformers library, through its attention interface."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from carrel.errors import InputError, MissingDependencyError
from carrel.generation.kv.base import SparseAttention, alike

try:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, causal_mask_function
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
except ModuleNotFoundError as error:
    raise MissingDependencyError("transformers", "torch", "Sparse attention in a model") from error

IMPLEMENTATION = "carrel_sparse"
_REFUSED = ("sliding_window", "softcap", "position_bias", "s_aux", "chunk_size", "output_attentions")
_APPLIED = "_carrel_applied"  # on each attention module: a table of our own would keep a dropped model for good


class Applied:
    """A model whose attention is sparse, until ``remove`` or the end of a ``with`` block.

    A call of the model with another cache than before begins a new sequence by itself; the fixed context stays.
    """

    def __init__(self, model: PreTrainedModel, method: SparseAttention, layers: dict[nn.Module, int]) -> None:
        self.model, self.method = model, method
        self._layers = layers
        self._last = max(layers.values())
        self._cache: weakref.ref[Any] | None = None
        self._newest: Tensor | None = None  # the last layer's newest key, to notice rows that changed places
        self._before: str = model.config._attn_implementation
        self._hook: torch.utils.hooks.RemovableHandle | None = None

    def __enter__(self) -> Applied:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def install(self) -> None:
        """Put the method in place; ``apply`` does it."""
        ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _mask)
        for module in self._layers:
            vars(module)[_APPLIED] = self
        self.model.set_attn_implementation(IMPLEMENTATION)
        if self.model.config._attn_implementation != IMPLEMENTATION:
            self.remove()
            raise InputError(f"{type(self.model).__name__} does not let its attention be replaced.")
        inner = self.model.base_model
        self._hook = inner.register_forward_pre_hook(self._follow, with_kwargs=True)

    def remove(self) -> None:
        """Give the model its own attention back. Does nothing the second time."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if self.model.config._attn_implementation == IMPLEMENTATION:
            self.model.set_attn_implementation(self._before)
        for module in self._layers:
            if vars(module).get(_APPLIED) is self:
                del vars(module)[_APPLIED]
        self.method.restart()
        self._cache = self._newest = None

    def fit(self, cache: Any, length: int | None = None) -> None:
        """Make the first ``length`` tokens of a cache, by default all, the method's fixed context.

        Raises
        ------
        InputError : the cache does not hold its keys as they are (quantised, or of fixed size).
        """
        self._check_count(len(cache.layers))
        whole = cache.get_seq_length()
        if length is not None and not 0 < length <= whole:
            raise InputError(f"The context is 1 to {whole} tokens of the cache, not {length}.")
        for number, layer in enumerate(cache.layers):  # one at a time: a packed layer is unpacked while it is asked
            self.method.fit(number, _whole(getattr(layer, "keys", None), whole, length))
        self._cache = None

    def fit_keys(self, keys: Sequence[Tensor]) -> None:
        """As ``fit``, from the keys of each layer, (B, Hkv, C, D)."""
        self._check_count(len(keys))
        for layer, key in enumerate(keys):
            self.method.fit(layer, key)
        self._cache = None

    def attend(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attention of one layer, (B, H, Q, D)."""
        layer = self._layers[module]
        followed = layer == self._last and self.method.follows_keys
        if followed:
            self._check_order(query, key)
        output = self.method.attend(layer, query, key, value, scaling=scaling)
        if followed:  # only now: a call that failed is made again, with keys that are not its
            self._newest = key[:, :, -1].clone()
        return output

    def _follow(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before each call of the model: a cache other than the last one is a new sequence."""
        cache = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments.get("past_key_values")
        if cache is None or self._cache is None or self._cache() is not cache:
            self.method.restart()
            self._newest = None
            self._cache = None if cache is None else weakref.ref(cache)

    def _check_order(self, query: Tensor, key: Tensor) -> None:
        past, known = key.shape[2] - query.shape[2], self._newest
        same_place = known is not None and self.method.seen(self._last) == past > 0
        if same_place and known is not None and not alike(known, key[:, :, past - 1]):
            raise InputError(
                "The keys in the cache changed between two steps (beam search reorders them). "
                "Sparse attention follows sequences that only grow: use one beam, or a new cache."
            )

    def _check_count(self, layers: int) -> None:
        if layers != len(self._layers):
            raise InputError(f"The context has keys for {layers} layers, the model has {len(self._layers)}.")


def apply(model: PreTrainedModel, method: SparseAttention) -> Applied:
    """Make a model's attention sparse: ``with apply(model, method): model.generate(...)``.

    Decoder-only models whose layers all attend to everything before them: Llama, Mistral and Qwen without a window, and
    those built like them. Works with any cache that hands out all keys (DynamicCache, offloaded, quantised).

    Raises
    ------
    InputError : the model has a method already, or layers with a sliding window, or is no decoder, or its attention
        cannot be replaced. Later, from the model's own calls: padding, a mask other than causal, packed sequences, a
        cache of fixed size, beam search, ``output_attentions``, dropout.
    """
    config = model.config.get_text_config(decoder=True)
    if model.config.is_encoder_decoder:
        raise InputError("Sparse attention is for decoder-only models; this one has an encoder.")
    kinds = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention"})
    if kinds:
        raise InputError(f"Sparse attention needs layers of full attention; this model also has: {', '.join(kinds)}.")
    if getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True):
        raise InputError(
            f"This model attends within a sliding window of {config.sliding_window} tokens. Where no text is that "
            "long, load it with sliding_window=None."
        )
    layers: dict[nn.Module, int] = {}
    for module in model.modules():
        layer: Any = getattr(module, "layer_idx", None)
        if isinstance(layer, int) and hasattr(module, "num_key_value_groups"):
            layers[module] = layer
    if not layers:
        raise InputError(f"{type(model).__name__} has no attention layers of the kind that can be replaced.")
    if is_applied(model):
        raise InputError("This model's attention is sparse already: remove() the method it has first.")
    applied = Applied(model, method, layers)
    applied.install()
    return applied


def is_applied(model: nn.Module) -> bool:
    """Whether a model's attention is sparse now, through ``apply``."""
    return any(_APPLIED in vars(module) for module in model.modules())


def inverse_frequencies(model: PreTrainedModel) -> Tensor:
    """The inverse frequencies of a model's rotary embedding, (D / 2,) or fewer.

    Raises
    ------
    InputError : it has none, or they change with the length of the text.
    """
    for module in model.modules():
        found = getattr(module, "inv_freq", None)
        if isinstance(found, Tensor):
            if getattr(module, "rope_type", "default") in ("dynamic", "longrope"):
                raise InputError("This model's rotary frequencies change with the length: distances cannot be capped.")
            return found
    raise InputError(f"{type(model).__name__} has no rotary embedding: distances cannot be capped.")


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention interface: (B, H, Q, D) and (B, Hkv, S, D) to (B, Q, H, D).

    The order of the arguments is that of kvpress, which wraps every attention there is and passes six by position.
    """
    applied: Applied | None = vars(module).get(_APPLIED)
    if applied is None:
        raise InputError(f"The implementation {IMPLEMENTATION!r} works through apply(model, method) only.")
    refused = [name for name in _REFUSED if options.get(name)]
    if refused or dropout or not options.get("is_causal", getattr(module, "is_causal", True)):
        raise InputError(f"Sparse attention is causal, without dropout and without {', '.join(refused or _REFUSED)}.")
    if attention_mask is not None:
        raise InputError("Sparse attention takes no mask of its own: it is causal over sequences without padding.")
    return applied.attend(module, query, key, value, scaling).transpose(1, 2).contiguous(), None


def _mask(
    *,
    kv_length: int,
    kv_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: Tensor | None = None,
    cache_position: Tensor | None = None,
    q_length: int = 0,
    q_offset: int | Tensor = 0,
    **_: Any,
) -> None:
    """The mask interface: no mask is needed, and what would need one is refused. Called once for each forward."""
    if mask_function is not causal_mask_function:
        raise InputError("Sparse attention is causal over whole sequences: no windows, packed or custom masks.")
    end = int(q_offset) + q_length if cache_position is None else int(cache_position[-1]) + 1
    if kv_length != end or kv_offset:
        raise InputError(
            f"The cache hands out {kv_length} keys for a text of {end} tokens. Use a cache that grows, such as "
            "DynamicCache, without padding."
        )
    if attention_mask is not None and not bool(attention_mask.all()):
        raise InputError("Sparse attention takes sequences without padding: send those of equal length together.")


def _whole(key: Any, length: int, wanted: int | None) -> Tensor:
    if not isinstance(key, Tensor) or key.ndim != 4 or key.shape[2] != length:
        raise InputError("This cache does not hold its keys as they are. Give them to fit_keys, layer by layer.")
    return key[:, :, :wanted]
