"""What repeats a question is told from what answers it."""

from __future__ import annotations

import pytest

from carrel.generation.echoes import asks_for_code, code_spans, is_echo

QUESTION = "At what wind speed does the quay crane stop lifting today?"
NEAR = "At what wind speed does the quay crane stop lifting?"


@pytest.mark.parametrize(
    "sentence",
    [
        QUESTION,
        f"Visitors ask: {QUESTION.upper()} at the desk.",
        NEAR,
        f'"{NEAR}"',
        f'library.stream("{NEAR}")',
        f'events = list(library.stream("{NEAR}")) assert isinstance(events[0], SourcesEvent)',
        f"ask(question='{NEAR}')",
        "At what wind speed does the big quay crane stop lifting?",
    ],
)
def test_a_repetition_whole_or_nearly_is_an_echo(sentence: str) -> None:
    assert is_echo(QUESTION, sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "The quay crane stops lifting at a wind speed of 24 knots.",
        "The quay crane must stop lifting today at 24 knots of wind speed.",
        f'"{NEAR}" 24 knots.',
        f'The engineer was asked "{NEAR}" and said 24 knots.',
        'set_limit("quay crane stop lifting wind speed 24")',
        "At what hour does the office open?",
        "Is it windy?",
        "",
    ],
)
def test_what_says_more_is_none(sentence: str) -> None:
    assert not is_echo(QUESTION, sentence)


def test_who_said_so_is_an_answer() -> None:
    assert not is_echo("Who said the ferry leaves at nine?", 'Smith said: "The ferry leaves at nine."')


def test_in_code_only_the_quoted_text_counts() -> None:
    assert is_echo(QUESTION, f'carrel ask "{NEAR}" --explain', is_code=True)
    assert not is_echo(QUESTION, f'carrel ask "{NEAR}" --explain')


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("No fence.", []),
        ("One.\n```python\nx\n```\nTwo.", ["```python\nx\n```\n"]),
        ("```\nx\n```\nTwo.\n~~~\ny", ["```\nx\n```\n", "~~~\ny"]),
        ("x\n```\nTwo.\n```sh\ny\n```", ["x\n```\n", "```sh\ny\n```"]),
        ("Inline ``` is none.", []),
        ("```", ["```"]),
    ],
)
def test_code_is_what_fences_hold(text: str, code: list[str]) -> None:
    assert [text[span.start : span.end] for span in code_spans(text)] == code


@pytest.mark.parametrize(
    ("question", "expected"),
    [(QUESTION, False), ("What does `open` do?", True), ("What does carrel.open() return?", True), ("Why 3.5?", False)],
)
def test_a_question_with_code_in_it_asks_for_code(question: str, expected: bool) -> None:
    assert asks_for_code(question) is expected
