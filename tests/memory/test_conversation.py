"""A user's memory as an application meets it."""

from __future__ import annotations

import inspect
import threading
import time
from datetime import datetime, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import carrel
from carrel.errors import EmptyQuestionError, InputError, StoreClosedError, StoreNotFoundError, StoreReadOnlyError
from carrel.memory import ConversationMemory, Session, Utterance
from carrel.memory import open as open_memory
from carrel.testing import FakeGenerator, HashEncoder

fixtures = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def test_a_turn_is_kept_as_it_was_said_and_found_at_once(make) -> None:
    with make() as memory:
        before = time.time()
        turn = memory.observe("  I keep bees, and a goat called Zora.\n", speaker="Ann")
        assert (turn.text, turn.speaker, turn.session) == ("  I keep bees, and a goat called Zora.\n", "Ann", "default")
        assert before <= turn.said_at <= time.time()
        assert memory.turns() == [turn]
        assert memory.in_session("next").recall("What is the goat called?").recalled[0].turns == (turn,)


def test_what_is_observed_outlives_the_process_that_did(make) -> None:
    with make() as memory:
        memory.observe("The goat is called Zora.", said_at=5.0)
        folder = memory.stream.store.folder
    with make(folder) as again:
        assert [turn.text for turn in again.turns()] == ["The goat is called Zora."]
        assert again.flush(10)
        assert again.status().unembedded == 0


def test_turns_are_in_the_order_of_time_then_of_observation(make) -> None:
    with make() as memory:
        said = [("late", 9.0), ("early", 1.0), ("first of two", 5.0), ("second of two", 5.0)]
        memory.observe_many([Utterance(text, said_at=at) for text, at in said])
        assert [turn.text for turn in memory.turns()] == ["early", "first of two", "second of two", "late"]
        assert [turn.text for turn in memory.turns(last=2)] == ["second of two", "late"]
        assert [turn.text for turn in memory.turns(since=5.0, before=9.0)] == ["first of two", "second of two"]
        assert [turn.text for turn in memory._source.around(3, 1)] == ["early", "first of two", "second of two"]
        assert [turn.text for turn in memory._source.last(3)] == ["first of two", "second of two", "late"]
        assert [turn.id for turn in memory.turns(ids=[4, 99, 1])] == [4, 1]


def test_sessions(make) -> None:
    with make(session="monday") as memory:
        memory.observe("one", said_at=1.0)
        memory.in_session("tuesday").observe("two", said_at=2.0)
        memory.observe_many([Utterance("three", session="sunday", said_at=0.5), Utterance("four", said_at=4.0)])
        assert memory.sessions() == [
            Session("sunday", 1, 0.5, 0.5),
            Session("monday", 2, 1, 4),
            Session("tuesday", 1, 2, 2),
        ]
        assert [turn.text for turn in memory.turns(session="monday")] == ["one", "four"]
        assert [turn.text for turn in memory._source.around(1, 5)] == ["one", "four"]


def test_the_last_turns_of_the_session_are_recalled_as_such(make) -> None:
    with make(session="a") as memory:
        memory.observe("I have a goat.")
        memory.in_session("b").observe("I have a horse.")
        assert [turn.text for turn in memory.recall("and what else?").recent] == ["I have a goat."]


def test_times_may_be_datetimes(make) -> None:
    with make() as memory:
        at = datetime(2024, 5, 3, tzinfo=timezone.utc)
        assert memory.observe("x", said_at=at).said_at == at.timestamp()
        assert memory.turns(since=at) == memory.turns()
        assert memory.turns(before=at) == []
        assert memory.recall("x", now=at).query == "x"


@fixtures
@given(
    said=st.lists(st.tuples(st.sampled_from(["user", "Ann"]), st.text(min_size=1).filter(str.strip)), max_size=6),
    query=st.text(min_size=1, max_size=30).filter(str.strip),
    budget=st.integers(0, 60),
)
def test_any_text_is_kept_exactly_and_no_budget_exceeded(make, said, query: str, budget: int) -> None:
    with make() as memory:
        for speaker, text in said:
            memory.observe(text, speaker=speaker)
        kept = [(turn.speaker, turn.text) for turn in memory.turns()]
        assert kept == [(speaker, text.encode("utf-8", "replace").decode()) for speaker, text in said]
        assert memory.recall(query, budget=budget).tokens <= budget


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda memory: memory.observe(""), "nothing to remember"),
        (lambda memory: memory.observe(b"x"), "the text of a turn is a text"),
        (lambda memory: memory.observe("x", speaker=" "), "a speaker is a name"),
        (lambda memory: memory.observe("x", said_at=float("nan")), "seconds since 1970"),
        (lambda memory: memory.observe("x", said_at="May"), "seconds since 1970"),
        (lambda memory: memory.observe_many("x"), "keep one with observe"),
        (lambda memory: memory.observe_many([3]), "Utterance"),
        (lambda memory: memory.recall("x", budget=True), "whole number of tokens"),
        (lambda memory: memory.recall(3), "a query is a text"),
        (lambda memory: memory.recall("x", reader=1), "reader is True or False"),
        (lambda memory: memory.forget(), "say what to forget"),
        (lambda memory: memory.forget(turn=1, user=True), "say what to forget"),
        (lambda memory: memory.forget(turn=True), "whole number"),
        (lambda memory: memory.forget(turn=99), "no turn of this memory has the id 99"),
        (lambda memory: memory.forget(matching="?!"), "it has no words"),
        (lambda memory: memory.in_session(""), "a session is a name"),
    ],
)
def test_bad_input_is_refused(make, call, message: str) -> None:
    with make() as memory:
        memory.observe("hello")
        with pytest.raises(InputError, match=message):
            call(memory)
        assert len(memory.turns()) == 1


