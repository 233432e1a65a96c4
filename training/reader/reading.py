"""Reading many questions with the shipped runtime, on every core."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import Question, sentence_spans
from metrics import Sentence, f1

from carrel.embeddings.minilm import available_cores
from carrel.reader.calibration import MEAN_OF_TOKENS, Logistic, keep_features
from carrel.reader.model import ReaderInput, ReaderModel
from carrel.reader.reading import Reading
from carrel.retrieval.sentences import split_sentences

Tell = Callable[[str], None]
Asked = tuple[str, list[ReaderInput]]


@dataclass(frozen=True)
class Read:
    """A question, its paragraph, its answers there (character spans), and what the reader made of it."""

    question: str
    context: str
    answers: tuple[tuple[int, int], ...]
    reading: Reading
    document: str  # questions of the same one are drawn together
    source: str = ""
    evidence: tuple[int, int] | None = None  # the sentence that was marked as the one with the answer

    @property
    def answerable(self) -> bool:
        return bool(self.answers)

    @property
    def text(self) -> str:
        """The best answer, were it given."""
        best = self.reading.answers(1)
        return self.context[best[0].start : best[0].end] if best else ""

    @property
    def right(self) -> float:
        """F1 of the best answer; 0 where there is none."""
        return max((f1(self.text, self.context[start:end]) for start, end in self.answers), default=0.0)

    def sentences(self, keep: Logistic = MEAN_OF_TOKENS) -> list[Sentence]:
        """Keep score, tokens and right or not, of each sentence of the paragraph; without an answer none is right."""
        marked = [self.evidence or self.answers[0]] if self.answers else []
        wanted = {s.start for s in sentence_spans(self.context, marked)}
        spans, starts = split_sentences(self.context), self.reading.offsets[:, 0]
        tokens = [int(((starts >= s.start) & (starts < s.end)).sum()) for s in spans]
        scores = keep.probability(keep_features(self.reading, spans)).tolist()
        return [(score, count, s.start in wanted) for score, count, s in zip(scores, tokens, spans, strict=True)]


def runtime(folder: Path) -> ReaderModel:
    """The shipped runtime on a model's folder; questions are spread over the cores, not windows."""
    return ReaderModel(folder, threads=1, remembered=1)


def read_all(model: ReaderModel, asked: Sequence[Asked], tell: Tell, what: str) -> list[list[Reading]]:
    """A reading of every input of every question, in order."""
    if not asked:
        return []
    started = time.monotonic()
    out = [model.read(*asked[0])]  # loads the model before the threads ask for it
    pool = ThreadPoolExecutor(available_cores())
    try:
        for readings in pool.map(lambda one: model.read(*one), asked[1:]):
            out.append(readings)
            if len(out) % 500 == 0 or len(out) == len(asked):
                tell(f"{what}: {len(out)} of {len(asked)} questions, {time.monotonic() - started:.0f} s")
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C need not wait for the rest
    return out


def read_rows(model: ReaderModel, rows: Sequence[dict[str, Any]], tell: Tell, what: str) -> list[Read]:
    """Read the whole paragraph of every row of a development set."""
    titles = [str(row.get("title", "")).replace("_", " ") for row in rows]
    asked = [(row["question"], [ReaderInput(t, row["context"])]) for row, t in zip(rows, titles, strict=True)]
    out = []
    for row, title, [reading] in zip(rows, titles, read_all(model, asked, tell, what), strict=True):
        spans = tuple((a["start"], a["start"] + len(a["text"])) for a in row["answers"])
        chosen = row.get("selected_sentence")
        evidence = (chosen["start"], chosen["end"]) if chosen else None
        document = f"{title}\n{row['context']}"
        out.append(Read(row["question"], row["context"], spans, reading, document, evidence=evidence))
    return out


def read_questions(model: ReaderModel, questions: Sequence[Question], tell: Tell, what: str) -> list[Read]:
    """Read the whole paragraph of every question of the training files."""
    asked = [(q.question, [ReaderInput(q.title, q.context)]) for q in questions]
    return [
        Read(q.question, q.context, q.answers, reading, q.document, q.source)
        for q, [reading] in zip(questions, read_all(model, asked, tell, what), strict=True)
    ]
