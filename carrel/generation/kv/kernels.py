"""Triton kernels for decoding over pages: scoring pages by their bounds, and split-K attention over a page table.

Import this module only where triton is installed. ``TRITON_INTERPRET=1``, set before triton is first imported, runs the
kernels on a CPU, slowly.

A *row* is what shares a list of pages: the query heads of one KV head, or one query head by itself. There are
R = h * each rows for h KV heads, ``each`` being 1 or the number of query heads of a KV head.
"""

# ruff: noqa: N803 - Triton writes compile-time constants in capitals

from __future__ import annotations

import math
import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from carrel.generation.kv.ordering import top_indices

_TILE = 64  # keys that a program takes at once
_SCORED = 64  # pages that a program scores at once
_SELECTED = 16384  # pages that one program can choose from
_PROGRAMS = 4  # programs wanted for each multiprocessor
_PROCESSORS = 4  # multiprocessors assumed where there is no GPU
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # it multiplies the bits of bfloat16 as if they were integers


def _score(  # one program: one row, BLOCK_P pages
    query: tl.tensor, bounds: tl.tensor, heads: tl.tensor, scores: tl.tensor, pages: tl.tensor, query_b: tl.tensor,
    query_h: tl.tensor, bounds_b: tl.tensor, bounds_h: tl.tensor, bounds_p: tl.tensor, D: tl.constexpr,
    ROWS: tl.constexpr, EACH: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_P: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:  # fmt: skip
    row, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    slot = row // EACH
    kv_head = tl.load(heads + slot)
    g, d = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_D)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    asked = kv_head * ROWS * EACH + (row % EACH) * ROWS + g
    inside = (p[:, None] < pages) & (d[None, :] < D)
    states = tl.load(
        query + batch * query_b + asked[:, None] * query_h + d[None, :],
        mask=(g[:, None] < ROWS) & (d[None, :] < D),
        other=0.0,
    ).to(bounds.dtype.element_ty)  # (BLOCK_G, BLOCK_D)
    at = bounds + batch * bounds_b + slot.to(tl.int64) * bounds_h + p[:, None].to(tl.int64) * bounds_p + d[None, :]
    high = tl.load(at, mask=inside, other=0.0)  # (BLOCK_P, BLOCK_D)
    low = tl.load(at + D, mask=inside, other=0.0)
    if UPCAST:
        states, high, low = states.to(tl.float32), high.to(tl.float32), low.to(tl.float32)
    zero = tl.zeros_like(states)
    above = tl.maximum(states, zero).to(high.dtype)  # some versions of Triton give float32
    below = tl.minimum(states, zero).to(low.dtype)
    upper = tl.dot(above, tl.trans(high), input_precision="ieee")
    upper += tl.dot(below, tl.trans(low), input_precision="ieee")  # (BLOCK_G, BLOCK_P)
    best = tl.max(tl.where(g[:, None] < ROWS, upper, -float("inf")), axis=0)
    best = tl.where((p == 0) | (p == pages - 1), float("inf"), best)
    tl.store(scores + (batch * tl.num_programs(1) + row) * pages + p, best, mask=p < pages)


