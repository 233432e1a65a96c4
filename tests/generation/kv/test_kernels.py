"""The Triton kernels: right under the interpreter, and compiled for real GPUs, which needs none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

pytestmark = pytest.mark.extras
HERE = Path(__file__).parent
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from carrel.generation.kv import kernels

GROWING = {"pages", "count", "slots", "stretch", "length", "splits", "scale"}
POINTERS = {
    **dict.fromkeys(("query", "key", "value", "bounds", "output"), "*bf16"),
    **dict.fromkeys(("scores", "partial", "peaks", "sums"), "*fp32"),
    **dict.fromkeys(("table", "lengths", "chosen"), "*i32"),
    "heads": "*i64",
    "scale": "fp32",
}
SHARED = {"D": 128, "ROWS": 4, "EACH": 1, "BLOCK_D": 128}
MORE = {
    "select_kernel": {"BLOCK_P": 4096},
    "score_kernel": {"BLOCK_G": 16, "BLOCK_P": 64, "UPCAST": False},
    "decode_kernel": {"PAGE": 32, "RAGGED": False, "BLOCK_G": 16, "TILE": 64, "UPCAST": False},
    "merge_kernel": {"BLOCK_S": 8},
}
for name, more in MORE.items():
    kernel = getattr(kernels, name)
    constants = {n: v for n, v in {**SHARED, **more}.items() if n in kernel.arg_names}
    types = {n: "constexpr" if n in constants else POINTERS.get(n, "i32") for n in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(kernel.arg_names)
               if n not in constants and n not in GROWING}
    source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=aligned)
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    print(name, len(built.asm["cubin"]) > 0, built.metadata.shared)
"""


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    root = str(HERE.parents[2])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRITON_", "PYTEST_"))}
    cache = {"TRITON_CACHE_DIR": str(tmp_path / "triton"), "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return {**clean, **cache, **more}


def test_the_kernels_are_right_under_the_interpreter(tmp_path: Path) -> None:
    """All of kernel_cases.py; what it prints is shown when one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "extras", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, str(HERE / "kernel_cases.py")], capture_output=True, text=True, cwd=HERE.parents[2],
        env=environment(tmp_path, TRITON_INTERPRET="1"), timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_the_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """The interpreter takes what the compiler does not, so compile for an H100's kind, on any machine."""
    script = tmp_path / "compile_kernels.py"
    script.write_text(COMPILE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment(tmp_path), timeout=280
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert set(found) == {"score_kernel", "select_kernel", "decode_kernel", "merge_kernel"}
    for works, shared in found.values():
        assert works == "True"
        assert int(shared) <= 99 * 1024  # what a program may use on most GPUs
