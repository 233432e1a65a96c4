"""The thread behind a memory: it lives while there is work, and nobody's call for it is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from carrel.memory import background
from carrel.memory.background import Background
from carrel.memory.turns import Owner
from carrel.retrieval.store import Store

ANN = Owner(1, "local", "ann")


class Counting(Background):
    """Counts its batches; each call brings a number of them."""

    name = "counting"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.left, self.done, self.lock = 0, 0, threading.Lock()

    def work(self, owner: Owner) -> bool:
        with self.lock:
            taken = min(self.left, 1)
            self.left, self.done = self.left - taken, self.done + taken
            return not self.left


@pytest.fixture
def counting(tmp_path):
    store = Store(tmp_path)
    behind = Counting(store)
    yield behind
    behind.stop()
    store.close()


def test_no_call_is_lost(counting: Counting) -> None:
    for _ in range(300):
        with counting.lock:
            counting.left += 1
        counting.wake(ANN)
    assert counting.wait(ANN, 10)
    assert counting.done == 300


class Shared(Background):
    """Batches of several users, in the order in which they were done; those of one fail."""

    name = "shared"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.left: dict[Owner, int] = {}
        self.done: list[str] = []

    def work(self, owner: Owner) -> bool:
        if owner.user == "failing":
            self.done.append("x")
            raise RuntimeError("no")
        time.sleep(0.002)
        self.left[owner] -= 1
        self.done.append(owner.user)
        return not self.left[owner]


def test_users_take_turns_and_a_failing_one_holds_up_no_other(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(background, "_TRIES_AFTER_S", (5.0, 5.0))
    store = Store(tmp_path)
    behind = Shared(store)
    many, few, bad = (Owner(id, "local", name) for id, name in ((1, "many"), (2, "few"), (3, "failing")))
    behind.left = {many: 500, few: 3}
    behind.wake(bad)
    behind.wake(many)
    behind.wake(few)
    began = time.monotonic()
    assert behind.wait(few, 10) and time.monotonic() - began < 2.0
    assert behind.done.count("many") < 100 and behind.done.count("x") == 1
    assert list(behind.failures) == [bad]
    assert behind.wait(bad, 10) and behind.done.count("x") == 3  # who waits is not put off
    behind.stop()
    store.close()


def test_the_thread_ends_without_work_and_begins_again(counting: Counting, monkeypatch) -> None:
    monkeypatch.setattr(background, "_LINGER_S", 0.01)
    for number in (1, 2):
        counting.left = 1
        counting.wake(ANN)
        assert counting.wait(ANN, 10)
        until = time.monotonic() + 10
        while counting._thread is not None and time.monotonic() < until:
            time.sleep(0.005)
        assert counting._thread is None
        assert counting.done == number


def test_what_is_stopped_goes_on_when_it_is_called_again(counting: Counting) -> None:
    counting.left = 10**9
    counting.wake(ANN)
    assert not counting.wait(ANN, 0.05)
    counting.stop()
    before = counting.done
    time.sleep(0.05)
    assert counting.done == before < 10**9
    counting.left = 3
    counting.wake(ANN)
    assert counting.wait(ANN, 10)
    assert counting.done == before + 3


def test_a_read_only_store_has_no_thread(tmp_path) -> None:
    Store(tmp_path).close()
    store = Store(tmp_path, read_only=True)
    behind = Counting(store)
    behind.wake(ANN)
    assert behind._thread is None
    store.close()


def test_a_program_that_just_ends_ends(tmp_path) -> None:
    program = (
        "from carrel.memory import open\nfrom carrel.testing import HashEncoder\n"
        f"memory = open({str(tmp_path)!r}, user='ann', encoder=HashEncoder())\n"
        "memory.observe_many(f'goat {n}' for n in range(2000))\nprint(len(memory.turns()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2000\n", "")
