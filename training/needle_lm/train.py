"""The training loop: a curriculum of stages, checkpoints it goes on from, rows that depend on nothing but the step."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.needle_lm.config import Config, Stage
from training.needle_lm.data import KINDS, LOOK_UP, NOTHING, Batch, batch
from training.needle_lm.language import VOCABULARY
from training.needle_lm.model import NeedleLM
from training.runs import CtrlC, say

Row = dict[str, Any]


class Training:
    """One run in one folder. Started again there, it goes on from its last checkpoint."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        torch.manual_seed(config.seed)
        self.model = NeedleLM(config.shape, len(VOCABULARY))
        learnt = list(self.model.named_parameters())
        decayed = [value for name, value in learnt if value.ndim > 1 and name != "words.weight"]
        rest = [value for name, value in learnt if value.ndim <= 1 or name == "words.weight"]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.stages[0].learning_rate, betas=config.betas, fused=True)
        self.stage, self.done, self.step = 0, 0, 0
        self.recent: list[float] = []  # shares of look-ups answered right, of the last steps
        self.seconds, self.threads = 0.0, torch.get_num_threads()
        self.log: list[Row] = []
        self._seen: list[Row] = []
        self._ctrl_c = CtrlC()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def has_ended(self) -> bool:
        return self.stage == len(self.config.stages)

    def run(self) -> NeedleLM:
        """Train to the end. Ctrl-C ends it after the step, with that step saved."""
        self.resume()
        with self._ctrl_c.heeded():
            self.model.train()
            while not self.has_ended:
                self._run_stage(self.config.stages[self.stage])
        return self.model.eval()

    def _run_stage(self, stage: Stage) -> None:
        while self.done < stage.steps and not self._knows_enough(stage):
            started = time.monotonic()
            figures, recent = self._step(stage)
            self.recent = [*self.recent, recent][-self.config.recent :]
            self._seen.append(figures)
            self.done, self.step = self.done + 1, self.step + 1
            self.seconds += time.monotonic() - started
            if self.step % self.config.log_every == 0:
                self._note(stage)
            if self._ctrl_c.pressed:
                self.save()
                raise KeyboardInterrupt
            if self.step % self.config.save_every == 0:
                self.save()
        self._note(stage)
        if stage.enough is not None and not self._knows_enough(stage):
            say(f"stage {self.stage + 1} has used its {stage.steps} steps and knows less than it should")
        self.stage, self.done, self.recent = self.stage + 1, 0, []
        self.save()

    def _knows_enough(self, stage: Stage) -> bool:
        full = len(self.recent) == self.config.recent
        return stage.enough is not None and full and float(np.mean(self.recent)) >= stage.enough

    def _step(self, stage: Stage) -> tuple[Row, float]:
        """One update: its figures, and the share of look-ups answered right."""
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate(stage)
        rows = self._batch(stage)
        loss, right, kinds = self._loss(rows)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        figures: Row = {"loss": loss.item(), "tokens": rows.ids.size}
        for name, kind in KINDS.items():
            figures[name] = [int(right[kinds == kind].sum()), int((kinds == kind).sum())]
        looked_up = right[kinds == LOOK_UP]
        return figures, float(looked_up.float().mean()) if len(looked_up) else 0.0

    def _batch(self, stage: Stage) -> Batch:
        """The rows of this step; those of one step are the same in every run."""
        chance = np.random.default_rng([self.config.seed, 0, self.stage, self.done])
        length = int(chance.choice(stage.lengths))
        return batch(chance, length, stage.tokens // length, stage.two_hop, stage.copying)

    def _loss(self, rows: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Mean cross-entropy of the tokens to be predicted; which of them ``(N,)`` are right, and of what kind."""
        ids, kinds = torch.from_numpy(rows.ids), torch.from_numpy(rows.kinds)
        wanted = kinds[:, 1:] != NOTHING
        states = self.model(ids[:, :-1])[wanted]  # (N, C)
        logits = self.model.logits(states).float()
        targets = ids[:, 1:][wanted]
        return functional.cross_entropy(logits, targets), logits.argmax(-1) == targets, kinds[:, 1:][wanted]

    def _learning_rate(self, stage: Stage) -> float:
        """In a line from the first to the last of the stage; at the beginning of all, rising from nothing."""
        share = self.done / max(1, stage.steps - 1)
        rate = stage.learning_rate + (stage.last_learning_rate - stage.learning_rate) * share
        return rate * min(1.0, (self.step + 1) / max(1, self.config.warm_up))

    def _note(self, stage: Stage) -> None:
        """What was seen since the last note, into the log."""
        if not self._seen:
            return
        row: Row = {
            "stage": self.stage + 1, "lengths": list(stage.lengths), "step": self.step,
            "loss": sum(seen["loss"] for seen in self._seen) / len(self._seen),
            "tokens": sum(seen["tokens"] for seen in self._seen), "seconds": round(self.seconds, 1),
        }  # fmt: skip
        for name in KINDS:
            asked = sum(seen[name][1] for seen in self._seen)
            row[name] = sum(seen[name][0] for seen in self._seen) / asked if asked else None
        self.log.append(row)
        self._seen = []
        shown = ", ".join(f"{name} {row[name]:.3f}" for name in KINDS if row[name] is not None)
        say(f"stage {row['stage']} step {self.done}/{stage.steps}: loss {row['loss']:.3f}, {shown}; {row['seconds']} s")

    def save(self) -> None:
        """Write the checkpoint and the log, each whole or not at all."""
        state = {
            "config": _plain(self.config), "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
            "stage": self.stage, "done": self.done, "step": self.step, "recent": self.recent, "seen": self._seen,
            "seconds": self.seconds, "threads": self.threads, "log": self.log,
        }  # fmt: skip
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)
        (self.folder / "log.json").write_text(json.dumps(self.log, indent=1) + "\n", encoding="utf-8")

    def resume(self) -> None:
        """Take up the last checkpoint, where there is one."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        if state["config"] != _plain(self.config):
            raise SystemExit(f"{self.checkpoint} was made with another configuration; remove it or use another folder")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.stage, self.done, self.step = state["stage"], state["done"], state["step"]
        self.recent, self._seen = state["recent"], state["seen"]
        self.seconds, self.threads, self.log = state["seconds"], state["threads"], state["log"]
        where = "its end" if self.has_ended else f"stage {self.stage + 1}, step {self.done}"
        say(f"going on from {where}")


def _plain(config: Config) -> Row:
    """What the weights depend on, as JSON has it: not how they are measured, nor how often they are saved."""
    facts: Row = json.loads(json.dumps(config.as_dict()))
    return {name: value for name, value in facts.items() if name not in ("exam", "log_every", "save_every")}
