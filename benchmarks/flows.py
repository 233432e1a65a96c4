"""How well `run_many` keeps an in-process engine busy, and what a driver costs a call.

    python benchmarks/flows.py                          # the embedded reader, and the driver alone
    python benchmarks/flows.py --vllm MODEL             # vLLM in this process, with a local model
    python benchmarks/flows.py --output FILE.json

32 chains of agents run side by side over the project's own documentation. An engine is busy while at least one call is
inside it; the share is of the wall time from the first call to the last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from machine import manifest

from carrel.agents import Ask, Steps, flow, run, run_many
from carrel.agents.chain_of_agents import chain_of_agents
from carrel.agents.reader_worker import ReaderWorker
from carrel.generation.base import Generator
from carrel.testing import FakeGenerator
from carrel.tokens import Tokenizer
from carrel.types import Completion, Document, Prompt

ROOT = Path(__file__).resolve().parents[1]
FLOWS = 32
ROUNDS = 5
QUESTIONS = (
    "What does a budget count?", "How are citations verified?", "What happens after a crash?",
    "Which models need no network?", "How is a long text cut into chunks?", "What is kept of a conversation?",
    "When does the reader abstain?", "What does the ledger say?",
)  # fmt: skip


class Watched(Generator):
    """Passes calls on, and notes when the engine behind it had any."""

    name: ClassVar[str] = "watched"

    def __init__(self, engine: Generator) -> None:
        """Take the engine to watch."""
        self.engine, self.context_window, self.cites = engine, engine.context_window, engine.cites
        self.calls: list[tuple[float, float]] = []
        self._lock = threading.Lock()

    @property
    def tokenizer(self) -> Tokenizer:
        """The engine's."""
        return self.engine.tokenizer

    def prompt_tokens(self, prompt: Prompt) -> int:
        """As the engine counts."""
        return self.engine.prompt_tokens(prompt)

    def complete(self, prompt: Prompt) -> Completion:
        """Complete, and note from when to when."""
        began = time.perf_counter()
        try:
            return self.engine.complete(prompt)
        finally:
            with self._lock:
                self.calls.append((began, time.perf_counter()))

    def busy_share(self) -> float:
        """The share of the time from the first call to the last with a call under way."""
        covered, until = 0.0, float("-inf")
        for began, ended in sorted(self.calls):
            covered += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return covered / (until - min(began for began, _ in self.calls))


def flows_over_docs() -> list[Any]:
    """32 chains of agents: each page of the documentation with several questions."""
    pages = [path for path in sorted((ROOT / "docs").glob("*.md")) if 4000 < path.stat().st_size < 40_000]
    documents = [Document(page.read_text(encoding="utf-8"), page.stem, page.stem) for page in pages]
    return [
        chain_of_agents(QUESTIONS[(number // len(documents)) % len(QUESTIONS)], documents[number % len(documents)])
        for number in range(FLOWS)
    ]


def busy(engine: Generator, concurrency: int, mode: str) -> dict[str, Any]:
    """Run the flows several times, after once to warm up; the median share and the spread."""
    run_many(flows_over_docs()[:2], generator=engine, mode=mode)
    shares, walls, calls = [], [], 0
    for _ in range(ROUNDS):
        watched = Watched(engine)
        began = time.perf_counter()
        runs = run_many(flows_over_docs(), generator=watched, concurrency=concurrency, mode=mode)
        walls.append(time.perf_counter() - began)
        failed = [each.error for each in runs if each.error is not None]
        if failed:
            raise failed[0]
        shares.append(watched.busy_share())
        calls = len(watched.calls)
    return {
        "flows": FLOWS, "concurrency": concurrency, "calls": calls, "rounds": ROUNDS,
        "busy_share": statistics.median(shares), "busy_share_least": min(shares),
        "wall_s": statistics.median(walls),
    }  # fmt: skip


@flow()
def _asking(calls: int) -> Steps[None]:
    for number in range(calls):
        yield Ask(Prompt(f"Question {number}?"))


def overhead(calls: int = 2000) -> dict[str, float]:
    """Milliseconds a call of a driver around a generator that replies at once; alone, and with 32 flows."""
    generator = FakeGenerator("Yes.")
    prompt = Prompt("Question?")
    alone, many, bare = [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(calls):
            generator.complete(prompt)
        bare.append((time.perf_counter() - began) / calls)
        began = time.perf_counter()
        run(_asking(calls), generator=generator)
        alone.append((time.perf_counter() - began) / calls)
        began = time.perf_counter()
        run_many([_asking(calls // FLOWS) for _ in range(FLOWS)], generator=generator, concurrency=FLOWS)
        many.append((time.perf_counter() - began) / (calls // FLOWS * FLOWS))
        generator.prompts.clear()
    return {
        "run_ms": 1e3 * (statistics.median(alone) - statistics.median(bare)),
        "run_many_ms": 1e3 * (statistics.median(many) - statistics.median(bare)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", metavar="MODEL", help="a local model for vLLM in this process")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "flows.json", metavar="FILE")
    given = parser.parse_args(arguments)
    figures = json.loads(given.output.read_text()) if given.output.exists() else {}
    command = f"python benchmarks/flows.py{' --vllm MODEL' if given.vllm else ''}"
    figures.setdefault("manifests", {})["vllm" if given.vllm else "reader"] = {
        **manifest(ROOT, []), "command": command
    }  # fmt: skip
    if given.vllm:
        from carrel.generation import VLLMEngine

        with VLLMEngine(given.vllm, max_tokens=128) as engine:
            figures["vllm"] = busy(engine, FLOWS, "fast")
    else:
        figures["driver"] = overhead()
        figures["reader"] = busy(ReaderWorker(), 2, "balanced")
    given.output.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
