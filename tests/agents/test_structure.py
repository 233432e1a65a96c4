"""Structurization: three levels read from JSON, each description bound, a text for prompts with one numbering."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import run
from carrel.agents.fitting import reply_room
from carrel.agents.outlines import SCHEMA, WHY, read_outline
from carrel.agents.structure import structure
from carrel.errors import ContextOverflowError, InputError, MalformedReplyError, RefusalError, ReplyFormatError
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Completion, Document, Passage, Prompt

PIER = "The pier was built in 1894 by the harbour company. It is ninety metres long."
FERRY = "The ferry leaves at nine in the morning. The last ferry returns at eighteen."
PASSAGES = [Passage("pier", 0, len(PIER), PIER), Passage("ferry", 0, len(FERRY), FERRY)]
ASPECTS = [
    ("Pier", ["The pier was built in 1894 by the harbour company [1].", "It is ninety metres long [1]."]),
    ("Ferry", ["The ferry leaves at nine in the morning [2].", "The ferry is painted blue [2]."]),
]


def outline(aspects: list[tuple[str, list[str]]] = ASPECTS, scope: str = "A harbour") -> str:
    return json.dumps({"scope": scope, "aspects": [{"aspect": name, "descriptions": said} for name, said in aspects]})


def first_sentences(prompt: Prompt) -> str:
    """A structure with an aspect for each passage: what it says first."""
    return outline(
        [
            (each.text.split()[0], [f"{' '.join(each.text.split('.')[0].split())} [{number}]."])
            for number, each in enumerate(prompt.passages, start=1)
        ]
    )


class TestStructure(FlowConformance):
    window = 700

    def make(self) -> Any:
        return structure(self.documents(), piece_tokens=100, tokens=128)

    def reply(self, prompt: Prompt) -> str:
        return first_sentences(prompt)

    def documents(self) -> list[Document]:
        return [Document(f"{PIER} {FERRY} " * 3, id=str(number)) for number in range(3)]


def test_three_levels_with_what_each_description_rests_on() -> None:
    generator = FakeGenerator(f"Here it is:\n```json\n{outline()}\n```")
    result = run(structure(PASSAGES), generator=generator, mode="fast").result
    [part] = result.parts
    assert part.scope == "A harbour" and [aspect.name for aspect in part.aspects] == ["Pier", "Ferry"]
    built, long = part.aspects[0].descriptions
    assert [each.text for each in built.evidence] == ["The pier was built in 1894 by the harbour company."]
    assert [each.text for each in long.evidence] == ["It is ninety metres long."]
    assert result.text.text == (
        "Scope: A harbour\n1. Pier\n1.1 The pier was built in 1894 by the harbour company [1].\n"
        "1.2 It is ninety metres long [2].\n2. Ferry\n2.1 The ferry leaves at nine in the morning [3].\n"
        "2.2 The ferry is painted blue."
    )
    assert [each.number for each in result.text.unsupported] == [2] and len(result.text.citations) == 3
    for citation in result.text.citations:
        assert {"pier": PIER, "ferry": FERRY}[citation.document_id][citation.start : citation.end] == citation.quote
    assert generator.prompts[0].schema == SCHEMA


def test_each_piece_has_a_structure_and_the_text_one_numbering() -> None:
    result = run(structure(PASSAGES, piece_tokens=20), generator=FakeGenerator(first_sentences), mode="fast").result
    assert [part.aspects[0].name for part in result.parts] == ["The", "The"]
    assert result.text.text.count("Scope:") == 2 and "[1]" in result.text.text and "[2]" in result.text.text


def test_a_description_without_words_and_an_aspect_without_descriptions_are_left_out() -> None:
    reply = outline([("Marks", ["[1]", "[2][9]."]), ("Pier", ["[1]", "It is ninety metres long [1]."])])
    result = run(structure(PASSAGES), generator=FakeGenerator(reply), mode="fast").result
    assert result.text.text == "Scope: A harbour\n1. Pier\n1.1 It is ninety metres long [1]."


def test_a_question_is_what_it_is_for() -> None:
    generator = FakeGenerator(outline())
    run(structure(PASSAGES, "When was it built?"), generator=generator, mode="fast")
    assert "matters for the question" in generator.prompts[0].task
    assert generator.prompts[0].question == "When was it built?"
    assert '{"scope"' in generator.prompts[0].task


def test_a_wrong_form_is_repaired_once_then_reported() -> None:
    generator = FakeGenerator(["No JSON.", outline()])
    assert run(structure(PASSAGES), generator=generator, mode="fast").result.parts
    assert WHY in generator.prompts[1].notes[-1]
    generator = FakeGenerator("No JSON.")
    with pytest.raises(ReplyFormatError):
        run(structure(PASSAGES), generator=generator)
    assert len(generator.prompts) == 2


def test_a_model_that_no_schema_holds_is_asked_in_words() -> None:
    generator = FakeGenerator([MalformedReplyError("not JSON"), "Sorry.", outline()])
    assert run(structure(PASSAGES), generator=generator, mode="fast").result.parts
    assert [prompt.schema for prompt in generator.prompts] == [SCHEMA, None, None]


@pytest.mark.parametrize(
    "failure", [Completion("I will not.", finish_reason="refused"), "I will not.", ContextOverflowError("I will not.")]
)
def test_a_piece_without_a_structure_is_named(failure: Any) -> None:
    def reply(prompt: Prompt) -> str | Completion:
        if "ferry" not in prompt.passages[0].text:
            return outline([("Pier", ["It is long."])])
        if isinstance(failure, Exception):
            raise failure
        said: str | Completion = failure
        return said

    result = run(structure(PASSAGES, piece_tokens=20), generator=FakeGenerator(reply)).result
    assert len(result.parts) == 1 and len(result.skipped) == 1
    assert result.skipped[0].startswith("The ferry") and "I will not." in result.skipped[0]


def test_where_no_piece_has_one_that_is_the_error() -> None:
    with pytest.raises(RefusalError):
        run(structure(PASSAGES), generator=FakeGenerator(RefusalError("no")))


def test_what_cannot_be_asked() -> None:
    with pytest.raises(InputError, match="no text"):
        run(structure([]), generator=FakeGenerator())
    with pytest.raises(InputError, match="tokens"):
        run(structure(PASSAGES, tokens=3), generator=FakeGenerator())
    generator = FakeGenerator("x", context_window=300)
    with pytest.raises(ContextOverflowError):
        run(structure(PASSAGES, "why " * 300), generator=generator)
    assert not generator.prompts


def test_outlines_are_read_whatever_stands_around_them() -> None:
    assert read_outline('x {"scope": "a\\n b", "aspects": [{"aspect": 1, "descriptions": "one"}]} y') == (
        "a b", (("1", ("one",)),)
    )  # fmt: skip
    for wrong in (
        "", "{", "[]", "{}", '{"scope": 1, "aspects": 2}', '{"scope": "a", "aspects": []}', '{"scope": "a"}',
        '{"scope": "a", "aspects": [{"aspect": "b", "descriptions": [" "]}]}', "[" * 9000, '{"a":' * 9000,
        '{"scope": "a", "aspects": [{"aspect": "b", "descriptions": [3]}]}', '{"scope": "a", "aspects": ["b"]}',
    ):  # fmt: skip
        with pytest.raises(ValueError, match="it is not JSON"):
            read_outline(wrong)


@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=3),
    reply=st.sampled_from(
        ["no", outline(), outline([("a", ["[1]", "so [1] [2]."] * 20)]), outline([("b" * 999, ["c"])])]
    ),
    window=st.integers(450, 900),
    question=st.integers(0, 60),
)
def test_no_prompt_goes_beyond_the_window(lengths: list[int], reply: str, window: int, question: int) -> None:
    texts = [Document("A quay is long. " * length, id=str(place)) for place, length in enumerate(lengths)]
    generator = FakeGenerator(reply, context_window=window)
    try:
        run(structure(texts, "why " * question), generator=generator, mode="fast")
    except ReplyFormatError:
        assert reply == "no"
    except ContextOverflowError:
        assert not generator.prompts
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window
