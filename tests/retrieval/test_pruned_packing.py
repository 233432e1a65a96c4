"""Packing scored sentences: the telling ones of many passages first, then what is around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.compression.base import passage_sentences
from carrel.compression.companions import companions
from carrel.errors import BudgetError
from carrel.retrieval.packing import Packed, Packer
from carrel.retrieval.pruned_packing import PruningPacker, ScoredPassage, key_of
from carrel.testing import WordTokenizer
from carrel.tokens import Tokenizer
from carrel.types import Passage, Span

WORDS = WordTokenizer()
PIER = "The pier was built in 1894. It is ninety metres long. Lamps burn all night."
FERRY = "The ferry leaves at nine. It returns at six. Its captain is called Grey."
ROPES = "Ropes are kept in the shed. They are of hemp."


class Doubled(WordTokenizer):
    """Counts that do not add up: every text costs one token more than its words."""

    name = "doubled"

    def count(self, text: str) -> int:
        return 1 + super().count(text)


def passage(text: str, document: str, start: int = 0) -> Passage:
    return Passage(document, start, start + len(text), text, title=document)


def scored(passage: Passage, *scores: float) -> ScoredPassage:
    spans = passage_sentences(passage)
    assert len(spans) == len(scores)
    return ScoredPassage(passage, tuple(spans), scores, tuple(companions(passage, spans)))


def pack(*parts: ScoredPassage | Passage, budget: int, threshold: float = 0.5, tokenizer: Tokenizer = WORDS) -> Packed:
    known = {key_of(part.passage): part for part in parts if isinstance(part, ScoredPassage)}
    passages = [part.passage if isinstance(part, ScoredPassage) else part for part in parts]
    packer = PruningPacker(tokenizer, budget, "When does the ferry leave?", "relevance", {}, known, threshold)
    return packer.pack(passages)


THREE = (
    scored(passage(PIER, "pier"), 0.1, 0.9, 0.2),
    scored(passage(FERRY, "ferry"), 0.8, 0.1, 0.1),
    scored(passage(ROPES, "ropes"), 0.1, 0.1),
)


def test_a_small_budget_holds_the_telling_sentences_of_several_passages() -> None:
    packed = pack(*THREE, budget=22)
    assert packed.text == "[1] pier\nIt is ninety metres long.\n\n[2] ferry\nThe ferry leaves at nine."
    assert packed.tokens == WORDS.count(packed.text) <= 22
    assert packed.cut and packed.taken == 2


def test_what_is_around_them_comes_back_in_rank_order() -> None:
    packed = pack(*THREE, budget=34)
    assert packed.text == f"[1] pier\n{PIER}\n\n[2] ferry\nThe ferry leaves at nine."
    assert packed.passages[0].kept is None
    part = pack(*THREE, budget=29).passages[0]  # no room for all of it: the best of the rest
    assert part.pieces == ("It is ninety metres long. Lamps burn all night.",)


def test_room_for_all_leaves_nothing_out() -> None:
    whole = Packer(WORDS, 500, "When does the ferry leave?").pack([part.passage for part in THREE])
    packed = pack(*THREE, budget=500)
    assert (packed.text, packed.passages, packed.tokens) == (whole.text, whole.passages, whole.tokens)
    assert not packed.cut and packed.taken == 3


def test_passages_that_nobody_scored_come_last() -> None:
    tail = passage("Gulls nest on the roof.", "gulls")
    assert [p.document_id for p in pack(*THREE, tail, budget=500).passages] == ["pier", "ferry", "ropes", "gulls"]
    assert "gulls" not in [p.document_id for p in pack(*THREE, tail, budget=40).passages]
    assert [p.document_id for p in pack(tail, budget=40).passages] == ["gulls"]


def test_of_what_does_not_fit_the_best_sentence_is_taken() -> None:
    ferry = scored(passage(FERRY, "ferry"), 0.6, 0.95, 0.7)
    assert pack(ferry, budget=9).text == "[1] ferry\nIt returns at six."


def test_neighbours_share_a_header() -> None:
    cut = FERRY.index("It returns")
    first, second = passage(FERRY[:cut], "ferry"), passage(FERRY[cut:], "ferry", cut)
    packed = pack(scored(second, 0.9, 0.1), scored(first, 0.9), budget=15)
    assert packed.text == "[1] ferry\nThe ferry leaves at nine. It returns at six."
    assert packed.passages[0].kept == (Span(0, FERRY.index(" Its captain")),)


def test_a_row_brings_its_header() -> None:
    table = "| boat | ropes |\n|---|---|\n| Heron | 7 |\n| Gull | 9 |\n"
    part = scored(passage(table, "boats"), 0.0, 0.0, 0.0, 0.9)
    [packed] = pack(part, budget=26).passages
    assert "".join(packed.pieces).replace("\n", "") == "| boat | ropes ||---|---|| Gull | 9 |"


def test_a_budget_below_one_sentence() -> None:
    with pytest.raises(BudgetError, match="cannot hold one sentence"):
        pack(*THREE, budget=5)


_SENTENCES = st.sampled_from(["The ferry leaves.", "It rains.", "Nine lamps burn on the old pier.", "Ropes rot, too."])
_PASSAGES = st.lists(st.lists(st.tuples(_SENTENCES, st.floats(0, 1)), min_size=1, max_size=5), min_size=1, max_size=6)


@given(_PASSAGES, st.integers(8, 120), st.floats(0, 1), st.sampled_from([WORDS, Doubled()]))
def test_promises(drawn, budget: int, threshold: float, tokenizer: Tokenizer) -> None:
    """The budget holds, what is shown is the source's, and in its order, whatever the scores."""
    parts = []
    for number, sentences in enumerate(drawn):
        own = passage(" ".join(sentence for sentence, _ in sentences), f"document {number}")
        parts.append(scored(own, *(score for _, score in sentences)))
    try:
        packed = pack(*parts, budget=budget, threshold=threshold, tokenizer=tokenizer)
    except BudgetError:
        assert budget < 20
        return
    assert packed.tokens == tokenizer.count(packed.text) <= budget
    texts = {part.passage.document_id: part.passage.text for part in parts}
    for found in packed.passages:
        assert texts[found.document_id][found.start : found.end] == found.text
        ends = [0]
        for span in found.kept or ():
            assert ends[-1] <= span.start < span.end <= found.end
            ends.append(span.end)
        assert all(piece in texts[found.document_id] for piece in found.pieces)
    ranks = [int(found.document_id.split()[1]) for found in packed.passages]
    assert ranks == sorted(ranks)
