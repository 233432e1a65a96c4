import pytest

from carrel.agents import flow, run
from carrel.agents.facts import facts_of
from carrel.errors import ContextOverflowError, RefusalError, ReplyFormatError
from carrel.testing.fakes import FakeGenerator
from carrel.types import Citation, Completion, Passage, Prompt

_TEXTS = ("The pier was built in 1894. It is long.", "Gulls nest upon the roof.", "Ferries leave at nine.")
_PIECE = tuple(Passage(f"d{n}", 10, 10 + len(text), text) for n, text in enumerate(_TEXTS))


@flow()
def _facts(piece):
    return (yield from facts_of(Prompt("What is there?", piece)))


def _ran(script, piece=_PIECE):
    return run(_facts(piece), generator=FakeGenerator(script)).result


def test_quotations_are_facts_in_the_order_of_the_piece():
    (reading,) = _ran(['[3] "Ferries leave at nine."\n[1] "It is long. The end"\n[1] "The pier was built in 1894"'])
    assert [(fact.document_id, fact.start, fact.text) for fact in reading.facts] == [
        ("d0", 10, "The pier was built in 1894."),
        ("d2", 10, "Ferries leave at nine."),
    ]
    assert reading.hallucinated == ("It is long. The end",) and reading.error is None and reading.piece == _PIECE


def test_citations_count_where_they_stand_as_quoted():
    good = Citation(2, "d1", 10, 35, _TEXTS[1])
    bad = [
        Citation(2, "d1", 10, 35, "Gulls nest under the roof"),
        Citation(1, "d1", 10, 35, _TEXTS[1]),
        Citation(2, "d1", 9, 35, "?" + _TEXTS[1]),
        Citation(4, "d1", 10, 35, _TEXTS[1]),
        Citation(0, "d1", 10, 35, _TEXTS[1]),
    ]
    (reading,) = _ran([Completion("…", citations=(good, *bad))])
    assert [fact.text for fact in reading.facts] == [_TEXTS[1]] and len(reading.hallucinated) == len(bad)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (["I wonder."] * 2, ReplyFormatError),
        ([Completion("No.", finish_reason="refused")], RefusalError),
        (["I wonder.", Completion("No.", finish_reason="refused")], RefusalError),
    ],
)
def test_what_cannot_be_read_is_named(script, kind):
    (reading,) = _ran(script)
    assert isinstance(reading.error, kind) and not reading.facts


def test_what_is_too_long_is_read_in_parts_and_the_rest_named():
    def script(prompt):
        if len(prompt.passages) > 1 or prompt.passages[0].document_id == "d1":
            raise ContextOverflowError("too long")
        return f'[1] "{prompt.passages[0].text}"'

    readings = _ran(script)
    assert [len(reading.piece) for reading in readings] == [1, 1, 1]
    assert [bool(reading.error) for reading in readings] == [False, True, False]
    assert [fact.document_id for reading in readings for fact in reading.facts] == ["d0", "d2"]
