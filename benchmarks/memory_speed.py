"""How long memory takes: to observe a turn, and to recall from a thousand, ten thousand and a hundred thousand.

    python benchmarks/memory_speed.py --data DIR
    python benchmarks/memory_speed.py --data DIR --sizes 1000,10000 --recalls 20 --output /tmp/trial.json

DIR holds ``dialogues/N/turns.jsonl.gz`` and ``queries.jsonl.gz``: what is said and asked is theirs. Their vectors are
the embedded model's. Memories larger than the dialogues are filled up with the same turns, of which every fourth word
is another's, each with the vector of the turn it was made from, moved a little and at random: to embed a hundred
thousand turns takes an hour, and a search does not know the difference. All is on disk, as in use.

Times are of single calls, medians and 95th percentiles, in milliseconds: of the wall, and of this process's processor,
which does not count what others on the machine take (but counts the thread that embeds behind ``observe``).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from machine import load_average, manifest

from carrel.embeddings.base import Vectors, unit
from carrel.embeddings.minilm import MiniLM
from carrel.memory import ConversationMemory, Utterance, embedding
from carrel.memory import notes as noted
from carrel.memory import open as open_memory
from carrel.memory import turns as stored
from carrel.memory.base import Note, StoredTurn
from carrel.memory.bm25 import index_terms
from carrel.memory.importance import importance
from carrel.memory.recalling import recollect
from carrel.memory.writing import STRETCH_TURNS
from carrel.retrieval.indexes.quantised import best_by_codes

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "results" / "memory_speed.json"
FORMAT = "carrel-memory-speed/2"
SEED = 7
SIZES = (1_000, 10_000, 100_000)
SESSION_TURNS = 20
MOVED = 0.35  # length of what a copied vector is moved by, which leaves a cosine of about 0.94
WARM_UP = 5
_FILLED_AT_ONCE = 2_000
Call = Callable[[], object]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds dialogues/")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), metavar="N,N", help="turns in the memory")
    parser.add_argument("--observes", type=int, default=300, metavar="N", help="observed turns a durability")
    parser.add_argument("--recalls", type=int, default=100, metavar="N", help="recalls a size")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    given = parser.parse_args()
    said, questions = dialogues(given.data)
    load = load_average()
    encoder = MiniLM()
    with tempfile.TemporaryDirectory(prefix="carrel-memory-") as folder:
        observing: dict[str, Any] = {
            durability: observed(Path(folder) / durability, encoder, said, durability, given.observes)
            for durability in ("normal", "full")
        }
        observing["sync"] = synced(Path(folder) / "sync")
        real = embedded(encoder, said)
        recalling = {
            str(size): recalled(Path(folder) / str(size), encoder, said, real, questions, size, given.recalls)
            for size in map(int, given.sizes.split(","))
        }
    results = {
        "format": FORMAT,
        "manifest": {**manifest(ROOT, []), "command": "python benchmarks/memory_speed.py --data DIR"},
        "load_average": {"before": load, "after": load_average()},
        "data": {"turns": len(said), "questions": len(questions), "vectors": "the dialogues' own, then moved copies"},
        "unit": "ms",
        "observe": observing,
        "recall": recalling,
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, measured in [*observing.items(), *recalling.items()]:
        print(name, json.dumps(measured.get("total", measured)))


# -- data ---------------------------------------------------------------------------------------


def dialogues(data: Path) -> tuple[list[Utterance], list[str]]:
    """All that is said in the dialogues, in their order, and what is asked of them."""
    said: list[Utterance] = []
    questions: list[str] = []
    for folder in sorted((data / "dialogues").iterdir()):
        if not folder.is_dir():
            continue
        for row in lines(folder / "turns.jsonl.gz"):
            said.append(Utterance(row["text"], row["speaker"], float(len(said) * 60)))
        questions += [row["question"] for row in lines(folder / "queries.jsonl.gz")]
    return said, questions


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def embedded(encoder: MiniLM, said: Sequence[Utterance]) -> Vectors:
    """(turns, D): the model's own vectors."""
    turns = [StoredTurn(0, "", each.speaker, each.text, 0.0) for each in said]
    return embedding.embed(encoder, turns)


