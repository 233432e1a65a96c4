"""The adapters of documents: a later one is never answered from as an earlier, and nothing that is good is lost."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
import carrel  # noqa: E402
from carrel.errors import DocumentNotFoundError, InputError, StoreReadOnlyError  # noqa: E402
from carrel.generation import TransformersGenerator, VLLMEngine  # noqa: E402
from carrel.memory.parametric.files import WEIGHTS  # noqa: E402
from carrel.memory.parametric.pairs import Pair  # noqa: E402
from carrel.memory.parametric.recipes import LIFT  # noqa: E402
from carrel.testing import HashEncoder  # noqa: E402
from carrel.types import Document, Prompt  # noqa: E402
from tests.memory.parametric.needles import MODEL, pairs  # noqa: E402
from tests.memory.parametric.test_generator import (  # noqa: E402
    FAST,
    engine,
    found,
    library,
    made,
    one_thread,
    passages,
    share,
)

__all__ = ["engine", "found", "library", "one_thread"]  # fixtures
pytestmark = pytest.mark.extras
QUICK = replace(FAST, steps=3, epochs=1, reconciled=1)
ASKED = "? a b"


@pytest.fixture
def quick(library: carrel.Library, engine: TransformersGenerator) -> Any:
    return made(library, engine, recipe=QUICK)


def test_trained_anew_it_answers_from_the_new_one(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    """In this process and in another's memory, alone and in a set."""
    taught = {"now": pairs}
    generator = made(library, engine, pairs=lambda document: taught["now"](document))
    other = made(library, engine, pairs=lambda document: taught["now"](document))
    other.adapters._pairs = generator.adapters._pairs
    prompt = Prompt(pairs(found[0])[0].question, passages(*found[:2]))
    first = generator.train(found[0].id)
    assert share(generator, found[0], found[0]) >= 0.95 and other.complete(prompt).metrics["adapters"] == 2
    assert len(generator.files.all(merged=True)) == 3
    values = [pair.answer for pair in pairs(found[0])]
    turned = [replace(pair, answer=value) for pair, value in zip(pairs(found[0]), values[1:] + values[:1], strict=True)]
    taught["now"] = lambda document: turned
    second = generator.train(found[0].id)
    assert second.digest != first.digest and second.folder == first.folder
    assert len(generator.files.all(merged=True)) == 2  # the set that had the first one has gone
    for each in (generator, other):
        said = each.complete(replace(prompt, passages=passages(found[0]))).text.strip()
        assert said == turned[0].answer != values[0]
        assert each.complete(prompt).text.strip() == turned[0].answer


