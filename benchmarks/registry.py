"""What is measured: the systems, their variants, the corpora and the budgets."""

from __future__ import annotations

from dataclasses import dataclass

SEED = 0
DEPTH = 60
"""Ranked pieces a peer is asked for when a budget is to be filled."""
RANKING_DEPTH = 300
"""Ranked pieces asked for when documents are ranked (enough for 100 different ones)."""
FIRST_DEPTH = 10
"""Passages asked for where only the first document counts; what a search gives by default."""
QUESTIONS = 1000
"""Questions of one corpus at most; a seeded sample where there are more."""
BUDGETS = (250, 500, 1000, 2000)
SPAN_BUDGETS = (200, 400, 800)
CARREL_BUDGETS = {"squad": (100,), "nq": (100,)}
"""Further budgets, at which only Carrel is measured."""
WHOLE = "whole"
SETS = ("squad", "nq", "musique", "hotpotqa", "scifact", "spans", "qmsum", "squality")
"""Every corpus; together they are the whole collection."""
WHOLE_SETS = ("squad", "nq", "musique", "hotpotqa", "scifact", "spans")
"""Whose questions are asked of the whole collection: those with short answers, supporting documents or spans."""
CORPORA = (WHOLE, "squad", "nq", "musique", "hotpotqa", "spans", "scifact")
"""What a quality run can index, in the order in which it runs."""
TIMING_CORPUS = "nq"
COLD_CORPUS = "squad"
COLD_DOCUMENTS = 5
WARM_UPS = 10
LATENCY_QUESTIONS = 200
CARREL = "carrel-default"
"""Carrel as it comes: the reader orders and prunes what was found."""
FAST = "carrel-fast"
"""Carrel without the reader: retrieval alone, as the peers do. It stands beside them in the timings."""


def budgets_of(question_set: str) -> tuple[int, ...]:
    """Return the token budgets at which a question set is measured for every system."""
    return SPAN_BUDGETS if question_set == "spans" else BUDGETS


def all_budgets_of(question_set: str) -> tuple[int, ...]:
    """Return the budgets of a set, those of Carrel alone among them."""
    return (*CARREL_BUDGETS.get(question_set, ()), *budgets_of(question_set))


@dataclass(frozen=True)
class Variant:
    """One row of every table: a system in one documented set-up."""

    system: str
    name: str
    label: str
    module: str
    class_name: str
    setup: str

    @property
    def key(self) -> str:
        """Name used in file names and on the command line."""
        return f"{self.system}-{self.name}"

    @property
    def is_peer(self) -> bool:
        """Whether it is another system than Carrel."""
        return self.system != "carrel"

    def budgets(self, question_set: str) -> tuple[int, ...]:
        """Return the budgets at which this variant is measured."""
        return budgets_of(question_set) if self.is_peer else all_budgets_of(question_set)


VARIANTS = (
    Variant(
        "carrel", "default", "Carrel", "systems.carrel_system", "CarrelSystem",
        "`carrel.open(folder)`, defaults: the reader orders and prunes the best 32 passages",
    ),
    Variant(
        "carrel", "fast", "Carrel fast", "systems.carrel_system", "CarrelSystem",
        '`carrel.open(folder, mode="fast")`: retrieval alone',
    ),
    Variant(
        "langchain", "dense", "LangChain", "systems.langchain_system", "LangChainSystem",
        "RecursiveCharacterTextSplitter(1000, 200), HuggingFaceEmbeddings, FAISS, k = 4",
    ),
    Variant(
        "langchain", "ensemble", "LangChain ensemble", "systems.langchain_system", "LangChainSystem",
        "the same, EnsembleRetriever of BM25Retriever and FAISS, weights 0.5 and 0.5, k = 4 each",
    ),
    Variant(
        "llamaindex", "1024", "LlamaIndex", "systems.llamaindex_system", "LlamaIndexSystem",
        "SentenceSplitter() (1,024 tokens), HuggingFaceEmbedding, VectorStoreIndex, k = 2",
    ),
    Variant(
        "llamaindex", "256", "LlamaIndex 256", "systems.llamaindex_system", "LlamaIndexSystem",
        "the same with SentenceSplitter(chunk_size=256, chunk_overlap=20)",
    ),
    Variant(
        "haystack", "hybrid", "Haystack", "systems.haystack_system", "HaystackSystem",
        "DocumentSplitter(word, 200), in-memory BM25 and embedding retrievers (k = 10 each), reciprocal rank fusion",
    ),
    Variant(
        "txtai", "hybrid", "txtai", "systems.txtai_system", "TxtaiSystem",
        "Segmentation(paragraphs=True), Embeddings(content=True, hybrid=True), k = 3",
    ),
)  # fmt: skip

PACKAGE_IMPORT = {
    "carrel": "import carrel",
    "langchain": "import langchain_core, langchain_community",
    "llamaindex": "import llama_index.core",
    "haystack": "import haystack",
    "txtai": "import txtai",
}
"""The package alone."""

SETUP_IMPORT = {
    "carrel": "import carrel; carrel.Document, carrel.open",
    "langchain": (
        "from langchain_community.vectorstores import FAISS; from langchain_core.documents import Document; "
        "from langchain_huggingface import HuggingFaceEmbeddings; "
        "from langchain_text_splitters import RecursiveCharacterTextSplitter"
    ),
    "llamaindex": (
        "from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage; "
        "from llama_index.core.node_parser import SentenceSplitter; "
        "from llama_index.embeddings.huggingface import HuggingFaceEmbedding"
    ),
    "haystack": (
        "from haystack import Document, Pipeline; from haystack.components.joiners import DocumentJoiner; "
        "from haystack.components.preprocessors import DocumentSplitter; "
        "from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever; "
        "from haystack.components.writers import DocumentWriter; "
        "from haystack.document_stores.in_memory import InMemoryDocumentStore; "
        "from haystack_integrations.components.embedders.sentence_transformers import "
        "SentenceTransformersDocumentEmbedder, SentenceTransformersTextEmbedder"
    ),
    "txtai": "from txtai.embeddings import Embeddings; from txtai.pipeline.data.segmentation import Segmentation",
}
"""The names that the documented set-up uses, which is what a user's program imports."""


def variant_of(key: str) -> Variant:
    """Return the variant with this key; raises KeyError naming the known ones."""
    for variant in VARIANTS:
        if variant.key == key:
            return variant
    known = ", ".join(variant.key for variant in VARIANTS)
    raise KeyError(f"unknown variant {key!r}; known: {known}")


def variants_of(systems: list[str]) -> list[Variant]:
    """Return the variants of the named systems (or variants), in table order."""
    known = {name for variant in VARIANTS for name in (variant.system, variant.key)}
    if unknown := set(systems) - known:
        raise KeyError(f"unknown systems: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    return [variant for variant in VARIANTS if {variant.system, variant.key} & set(systems)]
