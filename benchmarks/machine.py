"""What a run was done on: the manifest that every result points to."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from registry import SEED

PATH_OPTIONS = {"--data", "--work", "--out"}


def manifest(repository: Path, arguments: list[str]) -> dict[str, Any]:
    """Return the machine, the interpreter, the commit, the seed and the command of this run."""
    now = datetime.now(timezone.utc)
    return {
        "id": now.strftime("%Y%m%dT%H%M%SZ"),
        "date": now.isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": cpu_model(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit(repository),
        "seed": SEED,
        "command": shown_command(arguments),
        "versions": {},
    }


def cpu_model() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit(repository: Path) -> str | None:
    """Return the repository's commit, marked where the working tree differs from it."""
    shown = [_git(repository, "rev-parse", "--short=12", "HEAD"), _git(repository, "status", "--porcelain")]
    if shown[0] is None:
        return None
    return f"{shown[0]} with changes" if shown[1] else shown[0]


def _git(repository: Path, *arguments: str) -> str | None:
    done = subprocess.run(  # noqa: S603
        ["git", "-C", str(repository), *arguments],  # noqa: S607
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() if done.returncode == 0 else None


def shown_command(arguments: list[str]) -> str:
    """Return the command line with the machine's own folders left out."""
    shown: list[str] = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if shown and shown[-1] in PATH_OPTIONS:
            shown.append("DIR")
        elif name in PATH_OPTIONS and value:
            shown.append(f"{name}=DIR")
        else:
            shown.append(argument)
    return " ".join(["python benchmarks/run.py", *shown])


def load_average() -> float | None:
    """Return the load of the last minute, to tell whether a timing run had the machine for itself."""
    return os.getloadavg()[0] if sys.platform != "win32" else None
