"""The fixed text of the report. Numbers in it come from the registry; results never stand here."""

from __future__ import annotations

from registry import COLD_DOCUMENTS, DEPTH, LATENCY_QUESTIONS, QUESTIONS, RANKING_DEPTH, WARM_UPS

INTRODUCTION = (
    "Carrel beside LangChain, LlamaIndex, Haystack and txtai: the same data, the same questions, the same embedding "
    "model (all-MiniLM-L6-v2), the same tokenizer for counting, each system in its documented set-up and in an "
    "environment of its own. Carrel runs its own int8 build of that model; the others run it with PyTorch.\n\n"
    'Carrel stands here twice: as it comes, with its reader (`Carrel`), and with `mode="fast"`, where it only '
    "retrieves, as the others do (`Carrel fast`). The timings beside the others are those of the latter.\n\n"
    "In the figures a line goes over the budgets, and a hollow point is the system's own default."
)

METHOD = f"""\
- **Tokens** are counted for every system with the embedding model's own tokenizer, without special tokens.
- **A peer's context** at a budget: the system is asked for {DEPTH} ranked pieces (each retriever of a hybrid for \
{DEPTH}). They are taken whole in rank order; the first that does not fit is cut to what is left; then it stops. \
Separators between pieces are not counted.
- **Carrel's context** at a budget is the text of `library.context(question, budget=...)` as rendered. Its headers and \
separators count and stand in the budget.
- **Not pruned**: the same contexts with `pruner="none"`: reranked passages, whole as long as they fit.
- **Own default**: what each system returns when nothing is asked of it; the tokens of it differ much.
- **The whole collection** is every corpus in one library; each set's questions are asked against all of it.
- **Questions**: a seeded sample of at most {QUESTIONS:,} a set. Documents: the title is the text's first line for \
the peers, and a field of its own for Carrel.
- **Ranking** scores come from {RANKING_DEPTH} ranked pieces, reduced to documents.
- **Differences** are Carrel, or Carrel fast, minus the peer that is best at that budget, with 95 % intervals from \
{{resamples}} paired \
bootstrap resamples of the questions. The best peer is chosen on the same questions, which favours the peers.
- **Quality runs reuse embeddings.** A text that a peer's encoder has embedded once is kept on disk and not embedded \
again, because the same chunks come in the whole collection and in a single corpus. No timing uses this.
- **Timings**: every measurement is a fresh process. The systems take turns, round after round, and ratios are taken \
within a round. Tables show the median and the range, and the load of the machine just before the rounds.
- **Ingest** runs from the first ingest call, after imports and model load, until the index can be searched. The peak \
is the process's largest resident memory.
- **Cold start** runs from the spawning of Python to the first context of the default retrieval: over a saved index, \
or after the ingest of {COLD_DOCUMENTS} long articles. One unrecorded round comes first, so files are in the page \
cache.
- **Warm latency**: {LATENCY_QUESTIONS} single questions, one after another, after {WARM_UPS} others, the query's \
embedding included, with each system's default retrieval. For Carrel fast this is `library.context`, selection, \
packing and \
rendering included; `library.search`, which like the peers' calls only retrieves, is given beside it.

Scores:
"""

DIFFERENCES = """\
- Carrel's ingest writes to disk as it goes. The peers index in memory; their saving is timed apart.
- Of these systems only Carrel reads what it found before it fills the budget, and that costs time (*What the modes \
cost*). The others can rerank, too, but not in the set-up that their documentation begins with.
- In 100 tokens only Carrel is measured: the others' pieces are longer, and only the beginning of the first would count.
- Carrel renders a context with headers and fits it to the budget. The peers return pieces, and the budget above is \
filled for them.
- LlamaIndex cuts at 1,024 tokens by default, of which this encoder reads 256. The row *LlamaIndex 256* repairs that.
- LangChain's BM25Retriever has no saved form: its ensemble builds BM25 again at each start.
- txtai reads up to 512 tokens of a chunk with the same model, the others 256.
- Carrel's models are loaded by the first call that needs them; the peers load theirs in the set-up. Ingest and first \
context therefore hold that cost for Carrel only.
"""
