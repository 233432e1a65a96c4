import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import flow, run
from carrel.agents.fitting import reply_room
from carrel.agents.room import bounded, with_passages
from carrel.agents.tasks import REPAIR
from carrel.errors import ContextOverflowError
from carrel.testing.fakes import FakeGenerator
from carrel.types import Passage, Prompt


@flow()
def _roomy(prompt, passages, why):
    return (yield from with_passages(prompt, passages, why=why))


def _run(prompt, passages=(), why="", window=100):
    return run(_roomy(prompt, passages, why), generator=FakeGenerator(context_window=window)).result


@given(st.integers(0, 120), st.integers(0, 60), st.integers(0, 200), st.integers(1, 80))
def test_a_prompt_that_comes_back_fits_with_its_reply_and_with_what_was_wrong(asked, noted, read, most):
    text = "word " * read
    prompt = Prompt("word " * asked, notes=("note " * noted,), max_tokens=most)
    passages = (Passage("d", 0, len(text), text),) if text else ()
    generator = FakeGenerator(context_window=100)
    try:
        fitted, left = run(_roomy(prompt, passages, "it is wrong"), generator=generator).result
    except ContextOverflowError:
        assert asked + noted + min(most, 50) > 60
        return
    longest = Prompt(
        fitted.question, fitted.passages, notes=(*fitted.notes, REPAIR.format(why="it is wrong")), max_tokens=most
    )
    assert generator.prompt_tokens(longest) + reply_room(longest, 100) <= 100
    assert "".join(p.text for p in (*fitted.passages, *left)) == text


def test_a_prompt_without_passages_must_fit_too():
    assert _run(Prompt("word " * 60))[0].passages == ()
    with pytest.raises(ContextOverflowError):
        _run(Prompt("word " * 90))


def test_its_own_passages_come_first():
    own, more = Passage("a", 0, 3, "own"), Passage("b", 0, 4, "more")
    assert _run(Prompt("what", (own,)), (more,))[0].passages == (own, more)


def test_a_reply_is_cut_to_its_tokens_and_to_one_line():
    assert bounded("a  b\nc d", 3) == "a b c"
    assert len(bounded("x" * 1000, 10)) == 120
