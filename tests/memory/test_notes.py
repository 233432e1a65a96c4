"""Notes in the store: whole or not at all, and what marks their turns as read."""

from __future__ import annotations

from carrel.memory import Note
from carrel.memory import notes as noted
from carrel.memory import turns as stored
from carrel.memory.turns import Owner


def owner_of(memory, connection) -> Owner:
    return stored.find_owner(connection, memory.tenant, memory.user)


def test_a_note_is_given_back_as_it_was_written(make) -> None:
    with make() as memory:
        memory.observe_many(["one", "two"])
        with memory.stream.store.write() as connection:
            owner = owner_of(memory, connection)
            written = noted.insert(connection, owner, [Note(0, "s", "summary", "Both.", (2, 1, 2), 7.0)])
            assert noted.insert(connection, owner, [Note(0, "s", "fact", "Of no one.", (1, 3), 7.0)]) == []
        assert [note.id for note in written] == [1]
        assert memory.notes() == [Note(1, "s", "summary", "Both.", (1, 2), 7.0)]
        assert memory._source.summaries([2]) == memory.notes()
        assert not memory._source.facts()


def test_turns_are_read_once_a_session_at_a_time(make) -> None:
    with make(session="a") as memory:
        memory.observe_many(["one", "two"])
        memory.in_session("b").observe("three")
        with memory.stream.store.write() as connection:
            owner = owner_of(memory, connection)
            assert [row[:2] for row in noted.unread_sessions(connection, owner)] == [("a", 2), ("b", 1)]
            assert [turn.text for turn in noted.unread_turns(connection, owner, "a", 1)] == ["one"]
            noted.mark_read(connection, owner, [1])
            assert (noted.unread(connection, owner), noted.unread(connection, owner, [1, 2])) == (2, 1)
            noted.insert(connection, owner, [Note(0, "a", "fact", "One.", (1,), 1.0)])
            noted.remove(connection, owner, [1])
            assert noted.unread(connection, owner) == 3, "what its notes rested on is to be read again"


def test_subjects_are_alike_whatever_their_case() -> None:
    assert noted.subject_key(" Ann's  HOME ") == noted.subject_key("ann's home")
