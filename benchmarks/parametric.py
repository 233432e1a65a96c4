"""What adapters know, alone and merged: `python benchmarks/parametric.py tests/models/needle_lm`.

    python benchmarks/parametric.py tests/models/needle_lm
    python benchmarks/parametric.py tests/models/needle_lm --facts 8 12 --documents 3 3 --output /tmp/trial.json

Documents of facts about people, no two about the same one; each is trained by itself. A question is right where the
whole reply of ``ParametricGenerator`` is the value. ``closed`` is without the passages. No adapter of a merged set has
met another in training. The settings of the recipe were chosen on seed 0; what is shown is of another. The questions
are those that were trained on; ``reworded`` asks them in ways that were not. Other skills: what the model looks up or
copies from its context, with and without adapters of the long documents. Times are of one thread, and on a machine
with other work the wall clock says little.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from machine import manifest

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
import carrel  # noqa: E402
from carrel.generation import TransformersGenerator  # noqa: E402
from carrel.memory.parametric.applying import applied  # noqa: E402
from carrel.memory.parametric.generator import ParametricGenerator  # noqa: E402
from carrel.memory.parametric.pairs import Pair  # noqa: E402
from carrel.memory.parametric.temporary import TemporaryMemory  # noqa: E402
from carrel.testing import HashEncoder  # noqa: E402
from carrel.types import Document, Passage, Prompt  # noqa: E402
from training.needle_lm.data import copy_row, exam  # noqa: E402
from training.needle_lm.language import ENTITIES, FIELDS, VALUES  # noqa: E402

OUTPUT = REPOSITORY / "benchmarks" / "results" / "parametric.json"
FORMAT = "carrel-parametric/3"
FIELDS_EACH = 5  # of a person
REPLY_TOKENS = 4
REWORDED = {
    "as trained": "{}", "a word in front": "so {}", "a word inside": "? the{}", "a fact in front": "ba age 41 . {}",
    "without its mark": "{}",
}  # fmt: skip
SETS = {3: 4, 5: 3}  # documents of a merged set, and how many sets


def documents(chance: np.random.Generator, sizes: Sequence[int]) -> list[Document]:
    """Documents of so many facts each."""
    people = iter(chance.permutation(np.array(ENTITIES)).tolist())
    made = []
    for number, size in enumerate(sizes):
        cells: list[tuple[str, str]] = []
        while len(cells) < size:
            who = next(people)
            cells += [(who, str(field)) for field in chance.permutation(np.array(FIELDS))[:FIELDS_EACH]]
        facts = [f"{who} {field} {chance.choice(np.array(VALUES))} ." for who, field in cells[:size]]
        made.append(Document(" ".join(facts), id=f"document-{number}"))
    return made


def pairs(document: Document) -> list[Pair]:
    """A question for each fact."""
    words = document.text.split()
    facts = [words[at : at + 4] for at in range(0, len(words), 4)]
    return [Pair(f"? {who} {field}", value, f"{who} {field} {value} .") for who, field, value, _ in facts]


def passages(found: Sequence[Document]) -> tuple[Passage, ...]:
    """Of the whole documents."""
    return tuple(Passage(each.id, 0, len(each.text), each.text) for each in found)


def reworded(question: str, way: str) -> str:
    """The question of a fact, ``? who field``, in a way of REWORDED."""
    bare = question.removeprefix("?")
    return REWORDED[way].format(question if way in ("as trained", "a word in front", "a fact in front") else bare)


def right(generator: Any, found: Sequence[Document], way: str = "as trained") -> str:
    """Which of the questions about some documents are answered right, their passages with each: 1 or 0 each."""
    read = passages(found)
    return "".join(
        str(int(generator.complete(Prompt(reworded(pair.question, way), read)).text.strip() == pair.answer))
        for each in found
        for pair in pairs(each)
    )


def skills(model: Any, seed: int) -> dict[str, str]:
    """What the model does with what is in its context: right or not, for each answer."""
    chance = np.random.default_rng([seed, 5])
    done: dict[str, str] = {}
    for length in (256, 1024):
        asked = exam(chance, length, 150)
        context = torch.from_numpy(asked.context)[None]
        with torch.inference_mode():
            hits = [
                int(model(torch.cat([context, torch.from_numpy(question)[None]], 1)).logits[0, -1].argmax()) == answer
                for question, answer in zip(asked.questions, asked.answers.tolist(), strict=True)
            ]
        done[f"look-up, {length:,} tokens"] = "".join("01"[hit] for hit in hits)
    copied = []
    for _ in range(12):
        ids, kinds = copy_row(chance, 256)
        with torch.inference_mode():
            said = model(torch.from_numpy(ids)[None]).logits[0].argmax(-1).numpy()
        where = np.flatnonzero(kinds)
        copied += (said[where - 1] == ids[where]).tolist()
    done["copying, 256 tokens"] = "".join("01"[hit] for hit in copied)
    return done


class Run:
    """One library, one engine, and what is measured with them."""

    def __init__(self, model: Path, folder: Path, options: argparse.Namespace) -> None:
        self.options = options
        self.library = carrel.open(folder, encoder=HashEncoder(), mode="fast")
        self.engine = TransformersGenerator(
            model, dtype="float32", device="cpu", instructions="", max_tokens=REPLY_TOKENS
        )
        chance = np.random.default_rng([options.seed, 1])
        sizes = zip(options.facts, options.documents, strict=True)
        self.found = {facts: documents(chance, [facts] * count) for facts, count in sizes}
        for facts, found in self.found.items():
            self.found[facts] = [replace(each, id=f"{facts}-{each.id}") for each in found]
            for each in self.found[facts]:
                self.library.add(each)

    def generator(self, **keywords: Any) -> ParametricGenerator:
        return ParametricGenerator(self.library, self.engine, pairs=pairs, **keywords)

    def training(self) -> list[dict[str, Any]]:
        """Every document by itself."""
        generator, rows = self.generator(mode="closed"), []
        for each in chain(*self.found.values()):
            bare = right(self.generator(mode="closed", missing="skip"), [each])
            stored = generator.train(each.id)
            row = {
                "document": each.id, "tokens": len(each.text.split()), "facts": len(pairs(each)), "before": bare,
                "closed": right(generator, [each]), "size_bytes": stored.size_bytes, **stored.trained,
            }  # fmt: skip
            rows.append(row)
            say(row["document"], row["closed"], cpu_s=row["cpu_s"], wall_s=row["wall_s"])
        return rows

    def reworded(self) -> list[dict[str, Any]]:
        """Questions in words that were not trained on: closed book, merged, and by the bare model, reading."""
        rows = []
        for way in REWORDED:
            row: dict[str, Any] = {"way": way, "asked": reworded("? bado age", way).strip()}
            row |= {
                str(facts): {
                    "closed": [right(self.generator(mode="closed"), [each], way) for each in found[:2]],
                    "reading": [right(self.engine, [each], way) for each in found[:2]],
                }
                for facts, found in self.found.items()
            }
            least, three = min(self.found), self.found[min(self.found)][:3]
            row[str(least)]["merged"] = [right(self.generator(mode="closed"), three, way)]
            rows.append(row)
            for facts in self.found:
                say(f"{way}, {facts}", "".join(row[str(facts)]["closed"]))
            say(f"{way}, {least}, merged", row[str(least)]["merged"][0])
        return rows

    def merging(self) -> list[dict[str, Any]]:
        """Sets of documents of one size that never met."""
        rows = []
        for facts, found in self.found.items():
            for size, count in {1: len(found), **SETS}.items():
                every = list(combinations(found, size))
                chosen = np.random.default_rng([self.options.seed, 2, size]).permutation(len(every))[:count]
                rows += [self.merged(every[number], facts) for number in chosen.tolist()]
        return rows

    def merged(self, kept: Sequence[Document], facts: int) -> dict[str, Any]:
        """A set as exact sum and reconciled; and with its passages to read."""
        row: dict[str, Any] = {"documents": [each.id for each in kept], "size": len(kept), "facts": facts}
        exact, joined = self.generator(mode="closed", reconciled=False), self.generator(mode="closed")
        row["exact"] = right(exact, kept)
        began, clock = time.process_time(), time.perf_counter()
        first = joined.complete(Prompt(pairs(kept[0])[0].question, passages(kept)))
        row |= {"reconcile_cpu_s": time.process_time() - began, "reconcile_wall_s": time.perf_counter() - clock}
        row |= {"rank": first.metrics["adapters_rank"], "reconciled": right(joined, kept)}
        both = self.generator(mode="combine")
        asked = pairs(kept[0])[0].question
        fits = both.prompt_tokens(Prompt(asked, passages(kept))) + REPLY_TOKENS <= (both.context_window or 0)
        row["combine"] = right(both, kept) if fits else ""
        say(f"{len(kept)} merged, exact", row["exact"])
        say(f"{len(kept)} merged, reconciled", row["reconciled"], cpu_s=row["reconcile_cpu_s"])
        return row

    def others(self) -> list[dict[str, Any]]:
        """Other skills without adapters, with each of some, and with merged sets."""
        model, rows = self.engine.loaded.runner.model, []
        rows.append({"adapters": 0, **skills(model, self.options.seed)})
        long = self.found[max(self.found)]
        for size in (1, *SETS):
            kept = long[:size]
            generator = self.generator(mode="closed")
            with applied(model, generator._layers(generator._carried(Prompt("?", passages(kept))))):
                rows.append({"adapters": len(kept), **skills(model, self.options.seed)})
            say(f"look-up with {size}", rows[-1]["look-up, 1,024 tokens"])
        return rows

    def lift(self) -> dict[str, Any]:
        """One long input, its text in overlapping segments and its questions."""
        generator = self.generator(mode="closed", recipe="lift")
        long = self.found[max(self.found)][0]
        stored = generator.train(long.id)
        row = {"tokens": len(long.text.split()), "closed": right(generator, [long]), **stored.trained}
        say("lift", row["closed"], cpu_s=row["cpu_s"])
        return row

    def going_on(self) -> list[dict[str, Any]]:
        """Loss of each next block of a text, with and without the throw-away adapter that has learnt those before.

        A text goes on about the same people: each block says 40 of 60 facts in another order; the window holds one.
        """
        chance = np.random.default_rng([self.options.seed, 4])
        facts = documents(chance, [60])[0].text.split(" . ")
        facts = [fact.removesuffix(" .") for fact in facts]
        blocks = [" . ".join(chance.permutation(np.array(facts))[:40].tolist()) + " ." for _ in range(5)]
        memory, bare = TemporaryMemory(self.engine), TemporaryMemory(self.engine)
        rows = []
        for number, block in enumerate(blocks):
            before = blocks[number - 1] if number else ""
            rows.append({
                "block": number, "bare": bare.loss(block), "window": bare.loss(block, before),
                "memory": memory.loss(block), "both": memory.loss(block, before),
            })  # fmt: skip
            rows[-1] |= {"learning": memory.learn(block)}
            sys.stderr.write(f"{rows[-1]}\n")
        return rows


def say(what: str, answers: str, **times: float) -> None:
    shown = " ".join(f"{name} {value:.1f}" for name, value in times.items())
    sys.stderr.write(f"{what:28} {100 * answers.count('1') / len(answers):5.1f} of {len(answers)} {shown}\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--facts", type=int, nargs="+", default=[62, 250], help="of a document: 4 tokens each")
    parser.add_argument("--documents", type=int, nargs="+", default=[6, 5], help="of so many facts (default: 6 5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args()


def main() -> int:
    """Train, ask, write."""
    options = parse()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(options.model, Path(folder) / "library", options)
        result: dict[str, Any] = {
            "format": FORMAT,
            "manifest": manifest(REPOSITORY, [])
            | {
                "command": f"python benchmarks/parametric.py {options.model}",
                "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            },
            "model": options.model.name, "threads": options.threads, "seed": options.seed,
            "trained": run.training(), "reworded": run.reworded(), "merged": run.merging(), "skills": run.others(),
            "lift": run.lift(), "going_on": run.going_on(),
        }  # fmt: skip
        run.library.close()
    result["cpu_s"] = time.process_time() - began
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
