"""What the reader takes over from the scripts that made the shipped embedder: its weights and its graph."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "minilm"))
from export import EPSILON, FUSED, HIDDEN, LAYERS, PACKAGE, VERSION, WHEEL_SHA256, Graph, Weights, fetch, sha256

__all__ = [
    "EPSILON", "FUSED", "HIDDEN", "LAYERS", "PACKAGE", "VERSION", "WHEEL_SHA256", "Graph", "Weights", "fetch", "sha256",
]  # fmt: skip
