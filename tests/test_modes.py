"""Modes: what is read before a context is put together, and what is refused."""

from __future__ import annotations

import pytest

from carrel.app.options import ModeName
from carrel.compression.base import Pruner
from carrel.errors import InputError
from carrel.modes import DEFAULT_MODE, MODES, make_mode, make_reading
from carrel.reader.methods import ReaderPruner, ReaderReranker
from carrel.retrieval.reranking import Reranker
from carrel.types import Passage

GERMAN = "Die Fähre legt um neun Uhr von der Mole ab und kommt um sechs Uhr wieder zurück in den Hafen."
ENGLISH = "The ferry leaves the pier at nine in the morning and it comes back to the harbour at six."


class Even(Reranker):
    """Finds everything equally relevant."""

    name = "even"

    def scores(self, question, passages):
        raise NotImplementedError


def test_there_are_three() -> None:
    assert [(mode.name, mode.depth) for mode in MODES.values()] == [("fast", 0), ("balanced", 32), ("thorough", 100)]
    assert DEFAULT_MODE == "balanced" and make_mode("fast") is MODES["fast"]
    assert [name.value for name in ModeName] == list(MODES)  # what the command line offers


def test_fast_reads_nothing() -> None:
    reading = make_reading("fast", None, None)
    assert reading.reranker is None and reading.pruner is None


@pytest.mark.parametrize("mode", ["balanced", "thorough"])
def test_the_others_read_with_one_shared_model(mode: str) -> None:
    reading = make_reading(mode, None, None)
    assert isinstance(reading.reranker, ReaderReranker) and isinstance(reading.pruner, ReaderPruner)
    assert reading.depth == MODES[mode].depth
    assert reading.reranker.reader is reading.pruner.reader
    again = make_reading("balanced", "reader", "none")
    assert isinstance(again.reranker, ReaderReranker) and again.reranker.reader is reading.reranker.reader
    assert again.pruner is None


def test_a_stage_can_be_left_out_added_or_replaced() -> None:
    own = Even()
    assert make_reading("balanced", own, "none").reranker is own
    assert make_reading("balanced", "none", None).reranker is None
    added = make_reading("fast", own, None)
    assert (added.reranker, added.pruner, added.depth) == (own, None, MODES["balanced"].depth)
    assert isinstance(make_reading("fast", None, "reader").pruner, ReaderPruner)


def test_what_is_refused() -> None:
    for mode in ("quick", 3, None, ["fast"]):
        with pytest.raises(InputError, match="unknown mode .* Use one of: fast, balanced, thorough"):
            make_mode(mode)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r'a reranker is "reader", "none" or a Reranker, not .best.'):
        make_reading("balanced", "best", None)
    with pytest.raises(InputError, match="a Reranker, not the class Even itself"):
        make_reading("balanced", Even, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r'a pruner is "reader", "none" or a Pruner, not 7'):
        make_reading("balanced", None, 7)  # type: ignore[arg-type]
    assert issubclass(ReaderPruner, Pruner)


def test_what_the_reader_cannot_read_is_seen() -> None:
    reading = make_reading("balanced", None, None)
    english, german = Passage("a", 0, len(ENGLISH), ENGLISH), Passage("b", 0, len(GERMAN), GERMAN)
    assert reading.foreign("When does the ferry leave?", [english]) is None
    assert reading.foreign("When does the ferry leave?", [german]) == "German"
    assert reading.foreign("Когда уходит паром?", [english]) == "a Cyrillic-script language"
    assert reading.foreign("When does the ferry leave?", []) is None
    assert make_reading("balanced", Even(), "none").foreign("Когда уходит паром?", [german]) is None
