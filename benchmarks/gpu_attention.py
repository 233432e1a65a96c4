"""Decode over chosen pages against dense flash decode, in one run on one GPU: `python benchmarks/gpu_attention.py`.

Shapes of Llama-3.1-8B: 32 query heads, 8 KV heads, dimension 128, bfloat16. One query per sequence over 131,072 tokens,
of which 4,096 keys a KV head are read. First everything is compared with float32 oracles, then timed: CUDA graphs,
replayed one at a time after the GPU's cache was flushed, medians. Dense is torch's flash attention (two ways to pass
grouped heads) and our own kernel over all pages; the fastest of them is what sparse is compared with.
Takes a few minutes; `--check` runs tiny shapes on a CPU under Triton's interpreter, where times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

DTYPE_ERROR = 1e-2  # largest relative error against the oracle; bfloat16 alone makes 2e-3 to 4e-3
OVERLAP = 0.999  # least share of pages chosen as in float32; sums in another order may swap two at the margin
FLUSHED_BYTES = 2**28
COPIED_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class Shape:
    """What is measured."""

    tokens: int = 131_072
    keys: int = 4_096
    heads: int = 32
    kv_heads: int = 8
    dim: int = 128
    pages: tuple[int, ...] = (32, 64)
    batches: tuple[int, ...] = (1, 8)
    repeats: int = 50
    device: str = "cuda"

    def dense_bytes(self, batch: int) -> int:
        """Keys and values of all tokens."""
        return 2 * 2 * batch * self.kv_heads * self.tokens * self.dim

    def sparse_bytes(self, batch: int, page: int) -> int:
        """Both bounds of every page, and keys and values of the chosen pages."""
        bounds = 2 * 2 * batch * self.kv_heads * -(-self.tokens // page) * self.dim
        return bounds + 2 * 2 * batch * self.kv_heads * self.keys * self.dim


TINY = Shape(tokens=300, keys=96, heads=8, kv_heads=2, dim=32, pages=(16, 32), batches=(1, 2), repeats=1, device="cpu")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--check", action="store_true", help="tiny shapes on the CPU, under Triton's interpreter")
    parser.add_argument("--repeats", type=int, default=Shape.repeats, help="timed runs of each kind")
    options = parser.parse_args(arguments)
    if options.check:
        os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    try:
        import torch
        import triton  # noqa: F401
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install 'carrel[torch]'", file=sys.stderr)
        return 2
    if not options.check and not torch.cuda.is_available():
        print("This needs a CUDA GPU, and torch sees none. --check runs tiny shapes on the CPU.", file=sys.stderr)
        return 2
    shape = TINY if options.check else Shape(repeats=options.repeats)
    started = time.perf_counter()
    results = measure(shape)
    results["seconds"] = round(time.perf_counter() - started, 1)
    print(table(results))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(shape: Shape) -> dict[str, Any]:
    """Check, then time, every batch and page size."""
    import torch
    import triton

    cuda = shape.device == "cuda"
    clock = Clock(shape)
    copy_gb_s = clock.copy_bandwidth() if cuda else None
    rows = []
    for batch in shape.batches:
        torch.manual_seed(batch)
        query = torch.randn(batch, shape.heads, 1, shape.dim, dtype=torch.bfloat16, device=shape.device)
        size = (batch, shape.kv_heads, shape.tokens, shape.dim)
        key, value = (torch.randn(size, dtype=torch.bfloat16, device=shape.device) for _ in range(2))
        for page in shape.pages:
            rows.append(compare(shape, clock, query, key, value, page))
            share_of_copy(rows[-1], copy_gb_s)
            print(f"batch {batch}, page {page}: checked and timed", file=sys.stderr)
        del key, value
    return {
        "device": torch.cuda.get_device_name() if cuda else "CPU, interpreted",
        "torch": torch.__version__,
        "triton": triton.__version__,
        "copy_gb_s": copy_gb_s,
        "shape": {name: getattr(shape, name) for name in ("tokens", "keys", "heads", "kv_heads", "dim", "repeats")},
        "results": rows,
    }


def compare(shape: Shape, clock: Clock, query: Any, key: Any, value: Any, page: int) -> dict[str, Any]:
    """One batch size and page size: errors against the oracles, then medians in milliseconds."""
    import torch

    from carrel.generation.kv.kernels import choose_pages, decode_pages
    from carrel.generation.kv.paged import PageBounds

    batch, count = len(query), shape.keys // page
    bounds = PageBounds(page)
    bounds.update(key)
    extremes = bounds.pages()
    every = torch.arange(extremes.shape[2], dtype=torch.int32, device=key.device)
    every = every.expand(batch, shape.kv_heads, -1).contiguous()

    def sparse() -> Any:
        return decode_pages(query, key, value, choose_pages(query, extremes, count), page=page)

    def own() -> Any:
        return decode_pages(query, key, value, every, page=page)

    ways = {**dict(dense_ways(query, key, value)), "own": own}
    chosen = choose_pages(query, extremes, count)
    errors = check(query, key, value, page, chosen, sparse(), {name: run() for name, run in ways.items()})
    dense = {name: clock.time(run) for name, run in ways.items()}
    parts = {
        "choose": clock.time(lambda: choose_pages(query, extremes, count)),
        "decode": clock.time(lambda: decode_pages(query, key, value, chosen, page=page)),
    }
    best, whole = min(dense, key=lambda name: dense[name]["graph_ms"]), clock.time(sparse)
    return {
        "batch": batch,
        "page": page,
        "errors": errors,
        "dense": dense,
        "dense_best": best,
        "sparse": whole,
        "parts": parts,
        "append_ms": clock.eager(lambda: append(bounds, key)),
        "speedup": round(dense[best]["graph_ms"] / whole["graph_ms"], 2),
        "dense_bytes": shape.dense_bytes(batch),
        "sparse_bytes": shape.sparse_bytes(batch, page),
    }


def append(bounds: Any, key: Any) -> None:
    """What a new token costs the bounds: the last page is looked at again."""
    bounds.cut(key.shape[2] - 1)
    bounds.update(key)


def dense_ways(query: Any, key: Any, value: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Torch's own ways to attend to all keys that run here. Packed takes the query heads of a KV head as queries."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    batch, heads, _, dim = query.shape
    packed = query.view(batch, key.shape[1], heads // key.shape[1], dim)
    backend = SDPBackend.FLASH_ATTENTION if key.is_cuda else SDPBackend.MATH

    def grouped() -> Any:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(query, key, value, enable_gqa=True)

    def as_queries() -> Any:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(packed, key, value).view(query.shape)

    for name, run in (("grouped", grouped), ("packed", as_queries)):
        try:
            run()
        except RuntimeError as error:  # no such kernel for this GPU or these shapes
            print(f"{backend.name}, {name}: not here ({str(error).splitlines()[0]})", file=sys.stderr)
            continue
        yield f"{'flash' if key.is_cuda else 'math'}, {name}", run


def check(
    query: Any, key: Any, value: Any, page: int, chosen: Any, sparse: Any, dense: dict[str, Any]
) -> dict[str, Any]:
    """Relative errors against float32, one sequence at a time; an error that is too large ends the run."""
    import torch

    from carrel.generation.kv import oracles

    tokens, count = key.shape[2], chosen.shape[2]
    tail = tokens - (-(-tokens // page) - 1) * page
    errors: dict[str, list[float]] = {name: [] for name in ("sparse", *dense)}
    overlaps = []
    for b in range(len(query)):
        one = [source[b : b + 1].float() for source in (query, key, value)]
        read = torch.zeros(1, key.shape[1], -(-tokens // page), dtype=torch.bool, device=key.device)
        read = read.scatter(-1, chosen[b : b + 1].long(), True).repeat_interleave(page, dim=-1)[..., :tokens]
        read = read.repeat_interleave(query.shape[1] // key.shape[1], dim=1)  # (1, H, S)
        wanted = oracles.paged_mask(one[0], one[1], page=page, budget=(count - 1) * page + tail)
        overlaps.append(float((read & wanted).sum() / wanted.sum()))
        errors["sparse"].append(distance(sparse[b : b + 1], oracles.attend(*one, read[:, :, None])))
        expected = oracles.dense(*one)
        for name, found in dense.items():
            errors[name].append(distance(found[b : b + 1], expected))
    worst = {name: max(values) for name, values in errors.items()}
    if not all(error < DTYPE_ERROR for error in worst.values()) or min(overlaps) < OVERLAP:
        raise SystemExit(f"wrong results, nothing was timed: errors {worst}, pages as in float32 {min(overlaps):.4f}")
    return {**worst, "pages_as_in_float32": min(overlaps)}


def distance(found: Any, expected: Any) -> float:
    return float((found.float() - expected).norm() / expected.norm())


class Clock:
    """Medians over replays of a CUDA graph, each after the cache was flushed; on a CPU, plain wall time."""

    def __init__(self, shape: Shape) -> None:
        import torch

        self.cuda, self.repeats = shape.device == "cuda", shape.repeats
        self.flushed = torch.empty(FLUSHED_BYTES if self.cuda else 1, dtype=torch.int8, device=shape.device)

    def time(self, run: Callable[[], Any]) -> dict[str, float]:
        """Milliseconds on the GPU by graph, and as called from Python."""
        eager = self.eager(run)
        return {"graph_ms": self._graph(run) if self.cuda else eager, "eager_ms": eager}

    def eager(self, run: Callable[[], Any]) -> float:
        for _ in range(3 if self.cuda else 0):
            run()
        return self._median(run)

    def copy_bandwidth(self) -> float:
        """GB/s of a large copy on the GPU, what is read and what is written."""
        import torch

        source = torch.randint(0, 100, (COPIED_BYTES,), dtype=torch.int8, device="cuda")
        target = torch.empty_like(source)
        target.copy_(source)
        return round(2 * COPIED_BYTES / self._median(lambda: target.copy_(source)) / 1e6, 1)

    def _graph(self, run: Callable[[], Any]) -> float:
        import torch

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        graph.replay()
        return self._median(graph.replay)

    def _median(self, run: Callable[[], Any]) -> float:
        if not self.cuda:
            started = time.perf_counter()
            run()
            return round(1e3 * (time.perf_counter() - started), 3)
        import torch

        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(self.repeats)]
        for first, last in events:
            self.flushed.zero_()
            first.record()
            run()
            last.record()
        torch.cuda.synchronize()
        return round(statistics.median(first.elapsed_time(last) for first, last in events), 4)


def share_of_copy(row: dict[str, Any], copy_gb_s: float | None) -> None:
    """Add which share of the copy bandwidth the bytes that must be read amount to."""
    if copy_gb_s:
        for kind, milliseconds in (
            ("dense", row["dense"][row["dense_best"]]["graph_ms"]),
            ("sparse", row["sparse"]["graph_ms"]),
        ):
            row[f"{kind}_share_of_copy"] = round(row[f"{kind}_bytes"] / milliseconds / 1e6 / copy_gb_s, 3)


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    copy = f"; copies at {results['copy_gb_s']:,.0f} GB/s" if results["copy_gb_s"] else ""
    lines = [
        f"{results['device']}, torch {results['torch']}, triton {results['triton']}{copy}",
        "",
        "| batch | page | dense ms (fastest) | sparse ms | choose + decode ms | times faster | share of copy speed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["results"]:
        best = row["dense_best"]
        choose, decode = (row["parts"][name]["graph_ms"] for name in ("choose", "decode"))
        shares = " / ".join(
            f"{row[name]:.0%}" for name in ("dense_share_of_copy", "sparse_share_of_copy") if name in row
        )
        lines.append(
            f"| {row['batch']} | {row['page']} | {row['dense'][best]['graph_ms']:.3f} ({best}) | "
            f"{row['sparse']['graph_ms']:.3f} | {choose:.3f} + {decode:.3f} | {row['speedup']:.1f} | {shares} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
