"""The fixed text of docs/evaluation.md. Results never stand here; `study_report` fills in what is in braces."""

from __future__ import annotations

INTRODUCTION = (
    "How much of what a question needs does Carrel put into a context of a given size? This page measures Carrel "
    "against itself: its retrievers and modes, what reranking and pruning add, adaptive-k, and a baseline that does "
    "not look at the question. Every figure comes with a 95 % interval."
)

OWN_DATA = """\
## Measure your own documents

Whether a setting helps depends on the documents. A hundred questions of your own say more than this page. Put two
files into a folder:

```json
{"id": "manual", "title": "Pump manual", "text": "Empty the tank before winter."}
```

is a line of `corpus.jsonl`, one document a line, and

```json
{"id": "q1", "question": "When is the tank emptied?", "answers": ["before winter"], "gold": [{"doc": "manual"}]}
```

is a line of `queries.jsonl`, one question a line. A gold item may also have `start` and `end`, the characters of
the passage. `answers` may be empty; each score is computed where its evidence is given. Both files may be
compressed (`.jsonl.gz`). Then:

```sh
carrel eval data/mine
carrel eval data/mine --limit 200 --budgets 250,1000 --plot mine.svg
carrel eval data/mine data/other --whole --configurations default,fast,no_prune --output results.json
```

The same in Python, with any combination of options as a row:

```python
import json
from pathlib import Path

from carrel.evaluation import Configuration, evaluate, load_dataset

folder = Path("mine")
folder.mkdir()
document = {"id": "manual", "title": "Pump manual", "text": "Empty the tank before winter."}
gold = [{"doc": "manual", "start": 15, "end": 28}]
question = {"id": "q1", "question": "When is the tank emptied?", "answers": ["before winter"], "gold": gold}
(folder / "corpus.jsonl").write_text(json.dumps(document))
(folder / "queries.jsonl").write_text(json.dumps(question))

rows = ["default", "fast", Configuration("five at most", cutoff=5, order="document")]
found = evaluate(load_dataset(folder), rows, budgets=[250, 1000])
print(found.interval("default", "answer", 250), found.difference("default", "fast", "answer", 250))
```"""

METHOD = """\
## What is measured

For each question Carrel makes a context at budgets from 64 to 4,000 tokens, headers and separators included. The
scores:

- **answer recall**: an accepted answer stands in the context word for word (case, punctuation and articles aside);
- **all supporting documents**: every document that the answer needs is in the context;
- **recall of gold documents**: the share of them in the context;
- **recall of gold span tokens**: the share of the marked passage's tokens in the context;
- **nDCG@10**: the ranking of documents, before any budget.

The rows: `first` takes the documents from the beginning and does not look at the question. `fast` is retrieval
alone, with the mixed scores (`fused`); `dense`, `lexical` and `rank_fused` are the other
[retrievers](retrieval.md), alone as well. `default` is what you get without choosing: the
[reader](reader.md) reranks the best 32 passages and prunes them. `no_rerank` and `no_prune` leave one of the two out,
`thorough` reads 100 passages, and `adaptive` is the default with `cutoff="adaptive"`.

Intervals are percentile bootstraps over questions (2,000 resamples). Two rows are compared on the same questions,
by a paired bootstrap of their difference. Where a table marks the best in bold, it also marks every row that this
comparison cannot tell from it.

To repeat it, with the data in the folders named below:

```sh
python benchmarks/study.py --data DIR --limit 200 --whole
python benchmarks/study.py --data DIR --limit 200 --adaptive
python benchmarks/study.py --report
```"""

SETS_MEASURED = """\
The sets are public. `squad`: long Wikipedia articles, questions with a marked answer. `nq`: Wikipedia passages and
questions typed into a search engine. `musique` and `hotpotqa`: questions that need two to four paragraphs. `spans`:
five long texts of different kinds with marked passages. `scifact`: abstracts and scientific claims. In the whole
collection also `qmsum` (meetings) and `squality` (stories), and all documents are in one library."""

CAPTIONS = {
    "recall": "Bands: 95 % intervals of `default` and `fast`. `adaptive` stops early by design, so its line ends "
    "inside the panel.",
    "reading": "The whole reader beside retrieval alone, and beside itself with one stage left out.",
    "retrievers": "Without the reader: the mixed scores beside each other retriever.",
    "whole": "All {documents} documents of all sets are in one library, and each set's questions are asked against "
    "all of it. This is closer to use than any set alone.",
    "adaptive": "Does it help to choose the number of passages for each question? The context budget is 8,000 tokens "
    "here, so that only the cutoff decides, on the scores of retrieval alone (dense, fused) or on the relevance that "
    "the reader gives the best 32 passages. Fixed k keeps the best 1, 2, 3, 5, 8, 12, 20 or 30 passages. Adaptive-k "
    "keeps what stands above the largest drop of the score, and a buffer of 0, 1, 2, 3, 5 or 8 more (the paper: 5), at "
    "most 50. Both are compared at equal mean tokens: between two fixed k the score is interpolated for every "
    "question, as if a coin chose between them, so that the difference is paired.",
    "gain": "Above zero adaptive-k is better than a fixed k of the same mean tokens. Filled: the interval leaves out "
    "zero.",
    "ideal": "Equal fixed k: the k at which fixed k spends the same tokens. Ideal choice: for each question the "
    "smallest of the fixed k that has the full score, which needs to know the answer. It shows how much a cutoff "
    "could gain at most.",
    "why": "Largest drop, Second: medians over questions, in units of the score. At 1, one needed: share of "
    "questions with the largest drop after rank 1, among those that one passage is enough for; next to it, among "
    "those that need more. Correlation: Spearman's, between the rank of the largest drop and the smallest fixed k "
    "that has the full score, where one has it.",
}

SAVINGS = (
    "All questions of the collection with an answer to look for, together: factoid and multi-hop. Equal fixed k: the "
    "fewest mean tokens at which a fixed number of passages, in the order of relevance, reaches the same answer "
    "recall; between two of them, a coin that chooses. Ratio: the cutoff's tokens by those, with its 95 % interval; "
    "below 1 the cutoff saves. Threshold: passages of at least that relevance, and always the best."
)

WHY = """\
- The largest drop is after rank 1 for {first_low} to {first_high} % of the questions, and its median is about
  {ratio} times that of the second largest. Scores fall fastest at the top of any ranking, so adaptive-k often keeps
  1 passage and the buffer: it is then a fixed k of another name.
- Where the drop is says little about how many passages are needed: their rank correlation lies between {low} and
  {high}. One passage is enough for {enough_low} to {enough_high} % of the factoid questions that any k answers; the
  drop is at rank 1 more often for them than for the others, but for many of the others, too."""

LIMITS = """\
- Retrieval is measured, not a model's answers. That the answer is in the context does not mean that a model finds it.
- English only, and mostly Wikipedia. The embedder was trained on public question and answer pairs, some of the same
  kind as these sets (SQuAD and Natural Questions among them), so figures on other documents may be lower for every
  row that uses it.
- A few hundred questions a set, drawn at random, so small differences stay undecided. Many comparisons are made on
  this page and none is corrected for that: of twenty with no true difference, one leaves out zero by chance.
- Intervals say how far other questions of the same set would move a figure. They say nothing about other documents.
- The linear interpolation between two fixed k lies a little below the true curve where it bends. That favours
  adaptive-k.
- Where every question succeeds, or none does, the bootstrap gives ±0. With 200 questions the true share may still
  be 1.5 points away.
- The default's weights were chosen before this page with some of these sets at hand."""
