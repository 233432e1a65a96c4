"""What the trainings share: stages that run in their order, files written whole, Ctrl-C that loses nothing."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

R = TypeVar("R")


class CtrlC:
    """Whether Ctrl-C was pressed: a loop looks after each step, and ends once it has saved."""

    def __init__(self) -> None:
        self.pressed = False

    @contextmanager
    def heeded(self, may_wait: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Inside, Ctrl-C waits for the loop; pressed again, or while ``may_wait`` says no, it interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def press(*_: object) -> None:
            if self.pressed or not may_wait():
                raise KeyboardInterrupt
            self.pressed = True

        before = signal.signal(signal.SIGINT, press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def run_stages(stages: Mapping[str, Callable[[R], None]], chosen: str, run: R) -> None:
    """Run the stages that ``chosen`` names, with commas between, in their order."""
    for name, stage in stages.items():
        if name in chosen.split(","):
            started = time.monotonic()
            say(f"== {name}")
            stage(run)
            say(f"{name}: {time.monotonic() - started:.0f} s")


def exit_code(run: Callable[[], None]) -> int:
    """Run, and say how to go on where it was stopped."""
    try:
        run()
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130
    return 0


def as_json(content: Any) -> bytes:
    """Floats to six digits: more would be noise. What could not be measured (nan) is null."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [rounded(each) for each in value]
        if not isinstance(value, float):
            return value
        return float(f"{value:.6g}") if math.isfinite(value) else None

    return json.dumps(rounded(content), indent=1).encode() + b"\n"


def put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def say(line: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"  {line}\n")
    sys.stderr.flush()
