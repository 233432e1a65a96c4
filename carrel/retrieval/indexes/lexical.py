"""Lexical search in the same database: SQLite's FTS5, one table a collection."""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from carrel.retrieval.filters import Where, compile_filter
from carrel.retrieval.indexes.base import DerivedIndex, Hits
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope

_WORDS = re.compile(r"\w+")
_IDEOGRAPHS = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
_MOST_TERMS = 64
STOPWORDS = frozenset(
    """a about also am an and any are as at be been but by can could did do does for from had has have he her hers him
    his how i if in into is it its just many me more most much my no nor not of on or our out over own same she should
    so some such than that the their them then there these they this those through to too under until up very was we
    were what when where which while who whom whose why will with would you your""".split()
)


class LexicalIndex(DerivedIndex):
    """BM25 over the chunks' prefix and text, stemmed (Porter), diacritics folded.

    It lives in the transaction that changes the store, so it never lags; statistics are the
    collection's own, so one tenant's texts never move another's scores. Chinese and Japanese characters
    are indexed one by one and searched as phrases.

    Reference: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009).
    """

    name: ClassVar[str] = "lexical"
    citation: ClassVar[str] = "Robertson and Zaragoza, The Probabilistic Relevance Framework (2009)"

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.table = f"lexical_{scope.id:d}"

    def exists(self, connection: Connection) -> bool:
        return connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name=?", (self.table,)).first() is not None

    def watermark(self, connection: Connection) -> int:
        table = schema.watermarks
        query = select(table.c.change_id).where(table.c.collection_id == self.scope.id, table.c.name == self.name)
        return connection.execute(query).scalar() or 0

    def set_watermark(self, connection: Connection, change_id: int) -> None:
        table = schema.watermarks
        connection.execute(delete(table).where(table.c.collection_id == self.scope.id, table.c.name == self.name))
        connection.execute(insert(table), [{"collection_id": self.scope.id, "name": self.name, "change_id": change_id}])

    def clear(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {self.table}")

    def add(self, connection: Connection, first_chunk: int, end_chunk: int) -> None:
        connection.exec_driver_sql(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {self.table}"
            " USING fts5(prefix, text, tokenize='porter unicode61 remove_diacritics 2')"
        )
        table = schema.chunks
        query = select(table.c.id, table.c.prefix, table.c.text).where(
            table.c.collection_id == self.scope.id, table.c.id >= first_chunk, table.c.id < end_chunk
        )
        rows = [(row.id, spaced(row.prefix), spaced(row.text)) for row in connection.execute(query)]
        if rows:
            connection.exec_driver_sql(f"INSERT INTO {self.table}(rowid, prefix, text) VALUES (?, ?, ?)", rows)

    def remove(self, connection: Connection, first_chunk: int, end_chunk: int) -> None:
        if self.exists(connection):
            statement = f"DELETE FROM {self.table} WHERE rowid >= ? AND rowid < ?"
            connection.exec_driver_sql(statement, (first_chunk, end_chunk))

    def search(self, connection: Connection, question: str, limit: int, where: Where | None = None) -> Hits:
        """The best chunks by BM25; none when no word of the question occurs."""
        terms = query_terms(question)
        if not terms or not self.exists(connection):
            return Hits(np.empty(0, np.int64), np.empty(0))
        match = " OR ".join(f'"{term}"' for term in terms)
        allowed, parameters = self._allowed(connection, where)
        rows = connection.exec_driver_sql(
            f"SELECT rowid, -bm25({self.table}) FROM {self.table} WHERE {self.table} MATCH ?{allowed}"
            " ORDER BY 2 DESC, 1 LIMIT ?",
            (match, *parameters, limit),
        ).all()
        ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        return Hits(ids, np.fromiter((row[1] for row in rows), np.float64, len(rows)))

    def _allowed(self, connection: Connection, where: Where | None) -> tuple[str, tuple[object, ...]]:
        """The filter as a condition on the row id.

        The plus keeps it from being an index: with it, SQLite would run the match once for each permitted row.
        """
        if not where:
            return "", ()
        query = (
            select(schema.chunks.c.id)
            .join(schema.documents, schema.documents.c.id == schema.chunks.c.document_id)
            .where(schema.chunks.c.collection_id == self.scope.id, compile_filter(where))
        )
        compiled = query.compile(connection.engine, compile_kwargs={"render_postcompile": True})
        names = compiled.positiontup or []
        return f" AND +rowid IN ({compiled})", tuple(compiled.params[name] for name in names)


def spaced(text: str) -> str:
    """Ideographs set apart, so that each is a word of its own."""
    return _IDEOGRAPHS.sub(r" \1 ", text) if not text.isascii() else text


def query_terms(question: str) -> list[str]:
    """The words worth looking up, each once; the common ones only when there are no others."""
    found: list[str] = _WORDS.findall(question.lower())
    if not question.isascii():
        found = [" ".join(spaced(word).split()) for word in found]
    words = list(dict.fromkeys(found))
    telling = [word for word in words if word not in STOPWORDS]
    return (telling or words)[:_MOST_TERMS]
