"""A library of the example documents, and ways to run the command line on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import carrel
from carrel.app.cli import app

ROOT = Path(__file__).resolve().parents[2]
ESCAPE = "\x1b"


@dataclass(frozen=True)
class Run:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Carrel = Callable[..., Run]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``examples`` and, in ``.carrel``, the library of them. Not to be changed."""
    folder = tmp_path_factory.mktemp("filled")
    shutil.copytree(ROOT / "examples" / "library", folder / "examples")
    with carrel.open(folder / ".carrel") as library:
        library.add(folder / "examples")
    return folder


@pytest.fixture
def copied(filled: Path, tmp_path: Path) -> Path:
    """A library of three documents, to be changed."""
    (tmp_path / "docs").mkdir()
    for name in ("berthing.md", "pilotage.md", "oil-spill.md"):
        shutil.copy(filled / "examples" / "handbook" / name, tmp_path / "docs" / name)
    with carrel.open(tmp_path / ".carrel") as library:
        library.add(tmp_path / "docs")
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Carrel:
    """Run a command in this process, in a folder."""

    def run_here(*arguments: str, cwd: Path, stdin: str | bytes | None = None) -> Run:
        monkeypatch.chdir(cwd)
        monkeypatch.delenv("CARREL_LIBRARY", raising=False)
        done = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="carrel")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Run(done.exit_code, done.stdout, done.stderr)

    return run_here


def _environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("CARREL_LIBRARY", "FORCE_COLOR", "NO_COLOR")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **more}


@pytest.fixture
def environment() -> dict[str, str]:
    """For processes of their own."""
    return _environment()


@pytest.fixture
def spawn() -> Carrel:
    """Run a command in a process of its own."""

    def run_apart(*arguments: str, cwd: Path, stdin: bytes = b"", **variables: str) -> Run:
        done = subprocess.run(
            [sys.executable, "-m", "carrel", *arguments],
            cwd=cwd,
            input=stdin,
            capture_output=True,
            env=_environment(**variables),
            timeout=120,
        )
        return Run(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run_apart
