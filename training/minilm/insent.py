"""Train the shipped embedder further, so that late chunking helps it: in-sequence negatives, as InSeNT has them.

    python training/minilm/insent.py --data DIR --work FOLDER                # some 15 minutes on one core
    python training/minilm/export.py --weights FOLDER/weights.safetensors --out FOLDER/ship
    python training/minilm/evaluate_insent.py --data DIR --work FOLDER --trained FOLDER/ship

A passage or a stretch of an article is read in one pass of a window; its chunks are pooled from it. A question must
find its chunk among those of the same text, and among those of others. What keeps the model where it was: the vectors
of questions and of chunks read alone are held near those of the model it began with. Started again with the same
folder, it goes on from its last checkpoint; Ctrl-C loses nothing.

Settings are chosen on articles held out of the training data. The weights of the last step are taken.

Reference: Conti et al., "Context is Gold to find the Gold Passage", arXiv 2505.24782.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # for when it is run as a script

from insent_data import Article, Ids, Window, batches, load, may_answer, neighbours, sequences_of  # noqa: E402
from insent_held_out import figures_of, fixed_windows  # noqa: E402
from insent_loss import contrast, drift  # noqa: E402
from insent_model import alone, model_of, situated  # noqa: E402
from safetensors.numpy import load as load_safetensors  # noqa: E402
from safetensors.numpy import save as save_safetensors  # noqa: E402

from carrel.embeddings.minilm import MiniLM  # noqa: E402
from carrel.tokens import shipped_tokenizer  # noqa: E402
from training.runs import CtrlC, as_json, exit_code, put, say  # noqa: E402

Row = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """What the weights depend on."""

    steps: int = 300
    batch: int = 16  # windows
    group: int = 4  # of them about nearly the same
    room: int = 254  # tokens of a window, as late chunking in windows of 256 reads them
    targets: tuple[int, ...] = (32, 64, 128)  # tokens of a chunk, drawn for each article and epoch
    questions: int = 3  # of a window and step, at most
    titled: float = 0.5  # share of articles whose title is read before them
    in_sequence: float = 0.3  # weight of the loss inside a text; the rest is that among texts
    temperature: float = 0.05
    keep: float = 10.0  # weight of the drift of texts read alone
    keep_queries: float = 10.0  # and of questions
    learning_rate: float = 1e-4
    warm_up: int = 15
    weight_decay: float = 0.01
    clip: float = 1.0
    held_out: float = 0.06  # of the titles of each source
    seed: int = 0


class Training:
    """One run in one folder."""

    def __init__(
        self, config: Config, weights: dict[str, np.ndarray], articles: Sequence[Article], held: Sequence[Article],
        folder: Path, *, save_every: int = 10, measure_every: int = 150,
    ) -> None:  # fmt: skip
        torch.manual_seed(config.seed)
        self.config, self.articles, self.folder = config, articles, folder
        self.save_every, self.measure_every = save_every, measure_every
        self.model, self.before = model_of(weights), model_of(weights).requires_grad_(False)
        learnt = [value for value in self.model.parameters() if value.requires_grad]
        groups = [
            {"params": [value for value in learnt if value.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [value for value in learnt if value.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
        self.near = self._neighbours() if config.group > 1 else {}
        self.held = fixed_windows(held, config.room)
        self.step, self.seconds = 0, 0.0
        self.log: list[Row] = []
        self._seen: list[Row] = []
        self._plan: tuple[int, list[list[Window]]] = (-1, [])
        self._ctrl_c = CtrlC()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def run(self) -> dict[str, np.ndarray]:
        """Train to the end; returns the weights. Ctrl-C ends it after the step, with that step saved."""
        self.resume()
        with self._ctrl_c.heeded():
            if not self.log:
                self._measure()
            while self.step < self.config.steps:
                started = time.monotonic()
                self._seen.append(self.one_step())
                self.step += 1
                self.seconds += time.monotonic() - started
                last = self.step == self.config.steps
                if last or self.step % self.measure_every == 0:
                    self._measure()
                if last or self._ctrl_c.pressed or self.step % self.save_every == 0:
                    self.save()
                if self._ctrl_c.pressed:
                    raise KeyboardInterrupt
        return {name: value.numpy() for name, value in self.model.state_dict().items()}

    def _neighbours(self) -> dict[str, list[str]]:
        """Articles alike, by the shipped model; kept, for they take a minute."""
        kept, keys = self.folder / "neighbours.json", [article.key for article in self.articles]
        if not kept.exists() or list(json.loads(kept.read_text(encoding="utf-8"))) != list(dict.fromkeys(keys)):
            put(kept, as_json(neighbours(self.articles, MiniLM(threads=1).encode_texts)))
        near: dict[str, list[str]] = json.loads(kept.read_text(encoding="utf-8"))
        return near

    def batch(self) -> list[Window]:
        """The windows of this step: those of one step are the same in every run."""
        epoch, done = 0, self.step
        while True:
            planned = self._epoch(epoch)
            if done < len(planned):
                return planned[done]
            epoch, done = epoch + 1, done - len(planned)

    def _epoch(self, epoch: int) -> list[list[Window]]:
        if self._plan[0] != epoch:
            config, chance = self.config, random.Random(f"{self.config.seed}:{epoch}")
            found: list[Window] = []
            for article in self.articles:
                target, first = chance.choice(config.targets), chance.randint(config.room // 2, config.room)
                titled = chance.random() < config.titled
                found += sequences_of(article, target, config.room, first, titled, config.questions, chance)
            planned = batches(found, config.batch, chance, self.near, config.group)
            if not planned:
                raise SystemExit(f"{len(found)} windows with a question make no batch of {config.batch} articles")
            self._plan = (epoch, planned)
        return self._plan[1]

    def one_step(self) -> Row:
        """One update, and its figures."""
        config, windows = self.config, self.batch()
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        chance = random.Random(f"{config.seed}:{self.step}:alone")
        texts = [_chunk(window, chance.randrange(len(window.spans))) for window in windows]
        asked = [ids for window in windows for ids in window.questions]
        queries = alone(self.model, asked, together=len(asked))
        inside, outside = contrast(queries, situated(self.model, windows), *places(windows), config.temperature)
        with torch.no_grad():
            queries_before, texts_before = alone(self.before, asked, together=len(asked)), alone(self.before, texts)
        moved, moved_queries = drift(alone(self.model, texts), texts_before), drift(queries, queries_before)
        loss = config.in_sequence * inside + (1 - config.in_sequence) * outside
        total = loss + config.keep * moved + config.keep_queries * moved_queries
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        named = {"inside": inside, "outside": outside, "moved": moved, "moved_queries": moved_queries}
        return {name: value.item() for name, value in named.items()}

    def _learning_rate(self) -> float:
        """Rising from nothing, then falling along a cosine to nothing."""
        config = self.config
        share = self.step / max(1, config.steps)
        return config.learning_rate * min((self.step + 1) / config.warm_up, 0.5 * (1 + math.cos(math.pi * share)))

    def _measure(self) -> None:
        """What was seen since the last time, and the figures on the held-out articles, into the log."""
        seen = self._seen[:]
        means = {name: float(np.mean([row[name] for row in seen])) for name in (seen[0] if seen else ())}
        row = {"step": self.step, "seconds": round(self.seconds), **means}
        row["held_out"] = figures_of(self.model, self.before, self.held)
        self.log.append(row)
        self._seen = []
        put(self.folder / "log.json", as_json(self.log))
        say(json.dumps(json.loads(as_json(row))))

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "config": _plain(self.config), "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "seconds": self.seconds, "log": self.log, "seen": self._seen,
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def resume(self) -> None:
        """Take up the last checkpoint, where there is one."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        if state["config"] != _plain(self.config):
            raise SystemExit(f"{self.checkpoint} was made with another configuration; remove it or use another folder")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.log, self._seen = state["log"], state["seen"]
        say(f"going on from step {self.step}")


