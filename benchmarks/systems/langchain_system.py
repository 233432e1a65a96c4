"""LangChain: recursive character splitter, Hugging Face embeddings, FAISS; dense or in an ensemble with BM25."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from systems.base import Piece, System

if TYPE_CHECKING:
    from corpora import Document

DEFAULT_LIMIT = 4  # of both the vector store's retriever and BM25Retriever


class LangChainSystem(System):
    """The set-up of LangChain's retrieval tutorial, and its hybrid-search guide as variant `ensemble`."""

    def setup(self) -> None:
        """Import LangChain and load the embedding model."""
        from langchain_community.vectorstores import FAISS
        from langchain_huggingface import HuggingFaceEmbeddings

        self._store_class = FAISS
        self._embeddings = HuggingFaceEmbeddings(model_name=str(self.model), model_kwargs={"device": "cpu"})
        self._bm25: Any = None
        if self.variant == "ensemble":
            from langchain_classic.retrievers import EnsembleRetriever
            from langchain_community.retrievers import BM25Retriever

            self._ensemble_class, self._bm25_class = EnsembleRetriever, BM25Retriever

    def prepare_ingest(self) -> None:
        """Import and build the splitter."""
        from langchain_core.documents import Document as LangChainDocument
        from langchain_text_splitters import RecursiveCharacterTextSplitter

        self._document_class = LangChainDocument
        self._splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200, add_start_index=True)

    def ingest(self, documents: Sequence[Document]) -> None:
        """Split, embed and index; the ensemble also builds BM25."""
        handed = [self._document_class(page_content=self.handed_over(d), metadata={"id": d.id}) for d in documents]
        self._split = self._splitter.split_documents(handed)
        self._vectors = self._store_class.from_documents(self._split, self._embeddings)
        if self.variant == "ensemble":
            self._bm25 = self._bm25_class.from_documents(self._split)

    def chunks(self) -> list[str]:
        """Return the text of every chunk."""
        return [document.page_content for document in self._split]

    def search(self, question: str, limit: int | None = None) -> list[Piece]:
        """Return the retriever's documents; each part of the ensemble is asked for `limit`."""
        count = limit or DEFAULT_LIMIT
        retriever = self._vectors.as_retriever(search_kwargs={"k": count})
        if self.variant == "ensemble":
            self._bm25.k = count
            retriever = self._ensemble_class(retrievers=[self._bm25, retriever], weights=[0.5, 0.5])
        found = retriever.invoke(question)
        return [Piece(d.metadata["id"], d.page_content, d.metadata["start_index"]) for d in found]

    def save(self) -> None:
        """Save the FAISS store; BM25Retriever has no persistence of its own."""
        self._vectors.save_local(str(self.store))

    def load(self) -> None:
        """Load the FAISS store; the ensemble builds BM25 again from its documents."""
        self._vectors = self._store_class.load_local(
            str(self.store), self._embeddings, allow_dangerous_deserialization=True
        )
        if self.variant == "ensemble":
            ids = self._vectors.index_to_docstore_id
            self._split = [self._vectors.docstore.search(ids[i]) for i in range(len(ids))]
            self._bm25 = self._bm25_class.from_documents(self._split)