def test_other_questions_make_another_adapter(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    def others(document: Document) -> list[Pair]:
        return [Pair("? a b", "c")]

    one, two = made(library, engine, recipe=QUICK), made(library, engine, recipe=QUICK, pairs=others)
    one.train(found[0].id)
    assert one.stored(found[0].id) is not None and two.stored(found[0].id) is None
    two.train(found[0].id)
    assert len(one.files.all()) == 2


def test_a_damaged_one_is_none(quick: Any, found: list[Document]) -> None:
    prompt = Prompt(ASKED, passages(*found[:2]))
    quick.complete(prompt)
    for place in (quick.stored(found[0].id).folder, next(one for one in quick.files.all(merged=True) if
                                                         len(one.documents) == 2).folder):  # fmt: skip
        (place / WEIGHTS).write_bytes(b"")
    fresh = made(quick.adapters.library, quick.engine, recipe=QUICK, missing="skip")
    assert fresh.complete(prompt).metrics["adapters_missing"] == 1
    fresh.missing = "train"
    metrics = fresh.complete(prompt).metrics
    assert (metrics["adapters"], metrics["adapters_trained"]) == (2, 1)


def test_stopped_it_replaces_nothing(quick: Any, found: list[Document]) -> None:
    def press(progress: Any) -> None:
        raise KeyboardInterrupt

    kept = quick.train(found[0].id)
    again = made(quick.adapters.library, quick.engine, recipe=QUICK, progress=press)
    with pytest.raises(KeyboardInterrupt):
        again.train(found[0].id)
    assert quick.stored(found[0].id) == kept


def test_of_a_library_to_be_read(quick: Any, found: list[Document]) -> None:
    folder = quick.adapters.library.path
    for each in found[:2]:
        quick.train(each.id)
    with carrel.open(folder, encoder=HashEncoder(), mode="fast", read_only=True) as reading:
        generator = made(reading, quick.engine, recipe=QUICK)
        metrics = generator.complete(Prompt(ASKED, passages(*found[:2]))).metrics
        assert metrics["adapters"] == 2 and metrics["adapters_trained"] == 0
        assert len(generator.files.all(merged=True)) == 2  # what was merged is in memory alone
        with pytest.raises(StoreReadOnlyError, match="missing='skip'"):
            generator.complete(Prompt(ASKED, passages(found[2])))


def test_a_passage_of_no_document_ends_no_answer(quick: Any, found: list[Document]) -> None:
    nobody = replace(found[2], id="nobody")
    metrics = quick.complete(Prompt(ASKED, passages(nobody, found[0]))).metrics
    assert (metrics["adapters"], metrics["adapters_missing"], metrics["adapters_beyond"]) == (1, 1, 0)
    with pytest.raises(DocumentNotFoundError):
        quick.complete(Prompt(ASKED, passages(nobody)))
    combined = made(quick.adapters.library, quick.engine, recipe=QUICK, mode="combine", most=1)
    assert combined.complete(Prompt(ASKED, passages(nobody))).metrics["adapters_missing"] == 1
    assert combined.complete(Prompt(ASKED, passages(*found))).metrics["adapters_beyond"] == 2


def test_sets_are_one_in_any_order_and_the_oldest_go(
    quick: Any, found: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = [quick.train(each.id) for each in found]
    first = quick.merged(stored[:2])
    assert quick.merged(stored[1::-1]) == first
    monkeypatch.setattr("carrel.memory.parametric.files.MERGED_BYTES", 2 * first.size_bytes + 4096)
    second = quick.merged(stored[1:])
    time.sleep(0.05)  # the clock of files is a coarse one
    assert quick.merged(stored[:2]) == first  # used again, so the second one is older now
    third = quick.merged([stored[0], stored[2]])
    left = {one.folder for one in quick.files.all(merged=True) if len(one.documents) == 2}
    assert left == {first.folder, third.folder} and not second.folder.exists()


def test_many_questions_take_more_steps(quick: Any, found: list[Document]) -> None:
    assert quick.train(found[0].id).trained["steps"] == 3
    longer = made(quick.adapters.library, quick.engine, recipe=replace(QUICK, epochs=6, batch=4))
    assert longer.train(found[0].id).trained["steps"] == 12  # six times eight questions, four at once


def test_how_much_is_known_is_told(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    good, bad = (made(library, engine, recipe=recipe) for recipe in (FAST, QUICK))
    assert good.complete(Prompt(ASKED, passages(found[0]))).metrics["adapters_known"] >= 0.95
    assert bad.complete(Prompt(ASKED, passages(found[0]))).metrics["adapters_known"] < 0.8


def test_a_long_piece_is_cut_to_the_window(library: carrel.Library, engine: TransformersGenerator) -> None:
    library.add(Document("bado age 41 . " * 400, id="long"))
    recipe = replace(LIFT, epochs=1, steps=1, segment_tokens=100_000)
    assert made(library, engine, recipe=recipe, pairs=lambda document: []).train("long").trained["steps"] >= 1


def test_vllm_must_have_room_for_the_least_rank(library: carrel.Library, engine: TransformersGenerator) -> None:
    with pytest.raises(InputError, match="takes adapters up to rank 1: make it with adapter_rank=64"):
        made(library, engine, served=VLLMEngine(MODEL, adapter_rank=1))