def test_an_empty_query_is_refused(make) -> None:
    with make() as memory, pytest.raises(EmptyQuestionError):
        memory.recall(" ")


def test_a_user_must_be_named(tmp_path) -> None:
    for user in ("", "  ", None, 3, "x" * 501):
        with pytest.raises(InputError, match="a user is"):
            open_memory(tmp_path / "m", user=user, encoder=HashEncoder())  # type: ignore[arg-type]


def test_a_generator_is_checked(tmp_path) -> None:
    with pytest.raises(InputError, match="a generator is an object"):
        open_memory(tmp_path / "m", user="ann", encoder=HashEncoder(), generator="gpt")  # type: ignore[arg-type]
    with open_memory(tmp_path / "m", user="ann", encoder=HashEncoder(), generator=FakeGenerator()) as memory:
        assert memory.generator is not None


def test_many_are_observed_with_progress(make) -> None:
    with make() as memory:
        seen: list[int] = []
        ids = memory.observe_many((f"turn {number}" for number in range(1201)), progress=seen.append)
        assert (ids, seen) == (list(range(1, 1202)), [500, 1000, 1201])
        assert memory.flush(30)
        status = memory.status()
        assert (status.turns, status.sessions, status.unembedded, status.failure) == (1201, 1, 0, "")


def test_the_memory_of_a_library(tmp_path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder(), tenant="acme") as library:
        library.add_text("The ferry leaves at nine.", id="ferry")
        memory = library.memory(user="ann", session="today")
        memory.observe("My goat is called Zora.")
        assert library.memory(user="ann").turns() == memory.turns()
        memory.close()  # the library's, and open as long as it
        memory.observe("It is black.")
        assert [passage.document_id for passage in library.search("goat ferry")] == ["ferry"]
        assert all(check.ok for check in library.doctor())
    with pytest.raises(StoreClosedError):
        memory.observe("x")
    with open_memory(tmp_path, user="ann", tenant="acme", encoder=HashEncoder()) as again:
        assert [turn.text for turn in again.turns()] == ["My goat is called Zora.", "It is black."]


def test_a_library_without_memory_opens_read_only_and_knows_nothing(tmp_path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        library.add_text("The ferry leaves at nine.", id="ferry")
    with carrel.open(tmp_path, encoder=HashEncoder(), read_only=True) as library:
        memory = library.memory(user="ann")
        assert (memory.turns(), memory.sessions(), memory.notes(), memory.status().turns) == ([], [], [], 0)
        assert memory.recall("ferry").recalled == ()
        assert memory.flush(1)
        with pytest.raises(StoreReadOnlyError):
            memory.observe("x")
        with library._store.read() as connection:
            names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name LIKE 'memory%'").all()
    assert names == []


def test_what_is_there_is_recalled_read_only(make) -> None:
    with make() as memory:
        memory.observe("My goat is called Zora.")
        assert memory.flush(10)
        folder = memory.stream.store.folder
    with make(folder, read_only=True) as memory:
        assert memory.recall("goat?", budget=100).recalled or memory.recall("goat?").recent
    with pytest.raises(StoreNotFoundError):
        make(folder / "other", create=False)


def test_threads_may_share_a_memory(make) -> None:
    with make() as memory:
        failures: list[Exception] = []

        def work(number: int) -> None:
            try:
                for turn in range(20):
                    memory.observe(f"thread {number} says lamp {turn}")
                    memory.recall("lamp", budget=50)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert memory.flush(10)
        assert len(memory.turns()) == 80
        assert [turn.id for turn in sorted(memory.turns(), key=lambda turn: turn.id)] == list(range(1, 81))


async def test_the_async_face_says_the_same(make) -> None:
    async with make() as memory:
        turn = await memory.aobserve("My goat is called Zora.")
        assert await memory.aobserve_many(["It is black."]) == [2]
        assert await memory.aflush(10)
        now = time.time()
        assert await memory.arecall("goat?", now=now) == memory.recall("goat?", now=now)
        assert (await memory.aturns(last=2))[0] == turn
        assert (await memory.astatus(), await memory.asessions()) == (memory.status(), memory.sessions())
        assert (await memory.aforget(turn=1)).turns == (1,)
        assert await memory.anotes() == []
        await memory.apurge()


def test_each_operation_has_a_twin() -> None:
    without = {"in_session", "as_tools"}  # nothing in it takes time
    members = vars(ConversationMemory)
    public = [name for name, value in members.items() if inspect.isfunction(value) and name[0] != "_"]
    operations = [name for name in public if not hasattr(members[name], "__wrapped__") and name not in without]
    assert {f"a{name}" for name in operations} == {name for name in public if hasattr(members[name], "__wrapped__")}
