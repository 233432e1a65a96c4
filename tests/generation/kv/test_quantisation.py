"""Packing to 16, 8 and 4 bits against NumPy, number by number, and what it promises for any numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from carrel.errors import InputError  # noqa: E402
from carrel.generation.kv.quantisation import Packed, pack_keys, pack_values  # noqa: E402

pytestmark = pytest.mark.extras

PACK = {"keys": pack_keys, "values": pack_values}
AXIS = {"keys": 2, "values": 3}
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
GROUP = 32
SMALLEST = np.float32(2.0**-126)

shapes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(0, 70), st.integers(1, 40))
kinds = st.sampled_from(["keys", "values"])
dtypes = st.sampled_from(DTYPES)
few = st.sampled_from([8, 4])
narrow = st.one_of(
    st.tuples(st.integers(1, 2), st.just(1), st.integers(0, 70), st.integers(1, 4)),
    st.tuples(st.just(1), st.integers(1, 2), st.integers(0, 4), st.integers(1, 70)),
)


@st.composite
def states(draw: Any, shape: Any = shapes) -> Any:
    """Numbers of any size: normal, with offsets by channel, zeros, constants, the largest and the smallest."""
    sizes, dtype = draw(shape), draw(dtypes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    numbers = torch.randn(sizes, generator=generator)
    limits = torch.finfo(dtype)
    match draw(st.sampled_from(["normal", "offset", "zeros", "constant", "huge", "tiny", "outlier", "mixed"])):
        case "offset":
            numbers += 50 * torch.randn(sizes[3], generator=generator)
        case "zeros":
            numbers.zero_()
        case "constant":
            numbers[:] = draw(st.floats(-1000, 1000, width=16))
        case "huge":
            numbers = (numbers.tanh() / 2 + 0.5) * limits.max * draw(st.sampled_from([-1.0, 1.0]))
        case "tiny":
            numbers *= limits.tiny
        case "outlier":
            numbers[:, :, : sizes[2] // 3] *= 1000
        case "mixed":
            numbers *= 10.0 ** torch.randint(-4, 4, sizes, generator=generator)
    return numbers.clamp(limits.min, limits.max).to(dtype)


def bfloat16(number: np.float32, *, up: bool) -> np.float32:
    """The nearest bfloat16 number, or the next that is no smaller; of a positive one."""
    bits = int(np.float32(number).view(np.uint32))
    bits += 0xFFFF if up else 0x7FFF + (bits >> 16 & 1)
    return np.uint32(bits & 0xFFFF0000).view(np.float32)


def most_steps(largest: float, scale: np.float32) -> np.float32:
    with np.errstate(over="ignore"):
        return np.floor(np.float32(largest) / scale)


def plain(group: np.ndarray, bits: int, largest: float) -> tuple[list[int], np.float32, int]:
    """The codes, the scale and the zero of one group in float32."""
    low, high, size = group.min(), group.max(), np.abs(group).max()
    if bits == 8:
        scale = bfloat16(max(size / np.float32(127), SMALLEST), up=False)
        limit = min(127, most_steps(largest, scale))
        return [int(min(max(np.round(x / scale), -limit), limit)) for x in group], scale, 0
    scale = bfloat16(max((high - low) / np.float32(15), size / np.float32(2032), SMALLEST), up=True)
    limit = most_steps(largest, scale)
    zero = int(min(max(np.round(low / scale), -limit), limit))
    return [int(min(max(np.round(x / scale) - zero, 0), min(15, limit - zero))) for x in group], scale, zero


def plain_unpacked(numbers: Any, bits: int, axis: int) -> tuple[Any, np.ndarray]:
    """What unpacking gives, and the step of each number, group by group."""
    moved = np.moveaxis(numbers.float().numpy(), axis, -1)
    result, steps = np.empty_like(moved), np.empty_like(moved)
    for row in np.ndindex(*moved.shape[:-1]):
        for start in range(0, moved.shape[-1], GROUP):
            part = (*row, slice(start, start + GROUP))
            codes, scale, zero = plain(moved[part], bits, torch.finfo(numbers.dtype).max)
            result[part] = [np.float32((code + zero) * float(scale)) for code in codes]
            steps[part] = scale
    return torch.from_numpy(np.moveaxis(result, -1, axis).copy()).to(numbers.dtype), np.moveaxis(steps, -1, axis)


def too_wide(numbers: Any, bits: int) -> bool:
    """True where 4 bits may refuse: the numbers fill more than half of what float32 holds."""
    return bits == 4 and numbers.numel() > 0 and float(numbers.double().max() - numbers.double().min()) > 1.69e38


@given(states(narrow), kinds, few)
def test_equals_numpy_group_by_group(numbers: Any, kind: str, bits: int) -> None:
    if too_wide(numbers, bits):
        return
    expected, _ = plain_unpacked(numbers, bits, AXIS[kind])
    found = PACK[kind](numbers, bits).unpack()
    assert found.dtype == numbers.dtype
    assert torch.equal(found, expected)


@given(states(), kinds, few)
def test_the_round_trip_stays_within_half_a_step(numbers: Any, kind: str, bits: int) -> None:
    if too_wide(numbers, bits):
        return
    packed = PACK[kind](numbers, bits)
    found = packed.unpack()
    steps = packed.scale.double().repeat_interleave(GROUP, AXIS[kind]).narrow(AXIS[kind], 0, numbers.shape[AXIS[kind]])
    limits = torch.finfo(numbers.dtype)
    error = (found.double() - numbers.double()).abs()
    rounding = numbers.double().abs() * limits.eps + limits.smallest_normal * limits.eps  # of the type given back
    at_the_end = numbers.double().abs() + steps / 2 > limits.max
    allowed = torch.where(at_the_end, 1.0, 0.5005) * steps + rounding
    assert torch.isfinite(found).all()
    assert (error <= allowed).all()


@given(states(), kinds, st.sampled_from([16, 8, 4]))
def test_the_size_is_that_of_codes_and_scales(numbers: Any, kind: str, bits: int) -> None:
    if too_wide(numbers, bits) or (bits == 16 and numbers.numel() and numbers.abs().max() > 3.3e38):
        return
    packed = PACK[kind](numbers, bits)
    batch, heads, tokens, dim = numbers.shape
    groups = -(-tokens // GROUP) * dim if kind == "keys" else tokens * -(-dim // GROUP)
    each = {16: 2 * tokens * dim, 8: tokens * dim + 2 * groups, 4: -(-tokens // 2) * dim + 4 * groups}
    assert packed.size_bytes == batch * heads * each[bits]
    assert packed.size_bytes == sum(tensor.nbytes for tensor in packed.tensors().values())


@pytest.mark.parametrize("kind", PACK)
def test_eight_bits_are_little_more_than_half_of_sixteen(kind: str) -> None:
    numbers = torch.randn(1, 2, 2048, 32)
    sixteen, eight, four = (PACK[kind](numbers, bits).size_bytes for bits in (16, 8, 4))
    assert eight / sixteen == 0.53125
    assert four / sixteen == 0.3125


@given(states(), kinds)
def test_eight_bits_packed_again_are_the_same(numbers: Any, kind: str) -> None:
    limits = torch.finfo(numbers.dtype)
    largest = numbers.abs().max().item() if numbers.numel() else 0.0
    if numbers.dtype == torch.bfloat16 or largest * 1.01 > limits.max:
        return  # what comes back is rounded to fewer bits than the scale has, or cut at the end of the type
    first = PACK[kind](numbers, 8)
    again = PACK[kind](first.unpack(), 8)
    firm = (first.scale.float() * 127 > limits.tiny * 2048).expand_as(first.scale)  # not among the subnormal numbers
    steps = firm.repeat_interleave(GROUP, AXIS[kind]).narrow(AXIS[kind], 0, numbers.shape[AXIS[kind]])
    assert torch.equal(again.codes[steps], first.codes[steps])
    assert torch.equal(again.scale[firm], first.scale[firm])


@pytest.mark.parametrize("kind", PACK)
def test_four_bits_packed_again_are_the_same_where_all_sixteen_codes_are_used(kind: str) -> None:
    numbers = torch.arange(16.0).repeat(4).view(1, 1, 64, 1).expand(1, 2, 64, 64) / 4 - 1.0
    if kind == "values":
        numbers = numbers.transpose(2, 3)
    first = PACK[kind](numbers, 4)
    again = PACK[kind](first.unpack(), 4)
    assert torch.equal(first.unpack(), numbers)
    assert torch.equal(again.codes, first.codes)
    assert torch.equal(again.zero, first.zero)


@given(
    states(st.tuples(st.just(2), st.just(3), st.integers(1, 70), st.integers(1, 40))), kinds, st.sampled_from([8, 4])
)
def test_heads_and_sequences_do_not_touch_each_other(numbers: Any, kind: str, bits: int) -> None:
    if too_wide(numbers, bits):
        return
    together = PACK[kind](numbers, bits).unpack()
    for b in range(2):
        for h in range(3):
            alone = PACK[kind](numbers[b : b + 1, h : h + 1], bits).unpack()
            assert torch.equal(together[b, h], alone[0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_states_that_are_not_contiguous(kind: str, bits: int, dtype: Any) -> None:
    numbers = torch.randn(2, 50, 3, 48).to(dtype).transpose(1, 2)[:, :, 3:40]
    assert not numbers.is_contiguous()
    found = PACK[kind](numbers, bits)
    assert torch.equal(found.unpack(), PACK[kind](numbers.contiguous(), bits).unpack())
    assert all(tensor.is_contiguous() for tensor in found.tensors().values())


def test_sixteen_bits_are_those_of_the_model_or_float16() -> None:
    numbers = torch.randn(1, 2, 9, 5)
    for dtype in (torch.float16, torch.bfloat16):
        packed = pack_keys(numbers.to(dtype), 16)
        assert packed.codes.dtype == dtype
        assert torch.equal(packed.unpack(), numbers.to(dtype))
    packed = pack_values(numbers, 16)
    assert packed.codes.dtype == torch.float16
    assert torch.equal(packed.unpack(), numbers.half().float())


@pytest.mark.parametrize("size", [1e30, 70_000.0, 1e-9])
def test_sixteen_bits_take_the_wider_type_where_float16_ends(size: float) -> None:
    numbers = torch.full((1, 1, 3, 2), size)
    packed = pack_keys(numbers, 16)
    assert packed.codes.dtype == torch.bfloat16
    torch.testing.assert_close(packed.unpack(), numbers, rtol=2**-8, atol=0)


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_overflowed_model_is_said_to_be_one(bits: int, number: float, dtype: Any) -> None:
    numbers = torch.randn(1, 2, 40, 33).to(dtype)
    numbers[0, 1, 37, 32] = number
    for pack in PACK.values():
        with pytest.raises(InputError, match="NaN or infinite"):
            pack(numbers, bits)


def test_numbers_as_far_apart_as_float32_goes_are_too_far_for_four_bits() -> None:
    numbers = torch.zeros(1, 1, 40, 2)
    numbers[0, 0, 35:37, 1] = torch.tensor([-1.5e38, 1.5e38])
    with pytest.raises(InputError, match="apart"):
        pack_keys(numbers, 4)
    assert torch.isfinite(pack_keys(numbers, 8).unpack()).all()


@pytest.mark.parametrize(
    ("numbers", "bits", "text"),
    [
        (torch.zeros(2, 3, 4), 8, r"not \(2, 3, 4\)"),
        (torch.zeros(1, 1, 3, 0), 8, r"not \(1, 1, 3, 0\)"),
        (torch.zeros(1, 1, 3, 2, dtype=torch.float64), 8, "not torch.float64"),
        (torch.zeros(1, 1, 3, 2, dtype=torch.int8), 16, "not torch.int8"),
        (torch.zeros(1, 1, 3, 2), 2, "16, 8 or 4 bits, not 2"),
    ],
)
def test_what_cannot_be_packed(numbers: Any, bits: int, text: str) -> None:
    with pytest.raises(InputError, match=text):
        pack_keys(numbers, bits)


@given(states(), kinds, st.sampled_from([16, 8, 4]))
def test_restored_from_json_and_tensors(numbers: Any, kind: str, bits: int) -> None:
    numbers = numbers / 4
    packed = PACK[kind](numbers, bits)
    again = Packed.restored(json.loads(json.dumps(packed.meta)), packed.tensors())
    assert (again.shape, again.dtype, again.bits) == (packed.shape, packed.dtype, packed.bits)
    assert torch.equal(again.unpack(), packed.unpack())
    assert again.to("cpu").size_bytes == packed.size_bytes


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 8}, {"bits": 5}, {"shape": [1, 2, 41, 6]}, {"shape": [1, 2, 40]}, {"shape": [1, 2, -40, 6]},
        {"dtype": "float64"}, {"axis": 1}, {"axis": 3}, {"group": 0}, {"group": 16}, {"group": None},
    ],
)  # fmt: skip
def test_a_description_of_other_tensors_is_refused(change: dict[str, Any]) -> None:
    packed = pack_keys(torch.randn(1, 2, 40, 6), 4)
    with pytest.raises(InputError):
        Packed.restored(packed.meta | change, packed.tensors())
    with pytest.raises(InputError):
        Packed.restored(packed.meta, {"codes": packed.codes})
    assert Packed.restored(packed.meta, packed.tensors()).unpack().shape == (1, 2, 40, 6)


def test_to_another_device_moves_every_tensor() -> None:
    packed = pack_values(torch.randn(1, 2, 8, 6), 4).to("meta")
    assert {tensor.device.type for tensor in packed.tensors().values()} == {"meta"}
    assert packed.shape == (1, 2, 8, 6)
