"""The journal: what was asked once is asked never again, whatever happened in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from carrel.agents import Ask, Budget, Embed, Fit, Journal, Retrieve, Steps, flow, run, run_many
from carrel.agents.journal import given_to, key_of
from carrel.errors import BudgetSpentError, InputError, JournalError
from carrel.testing import EchoGenerator, FakeGenerator
from carrel.types import (
    Completion,
    Document,
    Passage,
    Prompt,
)


@flow()
def _chain(name: str, steps: int) -> Steps[list[str]]:
    said = [name]
    for _ in range(steps):
        replies: list[Completion] = yield [Ask(Prompt(said[-1])), Ask(Prompt("aside"))]
        said.append(replies[0].text)
    return said


@flow()
def _asking(prompt: Prompt) -> Steps[str]:
    reply: Completion = yield Ask(prompt)
    return reply.text


def _echo() -> FakeGenerator:
    return FakeGenerator(lambda prompt: f"{prompt.question}+")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "run.journal"


# -- going on -------------------------------------------------------------------------------------


def test_the_same_run_asks_for_nothing_twice(path: Path) -> None:
    first, second = _echo(), _echo()
    before = run(_chain("a", 3), generator=first, journal=path)
    after = run(_chain("a", 3), generator=second, journal=path)
    assert after.result == before.result == ["a", "a+", "a++", "a+++"]
    assert len(first.prompts) == 6 and second.prompts == []
    assert all(node.replayed for node in after.trace.asks) and not any(node.replayed for node in before.trace.asks)
    assert after.usage.total_tokens == 0 < before.usage.total_tokens
    assert [node.tokens_out for node in after.trace.asks] == [node.tokens_out for node in before.trace.asks]


def test_a_longer_budget_goes_on_where_the_shorter_ended(path: Path) -> None:
    first, second = _echo(), _echo()
    with pytest.raises(BudgetSpentError):
        run(_chain("a", 3), generator=first, journal=path, budget=Budget(calls=3))
    assert len(first.prompts) == 3
    assert run(_chain("a", 3), generator=second, journal=path, budget=Budget(calls=3)).result[-1] == "a+++"
    assert len(second.prompts) == 3


def test_a_step_that_failed_is_asked_again(path: Path) -> None:
    with pytest.raises(Exception, match="down"):
        run(_chain("a", 1), generator=FakeGenerator(ConnectionError("down")), journal=path)
    assert run(_chain("a", 1), generator=_echo(), journal=path).result == ["a", "a+"]


def test_flows_runs_and_an_open_journal_may_share_one(path: Path) -> None:
    with Journal(path) as journal:
        run_many([_chain("a", 1), _chain("b", 1)], generator=_echo(), journal=journal)
        run(_chain("c", 1), generator=_echo(), journal=journal)
        assert len(journal) == 6
        silent = FakeGenerator([])
        done = run_many([_chain("c", 1), _chain("b", 1), _chain("a", 1)], generator=silent, journal=journal)
    assert [each.result for each in done] == [["c", "c+"], ["b", "b+"], ["a", "a+"]]


def test_equal_flows_side_by_side_have_replies_of_their_own(path: Path) -> None:
    """Samples of one question: each goes its own way, and goes it again."""
    first = FakeGenerator(lambda prompt: f"{prompt.question}{len(first.prompts)}")
    before = [each.result for each in run_many([_chain("a", 2)] * 3, generator=first, journal=path)]
    assert len({tuple(result) for result in before}) == 3
    after = run_many([_chain("a", 2)] * 3, generator=FakeGenerator([]), journal=path)
    assert [each.result for each in after] == before


_KILLED = """
import os, sys, time
from carrel.agents import Ask, flow, run
from carrel.testing import FakeGenerator
from carrel.types import Completion, Prompt

journal, counter, stop = sys.argv[1], sys.argv[2], int(sys.argv[3])

@flow()
def chain(name):
    said = [name]
    for _ in range(5):
        first, second = yield [Ask(Prompt(said[-1])), Ask(Prompt(f"beside {said[-1]}"))]
        said.append(first.text)
    return said

class Counting(FakeGenerator):
    def complete(self, prompt):
        if prompt.question.count("+") == stop:
            print("waiting", flush=True)
            time.sleep(60)
        with open(counter, "a") as file:
            file.write(prompt.question + "\\n")
        return Completion(prompt.question + "+")

