"""Turns in the store, against plain lists."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.memory import Utterance

fixtures = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@fixtures
@given(
    said=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), min_size=1, max_size=15),
    reach=st.integers(0, 4),
    last=st.integers(0, 6),
    since=st.none() | st.integers(0, 6),
    before=st.none() | st.integers(0, 6),
)
def test_it_selects_what_plain_lists_select(make, said, reach: int, last: int, since, before) -> None:
    with make() as memory:
        memory.observe_many([Utterance("x", said_at=float(at), session=session) for session, at in said])
        plain = sorted(memory.turns(ids=range(1, len(said) + 1)), key=lambda turn: (turn.said_at, turn.id))
        assert memory.turns() == plain
        for session in (None, "a", "b", "none"):
            chosen = [
                turn
                for turn in plain
                if session in (None, turn.session)
                and (since is None or turn.said_at >= since)
                and (before is None or turn.said_at < before)
            ]
            assert memory.turns(session=session, since=since, before=before) == chosen
            assert (
                memory.turns(session=session, since=since, before=before, last=last)
                == chosen[max(0, len(chosen) - last) :]
            )
        for turn in plain:
            own = [each for each in plain if each.session == turn.session]
            place = own.index(turn)
            assert memory._source.around(turn.id, reach) == own[max(0, place - reach) : place + reach + 1]
        assert memory._source.span() == (plain[0].said_at, plain[-1].said_at)
        assert [(each.name, each.turns) for each in sorted(memory.sessions(), key=lambda each: each.name)] == [
            (name, sum(session == name for session, _ in said)) for name in "ab" if any(s == name for s, _ in said)
        ]


def test_very_many_ids(make) -> None:
    with make() as memory:
        ids = memory.observe_many([f"turn {number}" for number in range(1500)])
        assert [turn.id for turn in memory.turns(ids=ids[::-1])] == ids[::-1]
        assert len(memory.forget(turn=ids[:1400]).turns) == 1400
        assert len(memory.turns()) == 100
