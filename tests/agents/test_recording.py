"""What a run has of its journal: begun again, a flow goes the way that it went, or that it cannot is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import carrel
from carrel.agents import Ask, Budget, Embed, Happened, Journal, Read, Retrieve, Steps, flow, run, run_many
from carrel.errors import (
    BudgetSpentError,
    ContextOverflowError,
    GenerationError,
    JournalError,
    RateLimitError,
    RefusalError,
)
from carrel.testing import FakeGenerator, HashEncoder
from carrel.types import Completion, Document, Passage, Prompt, TextEvent


@flow()
def _coping() -> Steps[list[str]]:
    """Three asks, the later ones saying what became of the first."""
    said: list[str] = []
    kinds: list[str] = []
    for number in range(3):
        try:
            reply: Completion = yield Ask(Prompt(f"{number} {said}"))
            said.append(reply.text)
        except GenerationError as error:
            said.append(f"{error}")
            kinds.append(type(error).__name__)
    return [*kinds, *said]


def _wrapped() -> Steps[str]:
    try:
        reply: Completion = yield Ask(Prompt("inner"))
        return reply.text
    except GenerationError as error:
        raise ValueError("wrapped") from error


@flow()
def _beside() -> Steps[list[str]]:
    """An error of one of two is coped with by the flow around it, and after the other has come in."""
    try:
        first, _ = yield [_wrapped(), Ask(Prompt("other"))]
    except ValueError:
        first = "skipped"
    reply: Completion = yield Ask(Prompt(f"then {first}"))
    last: Completion = yield Ask(Prompt("last"))
    return [first, reply.text, last.text]


def _failing(word: str, error: Exception) -> FakeGenerator:
    def reply(prompt: Prompt) -> str:
        if prompt.question.startswith(word):
            raise error
        return "well"

    return FakeGenerator(reply)


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RefusalError, ContextOverflowError, RateLimitError])
def test_an_error_that_a_flow_survived_is_there_again(tmp_path: Path, kind: type[GenerationError]) -> None:
    """Else its later questions would be others than those that were answered."""
    path, first = tmp_path / "j", _failing("inner", kind("not now"))
    with pytest.raises(BudgetSpentError):
        run(_beside(), generator=first, journal=path, budget=Budget(calls=3), concurrency=1)
    second = FakeGenerator("well")
    done = run(_beside(), generator=second, journal=path)
    assert done.result == ["skipped", "well", "well"] and [p.question for p in second.prompts] == ["last"]
    inner = done.trace.asks[0]
    assert inner.replayed and inner.error == f"{kind.__name__}: not now"
    assert run(_beside(), generator=FakeGenerator([]), journal=path).result == done.result


def test_an_error_of_a_kind_of_its_own_is_there_as_the_nearest_of_carrels(tmp_path: Path) -> None:
    class OwnRefusalError(RefusalError):
        def __init__(self, said: str, more: int) -> None:
            super().__init__(said)

    before = run(_coping(), generator=_failing("0", OwnRefusalError("no", 1)), journal=tmp_path / "j")
    after = run(_coping(), generator=FakeGenerator([]), journal=tmp_path / "j")
    assert before.result == ["OwnRefusalError", "no", "well", "well"]
    assert after.result == ["RefusalError", "no", "well", "well"]


def test_an_error_that_ends_a_flow_is_not_kept(tmp_path: Path) -> None:
    @flow()
    def brittle() -> Steps[str]:
        first, second = yield [Ask(Prompt("first")), Ask(Prompt("second"))]
        return f"{first.text} {second.text}"

    path = tmp_path / "j"
    with pytest.raises(RefusalError):
        run(brittle(), generator=_failing("first", RefusalError("no")), journal=path)
    generator = FakeGenerator("well")
    assert run(brittle(), generator=generator, journal=path).result == "well well"
    assert [prompt.question for prompt in generator.prompts] == ["first"]


@pytest.mark.parametrize("failed", [["NoSuchError", "x"], ["JournalError", "x"], ["RefusalError"], 7])
def test_an_error_that_cannot_be_read_is_said(tmp_path: Path, failed: Any) -> None:
    path = tmp_path / "j"
    run(_coping(), generator=_failing("0", RefusalError("no")), journal=path)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    entries[0]["reply"] = {"failed": failed}
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with pytest.raises(JournalError, match="cannot be read"):
        run(_coping(), generator=FakeGenerator("well"), journal=path)


# -- the library ----------------------------------------------------------------------------------

FERRY = Document("The ferry leaves the north pier at nine. It comes back at six.", "ferry")


@pytest.fixture
def library(tmp_path: Path) -> Iterator[carrel.Library]:
    with carrel.open(tmp_path / "library", encoder=HashEncoder(64), mode="fast") as library:
        library.add([FERRY])
        yield library


@flow()
def _looking(request: Retrieve | Read) -> Steps[str]:
    yield request
    for word in ("one", "two"):
        yield Ask(Prompt(word))
    return "done"


def _changed(library: carrel.Library) -> None:
    library.add([Document("The ferry leaves the south pier at ten. It comes back at six.", "ferry")])


@pytest.mark.parametrize("request_", [Retrieve("When does the ferry leave?", limit=1), Read("ferry")])
@pytest.mark.parametrize(
    "change", [_changed, lambda library: library.remove("ferry"), lambda library: library.add_text("Gulls.", id="g")]
)
def test_a_library_that_has_changed_is_an_error(
    tmp_path: Path, library: carrel.Library, request_: Any, change: Callable[[carrel.Library], object]
) -> None:
    path, few = tmp_path / "j", Budget(calls=1)
    for _ in range(2):  # unchanged, it goes on
        with pytest.raises(BudgetSpentError):
            run(_looking(request_), generator=FakeGenerator("r"), library=library, journal=path, budget=few)
        few = Budget(tokens=1)
    change(library)
    with pytest.raises(JournalError, match=r"the library has changed since .*/j was written, by step 0"):
        run(_looking(request_), generator=FakeGenerator("r"), library=library, journal=path)


def test_texts_encoded_by_another_encoder_are_an_error(tmp_path: Path, library: carrel.Library) -> None:
    @flow()
    def encoding() -> Steps[Any]:
        return (yield Embed(("a",))).shape

    path = tmp_path / "j"
    assert run(encoding(), generator=FakeGenerator(), library=library, journal=path).result == (1, 64)
    other = carrel.open(tmp_path / "other", encoder=HashEncoder(32), mode="fast")
    with other, pytest.raises(JournalError, match="the encoder of the library has changed"):
        run(encoding(), generator=FakeGenerator(), library=other, journal=path)


@flow()
def _reading(texts: list[Document | Passage]) -> Steps[str]:
    replies: list[Completion] = []
    for _ in texts:
        replies.append((yield Ask(Prompt("a question that does not tell"))))
    return " ".join(reply.text for reply in replies)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Document("one", "d"), Document("other", "d")),
        (Document("one", "d"), Document("one", "d", title="Other")),
        (Passage("d", 0, 3, "one"), Passage("d", 0, 3, "two")),
    ],
)
def test_a_document_that_was_given_and_has_changed_is_an_error(tmp_path: Path, before: Any, after: Any) -> None:
    path, same = tmp_path / "j", Document("same", "e")
    run(_reading([same, before]), generator=FakeGenerator("r"), journal=path)
    assert run(_reading([same, before]), generator=FakeGenerator([]), journal=path).result == "r r"
    with pytest.raises(JournalError, match="a document that the flow was given has changed since"):
        run(_reading([same, after]), generator=FakeGenerator("r"), journal=path)
    other = FakeGenerator("r")  # another document is another flow
    assert run(_reading([same, Document("one", "f")]), generator=other, journal=path).result == "r r"
    assert len(other.prompts) == 2


# -- journals and watchers ------------------------------------------------------------------------


def test_a_journal_that_is_closed_is_an_error_before_anything_is_asked(tmp_path: Path) -> None:
    journal, generator = Journal(tmp_path / "j"), FakeGenerator("r")
    journal.close()
    with pytest.raises(JournalError, match="is closed: nothing could be kept in it"):
        run(_coping(), generator=generator, journal=journal)
    assert generator.prompts == []


def test_a_streamed_reply_of_the_journal_is_heard_too(tmp_path: Path) -> None:
    @flow()
    def aloud() -> Steps[str]:
        first, second = yield [Ask(Prompt("aloud"), stream=True), Ask(Prompt("silent"))]
        return f"{first.text} {second.text}"

    run(aloud(), generator=FakeGenerator("two words"), journal=tmp_path / "j")
    seen: list[Happened] = []
    run(aloud(), generator=FakeGenerator([]), journal=tmp_path / "j", watch=seen.append)
    assert [(each.trace.path, each.event) for each in seen] == [
        ("0.0", TextEvent("two words")), ("0.0", None), ("0.1", None),
    ]  # fmt: skip


def test_the_flows_of_a_run_have_journals_lines_of_their_own(tmp_path: Path) -> None:
    """An error of one is not that of its twin."""
    first = FakeGenerator(["a", RefusalError("no"), "b", "c", "d", "e"])
    before = [each.result for each in run_many([_coping()] * 2, generator=first, journal=tmp_path / "j", concurrency=1)]
    after = [each.result for each in run_many([_coping()] * 2, generator=FakeGenerator([]), journal=tmp_path / "j")]
    assert after == before and before[0] != before[1]