print(run(chain("a"), generator=Counting(), journal=journal, concurrency=1).result[-1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_after_kill_9_nothing_is_asked_twice(path: Path, tmp_path: Path) -> None:
    counter = tmp_path / "asked"

    def command(stop: int) -> list[str]:
        return [sys.executable, "-c", _KILLED, str(path), str(counter), str(stop)]

    process = subprocess.Popen(command(3), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "waiting\n"
        with pytest.raises(JournalError, match="in use by another run"):
            Journal(path)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(counter.read_text().splitlines()) == 6
    done = subprocess.run(command(-1), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "a+++++\n"
    asked = counter.read_text().splitlines()
    assert len(asked) == len(set(asked)) == 10


# -- files ----------------------------------------------------------------------------------------


def _written(path: Path) -> bytes:
    run(_chain("a", 3), generator=_echo(), journal=path)
    return path.read_bytes()


def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(path: Path) -> None:
    whole = _written(path)
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in [*range(start + 1, start + 12), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with Journal(path) as journal:
            assert len(journal) == 5
        assert path.read_bytes() == whole[:start]
    generator = _echo()
    assert run(_chain("a", 3), generator=generator, journal=path).result[-1] == "a+++"
    assert len(generator.prompts) == 1


@pytest.mark.parametrize(
    "damage", [b"\n", b"\0" * 20 + b"\n", b"[]\n", b"7\n", b'"text"\n', b'{"flow": "x"}\n', b'{"flow": "x\n', b"\xff\n"]
)
def test_a_damaged_line_is_an_error_with_its_number(path: Path, damage: bytes) -> None:
    whole = _written(path)
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[:first] + damage + whole[first:])
    with pytest.raises(JournalError, match=r"damaged at line 2\. Name another file"):
        Journal(path)
    assert path.read_bytes() == whole[:first] + damage + whole[first:]


@pytest.mark.parametrize("content", [b"my thesis, all in one line", b"{}", b"line\nline", b'{"flow": "a"}\nother'])
def test_another_file_named_by_mistake_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    mistaken = tmp_path / "thesis.txt"
    mistaken.write_bytes(content)
    with pytest.raises(JournalError, match="no journal of Carrel"):
        run(_chain("a", 1), generator=_echo(), journal=mistaken)
    assert mistaken.read_bytes() == content


@pytest.mark.parametrize("reply", [{"no": "such field"}, ["a"], "text", {"text": "a", "usage": 7}, {}])
def test_a_reply_that_cannot_be_read_is_an_error(path: Path, reply: Any) -> None:
    entries = [json.loads(line) for line in _written(path).splitlines()]
    path.write_text("".join(json.dumps(entry | {"reply": reply}) + "\n" for entry in entries))
    with pytest.raises(JournalError, match=r"step 0\.0 .*cannot be read"):
        run(_chain("a", 3), generator=_echo(), journal=path)


@pytest.mark.parametrize("request_", ["", "Ask", "Ask x y z", "Ask  "])
def test_a_request_that_cannot_be_read_is_another(path: Path, request_: str) -> None:
    entries = [json.loads(line) for line in _written(path).splitlines()]
    path.write_text("".join(json.dumps(entry | {"request": request_}) + "\n" for entry in entries))
    with pytest.raises(JournalError, match=r"another way|something has changed"):
        run(_chain("a", 3), generator=_echo(), journal=path)


def test_another_kind_of_request_is_no_change_of_the_library(path: Path) -> None:
    with Journal(path) as journal:
        journal.keep("f", "0", Retrieve("q"), (), "library:1")
        with pytest.raises(JournalError, match="step 0 was Retrieve, where there is Ask now"):
            journal.find("f", "0", Ask(Prompt("q")), "")


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a journal is the path of a file, not 5"):
        run(_chain("a", 1), generator=_echo(), journal=5)  # type: ignore[arg-type]
    with pytest.raises(JournalError, match="cannot be opened: embedded null byte"):
        Journal("a\0b")
    (tmp_path / "file").write_text("")
    for bad in (tmp_path, tmp_path / "file" / "journal"):
        with pytest.raises(JournalError, match="cannot be opened"):
            Journal(bad)


def test_one_process_cannot_open_it_twice_but_again_once_it_is_closed(path: Path) -> None:
    pytest.importorskip("fcntl")
    with Journal(path), pytest.raises(JournalError, match="in use by another run"):
        run(_chain("a", 1), generator=_echo(), journal=path)
    assert run(_chain("a", 1), generator=_echo(), journal=path).result == ["a", "a+"]


# -- other runs -----------------------------------------------------------------------------------


def test_other_arguments_generators_modes_and_flows_have_replies_of_their_own(path: Path) -> None:
    run(_chain("a", 1), generator=_echo(), journal=path, mode="fast")
    for other, generator, mode in [
        (_chain("a", 2), _echo(), "fast"),
        (_chain("b", 1), _echo(), "fast"),
        (_chain("a", 1), EchoGenerator(), "fast"),
        (_chain("a", 1), _echo(), "balanced"),
        (_asking(Prompt("a")), _echo(), "fast"),
    ]:
        done = run(other, generator=generator, journal=path, mode=mode)  # type: ignore[arg-type]
        assert done.result and not any(node.replayed for node in done.trace.asks)
    again = run(_chain("a", 1), generator=FakeGenerator([]), journal=path, mode="fast")
    assert again.result == ["a", "a+"]


class _Named(FakeGenerator):
    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.model = model


def test_another_model_has_replies_of_its_own(path: Path) -> None:
    assert [run(_chain("a", 1), generator=_Named(m), journal=path).result[1] for m in ("x", "y", "x")] == [
        "x",
        "y",
        "x",
    ]


def test_keys_of_plain_values_and_of_those_that_are_none() -> None:
    one, other = Document("text", "d"), Document("texts", "d")
    keys = {key_of(_chain(argument, 1), "g") for argument in ("1", 1, ("1",), {"1": 1}, one, other, None, 1.5)}  # type: ignore[arg-type]
    assert len(keys) == 7, "documents are named by their ids"
    assert key_of(_chain({3, 1, "a"}, 1), "g") == key_of(_chain({"a", 1, 3}, 1), "g")  # type: ignore[arg-type]
    assert given_to(_chain(one, 1)) != given_to(_chain(other, 1)) and given_to(_chain("1", 1)) == ""  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"_chain: .*Flows with a journal take plain values"):
        key_of(_chain(object(), 1), "g")  # type: ignore[arg-type]


# -- divergence -----------------------------------------------------------------------------------


def test_another_question_at_the_same_step_is_an_error(path: Path) -> None:
    wording = "first"

    @flow()
    def changing() -> Steps[str]:
        reply: Completion = yield Ask(Prompt(wording))
        return reply.text

    run(changing(), generator=_echo(), journal=path)
    wording = "second"
    generator = _echo()
    with pytest.raises(JournalError, match=r"step 0 was Ask with other content.*Take a new journal"):
        run(changing(), generator=generator, journal=path)
    assert generator.prompts == []


def test_another_kind_of_request_at_the_same_step_is_an_error(path: Path) -> None:
    kind = "ask"

    @flow()
    def changing() -> Steps[Any]:
        return (yield Ask(Prompt("q")) if kind == "ask" else Embed(("q",)))

    run(changing(), generator=_echo(), journal=path)
    kind = "embed"
    with pytest.raises(JournalError, match="step 0 was Ask, where there is Embed now"):
        run(changing(), generator=_echo(), journal=path)


# -- what is kept ---------------------------------------------------------------------------------


def test_what_a_prompt_takes_is_counted_again(path: Path) -> None:
    request = Fit(Prompt("q"), (Passage("d", 0, 1, "x"),))
    with Journal(path) as journal:
        journal.keep("f", "0", request, object())
        assert len(journal) == 0 and journal.find("f", "0", request) == (False, None)


def test_a_reply_is_on_the_disk_when_keep_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))
    with Journal(path) as journal:
        journal.keep("f", "0", Ask(Prompt("q")), Completion("a"))
        assert len(synced) == 1 and synced[0].endswith(b"\n")


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_is_an_error_and_harms_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """Half a line must not stay: the next would be written after it."""
    with Journal(path) as journal:
        journal.keep("f", "0", Ask(Prompt("q")), Completion("a"))
        before, file = path.read_bytes(), journal._file

        class Full:
            def write(self, data: memoryview) -> int:
                if len(data) < 60:
                    raise OSError(28, "No space left on device")
                return file.write(data[:50])

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            if fails == "write":
                patch.setattr(journal, "_file", Full())
            else:
                patch.setattr(os, "fsync", fail)
            with pytest.raises(JournalError, match=r"cannot be written: No space left on device\. The replies before"):
                journal.keep("f", "1", Ask(Prompt("q")), Completion("b"))
        assert path.read_bytes() == before and len(journal) == 1
        journal.keep("f", "2", Ask(Prompt("q")), Completion("c"))
    with Journal(path) as journal:
        assert len(journal) == 2


def test_a_file_system_without_locks_is_no_other_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    assert run(_chain("a", 1), generator=_echo(), journal=path).result == ["a", "a+"]


def test_a_long_journal_is_read_in_little_time(path: Path) -> None:
    line = json.dumps({"flow": "f", "path": "p", "request": "Ask x", "reply": {"text": "word " * 200}})
    path.parent.mkdir()
    path.write_text("".join(line.replace('"p"', f'"{n}"') + "\n" for n in range(5000)))
    began = time.perf_counter()
    with Journal(path) as journal:
        assert len(journal) == 5000
    assert time.perf_counter() - began < 5
