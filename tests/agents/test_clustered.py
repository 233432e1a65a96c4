"""Clustered: every passage in one cluster, one summary each, the answer from those, what was saved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.agents import run
from carrel.agents.clustered import Clustered, clustered
from carrel.agents.fitting import reply_room
from carrel.agents.tasks import ANSWER_FROM_NOTES, SUMMARY
from carrel.errors import ContextOverflowError, InputError, RefusalError
from carrel.library import Library
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Completion, Document, Passage, Prompt

QUESTION = "What do guests say about the hotel?"
THEMES = {
    "food": "The breakfast was rich, with fresh bread, eggs and coffee.",
    "noise": "The street was loud at night and cars kept us awake.",
    "pool": "The swimming pool was warm and the children swam all day.",
}


def reviews() -> list[Document]:
    return [
        Document(f"{text} Guest number {number} wrote this on a rainy day.", id=f"{theme}{number}")
        for number in range(5)
        for theme, text in THEMES.items()
    ]


def passages() -> list[Passage]:
    return [Passage(each.id, 0, len(each.text), each.text) for each in reviews()]


def quoting(prompt: Prompt) -> str:
    """The first sentence of the first passage of each theme, with its mark."""
    lines = []
    for word in ("breakfast", "street", "pool"):
        found = next((number for number, each in enumerate(prompt.passages, start=1) if word in each.text), None)
        if found is not None:
            sentence = re.split(r"(?<=\.) ", prompt.passages[found - 1].text)[0]
            lines.append(f"{sentence.rstrip('.')} [{found}].")
    return "\n".join(lines) or "NOTHING"


def ask(generator: FakeGenerator, **settings: Any) -> Clustered:
    return run(clustered(QUESTION, passages=passages(), **settings), generator=generator, mode="fast").result


class TestClustered(FlowConformance):
    window = 500

    def make(self) -> Any:
        return clustered(QUESTION, limit=9)

    def reply(self, prompt: Prompt) -> str:
        return quoting(prompt)

    def documents(self) -> list[Document]:
        return reviews()


def test_passages_of_a_theme_are_a_cluster_and_all_are_in_one() -> None:
    result = ask(FakeGenerator(quoting))
    found = [{each.document_id[:-1] for each in cluster.passages} for cluster in result.clusters]
    assert sorted(map(sorted, found)) == [["food"], ["noise"], ["pool"]]
    assert sum(len(cluster.passages) for cluster in result.clusters) == 15
    assert result.clusters[0].passages[0] == passages()[0]
    assert all(text.rstrip(".") in result.answer.text for text in THEMES.values())
    texts = {each.id: each.text for each in reviews()}
    for citation in result.answer.citations:
        assert texts[citation.document_id][citation.start : citation.end] == citation.quote
    assert len(result.answer.citations) == 3


def test_the_answer_is_from_the_summaries_and_shorter_to_read() -> None:
    generator = FakeGenerator(quoting)
    result = ask(generator)
    assert [prompt.task for prompt in generator.prompts] == [SUMMARY] * 3 + [ANSWER_FROM_NOTES]
    assert len(generator.prompts[-1].notes) == 3
    tokens = [generator.prompt_tokens(prompt) for prompt in generator.prompts]
    assert (result.read_tokens, result.answer_tokens) == (sum(tokens[:3]), tokens[3])
    assert 0 < result.saved == 1 - tokens[3] / sum(tokens[:3])


def test_there_are_as_many_clusters_as_are_asked_for_or_as_passages() -> None:
    assert len(ask(FakeGenerator(quoting), clusters=5).clusters) == 5
    assert len(ask(FakeGenerator(quoting), clusters=99).clusters) == 15
    assert len(ask(FakeGenerator(quoting), clusters=1).clusters) == 1


def test_a_cluster_that_no_prompt_holds_is_a_tree_of_summaries() -> None:
    generator = FakeGenerator(quoting, context_window=330)
    result = ask(generator, clusters=1, summary_tokens=64)
    assert sum(prompt.task == SUMMARY for prompt in generator.prompts) > 1
    assert len(result.clusters) == 1 and "breakfast" in result.clusters[0].summary.text


def test_a_refused_cluster_is_named_and_the_others_are_answered_from() -> None:
    def reply(prompt: Prompt) -> str | Completion:
        if prompt.task == SUMMARY and "street" in prompt.passages[0].text:
            return Completion("I will not.", finish_reason="refused")
        return quoting(prompt)

    result = ask(FakeGenerator(reply))
    assert len(result.skipped) == 1 and "I will not." in result.skipped[0]
    assert "breakfast" in result.answer.text and "street" not in result.answer.text
    assert [cluster.summary.text == "" for cluster in result.clusters].count(True) == 1


def test_where_every_cluster_is_refused_that_is_the_error() -> None:
    with pytest.raises(RefusalError):
        ask(FakeGenerator(RefusalError("no")))


def test_clusters_that_say_nothing_and_a_library_without_passages_have_no_answer(tmp_path: Path) -> None:
    assert ask(FakeGenerator("NOTHING")).answer.abstained
    with Library(tmp_path / "empty", mode="fast") as library:
        result = run(clustered(QUESTION), generator=FakeGenerator(RefusalError("never asked")), library=library).result
    assert result.answer.abstained and result.clusters == () and result.saved == 0


def test_what_cannot_be_asked() -> None:
    for wrong in (0, True, 2.0):
        with pytest.raises(InputError, match="clusters"):
            ask(FakeGenerator("x"), clusters=wrong)
    with pytest.raises(InputError, match="no text"):
        run(clustered(QUESTION, passages=()), generator=FakeGenerator("x"))
    with pytest.raises(InputError):
        ask(FakeGenerator("x"), limit=0)
    generator = FakeGenerator("x", context_window=200)
    with pytest.raises(ContextOverflowError):
        run(clustered("why " * 300, passages=passages()), generator=generator)
    assert not generator.prompts


@settings(max_examples=25)  # each embeds its passages
@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=6),
    reply=st.sampled_from(["NOTHING", "a [1].", "so it is [1][2]. " * 60, "[1] [2] " * 60, "w" * 4000]),
    window=st.integers(320, 600),
)
def test_no_prompt_goes_beyond_the_window(lengths: list[int], reply: str, window: int) -> None:
    texts = [Document(f"Room {place} is small. " * length, id=str(place)) for place, length in enumerate(lengths)]
    generator = FakeGenerator(reply, context_window=window)
    run(clustered(QUESTION, passages=texts), generator=generator, mode="fast")
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window
