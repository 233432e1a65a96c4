"""The lexical index against BM25 written out plainly, with the formula of SQLite's FTS5."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.retrieval.filters import Where
from carrel.retrieval.indexes.base import DerivedIndex, Hits
from carrel.retrieval.indexes.lexical import STOPWORDS, LexicalIndex, query_terms, spaced
from carrel.retrieval.store import Scope, Store
from carrel.testing import DerivedIndexConformance
from carrel.testing.indexes import Shelf, check_hits

K1, B = 1.2, 0.75
# Surface forms and their Porter stems, so that the oracle needs no stemmer.
STEMS = {
    "lamp": "lamp", "lamps": "lamp", "rope": "rope", "ropes": "rope", "sailing": "sail", "sail": "sail",
    "harbour": "harbour", "the": "the", "of": "of", "and": "and", "docked": "dock", "docks": "dock",
    "gull": "gull", "wind": "wind", "crab": "crab", "café": "cafe", "cafe": "cafe",
}  # fmt: skip


def bm25(texts: Mapping[int, str], question: str) -> dict[int, float]:
    """Okapi BM25: ids of the texts that hold a term of the question, with their scores."""
    rows = {key: [STEMS[word] for word in re.findall(r"\w+", text.lower())] for key, text in texts.items()}
    words = list(dict.fromkeys(re.findall(r"\w+", question.lower())))
    telling = [word for word in words if word not in STOPWORDS] or words
    average = sum(len(row) for row in rows.values()) / max(1, len(rows))
    scores: Counter[int] = Counter()
    for word in telling:
        stem = STEMS.get(word, word)
        holding = [key for key, row in rows.items() if stem in row]
        idf = math.log((len(rows) - len(holding) + 0.5) / (len(holding) + 0.5))
        idf = idf if idf > 0 else 1e-6  # as FTS5 does
        for key in holding:
            frequency = rows[key].count(stem)
            length = 1 - B + B * len(rows[key]) / average
            scores[key] += idf * frequency * (K1 + 1) / (frequency + K1 * length)
    return dict(scores)


class TestLexicalIndex(DerivedIndexConformance):
    tolerance = 1e-6

    def make(self, scope: Scope, encoder_id: int, dimension: int) -> LexicalIndex:
        return _Own(scope)

    def search(self, index: DerivedIndex, shelf: Shelf, connection, limit: int, where: Where | None = None) -> Hits:
        assert isinstance(index, LexicalIndex)
        return index.search(connection, self.question, limit, where)

    def oracle(self, shelf: Shelf, texts: Mapping[int, str]) -> dict[int, float]:
        known = {word: STEMS.get(word, word) for word in " ".join(texts.values()).split()}
        STEMS.update(known)
        return bm25(texts, self.question)


class _Own(LexicalIndex):
    """Two indexes of one collection share a table in the database; here each has its own."""

    made = 0

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        type(self).made += 1
        self.table, self.name = f"{self.table}_{self.made}", f"lexical {self.made}"  # type: ignore[misc]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    store = Store(tmp_path)
    yield Shelf(store)
    store.close()


def search(shelf: Shelf, question: str, limit: int = 50, where: Where | None = None) -> Hits:
    index = LexicalIndex(shelf.scope)
    with shelf.store.write() as connection:
        index.catch_up(connection)
        return index.search(connection, question, limit, where)


def found(shelf: Shelf, question: str) -> list[int]:
    return sorted(search(shelf, question).ids.tolist())


lines = st.lists(st.sampled_from(sorted(STEMS)), min_size=1, max_size=14).map(" ".join)


@given(
    corpus=st.lists(st.lists(lines, min_size=1, max_size=3), min_size=1, max_size=10),
    question=st.lists(st.sampled_from([*sorted(STEMS), "unknown"]), min_size=1, max_size=5).map(" ".join),
    gone=st.sets(st.integers(0, 9), max_size=4),
    limit=st.sampled_from([1, 3, 50]),
)
def test_the_order_is_that_of_plain_bm25(tmp_path_factory, corpus, question, gone, limit) -> None:
    store = Store(tmp_path_factory.mktemp("lexical"))
    try:
        shelf = Shelf(store)
        for number, texts in enumerate(corpus):
            shelf.put(f"d{number}", texts)
        search(shelf, question)
        shelf.remove(*(f"d{number}" for number in gone))
        hits = search(shelf, question, limit)
        with store.read() as connection:
            expected = bm25(shelf.texts(connection), question)
        check_hits(hits, expected, limit, 1e-6)
    finally:
        store.close()


def test_the_prefix_counts_as_text(shelf: Shelf) -> None:
    shelf.put("a", ["lamp"])
    with shelf.store.write() as connection:
        connection.exec_driver_sql("UPDATE chunks SET prefix = 'harbour rope'")
    assert found(shelf, "rope") == [1]
    hits = search(shelf, "lamp")
    assert hits.scores[0] == pytest.approx(bm25({1: "harbour rope lamp"}, "lamp")[1], abs=1e-9)


@pytest.mark.parametrize(
    "question",
    [
        '"',
        "'",
        "lamp*",
        "lamp OR rope",
        "NEAR(lamp rope)",
        "text:lamp",
        "-lamp",
        "lamp AND",
        "(",
        "^lamp",
        '"; DROP TABLE chunks',
        "{lamp}",
    ],
)
def test_the_query_language_of_the_database_is_out_of_reach(shelf: Shelf, question: str) -> None:
    shelf.put("a", ["lamp rope"])
    shelf.put("b", ["wind"])
    assert found(shelf, question) == ([1] if "lamp" in question else [])


def test_nothing_in_the_question_finds_nothing(shelf: Shelf) -> None:
    shelf.put("a", ["lamp"])
    for question in ("", "?!", "²", "unknown"):
        assert found(shelf, question) == []


def test_accents_and_case_are_folded(shelf: Shelf) -> None:
    shelf.put("a", ["Café Zürich"])
    assert found(shelf, "cafe") == found(shelf, "CAFÉ") == found(shelf, "zurich") == [1]


def test_chinese_and_japanese_words_are_phrases(shelf: Shelf) -> None:
    shelf.put("a", ["東京の港"])
    shelf.put("b", ["京東の港"])
    assert found(shelf, "東京") == [1]
    assert found(shelf, "港") == [1, 2]


def test_common_words_count_only_when_there_are_no_others() -> None:
    assert query_terms("When was the pier built?") == ["pier", "built"]
    assert query_terms("to be or not to be") == ["to", "be", "or", "not"]
    assert query_terms("pier Pier PIER") == ["pier"]
    assert len(query_terms(" ".join(f"w{n}" for n in range(100)))) == 64
    assert spaced("a東b") == "a 東 b"
    assert spaced("plain") == "plain"


def test_statistics_are_the_collections_own(shelf: Shelf) -> None:
    shelf.put("a", ["lamp rope", "wind"])
    before = search(shelf, "lamp").scores.tolist()
    other = Shelf(shelf.store, "other")
    other.put("a", ["lamp"] * 5)
    search(other, "lamp")
    assert search(shelf, "lamp").scores.tolist() == before