def _select(  # one program: one row, all its pages
    scores: tl.tensor,
    chosen: tl.tensor,
    pages: tl.tensor,
    count: tl.tensor,
    BLOCK_P: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    p = tl.arange(0, BLOCK_P)
    score = tl.load(scores + row * pages + p, mask=p < pages, other=-float("inf"))
    bits = tl.where(score == 0.0, 0.0, score).to(tl.int32, bitcast=True)  # -0.0 counts as 0.0
    rank = tl.where(bits < 0, ~bits, bits ^ -0x80000000).to(tl.uint32, bitcast=True)  # sorts like the scores
    rank = tl.where(p < pages, rank, 0)
    least = tl.full([], 0, tl.uint32)  # becomes the count-th largest rank, bit by bit
    bit = tl.full([], 0x80000000, tl.uint32)
    for _ in range(32):
        higher = least | bit
        bit = bit >> 1
        least = tl.where(tl.sum((rank >= higher).to(tl.int32), axis=0) >= count, higher, least)
    above = (rank > least).to(tl.int32)
    ties = ((rank == least) & (p < pages)).to(tl.int32)
    spare = count - tl.sum(above, axis=0)
    taken = above + tl.where(tl.cumsum(ties, axis=0) <= spare, ties, 0)  # of equals the earlier pages
    tl.store(chosen + row * count + tl.cumsum(taken, axis=0) - 1, p, mask=taken > 0)


def _decode(  # one program: one row, one stretch of its page list
    query: tl.tensor, key: tl.tensor, value: tl.tensor, heads: tl.tensor, table: tl.tensor, lengths: tl.tensor,
    partial: tl.tensor, peaks: tl.tensor, sums: tl.tensor, slots: tl.tensor, stretch: tl.tensor, length: tl.tensor,
    scale: tl.tensor, query_b: tl.tensor, query_h: tl.tensor, key_b: tl.tensor, key_h: tl.tensor, key_s: tl.tensor,
    value_b: tl.tensor, value_h: tl.tensor, value_s: tl.tensor, D: tl.constexpr, ROWS: tl.constexpr,
    EACH: tl.constexpr, PAGE: tl.constexpr, RAGGED: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_D: tl.constexpr,
    TILE: tl.constexpr, UPCAST: tl.constexpr,
) -> None:  # fmt: skip
    split, row, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    line = batch * tl.num_programs(1) + row
    kv_head = tl.load(heads + row // EACH).to(tl.int64)
    g, d = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_D)
    asked = kv_head * ROWS * EACH + (row % EACH) * ROWS + g
    wanted = (g[:, None] < ROWS) & (d[None, :] < D)
    states = tl.load(query + batch * query_b + asked[:, None] * query_h + d[None, :], mask=wanted, other=0.0)
    if UPCAST:
        states = states.to(tl.float32)
    end = length
    if RAGGED:
        end = tl.load(lengths + batch)
    peak = tl.full([BLOCK_G], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_G], tl.float32)
    mixed = tl.zeros([BLOCK_G, BLOCK_D], tl.float32)
    for start in range(split * stretch, tl.minimum((split + 1) * stretch, slots), TILE):
        slot = start + tl.arange(0, TILE)
        page = tl.load(table + line * (slots // PAGE) + slot // PAGE, mask=slot < slots, other=-1)
        token = page.to(tl.int64) * PAGE + slot % PAGE
        valid = (page >= 0) & (token < end)
        inside = valid[:, None] & (d[None, :] < D)
        at = batch * key_b + kv_head * key_h + token[:, None] * key_s + d[None, :]
        keys = tl.load(key + at, mask=inside, other=0.0)  # (TILE, BLOCK_D)
        if UPCAST:
            keys = keys.to(tl.float32)
        scores = tl.dot(states, tl.trans(keys), input_precision="ieee") * scale  # (BLOCK_G, TILE), base 2
        scores = tl.where(valid[None, :], scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, axis=1))
        base = tl.where(higher == -float("inf"), 0.0, higher)
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(peak - base)
        at = batch * value_b + kv_head * value_h + token[:, None] * value_s + d[None, :]
        values = tl.load(value + at, mask=inside, other=0.0)
        if UPCAST:
            values = values.to(tl.float32)
        mixed = mixed * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        total = total * shrink + tl.sum(weights, axis=1)
        peak = higher
    to = (line * tl.num_programs(0) + split) * ROWS + g  # (B, R, splits, ROWS)
    tl.store(partial + to[:, None] * D + d[None, :], mixed, mask=wanted)
    tl.store(peaks + to, peak, mask=g < ROWS)
    tl.store(sums + to, total, mask=g < ROWS)


def _merge(  # one program: one query head
    partial: tl.tensor, peaks: tl.tensor, sums: tl.tensor, heads: tl.tensor, output: tl.tensor, splits: tl.tensor,
    output_b: tl.tensor, output_h: tl.tensor, D: tl.constexpr, ROWS: tl.constexpr, EACH: tl.constexpr,
    BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
) -> None:  # fmt: skip
    place, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row, g = place // ROWS, place % ROWS
    s, d = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    at = ((batch * (tl.num_programs(0) // ROWS) + row) * splits + s) * ROWS + g
    peak = tl.load(peaks + at, mask=s < splits, other=-float("inf"))
    top = tl.max(peak, axis=0)
    weights = tl.exp2(peak - tl.where(top == -float("inf"), 0.0, top))  # (BLOCK_S,)
    total = tl.sum(weights * tl.load(sums + at, mask=s < splits, other=0.0), axis=0)
    inside = (s[:, None] < splits) & (d[None, :] < D)
    parts = tl.load(partial + at[:, None] * D + d[None, :], mask=inside, other=0.0)
    mixed = tl.sum(weights[:, None] * parts, axis=0) / tl.where(total == 0.0, 1.0, total)  # nothing read gives zero
    asked = tl.load(heads + row // EACH).to(tl.int64) * ROWS * EACH + (row % EACH) * ROWS + g
    tl.store(output + batch * output_b + asked * output_h + d, mixed.to(output.dtype.element_ty), mask=d < D)


# What grows from step to step must not compile a kernel for each kind of number.
score_kernel = triton.jit(_score, do_not_specialize=["pages"])
select_kernel = triton.jit(_select, do_not_specialize=["pages", "count"])
decode_kernel = triton.jit(_decode, do_not_specialize=["slots", "stretch", "length"])
merge_kernel = triton.jit(_merge, do_not_specialize=["splits"])


def choose_pages(
    query: Tensor,
    bounds: Tensor,
    count: int,
    *,
    kv_heads: int | None = None,
    heads: Tensor | None = None,
    per_query_head: bool = False,
) -> Tensor:
    """The ``count`` pages with the highest bounds, the first and the last among them; of equals the earlier.

    Parameters
    ----------
    query : (B, H, 1, D).
    bounds : (B, h, P, 2 * D), largest then smallest keys, of the KV heads in ``heads``.
    count : how many pages, at most P.
    kv_heads, heads : how many KV heads there are and which of them are meant, (h,); None where h is all of them.
    per_query_head : one row for each query head instead of for each KV head.

    Returns
    -------
    (B, R, count), int32, ascending.
    """
    batch, many, pages = bounds.shape[:3]
    at = torch.arange(many, device=query.device) if heads is None else heads
    group = query.shape[1] // (kv_heads or many)
    each = group if per_query_head else 1
    dim, states = query.shape[3], query.contiguous()
    bounds = bounds if bounds.stride(3) == 1 else bounds.contiguous()
    scores = torch.empty(batch, many * each, pages, dtype=torch.float32, device=query.device)
    score_kernel[(triton.cdiv(pages, _SCORED), many * each, batch)](
        states, bounds, at, scores, pages,
        states.stride(0), states.stride(1), bounds.stride(0), bounds.stride(1), bounds.stride(2),
        D=dim, ROWS=group // each, EACH=each, **_blocks(group // each, dim), BLOCK_P=_SCORED, UPCAST=_INTERPRETED,
    )  # fmt: skip
    if pages > _SELECTED:
        return top_indices(scores, count).int()
    chosen = torch.empty(batch, many * each, count, dtype=torch.int32, device=query.device)
    block = triton.next_power_of_2(pages)
    select_kernel[(batch * many * each,)](
        scores, chosen, pages, count, BLOCK_P=block, num_warps=4 if block <= 1024 else 8 if block <= 4096 else 16
    )
    return chosen


def decode_pages(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pages: Tensor,
    *,
    page: int,
    heads: Tensor | None = None,
    lengths: Tensor | None = None,
    scaling: float | None = None,
    splits: int | None = None,
) -> Tensor:
    """Exact attention of one query over the listed pages, in two passes: parts of the list, then their merge.

    Parameters
    ----------
    query : (B, H, 1, D).
    key, value : (B, Hkv, S, D).
    pages : the page table, (B, R, N), int32; an entry below zero is skipped. R is h or H / Hkv times h.
    page : tokens of a page; page p holds the tokens from p * page on.
    heads : the KV heads the rows belong to, (h,); None for all. The query heads of others get zeros.
    lengths : tokens of each sequence, (B,), int32, where they are not all S.
    scaling : of the dot products, 1 / sqrt(D) by default.
    splits : parts of the list, by default so many that the GPU is filled.

    Returns
    -------
    (B, H, 1, D) in the query's type; zero where no key is read.
    """
    batch, query_heads, _, dim = query.shape
    rows, listed = pages.shape[1], pages.shape[2]
    at = torch.arange(key.shape[1], device=query.device) if heads is None else heads
    group, each = query_heads // key.shape[1], rows // max(len(at), 1)
    output = query.new_zeros(query.shape)
    if not listed or not rows:
        return output
    states, table = query.contiguous(), pages.contiguous()
    key, value = (source if source.stride(3) == 1 else source.contiguous() for source in (key, value))
    slots = listed * page
    tiles = triton.cdiv(slots, _TILE)
    stretch = triton.cdiv(tiles, splits or _splits(batch * rows, tiles, query.device)) * _TILE
    parts = triton.cdiv(slots, stretch)
    partial = torch.empty(batch, rows, parts, group // each, dim, dtype=torch.float32, device=query.device)
    peaks, sums = torch.empty_like(partial[..., 0]), torch.empty_like(partial[..., 0])
    scale = (dim**-0.5 if scaling is None else scaling) / math.log(2)
    shape = {"D": dim, "ROWS": group // each, "EACH": each}
    blocks = _blocks(group // each, dim)
    decode_kernel[(parts, rows, batch)](
        states, key, value, at, table, states if lengths is None else lengths, partial, peaks, sums,
        slots, stretch, key.shape[2], scale,
        states.stride(0), states.stride(1), *key.stride()[:3], *value.stride()[:3],
        **shape, PAGE=page, RAGGED=lengths is not None, **blocks, TILE=_TILE, UPCAST=_INTERPRETED,
        num_warps=4, num_stages=_stages(key),
    )  # fmt: skip
    merge_kernel[(rows * (group // each), batch)](
        partial, peaks, sums, at, output, parts, output.stride(0), output.stride(1),
        **shape, BLOCK_S=triton.next_power_of_2(parts), BLOCK_D=blocks["BLOCK_D"],
    )  # fmt: skip
    return output


def _blocks(rows: int, dim: int) -> dict[str, int]:
    """Block sizes: powers of two, at least 16 for the matrix units."""
    return {"BLOCK_G": max(16, triton.next_power_of_2(rows)), "BLOCK_D": max(16, triton.next_power_of_2(dim))}


def _splits(rows: int, tiles: int, device: torch.device) -> int:
    """So many parts of a list that all multiprocessors have work, each of two tiles or more."""
    processors = (
        torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else _PROCESSORS
    )
    return max(1, min(tiles // 2, -(-_PROGRAMS * processors // rows)))


def _stages(key: Tensor) -> int:
    """Loads in flight; three need the shared memory of a data-centre GPU."""
    large = key.is_cuda and torch.cuda.get_device_capability(key.device)[0] >= 9
    return 3 if large and key.element_size() == 2 and key.shape[3] <= 128 else 2
