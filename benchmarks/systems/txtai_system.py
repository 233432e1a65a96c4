"""txtai: its paragraph segmentation, then one hybrid Embeddings database with content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from systems.base import Piece, System

if TYPE_CHECKING:
    from corpora import Document


class TxtaiSystem(System):
    """`Embeddings(content=True, hybrid=True)` over `Segmentation(paragraphs=True)`."""

    def setup(self) -> None:
        """Import txtai and load the embedding model."""
        from txtai.embeddings import Embeddings

        self._embeddings_class = Embeddings
        self._embeddings = Embeddings(path=str(self.model), content=True, hybrid=True, gpu=False)
        self._chunks: list[str] = []

    def prepare_ingest(self) -> None:
        """Import and build the splitter."""
        from txtai.pipeline.data.segmentation import Segmentation

        self._segment = Segmentation(paragraphs=True)

    def ingest(self, documents: Sequence[Document]) -> None:
        """Segment, embed and index."""
        rows = [
            (f"{document.id}\t{ordinal}", text)
            for document in documents
            for ordinal, text in enumerate(self._segment(self.handed_over(document)))
        ]
        self._chunks = [text for _, text in rows]
        self._embeddings.index((row_id, text, None) for row_id, text in rows)

    def chunks(self) -> list[str]:
        """Return the text of every segment."""
        return self._chunks

    def search(self, question: str, limit: int | None = None) -> list[Piece]:
        """Return the database's rows; txtai tells no offsets."""
        found = self._embeddings.search(question, limit) if limit else self._embeddings.search(question)
        return [Piece(row["id"].rsplit("\t", 1)[0], row["text"]) for row in found]

    def save(self) -> None:
        """Save the database."""
        self._embeddings.save(str(self.store))

    def load(self) -> None:
        """Load the database, which brings its own configuration."""
        self._embeddings = self._embeddings_class()
        self._embeddings.load(str(self.store))
