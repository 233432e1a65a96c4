"""What a dialogue without end still knows: `python benchmarks/kv_sirllm.py tests/models/needle_lm`.

    python benchmarks/kv_sirllm.py tests/models/needle_lm
    python benchmarks/kv_sirllm.py tests/models/needle_lm --dialogues 2 --steps 100 --output /tmp/trial.json

Facts are planted in chatter, turn after turn, and all are asked for at the end, each on its own, from the same cache:
of everything (the model's own cache), of a sliding window with sinks, of tokens drawn at random in each head, and of
what surprised the model (SirLLM) with several decays, at the same budgets of keys. In five settings: set
phrases that the model has learnt to expect; the same with four times the facts; the model as it is shipped, which has
never been taught to predict anything but answers; chatter of random words, which nothing can expect; and
dialogues longer than the model's window. Times are of the process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from kv_sirllm_dialogues import Chatter, Dialogue, Language, teach
from machine import manifest

from carrel.generation.kv.streaming import RetentiveStream

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "benchmarks" / "results" / "kv_sirllm.json"
FORMAT = "carrel-kv-sirllm/1"
FULL = "everything"
METHODS: dict[str, dict[str, Any]] = {
    "window": {"retain": "window"},
    "random": {"retain": "random"},
    "sirllm": {},
    "sirllm, decay 0.98": {"decay": 0.98},
    "sirllm, decay 0.9": {"decay": 0.9},
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of dialogue and the model that reads it."""

    name: str
    taught: bool
    chatter: Chatter
    facts: int
    tokens: int
    budgets: tuple[float, ...] = (1 / 2, 1 / 4, 1 / 8)


SETTINGS = (
    Setting("phrases", True, "phrases", 32, 2048),
    Setting("many facts", True, "phrases", 128, 2048),
    Setting("as shipped", False, "phrases", 32, 2048),
    Setting("random words", True, "words", 32, 2048),
    Setting("beyond the window", True, "phrases", 64, 8192, (1 / 8, 1 / 16)),
)


def answered(model: Any, language: Language, dialogue: Dialogue, budget: int, options: dict[str, Any]) -> list[bool]:
    """Whether each fact is known at the end, in the order of its turns."""
    stream = RetentiveStream(model, budget, **options)
    for turn in dialogue.turns:
        stream.read(turn)
        stream.end_turn()
        if stream.kept > budget:
            raise RuntimeError("the cache outgrew its budget")
    return [int(stream.fork().read(language.asked(fact)).argmax()) == fact.value for fact, _ in dialogue.facts]


def measured(model: Any, language: Language, setting: Setting, dialogues: int, seed: int) -> dict[str, Any]:
    """Right answers of every method at every budget."""
    drawn = [
        language.dialogue(np.random.default_rng([seed, 2, n]), setting.tokens, setting.facts, setting.chatter)
        for n in range(dialogues)
    ]
    window = model.config.max_position_embeddings
    rows = []
    cells = [(method, options, budget) for budget in setting.budgets for method, options in METHODS.items()]
    if setting.tokens < window:
        cells.insert(0, (FULL, {}, None))
    for method, options, share in cells:
        budget = int((share or 1) * setting.tokens) + (128 if share is None else 0)
        began = time.process_time()
        right = [answered(model, language, dialogue, budget, options) for dialogue in drawn]
        rows.append({
            "method": method, "share": share, "budget": budget, "cpu_s": time.process_time() - began,
            "right": ["".join("01"[one] for one in answers) for answers in right],
        })  # fmt: skip
        hits, asked = sum(map(sum, right)), sum(map(len, right))
        sys.stderr.write(f"{setting.name:18} {method:28} {budget:5} {100 * hits / asked:5.1f}\n")
    return asdict(setting) | {"turns": float(np.mean([len(dialogue.turns) for dialogue in drawn])), "rows": rows}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dialogues", type=int, default=12, help="of each setting (default: 12)")
    parser.add_argument("--steps", type=int, default=400, help="of teaching (default: 400)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args()


def main() -> int:
    """Teach, measure, write."""
    options = parse()
    torch.manual_seed(options.seed)
    transformers.utils.logging.disable_progress_bar()
    language = Language(options.model, transformers.AutoTokenizer.from_pretrained(str(options.model)))
    models = {
        taught: transformers.AutoModelForCausalLM.from_pretrained(str(options.model), dtype=torch.float32).eval()
        for taught in (False, True)
    }
    began = time.process_time()
    loss = teach(models[True], language, options.steps, options.seed)
    taught = {"steps": options.steps, "loss": loss, "cpu_s": time.process_time() - began}
    found = [measured(models[s.taught], language, s, options.dialogues, options.seed) for s in SETTINGS]
    result = {
        "format": FORMAT,
        "manifest": manifest(REPOSITORY, [])
        | {
            "command": f"python benchmarks/kv_sirllm.py {options.model} --dialogues {options.dialogues}",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        },
        "model": options.model.name, "dialogues": options.dialogues, "taught": taught, "settings": found,
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
