"""The embedder trained further by insent.py against the one it began with, on the question sets.

    python training/minilm/evaluate_insent.py --data DIR --work FOLDER                          # before: embeds only
    python training/minilm/evaluate_insent.py --data DIR --work FOLDER --trained FOLDER/ship --runs FOLDER

Both are int8 graphs, as what ships is. Each embeds a set in four ways: chunks alone under their headings, late chunking
in windows of 256 tokens, the same with what stands around a chunk, and the blend of the first and the third; SciFact
only in the first. The figures are those of benchmarks/encoders.py, for nq and scifact nDCG@10 of documents; all
differences are paired, question by question. Vectors are kept under --work: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "benchmarks")]  # for when it is run as a script

from encoders import Corpus, Floats, chunks_of, measure  # noqa: E402
from machine import manifest  # noqa: E402

from carrel.embeddings.base import ChunkEncoder, Vectors, unit  # noqa: E402
from carrel.embeddings.late import LateChunking  # noqa: E402
from carrel.embeddings.minilm import MiniLM  # noqa: E402
from carrel.embeddings.token_states import Ids  # noqa: E402
from carrel.evaluation.bootstrap import bootstrap_difference, bootstrap_mean  # noqa: E402
from carrel.evaluation.datasets import Dataset, Question, load_dataset  # noqa: E402
from carrel.evaluation.metrics import ndcg_at_k  # noqa: E402
from training.runs import put, say  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "insent.json"
SETS = ("qmsum", "spans", "nq", "scifact", "squality", "squad")
RANKED = ("nq", "scifact")  # of many short documents: nDCG@10
PLAIN_ONLY = ("scifact",)
QUESTIONS = {"squad": 1000}
TARGET = 128  # tokens of a chunk
WAYS = ("plain", "late", "late_spread", "blended")
DECIDING = {"nq": "ndcg@10", "spans": "span", "qmsum": "own"}
SCIFACT_LOSS_ALLOWED = 0.005


class Remembered(MiniLM):
    """MiniLM that reads the same window once: the ways to embed a document share its passes."""

    def __init__(self, folder: Path | None = None, windows: int = 1200) -> None:
        super().__init__(folder, threads=1)
        self._once = lru_cache(maxsize=windows)(self._read)

    def _read(self, ids: bytes) -> Vectors:
        return super().states(np.frombuffer(ids, np.int64))

    def states(self, ids: Ids) -> Vectors:
        return self._once(np.asarray(ids, np.int64).tobytes())


def encoders(model: MiniLM, dataset: str) -> dict[str, ChunkEncoder]:
    """The ways that are not sums of others."""
    if dataset in PLAIN_ONLY:
        return {"plain": model}
    late = {"window": 256, "overlap": 32, "threads": 1}
    return {"plain": model, "late": LateChunking(model, **late), "late_spread": LateChunking(model, spread=0.5, **late)}


def embedded(model: MiniLM, dataset: Dataset, folder: Path) -> dict[str, Corpus]:
    """The dataset under every way, from the folder where its vectors are kept."""
    path = folder / f"{model.fingerprint[:12]}.{dataset.name}.npz"
    if not path.exists():
        made = encoders(model, dataset.name)
        rows: dict[str, list[Vectors]] = {way: [] for way in made}
        owner, spans, tokens = [], [], []
        for place, document in enumerate(dataset.documents):
            chunks = chunks_of(document, model, TARGET)
            for way, encoder in made.items():
                rows[way] += encoder.encode(document, chunks)
            owner += [place] * len(chunks)
            spans += [(chunk.start, chunk.end) for chunk in chunks]
            tokens += [chunk.tokens for chunk in chunks]
            if place % 500 == 0:
                say(f"{dataset.name}: {place} of {len(dataset.documents)} documents")
        folder.mkdir(parents=True, exist_ok=True)
        stacked = {way: np.concatenate(vectors).astype(np.float16) for way, vectors in rows.items()}
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, owner=owner, spans=spans, tokens=tokens, **stacked)
        partial.replace(path)
    with np.load(path) as kept:
        shared = (np.arange(len(kept["owner"])), kept["owner"], kept["spans"], kept["tokens"])
        ways = {way: kept[way].astype(np.float32) for way in kept.files if way in WAYS}
    if "late_spread" in ways:  # as Blended adds these two
        ways["blended"] = unit(ways["plain"] + ways["late_spread"])
    ids = [document.id for document in dataset.documents]
    return {way: Corpus(ids, vectors, *shared) for way, vectors in ways.items()}


def ranked(questions: Sequence[Question], queries: Sequence[Floats], corpus: Corpus) -> dict[str, list[float]]:
    """nDCG@10 of each question; a document scores as its best chunk."""
    found = []
    for question, query in zip(questions, queries, strict=True):
        order = np.argsort(-(corpus.rows @ query[0]), kind="stable")[:200]
        names = list(dict.fromkeys(corpus.ids[corpus.document[chunk]] for chunk in order))
        found.append(ndcg_at_k(names, {gold.doc for gold in question.gold}, 10))
    return {"ndcg@10": found}


def by_question(model: MiniLM, dataset: Dataset, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Of each way the figures of every question."""
    queries = [vector[None, :] for vector in model.encode_queries([question.text for question in dataset.questions])]
    out = {}
    for way, corpus in embedded(model, dataset, folder).items():
        if dataset.name in RANKED:
            out[way] = ranked(dataset.questions, queries, corpus)
        else:
            rows = measure(dataset.questions, queries, corpus, "")
            out[way] = {key: values for key, values in rows.items() if values}
    return out