def places(windows: Sequence[Window]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[frozenset[int]]]:
    """Of all windows together: the right chunk (Q,) and the document (Q,) of each question, the document (C,) of each
    chunk, and the chunks that count neither way."""
    positives, query_documents, chunk_documents = [], [], []
    before = 0
    for number, window in enumerate(windows):
        positives += [before + place for place in window.positives]
        query_documents += [number] * len(window.questions)
        chunk_documents += [number] * len(window.spans)
        before += len(window.spans)
    return torch.tensor(positives), torch.tensor(query_documents), torch.tensor(chunk_documents), may_answer(windows)


def _chunk(window: Window, place: int) -> Ids:
    low, high = window.spans[place]
    return window.ids[low:high]


def _plain(config: Config) -> Row:
    facts: Row = json.loads(json.dumps(asdict(config)))
    return facts


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; every setting of Config has a flag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="the folder with train/ and the corpora"
    )
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="checkpoint, log, weights")
    parser.add_argument("--wheel", type=Path, help="a downloaded wheel of the source package")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    for name, value in asdict(Config()).items():
        if isinstance(value, int | float):
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args(arguments)


def run(given: argparse.Namespace) -> None:
    """Train, and write the weights."""
    from export import fetch  # wants onnx

    torch.set_num_threads(given.threads)
    chosen = {name: getattr(given, name) for name in asdict(Config()) if hasattr(given, name)}
    config = replace(Config(), **chosen)
    learnt, held = load(given.data, shipped_tokenizer(), config.held_out)
    asked = [sum(len(article.questions) for article in part) for part in (learnt, held)]
    say(f"{len(learnt)} articles with {asked[0]} questions; held out {len(held)} with {asked[1]}")
    source = load_safetensors(fetch(given.wheel)["model.safetensors"])
    training = Training(config, source, learnt, held, given.work)
    weights = {**source, **training.run()}
    put(given.work / "weights.safetensors", save_safetensors(weights))
    put(given.work / "config.json", as_json(_plain(config)))


def main() -> int:
    """Run, and say how to go on where it was stopped."""
    return exit_code(lambda: run(options()))


if __name__ == "__main__":
    sys.exit(main())
