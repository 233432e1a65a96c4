"""Promise 7 for memory: users and tenants share a database and nothing else, whatever they are called and say."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext

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


def act(memory: ConversationMemory, step: str, number: int, name: str) -> None:
    """Write as one user, or forget; a turn of another may be named, and is not reached."""
    if step == "say":
        memory.observe(f"The lamp {number} of {name}")
    elif step == "note":
        with memory.stream.store.write() as connection:
            owner = stored.find_owner(connection, memory.tenant, memory.user)
            if owner is not None:
                noted.insert(connection, owner, [Note(0, "", "fact", f"note {name}", (number,), 1.0)])
    elif step == "forget turn":
        known = any(turn.id == number for turn in memory.turns())
        with nullcontext() if known else pytest.raises(InputError, match="no turn of this memory"):
            memory.forget(turn=number)
    else:
        memory.forget(**{"session": {"session": "same"}, "matching": {"matching": f"lamp {number}"}}.get(
            step.removeprefix("forget "), {"user": True}))  # fmt: skip


@fixtures
@given(history=st.lists(steps, min_size=1, max_size=14))
def test_no_call_reaches_across(make, history) -> None:
    with make() as first, ExitStack() as stack:
        libraries = {tenant: stack.enter_context(make(first.path, tenant=tenant)) for tenant, _ in PLACES}
        memories = [libraries[tenant].memory(user=user, session="same") for tenant, user in PLACES]
        before = [told(memory) for memory in memories]
        for place, step, number in history:
            act(memories[place], step, number, f"{PLACES[place]}")
            after = [told(memory) for memory in memories]
            assert [texts for other, texts in enumerate(after) if other != place] == [
                texts for other, texts in enumerate(before) if other != place
            ]
            assert all(f"{PLACES[place]}" in text for text in after[place])
            assert step != "say" or f"The lamp {number} of {PLACES[place]}" in after[place]
            before = after


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