def copies(said: Sequence[Utterance], vectors: Vectors, size: int) -> Iterator[tuple[list[Utterance], Vectors]]:
    """As many turns with vectors as are wanted, a batch at a time: the real ones, then changed ones."""
    source = np.random.default_rng(SEED)
    words = sorted({word for each in said for word in each.text.split()})
    for start in range(0, size, _FILLED_AT_ONCE):
        places = np.arange(start, min(size, start + _FILLED_AT_ONCE))
        moved = vectors[places % len(said)]
        noise = unit(source.standard_normal(moved.shape).astype(np.float32)) * MOVED
        real = places < len(said)
        moved = np.where(real[:, None], moved, unit(moved + noise))
        turns = [
            Utterance(
                changed(said[place % len(said)].text, words, source) if place >= len(said) else said[place].text,
                said[place % len(said)].speaker,
                float(place * 60),
                f"session {place // SESSION_TURNS}",
            )
            for place in places.tolist()
        ]
        yield turns, moved


def changed(text: str, words: Sequence[str], source: np.random.Generator) -> str:
    """The text with about every fourth word another."""
    parts = text.split()
    for place in np.flatnonzero(source.random(len(parts)) < 0.25).tolist():
        parts[place] = words[int(source.integers(len(words)))]
    return " ".join(parts) or text


def filled(memory: ConversationMemory, said: Sequence[Utterance], vectors: Vectors, size: int) -> None:
    """Write turns with their vectors, past the encoder."""
    stream = memory.stream
    for turns, moved in copies(said, vectors, size):
        with stream.store.write() as connection:
            owner = stored.make_owner(connection, memory.tenant, memory.user)
            written = stored.insert(connection, owner, "", turns, [importance(each.text) for each in turns])
            known = embedding.adopt(connection, stream.embedder.fingerprint, stream.encoder)
            stored.insert_vectors(connection, owner, known, [turn.id for turn in written], moved, written[-1].id)


def annotate(memory: ConversationMemory) -> int:
    """Write a summary and a fact of every twelve turns, as a generator would have; how many notes."""
    turns = memory.turns()
    notes: list[Note] = []
    for number, start in enumerate(range(0, len(turns), STRETCH_TURNS)):
        stretch = turns[start : start + STRETCH_TURNS]
        ids, last = tuple(turn.id for turn in stretch), stretch[-1]
        summary = " ".join(turn.text[:40] for turn in stretch[:4])
        notes.append(Note(0, last.session, "summary", summary, ids, last.said_at))
        notes.append(Note(0, last.session, "fact", last.text[:80], (last.id,), last.said_at, f"thing {number}"))
    with memory.stream.store.write() as connection:
        owner = stored.make_owner(connection, memory.tenant, memory.user)
        return len(noted.insert(connection, owner, notes))


# -- measuring ----------------------------------------------------------------------------------


def timed(call: Call) -> tuple[float, float]:
    """Seconds of the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def figures(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Medians and 95th percentiles, in milliseconds."""
    wall, processor = (np.array(column) * 1000 for column in zip(*times, strict=True))
    return {
        "wall_p50": round(float(np.median(wall)), 3),
        "wall_p95": round(float(np.percentile(wall, 95)), 3),
        "processor_p50": round(float(np.median(processor)), 3),
        "processor_p95": round(float(np.percentile(processor, 95)), 3),
        "calls": len(wall),
    }


def observed(folder: Path, encoder: MiniLM, said: Sequence[Utterance], durability: Any, count: int) -> dict[str, Any]:
    """What ``observe`` takes, one turn after the other, while the turns before are embedded; and without that."""
    chosen = [said[place % len(said)] for place in range(count)]
    found: dict[str, Any] = {}
    for name, pause_s in (("total", 0.0), ("spaced", 0.1)):  # as fast as they come; as people speak, only faster
        with open_memory(folder / name, user="ann", encoder=encoder, durability=durability) as memory:
            memory.observe("hello")  # makes the file
            times = []
            for each in chosen if not pause_s else chosen[:100]:
                times.append(timed(lambda each=each: memory.observe(each.text, speaker=each.speaker)))
                time.sleep(pause_s)
            found[name] = figures(times)
            started = time.perf_counter()
            memory.flush()
            found[name]["seconds_until_embedded"] = round(time.perf_counter() - started, 2)
    return found


