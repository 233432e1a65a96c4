"""LlamaIndex: sentence splitter, Hugging Face embedding, the default in-memory vector index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from systems.base import Piece, System

if TYPE_CHECKING:
    from corpora import Document


class LlamaIndexSystem(System):
    """The starter set-up with a local embedding; variant `256` fits chunks to the encoder's window."""

    def setup(self) -> None:
        """Import LlamaIndex and load the embedding model."""
        from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        self._index_class, self._storage_class = VectorStoreIndex, StorageContext
        self._load_index = load_index_from_storage
        self._embedding = HuggingFaceEmbedding(model_name=str(self.model), device="cpu")

    def prepare_ingest(self) -> None:
        """Import and build the splitter."""
        from llama_index.core import Document as LlamaDocument
        from llama_index.core.node_parser import SentenceSplitter

        self._document_class = LlamaDocument
        self._splitter = (
            SentenceSplitter()
            if self.variant == "1024"
            else SentenceSplitter(chunk_size=int(self.variant), chunk_overlap=20)
        )

    def ingest(self, documents: Sequence[Document]) -> None:
        """Split, embed and index."""
        self._index = self._index_class.from_documents(
            [self._document_class(text=self.handed_over(d), id_=d.id) for d in documents],
            transformations=[self._splitter],
            embed_model=self._embedding,
        )

    def chunks(self) -> list[str]:
        """Return the text of every node."""
        return [node.get_content() for node in self._index.docstore.docs.values()]

    def search(self, question: str, limit: int | None = None) -> list[Piece]:
        """Return the nodes of the index's retriever."""
        retriever = self._index.as_retriever(similarity_top_k=limit) if limit else self._index.as_retriever()
        found = [scored.node for scored in retriever.retrieve(question)]
        return [Piece(node.ref_doc_id, node.get_content(), node.start_char_idx) for node in found]

    def save(self) -> None:
        """Persist the storage context."""
        self._index.storage_context.persist(persist_dir=str(self.store))

    def load(self) -> None:
        """Load the index from the storage context."""
        storage = self._storage_class.from_defaults(persist_dir=str(self.store))
        self._index = self._load_index(storage, embed_model=self._embedding)
