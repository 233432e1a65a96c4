"""What a flow is before it runs: a name, its arguments, and a way to begin it as often as is wanted."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from carrel.agents import Ask, Fit, Flow, Retrieve, Steps, chain_of_agents, flow, iterative, run
from carrel.errors import InputError
from carrel.testing import FakeGenerator
from carrel.types import Completion, Prompt


@flow("Somebody, A Paper, arXiv 0000.00000")
def greeting(name: str, *more: str, loud: bool = False, **rest: str) -> Steps[str]:
    """Greets."""
    reply: Completion = yield Ask(Prompt(f"greet {name}"))
    return reply.text.upper() if loud else reply.text


def test_a_call_makes_a_flow_and_does_nothing_else() -> None:
    made = greeting("Ada", "Bo", loud=True, city="Bath")
    assert isinstance(made, Flow)
    assert made.name == "greeting" and made.citation == "Somebody, A Paper, arXiv 0000.00000"
    assert dict(made.arguments) == {"name": "Ada", "more": ("Bo",), "loud": True, "rest": {"city": "Bath"}}


def test_defaults_are_arguments_too() -> None:
    assert greeting("Ada") == greeting(name="Ada", loud=False)
    assert greeting("Ada") != greeting("Ada", loud=True)


def test_it_can_be_begun_again() -> None:
    made = greeting("Ada", loud=True)
    assert [run(made, generator=FakeGenerator("hello")).result for _ in range(2)] == ["HELLO", "HELLO"]
    assert made.begin() is not made.begin()


def test_the_function_keeps_its_name_and_its_words() -> None:
    assert greeting.__doc__ == "Greets." and greeting.name == "greeting"


def test_wrong_arguments_are_an_error_of_the_call() -> None:
    with pytest.raises(TypeError, match="name"):
        greeting()  # type: ignore[call-arg]


def test_only_generator_functions_are_flows() -> None:
    def plain() -> int:
        return 1

    with pytest.raises(InputError, match="plain is none"):
        flow("a paper")(plain)  # type: ignore[arg-type]


def test_the_mark_has_parentheses() -> None:
    def steps() -> Steps[None]:
        yield []

    with pytest.raises(InputError, match=r"@flow\(\)"):
        flow(steps)  # type: ignore[arg-type]


def test_requests_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Ask(Prompt("q")).example = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Ask("Who?"), "Ask takes a carrel.types.Prompt"),
        (lambda: Fit("Who?", ()), "Fit takes a carrel.types.Prompt"),
        (lambda: Retrieve(3), "Retrieve takes the text to search for, not 3"),
        (lambda: run(iterative, generator=FakeGenerator("r")), "iterative, which makes a flow when it is called"),
        (lambda: run(chain_of_agents("Who?", "a text"), generator=FakeGenerator("r")), "not 'a text'"),
        (lambda: run(chain_of_agents("Who?", None), generator=FakeGenerator("r")), "not None"),
        (lambda: run(iterative("Who?"), generator=FakeGenerator("r"), tools="search"), "tools is a list of tools"),
    ],
)
def test_what_is_given_in_the_wrong_place_is_named(make, told) -> None:
    with pytest.raises(InputError, match=told) as raised:
        make()
    assert raised.value.__context__ is None  # no other error is shown above it