def synced(path: Path) -> dict[str, float]:
    """What a sync of a page to the disk takes: no turn that survives a power loss takes less."""
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(60):
            file.write(bytes(4096))
            times.append(timed(lambda: os.fsync(file.fileno())))
            time.sleep(0.02)
    return figures(times)


class Stages:
    """A source of turns that counts the time of every call to it."""

    def __init__(self, source: Any) -> None:
        self._source, self.seconds = source, dict[str, float]()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._source, name)

        def counted(*values: Any, **options: Any) -> Any:
            with self.counting(name):
                return call(*values, **options)

        return counted

    @contextmanager
    def counting(self, name: str) -> Iterator[None]:
        """Count what a block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


class Counted(MiniLM):
    """The embedded model, whose time for questions is counted."""

    stages: Stages

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        """As the model does."""
        with self.stages.counting("encode_queries"):
            return super().encode_queries(questions)


def recalled(
    folder: Path, encoder: MiniLM, said: Sequence[Utterance], vectors: Vectors, questions: Sequence[str], size: int,
    count: int,
) -> dict[str, Any]:  # fmt: skip
    """What ``recall`` takes from a memory of some size, and where it goes."""
    source = np.random.default_rng(SEED)
    asked = [questions[place] for place in source.permutation(len(questions))[: count + WARM_UP].tolist()]
    with open_memory(folder, user="ann", session="now", encoder=encoder) as memory:
        filled(memory, said, vectors, size)
        opening = timed(lambda: memory.recall(asked[0]))
        for question in asked[:WARM_UP]:
            memory.recall(question)
        times = [timed(lambda question=question: memory.recall(question)) for question in asked[WARM_UP:]]
        after_turn = []
        for question in asked[WARM_UP : WARM_UP + 30]:
            memory.observe(question)
            memory.flush()
            after_turn.append(timed(lambda question=question: memory.recall(question)))
        found_by = stages(memory, asked[WARM_UP:])
        notes = annotate(memory)
        memory.recall(asked[0])
        with_notes = [timed(lambda question=question: memory.recall(question)) for question in asked[WARM_UP:]]
        return {
            "total": figures(times),
            "with_notes": {"notes": notes, **figures(with_notes)},
            "after_a_new_turn": figures(after_turn),
            "first_recall_s": round(opening[0], 2),
            "stages": found_by,
            "floor": floor(memory, asked[WARM_UP:]),
            "index_MB": round(memory.stream.index_bytes / 1e6, 1),
            "file_MB": round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1),
        }


def stages(memory: ConversationMemory, asked: Sequence[str]) -> dict[str, float]:
    """Median milliseconds of each part of a recall."""
    counter = Stages(memory._source)
    encoder = Counted()
    encoder.stages = counter
    encoder.encode_queries(["hello"])
    seen: list[dict[str, float]] = []
    now = datetime.now(timezone.utc).timestamp()
    for question in asked:
        counter.seconds = {}
        with counter.counting("total"):
            recollect(
                counter, question, encoder=encoder, tokenizer=memory.tokenizer, budget=1000, session="now", now=now
            )
        seen.append(counter.seconds)
    names = sorted({name for each in seen for name in each})
    found = {name: round(1000 * float(np.median([each.get(name, 0.0) for each in seen])), 3) for name in names}
    inside = sum(value for name, value in found.items() if name != "total")
    return {**found, "ranking_and_rendering": round(found["total"] - inside, 3)}


def floor(memory: ConversationMemory, asked: Sequence[str]) -> dict[str, float]:
    """What a search cannot go below: its bytes at the speed of memory; and its two parts by themselves."""
    (index,) = memory.stream._indexes.values()
    codes, alive = index._rows[4][: index._count], index._rows[2][: index._count]
    words = codes[: len(codes) // 8 * 8].reshape(-1).view(np.int64)
    query = memory.stream.encoder.encode_queries([asked[0]])[0]
    wanted = min(320, len(codes))
    parts: dict[str, Call] = {
        "read_codes": lambda: words.sum(),
        "scan_codes": lambda: best_by_codes(codes, query, wanted, alive),
        "bm25": lambda: index._words.scores(index_terms(asked[0]), alive),
    }
    out = {name: figures([timed(call) for _ in range(20)])["wall_p50"] for name, call in parts.items()}
    return {**out, "codes_MB": round(codes.nbytes / 1e6, 1)}


if __name__ == "__main__":
    main()
