"""Pruning keeps whole sentences of the source, in order; 0 keeps all, and a higher threshold keeps a subset."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.compression.base import passage_sentences
from carrel.compression.companions import companions
from carrel.reader.calibration import keep_features
from carrel.reader.methods import Reader, ReaderPruner
from carrel.reader.model import ReaderInput
from carrel.retrieval.merging import keeping, kept_spans, trimmed
from carrel.testing.passages import ODD_TEXTS
from carrel.types import Passage, Span

READER = Reader()
QUESTION = "When was the pier built?"

plain = st.sampled_from(
    ["The pier was built in 1894.", "Gulls follow the ferry.", "Was it?", "It is ninety metres long!", "Oil burns.",
     "\n\n", "\n", "Dr. Hale runs it.", "「桟橋は1894年に建てられた。」", "🚢"]
)  # fmt: skip
blocks = st.sampled_from(
    ["The boats are:\n- Maria\n- Anna", "Name | Year\nMaria | 1911\nAnna | 1894", "## Oil", "```\nx\n\ny\n```"]
)
prose = st.lists(plain, max_size=7).map(" ".join)
structured = st.lists(st.one_of(plain, blocks), max_size=6).map("\n\n".join)
texts = st.one_of(prose, structured, st.text(max_size=60), st.sampled_from(ODD_TEXTS[:-1]))
thresholds = st.one_of(st.floats(0, 1), st.floats(0.0001, 0.2), st.sampled_from([0.0, 1.0]))


@st.composite
def passages(draw: st.DrawFn) -> list[Passage]:
    found = draw(st.lists(texts, max_size=3))
    starts = draw(st.lists(st.integers(0, 500), min_size=len(found), max_size=len(found)))
    return [Passage(f"d{n}", s, s + len(t), t, "Pier") for n, (t, s) in enumerate(zip(found, starts, strict=True))]


def keep(passage: Passage, span: Span) -> float:
    """The score of a sentence, from the reading itself."""
    text = passage.text.strip()
    (reading,) = READER.model.read(QUESTION, [ReaderInput("Pier", text)])
    start = passage.start + passage.text.index(text)
    inside = Span(span.start - start, span.end - start)
    return float(READER.calibration.keep.probability(keep_features(reading, [inside]))[0])


@settings(max_examples=40)
@given(passages(), thresholds)
def test_a_sentence_stays_when_its_score_passes_or_it_belongs_to_one_that_does(
    found: list[Passage], least: float
) -> None:
    pruned = {passage.document_id: passage for passage in ReaderPruner(READER).prune(QUESTION, found, least)}
    if least == 0:
        assert list(pruned.values()) == found
        return
    for passage in found:
        sentences = passage_sentences(passage)
        scores = [keep(passage, span) for span in sentences]
        if any(abs(score - least) < 1e-9 for score in scores):
            return  # too near to call
        own = {index for index, score in enumerate(scores) if score > least and least < 1}
        beside = companions(passage, sentences)
        wanted = own.union(*(beside[index] for index in own))
        expected = keeping(passage, [sentences[index] for index in wanted])
        assert pruned.get(passage.document_id) == (expected if expected.kept != () else None)


@settings(max_examples=40)
@given(passages(), st.lists(thresholds, min_size=2, max_size=4).map(sorted))
def test_a_higher_threshold_keeps_a_subset(found: list[Passage], rising: list[float]) -> None:
    before: set[tuple[str, int]] | None = None
    for least in rising:
        kept = {
            (passage.document_id, place)
            for passage in ReaderPruner(READER).prune(QUESTION, found, least)
            for span in kept_spans(passage)
            for place in range(span.start, span.end)
            if not passage.text[place - passage.start].isspace()
        }
        assert before is None or kept <= before
        before = kept


@settings(max_examples=40)
@given(passages(), thresholds)
def test_pruned_text_is_source_sentences_in_order(found: list[Passage], least: float) -> None:
    source = {passage.document_id: passage for passage in found}
    pruned = ReaderPruner(READER).prune(QUESTION, found, least)
    assert [p.document_id for p in pruned] == [k for k in source if k in {p.document_id for p in pruned}]
    for passage in pruned:
        whole = source[passage.document_id]
        assert replace(passage, kept=None) == whole
        if passage.kept is None:
            continue
        sentences = [
            trimmed(s.start, whole.text[s.start - whole.start : s.end - whole.start])[0]
            for s in passage_sentences(whole)
        ]
        place = whole.start
        for span, piece in zip(passage.kept, passage.pieces, strict=True):
            assert place <= span.start < span.end <= whole.end
            assert piece == whole.text[span.start - whole.start : span.end - whole.start] == piece.strip()
            assert span.start in {s.start for s in sentences} and span.end in {s.end for s in sentences}
            place = span.end


@settings(max_examples=40)
@given(passages(), thresholds, st.data())
def test_protected_spans_always_stay_and_at_1_nothing_else(
    found: list[Passage], least: float, data: st.DataObject
) -> None:
    protected = []
    for passage in found:
        if passage.text:
            start = data.draw(st.integers(passage.start, passage.end - 1))
            protected.append((passage.document_id, Span(start, data.draw(st.integers(start + 1, passage.end)))))
    pruned = {passage.document_id: passage for passage in ReaderPruner(READER).prune(QUESTION, found, least, protected)}
    everything = {passage.document_id: passage for passage in found}
    for key, span in protected:
        whole = everything[key]
        wanted = {i for i in range(span.start, span.end) if not whole.text[i - whole.start].isspace()}
        kept = {i for s in kept_spans(pruned[key]) for i in range(s.start, s.end)} if key in pruned else set()
        assert wanted <= kept
    for key, passage in pruned.items() if least == 1 else ():
        spans = [span for other, span in protected if other == key]
        touched = [
            s for s in passage_sentences(everything[key]) if any(p.start < s.end and s.start < p.end for p in spans)
        ]
        assert passage == keeping(everything[key], touched)


@settings(max_examples=25)
@given(passages(), thresholds)
def test_pruning_twice_is_pruning_once(found: list[Passage], least: float) -> None:
    once = ReaderPruner(READER).prune(QUESTION, found, least)
    assert ReaderPruner(READER).prune(QUESTION, once, least) == once


@settings(max_examples=25)
@given(passages(), thresholds)
def test_a_passage_is_pruned_the_same_in_any_company(found: list[Passage], least: float) -> None:
    together = ReaderPruner(READER).prune(QUESTION, found, least)
    one_by_one = [left for passage in found for left in ReaderPruner(READER).prune(QUESTION, [passage], least)]
    assert together == one_by_one
