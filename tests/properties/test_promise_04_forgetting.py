"""Promise 4 for memory: what was forgotten is recalled by no one, from no process; purged, no file holds it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.library import Library
from carrel.memory import ConversationMemory, Note, Utterance
from carrel.memory import notes as noted
from carrel.memory import turns as stored
from tests.properties.test_promise_04_a_delete_is_complete import SECRET, files_with, forget_nothing

fixtures = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
QUERIES = (SECRET, f"the {SECRET} of the lamp", "lamp rope gull")


def told(memory: ConversationMemory) -> list[str]:
    """All that a memory gives, as text."""
    out = [repr(memory.recall(query, budget=500)) for query in QUERIES]
    for query in QUERIES:
        vector = memory.stream.encoder.encode_query(query)
        out += [repr(each) for each in memory._source.search(query, vector, 50)]
    out += [repr(memory.turns()), repr(memory.sessions()), repr(memory.notes(history=True))]
    return out


def holds(memory: ConversationMemory) -> bool:
    """Whether any of it holds the secret, besides the query that is given back with a recollection."""
    return any(SECRET in text for text in (_without_queries(text) for text in told(memory)))


def _without_queries(text: str) -> str:
    for query in QUERIES:
        for name in ("query", "rewritten"):
            text = text.replace(f"{name}={query!r}", "")
    return text


def note_of(memory: ConversationMemory, turn: int) -> None:
    with memory.stream.store.write() as connection:
        owner = stored.find_owner(connection, memory.tenant, memory.user)
        assert owner is not None
        noted.insert(connection, owner, [Note(0, SECRET, "fact", f"{SECRET}!", (turn,), 1.0, SECRET)])


WAYS = ("turn", "session", "matching", "user")


@fixtures
@given(
    kept=st.integers(0, 4),
    gone=st.integers(1, 4),
    filler=st.integers(0, 40),
    flushed=st.booleans(),
    way=st.sampled_from(WAYS),
)
def test_nothing_recalls_it_and_no_file_holds_it(make, kept, gone, filler, flushed: bool, way: str) -> None:
    with make() as library, make(library.path) as other:
        forget_nothing(library)
        user = SECRET if way == "user" else "ann"
        memory = library.memory(user=user, session=f"{SECRET}-session")
        beside = other.memory(user=user, session="lamp")
        if way != "user":
            memory.observe_many([Utterance(f"The lamp {n} and the gull.", session="lamp") for n in range(kept)])
        said = [
            memory.observe(f"The {SECRET} {number}. " + "The lamp. " * filler, speaker=SECRET) for number in range(gone)
        ]
        note_of(memory, said[0].id)
        if flushed:
            assert memory.flush(10)
        assert holds(memory)
        assert holds(beside)
        asked = {"turn": [turn.id for turn in said], "session": f"{SECRET}-session", "matching": SECRET, "user": True}
        report = memory.forget(**{way: asked[way]})
        assert len(report.turns) == gone
        assert len(report.notes) == 1
        for each in (memory.in_session("lamp"), beside):
            assert not holds(each)
        with make(library.path) as fresh:
            assert not holds(fresh.memory(user=user))
        assert memory.flush(10)
        memory.purge()
        assert files_with(library.path, SECRET) == []
        assert not holds(beside)
        assert all(check.ok for check in library.doctor())
        if way != "user":
            assert len(beside.turns()) == kept


def test_the_bytes_are_there_before_the_purge(make) -> None:
    """Else the test above would prove nothing."""
    with make() as library:
        forget_nothing(library)
        memory = library.memory(user="ann")
        memory.observe(f"The {SECRET}. " * 30)
        assert memory.flush(10)
        memory.forget(matching=SECRET)
        library._store.engine.dispose()
        assert files_with(library.path, SECRET) == ["carrel.db"]


def test_vectors_leave_with_their_turns(make) -> None:
    with make() as library:
        forget_nothing(library)
        memory = library.memory(user="ann")
        memory.observe(f"The {SECRET} burns.")
        memory.observe("The lamp.")
        assert memory.flush(10)
        (vector,) = memory._source.vectors([1])
        assert memory.forget(turn=1, purge=True).turns == (1,)
        assert not any(vector.tobytes() in path.read_bytes() for path in library.path.iterdir())
        with library._store.read() as connection:
            assert connection.exec_driver_sql("SELECT turn_id FROM memory_vectors").all() == [(2,)]


@pytest.mark.parametrize("purger", ["library", "memory"])
def test_a_purge_erases_what_any_user_of_any_tenant_forgot(make, purger: str) -> None:
    with make() as library, make(library.path, tenant="b") as other:
        forget_nothing(library)
        forget_nothing(other)
        theirs = other.memory(user="bob")
        theirs.observe(f"The {SECRET}.")
        theirs.observe("The lamp.")
        assert theirs.flush(10)
        theirs.forget(turn=1)
        library.purge() if purger == "library" else library.memory(user="nobody").purge()
        assert files_with(library.path, SECRET) == []
        assert [turn.text for turn in theirs.turns()] == ["The lamp."]
        assert theirs._source.search("lamp", theirs.stream.encoder.encode_query("lamp"), 3)[0].turn.id == 2


_OTHER_PROCESS = """
import sys
from pathlib import Path
from carrel.library import Library
from carrel.testing import HashEncoder
with Library(Path(sys.argv[1]), encoder=HashEncoder(64)) as library:
    memory = library.memory(user=sys.argv[2], session="elsewhere")
    print("ready", flush=True)
    for line in sys.stdin:
        found = memory.recall(line, budget=500)
        seen = {turn.id for each in found.recalled for turn in each.turns}
        seen |= {each.turn.id for each in memory._source.search(line, library.encoder.encode_query(line), 50)}
        print("seen", *sorted(seen), flush=True)
"""


class OtherProcess:
    """Recalls in a process of its own."""

    def __init__(self, library: Library, user: str) -> None:
        command = [sys.executable, "-c", _OTHER_PROCESS, str(library.path), user]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self) -> OtherProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def seen(self) -> list[int]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{SECRET} lamp\n")
        self.process.stdin.flush()
        word, *ids = self.process.stdout.readline().split()
        assert word == "seen"
        return [int(id) for id in ids]


def test_another_process_forgets_it_at_once(make) -> None:
    with make() as library:
        memory = library.memory(user="ann")
        memory.observe_many([f"{SECRET} one", f"{SECRET} two", "The lamp."])
        assert memory.flush(10)
        with OtherProcess(library, "ann") as other:
            assert other.seen() == [1, 2, 3]
            memory.observe("Another lamp.")
            assert other.seen() == [1, 2, 3, 4]
            memory.forget(turn=1)
            assert other.seen() == [2, 3, 4]
            memory.forget(matching=SECRET, purge=True)
            assert other.seen() == [3, 4]
            memory.forget(user=True)
            assert other.seen() == []
            memory.observe("A lamp again.")
            assert other.seen() == [5]
            assert files_with(library.path, SECRET) == []


def test_a_second_process_reaches_no_other_user(make) -> None:
    with make() as library, make(library.path, tenant="b") as elsewhere:
        library.memory(user="bob").observe(f"{SECRET} of bob, lamp")
        elsewhere.memory(user="ann").observe(f"{SECRET} of another tenant's ann, lamp")
        with OtherProcess(library, "ann") as other:
            assert other.seen() == []
            library.memory(user="ann").observe("The lamp of ann.")
            assert other.seen() == [3]
