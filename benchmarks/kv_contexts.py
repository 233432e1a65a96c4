"""What reading a context once is worth: `python benchmarks/kv_contexts.py MODEL`.

    python benchmarks/kv_contexts.py tests/models/needle_lm
    python benchmarks/kv_contexts.py MODEL --contexts 4 --questions 8 --output /tmp/trial.json

For contexts of facts (2,048 tokens unless `--length` says otherwise) it measures, through TransformersGenerator: the
time to the first token of the first question, which reads the context, and of later ones; and for contexts stored in
16, 8 and 4 bits, after a restart: the size of the file, the time to read it, and the share of right answers, in the
same questions as without a file. Medians over contexts; intervals of differences by paired bootstrap over contexts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from machine import manifest

from carrel.evaluation.bootstrap import bootstrap_mean
from carrel.generation import TransformersGenerator
from carrel.generation.kv.lookups import LookUp, look_ups
from carrel.types import Completion, Document, Prompt

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "benchmarks" / "results" / "kv_contexts.json"
FORMAT = "carrel-kv-contexts/1"
BITS = (16, 8, 4)
UNMEASURED = 5  # questions that are asked before a clock is read


class Measurement:
    """One run: the model, the contexts, and what was measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.model = transformers.AutoModelForCausalLM.from_pretrained(str(options.model))
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(str(options.model))
        drawn = look_ups(options.model, self.tokenizer)
        self.is_right = drawn.is_right
        seeds = range(options.contexts)
        self.lookups = [drawn.draw(options.length, options.questions, (options.seed, seed)) for seed in seeds]

    def generator(self, **options: Any) -> TransformersGenerator:
        """A generator as after a restart, but for the weights, which stay loaded."""
        return TransformersGenerator(self.model, tokenizer=self.tokenizer, instructions="", max_tokens=4, **options)

    def prompts(self, lookup: LookUp) -> list[Prompt]:
        text = self.tokenizer.decode(list(lookup.context), skip_special_tokens=True)
        standing = (Document(text, "facts"),)
        questions = [self.tokenizer.decode(list(asked.ids)).removesuffix("=").strip() for asked in lookup.questions]
        return [Prompt(question, standing=standing) for question in questions]

    def right(self, completion: Completion, answer: str) -> bool:
        return self.is_right(completion.text.split()[0] if completion.text.split() else "", answer)

    def asked_once_read(self) -> dict[str, Any]:
        """The first question of a context, which reads it, and the later ones."""
        first, later, right = [], [], []
        for lookup in self.lookups:
            with self.generator() as generator:
                said = [generator.complete(prompt) for prompt in self.prompts(lookup)]
            first.append(said[0].metrics["first_token_s"])
            later.append(statistics.median(one.metrics["first_token_s"] for one in said[1:]))
            right.append([self.right(c, asked.answer) for c, asked in zip(said, lookup.questions, strict=True)])
        ratios = [second / begin for begin, second in zip(first, later, strict=True)]
        return {
            "first_token_s": statistics.median(first),
            "later_first_token_s": statistics.median(later),
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "right": right,
        }

    def stored(self, bits: int, dense: list[list[bool]]) -> dict[str, Any]:
        """Contexts in files of so many bits, read by a generator that has never seen them."""
        sizes, prefill, reading, first, right = [], [], [], [], []
        for lookup in self.lookups:
            prompts = self.prompts(lookup)
            with tempfile.TemporaryDirectory() as folder:
                with self.generator(contexts=folder, stored_bits=bits) as generator:
                    prefill.append(generator.complete(prompts[0]).metrics["context_prefill_s"])
                sizes.append(sum(path.stat().st_size for path in Path(folder).iterdir()))
                with self.generator(contexts=folder, stored_bits=bits) as generator:
                    said = [generator.complete(prompt) for prompt in prompts]
                reading.append(said[0].metrics["context_load_s"])
                first.append(said[0].metrics["first_token_s"])
            right.append([self.right(c, asked.answer) for c, asked in zip(said, lookup.questions, strict=True)])
        differences = [float(np.mean(o) - np.mean(d)) for o, d in zip(right, dense, strict=True)]
        interval = bootstrap_mean(differences, seed=self.options.seed)
        return {
            "bytes": statistics.median(sizes),
            "prefill_s": statistics.median(prefill),
            "reload_s": statistics.median(reading),
            "reload_ratio": statistics.median(r / p for r, p in zip(reading, prefill, strict=True)),
            "first_token_s": statistics.median(first),
            "accuracy": float(np.mean([one for row in right for one in row])),
            "difference": {"mean": interval.mean, "low": interval.low, "high": interval.high},
        }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--length", type=int, default=2048, help="tokens of a context (default: 2048)")
    parser.add_argument("--contexts", type=int, default=20)
    parser.add_argument("--questions", type=int, default=50, help="of each context")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args()


def main() -> int:
    """Measure, print, write."""
    options = parse()
    transformers.utils.logging.disable_progress_bar()
    measurement = Measurement(options)
    with measurement.generator() as generator:  # nothing is timed cold
        for prompt in measurement.prompts(measurement.lookups[0])[:UNMEASURED]:
            generator.complete(prompt)
    found = measurement.asked_once_read()
    dense = found.pop("right")
    found["accuracy"] = float(np.mean([one for row in dense for one in row]))
    stored = {str(bits): measurement.stored(bits, dense) for bits in BITS}
    result = {
        "format": FORMAT,
        "manifest": manifest(REPOSITORY, [])
        | {
            "command": f"python benchmarks/kv_contexts.py {options.model.name} --length {options.length}",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        },
        "model": options.model.name, "length": options.length, "contexts": options.contexts,
        "questions": sum(len(lookup.questions) for lookup in measurement.lookups), "threads": torch.get_num_threads(),
        "once_read": found, "stored": stored,
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps({"once_read": found, "stored": stored}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
