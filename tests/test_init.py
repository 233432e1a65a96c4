"""The public surface: small, sorted, light to import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import carrel

PUBLIC = [
    "AdaptiveK",
    "Answer",
    "CarrelError",
    "Citation",
    "Context",
    "Document",
    "FixedK",
    "Ledger",
    "Library",
    "open",
    "Passage",
    "Prompt",
    "Threshold",
    "verify",
]
HEAVY = ("numpy", "sqlalchemy", "onnxruntime", "tokenizers", "faiss", "torch", "transformers", "pydantic", "httpx")


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    root = str(Path(carrel.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


def test_the_public_names_are_these() -> None:
    assert carrel.__all__ == PUBLIC


def test_the_public_names_are_few_and_sorted() -> None:
    assert len(carrel.__all__) <= 15
    assert carrel.__all__ == sorted(carrel.__all__, key=str.lower)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_imports_from_its_home(name: str) -> None:
    assert getattr(carrel, name) is getattr(sys.modules[carrel._HOMES[name]], name)


def test_every_name_has_a_home_and_no_home_is_hidden() -> None:
    assert sorted(carrel._HOMES) == sorted(carrel.__all__)


def test_dir_lists_the_public_names() -> None:
    assert dir(carrel) == sorted([*PUBLIC, "__version__"])


def test_a_star_import_brings_the_public_names() -> None:
    space: dict[str, object] = {}
    exec("from carrel import *", space)
    assert set(PUBLIC) <= set(space)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'carrel' has no attribute 'Manager'"):
        _ = carrel.Manager


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, carrel; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert fresh(code) == "[]"


def test_import_takes_well_under_half_a_second() -> None:
    code = "import time; start = time.perf_counter(); import carrel; print(time.perf_counter() - start)"
    assert min(float(fresh(code)) for _ in range(2)) < 0.25


def test_a_library_works_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, carrel\n"
        f"with carrel.open({str(tmp_path / 'library')!r}) as library:\n"
        "    library.add_text('The ferry leaves at nine.', id='ferry')\n"
        "    assert library.ask('When does the ferry leave?').citations\n"
        "print([name for name in ('torch', 'transformers', 'matplotlib', 'onnx') if name in sys.modules])"
    )
    assert fresh(code) == "[]"