def interval(values: Sequence[float], base: Sequence[float] | None = None) -> dict[str, float]:
    """The mean, or the mean difference from ``base``, with its interval of 95 %."""
    found = bootstrap_mean(values) if base is None else bootstrap_difference(values, base)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def compared(shipped: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    """Of each way and figure: both means, the change, the changes from the shipped model's plain chunks, and that
    from whichever way is best with the shipped model."""
    best = {key: max(shipped, key=lambda way: float(np.mean(shipped[way][key]))) for key in shipped["plain"]}
    return {
        way: {
            key: {
                "shipped": interval(shipped[way][key]),
                "trained": interval(values),
                "change": interval(values, shipped[way][key]),
                "change_from_plain": interval(values, shipped["plain"][key]),
                "shipped_change_from_plain": interval(shipped[way][key], shipped["plain"][key]),
                "shipped_best": best[key],
                "change_from_shipped_best": interval(values, shipped[best[key]][key]),
            }
            for key, values in rows.items()
        }
        for way, rows in trained.items()
    }


def verdict(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the trained weights should ship: a clear win on all three deciding sets, SciFact within half a point.

    A way wins where it is clearly better than the same way with the shipped model on all three, and on none clearly
    worse than the shipped model's best way. Plain chunks, which most libraries hold, may not clearly lose on any.
    """
    out: dict[str, Any] = {"rule": " ".join((verdict.__doc__ or "").split())}
    for way in WAYS:
        found = {name: figures[name][way][key] for name, key in DECIDING.items()}
        wins = {name: each["change"]["low"] > 0 for name, each in found.items()}
        behind = [name for name, each in found.items() if each["change_from_shipped_best"]["high"] < 0]
        out[way] = {"wins": wins, "behind_shipped_best": behind, "wins_all": all(wins.values()) and not behind}
    plain = {name: figures[name]["plain"][key]["change"] for name, key in DECIDING.items()}
    out["plain_clearly_loses"] = [name for name, change in plain.items() if change["high"] < 0]
    out["scifact_change"] = figures["scifact"]["plain"]["ndcg@10"]["change"]["mean"]
    out["scifact_is_kept"] = out["scifact_change"] >= -SCIFACT_LOSS_ALLOWED
    wins_any = any(out[way]["wins_all"] for way in WAYS)
    out["ship"] = bool(wins_any and out["scifact_is_kept"] and not out["plain_clearly_loses"])
    return out


def training_of(folder: Path) -> dict[str, Any]:
    """The settings of a training and what it noted, held-out figures included."""
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("config", "log")}


def shown(name: str, figures: Mapping[str, Any]) -> None:
    """A line for each way and figure."""
    for way, rows in figures.items():
        for key, each in rows.items():
            change = each["change"]
            bounds = f"{100 * change['mean']:+.2f} [{100 * change['low']:+.2f}, {100 * change['high']:+.2f}]"
            before, after = each["shipped"]["mean"], each["trained"]["mean"]
            say(f"{name} {way} {key}: {100 * before:.2f} -> {100 * after:.2f}, {bounds}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for; the verdict is written once the sets that it rests on are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the question sets")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="where vectors are kept")
    parser.add_argument("--shipped", type=Path, metavar="DIR", help="the int8 graph before; that of carrel by default")
    parser.add_argument("--trained", type=Path, metavar="DIR", help="the int8 graph after; without it, only embeds")
    said = "folders of all trainings tried, the measured one first: their settings and logs are kept with the figures"
    parser.add_argument("--runs", type=Path, nargs="+", default=[], metavar="DIR", help=said)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for name in given.sets:
        dataset = load_dataset(given.data / name, limit=QUESTIONS.get(name))
        before = by_question(Remembered(given.shipped), dataset, given.work / "vectors")
        if given.trained is not None:
            after = by_question(Remembered(given.trained), dataset, given.work / "vectors")
            found[name] = {"questions": len(dataset.questions), **compared(before, after)}
            shown(name, {way: rows for way, rows in found[name].items() if way in WAYS})
    if given.trained is None:
        return
    result = json.loads(given.output.read_text(encoding="utf-8")) if given.output.exists() else {}
    result.update(format="carrel-insent/1", sets={**result.get("sets", {}), **found})
    if given.runs:
        result["runs"] = [training_of(folder) for folder in given.runs]
    result["manifest"] = {**manifest(ROOT, []), "command": "python training/minilm/evaluate_insent.py --data DIR"}
    if {*DECIDING, "scifact"} <= set(result["sets"]):
        result["verdict"] = verdict(result["sets"])
        say(f"verdict: {json.dumps(result['verdict'])}")
    put(given.output, (json.dumps(result) + "\n").encode())


if __name__ == "__main__":
    main()
