"""What the trainings share: stages in order, whole files, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pytest

from training.runs import CtrlC, as_json, exit_code, put, run_stages


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_waits_for_the_step_and_a_second_one_does_not() -> None:
    before, ctrl_c = signal.getsignal(signal.SIGINT), CtrlC()
    with ctrl_c.heeded():
        press()
        assert ctrl_c.pressed
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_interrupts_at_once_where_nothing_would_look() -> None:
    before, ctrl_c, learning = signal.getsignal(signal.SIGINT), CtrlC(), [False]
    with pytest.raises(KeyboardInterrupt), ctrl_c.heeded(lambda: learning[0]):
        press()
    assert not ctrl_c.pressed and signal.getsignal(signal.SIGINT) is before
    learning[0] = True
    with ctrl_c.heeded(lambda: learning[0]):
        press()
    assert ctrl_c.pressed


def test_on_another_thread_signals_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with CtrlC().heeded():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_chosen_stages_run_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []
    stages = {name: lambda run, name=name: ran.append(name + run) for name in ("mine", "train", "write")}
    run_stages(stages, "write,mine", "!")
    assert ran == ["mine!", "write!"]
    assert capsys.readouterr().err.startswith("  == mine\n  mine: 0 s\n  == write\n")


def test_what_was_stopped_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    assert (exit_code(lambda: None), capsys.readouterr().err) == (0, "")
    assert (exit_code(stopped), capsys.readouterr().err) == (130, "  stopped; the same command goes on from here\n")


def test_json_is_written_with_six_digits_and_null_for_what_is_no_number() -> None:
    assert json.loads(as_json({"a": [1 / 3, 12345678], "b": (True, "x", None), "c": float("nan")})) == {
        "a": [0.333333, 12345678], "b": [True, "x", None], "c": None,
    }  # fmt: skip


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "facts.json"
    put(path, b"one")

    def broken(self: Path, content: bytes) -> int:
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OSError, match="full"):
        put(path, b"two")
    assert path.read_bytes() == b"one" and [each.name for each in path.parent.iterdir()] == ["facts.json"]
