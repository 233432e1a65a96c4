"""The GPU benchmark: what it refuses, and all of it at tiny shapes under the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

pytestmark = pytest.mark.extras
SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu_attention.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=environment, timeout=280
    )


def test_without_a_gpu_it_says_so() -> None:
    done = run()
    assert done.returncode == 2
    assert "needs a CUDA GPU" in done.stderr
    assert not done.stdout


def test_the_check_compares_everything_with_the_oracles(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = run("--check", "--out", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(out.read_text())["results"]
    assert [(row["batch"], row["page"]) for row in rows] == [(1, 16), (1, 32), (2, 16), (2, 32)]
    for row in rows:
        assert set(row["dense"]) == {"math, grouped", "math, packed", "own"}
        assert set(row["errors"]) == {"sparse", "pages_as_in_float32", *row["dense"]}
        assert row["errors"]["pages_as_in_float32"] == 1
        assert 0 < row["errors"]["sparse"] < 0.01
        assert row["sparse_bytes"] < row["dense_bytes"]
    assert "times faster" in done.stdout
