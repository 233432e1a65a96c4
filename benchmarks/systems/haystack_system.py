"""Haystack: word splitter, in-memory store, BM25 and embedding retrievers joined by reciprocal rank fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from systems.base import Piece, System

if TYPE_CHECKING:
    from corpora import Document

STORE_FILE = "store.json"


class HaystackSystem(System):
    """The hybrid-retrieval tutorial's pipelines, without its reranker."""

    def setup(self) -> None:
        """Import Haystack and load the embedding model."""
        from haystack import Pipeline
        from haystack.components.joiners import DocumentJoiner
        from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
        from haystack.document_stores.in_memory import InMemoryDocumentStore
        from haystack.utils import ComponentDevice
        from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersTextEmbedder

        self._pipeline_class, self._joiner_class, self._store_class = Pipeline, DocumentJoiner, InMemoryDocumentStore
        self._dense_class, self._bm25_class = InMemoryEmbeddingRetriever, InMemoryBM25Retriever
        self._device = ComponentDevice.from_str("cpu")
        self._text_embedder = SentenceTransformersTextEmbedder(
            model=str(self.model), device=self._device, progress_bar=False
        )
        self._text_embedder.warm_up()
        self._documents = InMemoryDocumentStore()
        self._query_pipeline: Any = None

    def prepare_ingest(self) -> None:
        """Build the indexing pipeline: split, embed, write."""
        from haystack import Document as HaystackDocument
        from haystack.components.preprocessors import DocumentSplitter
        from haystack.components.writers import DocumentWriter
        from haystack_integrations.components.embedders.sentence_transformers import (
            SentenceTransformersDocumentEmbedder,
        )

        self._document_class = HaystackDocument
        pipeline = self._indexing = self._pipeline_class()
        pipeline.add_component("split", DocumentSplitter(split_by="word", split_length=200))
        embedder = SentenceTransformersDocumentEmbedder(model=str(self.model), device=self._device, progress_bar=False)
        pipeline.add_component("embed", embedder)
        pipeline.add_component("write", DocumentWriter(self._documents))
        pipeline.connect("split", "embed")
        pipeline.connect("embed", "write")
        embedder.warm_up()

    def ingest(self, documents: Sequence[Document]) -> None:
        """Run the indexing pipeline."""
        handed = [self._document_class(content=self.handed_over(d), meta={"document": d.id}) for d in documents]
        self._indexing.run({"split": {"documents": handed}})

    def chunks(self) -> list[str]:
        """Return the text of every stored document."""
        return [document.content for document in self._documents.filter_documents()]

    def _build_query_pipeline(self) -> Any:  # noqa: ANN401 - the pipeline class is imported late
        pipeline = self._pipeline_class()
        pipeline.add_component("embed", self._text_embedder)
        pipeline.add_component("dense", self._dense_class(self._documents))
        pipeline.add_component("bm25", self._bm25_class(self._documents))
        pipeline.add_component("join", self._joiner_class(join_mode="reciprocal_rank_fusion"))
        pipeline.connect("embed.embedding", "dense.query_embedding")
        pipeline.connect("dense", "join")
        pipeline.connect("bm25", "join")
        return pipeline

    def search(self, question: str, limit: int | None = None) -> list[Piece]:
        """Run the query pipeline; each retriever is asked for `limit`."""
        if self._query_pipeline is None:
            self._query_pipeline = self._build_query_pipeline()
        inputs: dict[str, dict[str, Any]] = {"embed": {"text": question}, "bm25": {"query": question}}
        if limit:
            inputs["bm25"]["top_k"] = limit
            inputs["dense"] = {"top_k": limit}
        found = self._query_pipeline.run(inputs)["join"]["documents"]
        return [Piece(d.meta["document"], d.content, d.meta["split_idx_start"]) for d in found]

    def save(self) -> None:
        """Write the document store as JSON."""
        self.store.mkdir(parents=True, exist_ok=True)
        self._documents.save_to_disk(str(self.store / STORE_FILE))

    def load(self) -> None:
        """Read the document store."""
        self._documents = self._store_class.load_from_disk(str(self.store / STORE_FILE))
