"""``kill -9`` while turns are observed: every turn that ``observe`` returned for is there, whole, and is embedded."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from carrel.memory import open as open_memory
from carrel.memory.words import embedded_text
from carrel.testing import HashEncoder

WORKER = """
import sys
from carrel.memory import open as open_memory
from carrel.testing import HashEncoder
with open_memory(sys.argv[1], user="ann", encoder=HashEncoder(16)) as memory:
    print("ready", flush=True)
    number = int(sys.argv[2])
    while True:
        number += 1
        turn = memory.observe(f"lamp {number} " * (number % 40 + 1), said_at=float(number))
        print(turn.id, number, flush=True)
        if number % 7 == 0:
            gone = turn.id - 3
            print("forget", gone, flush=True)
            memory.forget(turn=gone)
            print("forgot", gone, flush=True)
"""


def kill_at_random(folder: Path, kills: int, seed: int) -> tuple[int, int]:
    """Kill a worker so many times; returns how many turns it observed, and how many kills left some unembedded."""
    source, sure, unembedded, number = random.Random(seed), dict[int, int](), 0, 0
    for _ in range(kills):
        command = [sys.executable, "-c", WORKER, str(folder), str(number)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert worker.stdout
        try:
            assert worker.stdout.readline() == "ready\n"
            time.sleep(source.random() * 0.3)
        finally:
            worker.kill()
            lines = [line.split() for line in worker.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
            worker.stdout.close()
            worker.wait()
        perhaps_gone: set[int] = set()
        for first, second in lines:
            if first == "forget":
                perhaps_gone = {int(second)}
            elif first == "forgot":
                sure.pop(int(second), None)
                perhaps_gone = set()
            else:
                sure[int(first)] = int(second)
        with open_memory(folder, user="ann", encoder=HashEncoder(16)) as memory:
            turns = memory.turns()
            found = {turn.id: turn for turn in turns}
            assert set(sure) - set(found) <= perhaps_gone
            extra = set(found) - set(sure)  # one may have been written before its number was told
            assert len(extra) <= 1
            assert all(each > max(sure, default=0) for each in extra)
            for turn in turns:
                said = int(turn.said_at)
                assert turn.text == f"lamp {said} " * (said % 40 + 1)
                assert sure.get(turn.id, said) == said
            sure = {turn.id: int(turn.said_at) for turn in turns}
            number = max(sure.values(), default=number)
            unembedded += memory.status().unembedded > 0
            assert memory.flush(20)
            vectors = memory._source.vectors([turn.id for turn in turns])
            expected = memory.stream.encoder.encode_texts([embedded_text(turn.speaker, turn.text) for turn in turns])
            assert np.array_equal(vectors, expected)
            with memory.stream.store.read() as connection:
                assert connection.exec_driver_sql("PRAGMA integrity_check").all() == [("ok",)]
                lost = "SELECT count(*) FROM memory_vectors WHERE turn_id NOT IN (SELECT id FROM memory_turns)"
                assert connection.exec_driver_sql(lost).scalar_one() == 0
    return number, unembedded


def test_three_kills_lose_nothing(tmp_path: Path) -> None:
    observed, _ = kill_at_random(tmp_path / "memory", 3, seed=1)
    assert observed >= 20


@pytest.mark.slow
def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    observed, unembedded = kill_at_random(tmp_path / "memory", 50, seed=2026)
    assert observed >= 500
    assert unembedded >= 5, "no kill came between a turn and its vector: nothing was tested"
