"""Promise 7 for memory: users and tenants share a database and nothing else, whatever they are called and say."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.memory import ConversationMemory, Note
from carrel.memory import notes as noted
from carrel.memory import turns as stored

fixtures = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
PLACES = [("a", "ann"), ("a", "bob"), ("b", "ann"), ("ann", "a"), ("a", "Ann"), ("a", "%"), ("a", "ann' OR '1'='1")]
steps = st.tuples(
    st.sampled_from(range(len(PLACES))),
    st.sampled_from(["say", "say", "say", "note", "forget turn", "forget session", "forget matching", "forget user"]),
    st.integers(1, 12),
)


def told(memory: ConversationMemory) -> set[str]:
    """Every text that a memory gives, by any call."""
    texts = {turn.text for turn in memory.turns()} | {note.text for note in memory.notes(history=True)}
    texts |= {turn.text for turn in memory.turns(ids=list(range(1, 60)))}
    texts |= {turn.text for id in range(1, 40) for turn in memory._source.around(id, 3)}
    found = memory.recall("lamp", budget=400)
    texts |= {turn.text for each in found.recalled for turn in each.turns} | {turn.text for turn in found.recent}
    for each in memory._source.search("lamp", memory.stream.encoder.encode_query("lamp"), 50):
        texts.add(each.turn.text)
    return texts


@fixtures
@given(history=st.lists(steps, min_size=1, max_size=14))
def test_no_call_reaches_across(make, history) -> None:
    with make() as first:
        libraries = {tenant: make(first.path, tenant=tenant) for tenant, _ in PLACES}
        memories = [libraries[tenant].memory(user=user, session="same") for tenant, user in PLACES]
        own: list[set[str]] = [set() for _ in PLACES]
        for place, step, number in history:
            memory, kept = memories[place], own[place]
            if step == "say":
                text = f"The lamp {number} of {PLACES[place]}"
                memory.observe(text)
                kept.add(text)
            elif step == "note" and memory.turns():
                with memory.stream.store.write() as connection:
                    owner = stored.find_owner(connection, memory.tenant, memory.user)
                    turns = (number, memory.turns()[0].id)  # perhaps one of another: then it is not written
                    noted.insert(connection, owner, [Note(0, "", "fact", "stolen", turns, 1.0)])
                    noted.insert(connection, owner, [Note(0, "", "fact", f"note {PLACES[place]}", turns[1:], 1.0)])
                kept.add(f"note {PLACES[place]}")
            elif step == "forget turn":
                mine = {turn.id for turn in memory.turns()}
                if number in mine:
                    memory.forget(turn=number)
                else:
                    with pytest.raises(InputError, match="no turn of this memory"):
                        memory.forget(turn=number)
            elif step == "forget session":
                memory.forget(session="same")
            elif step == "forget matching":
                memory.forget(matching=f"lamp {number}")
            elif step == "forget user":
                memory.forget(user=True)
            kept &= {
                text for text in kept if text in {*(t.text for t in memory.turns()), *(n.text for n in memory.notes())}
            }
            for other, texts in zip(memories, own, strict=True):
                assert told(other) - {"stolen"} == texts
        for memory, (tenant, user), texts in zip(memories, PLACES, own, strict=True):
            assert all(f"{(tenant, user)}" in text or text == "stolen" for text in told(memory)), texts
        for library in libraries.values():
            library.close()


def test_the_words_of_one_do_not_move_the_scores_of_another(make) -> None:
    def scores(memory: ConversationMemory) -> list[tuple[int, float, float]]:
        vector = memory.stream.encoder.encode_query("lamp burns")
        found = memory._source.search("lamp burns", vector, 50)
        return [(each.turn.id, each.dense, each.lexical) for each in found]

    with make() as library:
        ann, bob = library.memory(user="ann"), library.memory(user="bob")
        ann.observe_many([f"The lamp number {n} burns" for n in range(6)])
        assert ann.flush(10)
        before = scores(ann)
        bob.observe_many([f"The lamp lamp lamp {n}" for n in range(40)])
        assert bob.flush(10)
        assert scores(ann) == before
        bob.forget(user=True, purge=True)
        assert scores(ann) == before
        assert len(ann.turns()) == 6
