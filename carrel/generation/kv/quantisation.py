"""Keys and values in 16, 8 or 4 bits a number: keys are scaled by channel, values by token, both in groups.

Reference: Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", arXiv 2402.02750. Channels of
keys differ much in size and tokens little, so a group of keys is one channel of 32 tokens; a group of values is 32
channels of one token.

8 bits: x ≈ scale * code, code in -127..127. 4 bits: x ≈ scale * (code + zero), code in 0..15, zero a whole number.
Scales are bfloat16, which has the range of float32, so that none overflows or vanishes. A product has at most 20
significant bits: float32 holds it exactly, and every device gives the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from carrel.errors import InputError

_GROUP = 32
_TOKENS, _CHANNELS = 2, 3  # axes of (B, Hkv, S, D)
_ZERO_LIMIT = 2032.0  # whole numbers up to 2048 are exact in float16, and 15 is added
_SMALLEST = 2.0**-126  # of the normal bfloat16 numbers
_FURTHEST = torch.finfo(torch.float32).max / 2  # apart in a group of 4 bits, so that nothing overflows on the way
_NOT_FINITE = "Keys or values are NaN or infinite: the model overflowed. Load it in bfloat16 or float32."
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16)}


@dataclass(frozen=True, eq=False)
class Packed:
    """Keys or values of one layer in few bits.

    Attributes
    ----------
    bits : 16, 8 or 4.
    shape : (B, Hkv, S, D).
    dtype : what ``unpack`` gives back.
    axis : along which a group lies; 2, tokens, for keys, 3, channels, for values.
    group : numbers that share a scale; the last group may be shorter.
    codes : 16 bits: (B, Hkv, S, D), float16, or bfloat16 where that is the dtype or float16 would overflow. 8 bits: the
        same shape, int8. 4 bits: (B, Hkv, ceil(S / 2), D), uint8; the first half of the tokens in the low four bits,
        the second in the high ones.
    scale : bfloat16, the shape with ceil(n / group) in place of n at ``axis``; None for 16 bits.
    zero : float16, shaped as ``scale``; None but for 4 bits.
    """

    bits: int
    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    axis: int
    group: int
    codes: Tensor
    scale: Tensor | None = None
    zero: Tensor | None = None

    def unpack(self) -> Tensor:
        """All numbers, (B, Hkv, S, D), within half a step of what was packed, a step being the scale.

        Where the nearest code would be larger than ``dtype`` can hold, the one below it is taken, and the error may be
        a whole step. 16 bits that need no cast are the stored tensor itself: do not write into it.
        """
        if self.scale is None:
            return self.codes.to(self.dtype)
        whole = self.codes if self.zero is None else _nibbles(self.codes, self.shape[_TOKENS])
        output = torch.empty(self.shape, dtype=self.dtype, device=self.codes.device)
        for start, count, size in _parts(self.shape[self.axis], self.group):
            scale = _of_groups(self.scale, self.axis, start // self.group, count).float()
            zero = None if self.zero is None else _of_groups(self.zero, self.axis, start // self.group, count) * scale
            target, codes = (_grouped(states, self.axis, start, count, size) for states in (output, whole))
            if output.device.type == "cpu":
                _scaled_by_head(codes, scale, zero, target)
            else:
                _scaled(codes, scale, zero, target)
        return output

    @property
    def size_bytes(self) -> int:
        """Memory of the codes, scales and zeros."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, for a file."""
        named = {"codes": self.codes, "scale": self.scale, "zero": self.zero}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @property
    def meta(self) -> dict[str, Any]:
        """What ``restored`` needs besides the tensors; JSON can hold it."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {"bits": self.bits, "shape": list(self.shape), "dtype": dtype, "axis": self.axis, "group": self.group}

    @classmethod
    def restored(cls, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Packed:
        """The inverse of ``meta`` and ``tensors``; InputError where they do not belong together."""
        try:
            bits, axis, group = (int(meta[name]) for name in ("bits", "axis", "group"))
            batch, heads, tokens, dim = (int(size) for size in meta["shape"])
            dtype = _DTYPES[meta["dtype"]]
        except (KeyError, TypeError, ValueError):
            raise InputError(f"No keys or values are packed like this: {dict(meta)}.") from None
        shape = (batch, heads, tokens, dim)
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        if (
            min(shape) < 0
            or axis not in (_TOKENS, _CHANNELS)
            or group < 1
            or found not in _layouts(bits, shape, axis, group)
        ):
            raise InputError(f"Keys or values packed as {dict(meta)} do not have the tensors {found}.")
        return cls(bits, shape, dtype, axis, group, tensors["codes"], tensors.get("scale"), tensors.get("zero"))

    def to(self, device: torch.device | str) -> Packed:
        """The same on a device."""
        scale, zero = (None if tensor is None else tensor.to(device) for tensor in (self.scale, self.zero))
        return replace(self, codes=self.codes.to(device), scale=scale, zero=zero)


def pack_keys(keys: Tensor, bits: int) -> Packed:
    """Keys (B, Hkv, S, D) in 16, 8 or 4 bits, scaled by channel in groups of 32 tokens.

    Raises
    ------
    InputError : other bits or another shape or dtype, NaN or infinite keys, and in 4 bits keys more than 1.7e38 apart.
    """
    return _packed(keys, bits, _TOKENS)


def pack_values(values: Tensor, bits: int) -> Packed:
    """Values (B, Hkv, S, D) in 16, 8 or 4 bits, scaled by token in groups of 32 channels; errors as ``pack_keys``."""
    return _packed(values, bits, _CHANNELS)


def _packed(states: Tensor, bits: int, axis: int) -> Packed:
    states = states.detach()
    if states.ndim != 4 or 0 in (states.shape[0], states.shape[1], states.shape[3]):
        raise InputError(f"Keys and values are (batch, KV heads, tokens, dimension), not {tuple(states.shape)}.")
    if states.dtype not in _DTYPES.values():
        raise InputError(f"Keys and values to pack are {', '.join(_DTYPES)}, not {states.dtype}.")
    shape = (states.shape[0], states.shape[1], states.shape[2], states.shape[3])
    if bits == 16:
        return Packed(bits, shape, states.dtype, axis, _GROUP, _halved(states))
    if bits not in (4, 8):
        raise InputError(f"Keys and values are kept in 16, 8 or 4 bits, not {bits}.")
    groups = list(shape)
    groups[axis] = -(-shape[axis] // _GROUP)
    scale = torch.empty(groups, dtype=torch.bfloat16, device=states.device)
    zero = torch.empty(groups, dtype=torch.float16, device=states.device) if bits == 4 else None
    codes = torch.empty(shape, dtype=torch.uint8 if bits == 4 else torch.int8, device=states.device)
    for start, count, size in _parts(shape[axis], _GROUP):
        numbers, target = (_grouped(tensor, axis, start, count, size) for tensor in (states, codes))
        steps = _of_groups(scale, axis, start // _GROUP, count)
        if zero is None:
            _code_symmetric(numbers, target, steps, axis + 1)
        else:
            _code_asymmetric(numbers, target, steps, _of_groups(zero, axis, start // _GROUP, count), axis + 1)
    if zero is not None:
        codes = _paired(codes)
    return Packed(bits, shape, states.dtype, axis, _GROUP, codes, scale, zero)


def _halved(states: Tensor) -> Tensor:
    """The states in 16 bits: float16 where its range is enough, else bfloat16."""
    largest = float(states.abs().amax()) if states.numel() else 0.0
    if not math.isfinite(largest):
        raise InputError(_NOT_FINITE)
    half = torch.finfo(torch.float16)
    small = states.dtype == torch.float32 and 0 < largest < half.tiny
    dtype = torch.bfloat16 if states.dtype == torch.bfloat16 or small or largest > half.max else torch.float16
    return states.to(dtype).contiguous()


def _code_symmetric(numbers: Tensor, codes: Tensor, scale: Tensor, axis: int) -> None:
    """Write the 8-bit codes and scales of groups, which lie along ``axis``: the scales have one number there.

    The scale is the nearest bfloat16, not the next above: 127 * (1 ± 2^-8) still rounds to 127, the largest number
    always has the code 127, and packing what was unpacked changes nothing.
    """
    low, high = (edge.float() for edge in torch.aminmax(numbers, dim=axis, keepdim=True))
    size = torch.maximum(high, -low)
    _check_finite(size)
    scale.copy_((size / 127.0).clamp_min_(_SMALLEST))
    step = scale.float()
    limit = _most_steps(step, numbers.dtype).clamp_max_(127.0)
    codes.copy_(torch.div(numbers, step).round_().clamp_(-limit, limit))


def _code_asymmetric(numbers: Tensor, codes: Tensor, scale: Tensor, zero: Tensor, axis: int) -> None:
    """Write the 4-bit codes, scales and zeros of groups, shaped as in ``_code_symmetric``.

    The scale is rounded up, so that 15 steps reach from the smallest number to the largest.
    """
    low, high = (edge.float() for edge in torch.aminmax(numbers, dim=axis, keepdim=True))
    spread = high - low
    if not bool((spread <= _FURTHEST).all()):
        _check_finite(low)
        _check_finite(high)
        raise InputError(f"Keys or values of a group are more than {_FURTHEST:.2g} apart: 4 bits cannot hold them.")
    size = torch.maximum(high, -low)
    scale.copy_(_rounded_up(torch.maximum(spread / 15.0, size / _ZERO_LIMIT).clamp_min_(_SMALLEST)))
    step = scale.float()
    limit = _most_steps(step, numbers.dtype)
    first = (low / step).round_().clamp_(-limit, limit)
    zero.copy_(first)
    most = (limit - first).clamp_max_(15.0)
    whole = torch.div(numbers, step).round_().sub_(first).clamp_min_(0.0)
    codes.copy_(torch.minimum(whole, most, out=whole))


def _scaled(codes: Tensor, scale: Tensor, zero: Tensor | None, output: Tensor) -> None:
    """Write codes * scale + zero, computed in float32; on a GPU one pass whatever the types are."""
    if zero is None:
        torch.mul(codes, scale, out=output)
    else:
        torch.addcmul(zero, codes, scale, out=output)


def _scaled_by_head(codes: Tensor, scale: Tensor, zero: Tensor | None, output: Tensor) -> None:
    """The same on a CPU, where torch casts all of its operands first: here one head at a time, in little memory."""
    buffer = None if output.dtype == torch.float32 else torch.empty(output.shape[2:], dtype=torch.float32)
    for at in product(range(output.shape[0]), range(output.shape[1])):
        numbers = output[at] if buffer is None else buffer
        numbers.copy_(codes[at])
        _scaled(numbers, scale[at], None if zero is None else zero[at], numbers)
        if buffer is not None:
            output[at].copy_(buffer)


def _rounded_up(positive: Tensor) -> Tensor:
    """The smallest bfloat16 numbers that are no smaller; float32 in and out."""
    bits = (positive.view(torch.int32) + 0xFFFF).bitwise_and_(-0x10000)
    return bits.view(torch.float32)


def _most_steps(step: Tensor, dtype: torch.dtype) -> Tensor:
    """How many steps a number of the dtype can be away from 0 without overflowing."""
    return (torch.finfo(dtype).max / step).floor_()


def _paired(codes: Tensor) -> Tensor:
    """Codes of 4 bits (B, Hkv, S, D), two to a byte: token s below token s + ceil(S / 2)."""
    tokens = codes.shape[_TOKENS]
    half = tokens - tokens // 2
    pairs = codes[:, :, :half].clone()  # (B, Hkv, half, D)
    pairs[:, :, : tokens // 2] |= codes[:, :, half:] << 4
    return pairs


def _nibbles(pairs: Tensor, tokens: int) -> Tensor:
    """The inverse of ``_paired``."""
    batch, heads, half, dim = pairs.shape
    codes = torch.empty(batch, heads, tokens, dim, dtype=torch.uint8, device=pairs.device)
    torch.bitwise_and(pairs, 15, out=codes[:, :, :half])
    torch.bitwise_right_shift(pairs[:, :, : tokens - half], 4, out=codes[:, :, half:])
    return codes


def _parts(length: int, group: int) -> Iterator[tuple[int, int, int]]:
    """The whole groups of an axis and the shorter one after them: start, number of groups, numbers in each."""
    whole = length // group
    if whole:
        yield 0, whole, group
    if length % group:
        yield whole * group, 1, length % group


def _grouped(states: Tensor, axis: int, start: int, count: int, size: int) -> Tensor:
    """A view of a part: the axis as two, (count, size)."""
    return torch.unflatten(states.narrow(axis, start, count * size), axis, (count, size))


def _of_groups(scale: Tensor, axis: int, first: int, count: int) -> Tensor:
    """A view of some groups' scales: the axis as two, (count, 1)."""
    return scale.narrow(axis, first, count).unsqueeze(axis + 1)


def _layouts(
    bits: int, shape: tuple[int, int, int, int], axis: int, group: int
) -> list[dict[str, tuple[tuple[int, ...], torch.dtype]]]:
    """The shapes and types that the tensors may have."""
    if bits == 16:
        return [{"codes": (shape, dtype)} for dtype in (torch.float16, torch.bfloat16)]
    groups = tuple(-(-size // group) if number == axis else size for number, size in enumerate(shape))
    if bits == 8:
        return [{"codes": (shape, torch.int8), "scale": (groups, torch.bfloat16)}]
    if bits == 4:
        pairs = (*shape[:_TOKENS], -(-shape[_TOKENS] // 2), shape[_CHANNELS])
        scales = {"scale": (groups, torch.bfloat16), "zero": (groups, torch.float16)}
        return [{"codes": (pairs, torch.uint8), **scales}]
    return []


def _check_finite(states: Tensor) -> None:
    if not bool(torch.isfinite(states).all()):
        raise InputError(_NOT_FINITE)
