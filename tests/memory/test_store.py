"""What memories of one library share in a process, and one user's part of it."""

from __future__ import annotations

import gc
import weakref

import carrel
from carrel.memory import Utterance
from carrel.memory.store import MemoryStream, UserTurns, stream_of
from carrel.testing import HashEncoder


def test_memories_of_a_library_share_one_index(tmp_path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        one, other = library.memory(user="ann"), library.memory(user="ann", session="b")
        assert one.stream is other.stream is stream_of(library._store, library.encoder)
        assert stream_of(library._store, HashEncoder(seed=1)) is not one.stream
        one.observe("The goat is called Zora.")
        assert other.recall("What is the goat called?").recalled
        one.recall("goat?")
        assert len(one.stream._indexes) == 1


def test_indexes_that_were_not_asked_for_longest_are_dropped(tmp_path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        stream = MemoryStream(library._store, library.encoder, most_index_bytes=60_000)
        vector = library.encoder.encode_query("goat")
        for user in "abcdef":
            library.memory(user=user).observe_many([f"goat {number} of {user}" for number in range(150)])
            assert len(UserTurns(stream, "local", user).search("goat", vector, 5)) >= 5
            assert stream.index_bytes <= 60_000 or len(stream._indexes) == 1
        assert 1 <= len(stream._indexes) < 6
        found = UserTurns(stream, "local", "a").search("goat 3", vector, 5)
        assert any(each.turn.text == "goat 3 of a" for each in found)


def test_a_user_who_was_forgotten_and_came_again_is_another(make) -> None:
    with make() as memory:
        memory.observe_many(["goat one", "goat two"])
        assert memory.flush(10)
        source, vector = memory._source, memory.stream.encoder.encode_query("goat")
        assert len(source.search("goat", vector, 5)) == 2
        memory.forget(user=True)
        assert source.search("goat", vector, 5) == []
        memory.observe("goat three")
        assert [each.turn.text for each in source.search("goat", vector, 5)] == ["goat three"]


def test_the_sources_order_is_that_of_time(make) -> None:
    with make() as memory:
        memory.observe_many([Utterance("late", said_at=5.0), Utterance("early", said_at=1.0, session="x")])
        source = memory._source
        assert source.span() == (1.0, 5.0)
        assert source.count() == 2
        assert [turn.text for turn in source.last(5)] == ["early", "late"]
        assert [turn.text for turn in source.last(5, session="x")] == ["early"]
        assert source.last(0) == []
        assert source.around(9, 2) == []


def test_a_closed_library_is_not_held(tmp_path) -> None:
    library = carrel.open(tmp_path, encoder=HashEncoder())
    library.memory(user="ann").observe("goat")
    held = weakref.ref(library._store)
    library.close()
    del library
    gc.collect()
    assert held() is None
