"""The training loop: bfloat16 on the CPU, checkpoints it goes on from, a moving average of the weights."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from config import Config
from features import Batch, Featuriser, batches
from losses import loss
from model import Reader

from examples import Examples
from training.runs import CtrlC, say

AVERAGED_EVERY = 5  # steps
SORTED_TOGETHER = 256  # groups put in order of length before they are batched

Evaluate = Callable[[Reader], dict[str, float]]


class Training:
    """One run in one folder. Started again there, it goes on from its last checkpoint."""

    def __init__(
        self, reader: Reader, examples: Examples, featuriser: Featuriser, config: Config, folder: Path
    ) -> None:
        self.reader, self.examples, self.featuriser = reader, examples, featuriser
        self.config, self.folder = config, folder
        reader.words.requires_grad_(False)  # half of all weights; few of them occur often enough to learn
        learnt = [p for p in reader.parameters() if p.requires_grad]
        decayed = [p for p in learnt if p.ndim > 1]
        rest = [p for p in learnt if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
        self.average = {name: value.clone() for name, value in reader.state_dict().items()}
        self.epoch, self.done, self.step = 0, 0, 0
        self.log: list[dict[str, Any]] = []
        self._ctrl_c = CtrlC()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def run(self, evaluate: Evaluate | None = None) -> dict[str, torch.Tensor]:
        """Train to the end; returns the averaged weights. Ctrl-C ends it after the step, with that step saved."""
        self._resume()
        with self._ctrl_c.heeded(lambda: self.reader.training):  # while nothing is learnt, at once
            self._run(evaluate)
        return self.average

    def _run(self, evaluate: Evaluate | None) -> None:
        while self.epoch < self.config.epochs:
            plan = self._plan()
            last = min(len(plan), round(len(plan) * (self.config.epochs - self.epoch)))
            self._epoch(plan, last)
            self.epoch, self.done = self.epoch + 1, 0
            if evaluate is not None:
                figures = self._averaged(evaluate)
                self.log.append({"epoch": self.epoch, "step": self.step, "held_out": figures})
                say(f"epoch {self.epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
            self._save()

    def _plan(self) -> list[Batch]:
        """The batches of this epoch: alike in length inside, in random order."""
        groups = self.featuriser.groups(self.examples.epoch(self.epoch))
        ordered = [
            group
            for start in range(0, len(groups), SORTED_TOGETHER)
            for group in sorted(groups[start : start + SORTED_TOGETHER], key=lambda g: max(len(f.ids) for f in g))
        ]
        plan = batches(ordered, self.config.batch_tokens)
        random.Random(f"{self.config.seed}:{self.epoch}:order").shuffle(plan)
        return plan

    def _epoch(self, plan: Sequence[Batch], last: int) -> None:
        self.reader.train()
        started, windows, seen = time.monotonic(), 0, []
        for index in range(self.done, last):
            seen.append(self._step(plan[index], (self.epoch + index / len(plan)) / self.config.epochs))
            windows += len(plan[index].lengths)
            self.done, self.step = index + 1, self.step + 1
            if self._ctrl_c.pressed:
                self._save()
                raise KeyboardInterrupt
            if self.step % self.config.save_every == 0 or self.done == last:
                means = {name: sum(row[name] for row in seen) / len(seen) for name in seen[0]}
                rate = windows / (time.monotonic() - started)
                self.log.append({"epoch": self.epoch, "step": self.step, "loss": means, "windows_per_s": rate})
                shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
                say(f"epoch {self.epoch} {self.done}/{last}: {shown}; {rate:.1f} windows/s")
                seen = []
                self._save()

    def _step(self, batch: Batch, progress: float) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate(progress)
        ids, types = torch.from_numpy(batch.ids), torch.from_numpy(batch.types)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            window, token = self.reader(ids, types, torch.from_numpy(batch.lengths))
        total, parts = loss(window, token, batch, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.reader.parameters(), 1.0)
        self.optimiser.step()
        if self.step % AVERAGED_EVERY == 0:
            self._update_average()
        return parts

    def _update_average(self) -> None:
        decay = min(self.config.average, (1 + self.step) / (10 + self.step)) ** AVERAGED_EVERY
        with torch.no_grad():
            for name, value in self.reader.named_parameters():
                if value.requires_grad:
                    self.average[name].lerp_(value, 1 - decay)

    def _learning_rate(self, progress: float) -> float:
        """Linear warm-up, then linear decay."""
        c = self.config
        if progress < c.warm_up:
            return c.learning_rate * progress / c.warm_up + c.least_learning_rate
        return c.least_learning_rate + (c.learning_rate - c.least_learning_rate) * (1 - progress) / (1 - c.warm_up)

    def _averaged(self, evaluate: Evaluate) -> dict[str, float]:
        own = {name: value.clone() for name, value in self.reader.state_dict().items()}
        self.reader.load_state_dict(self.average)
        self.reader.eval()
        figures = evaluate(self.reader)
        self.reader.load_state_dict(own)
        return figures

    def _save(self) -> None:
        state = {
            "config": self.config.as_dict(), "reader": self.reader.state_dict(), "average": self.average,
            "optimiser": self.optimiser.state_dict(), "epoch": self.epoch, "done": self.done, "step": self.step,
            "random": torch.get_rng_state(), "log": self.log,
        }  # fmt: skip
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)
        (self.folder / "log.json").write_text(json.dumps(self.log, indent=1) + "\n", encoding="utf-8")

    def _resume(self) -> None:
        torch.manual_seed(self.config.seed)
        self.reader.dropout.pool = None  # that of an earlier course, perhaps
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        if state["config"] != self.config.as_dict():
            raise SystemExit(f"{self.checkpoint} was made with another configuration; remove it or use another folder")
        self.reader.load_state_dict(state["reader"])
        self.average, self.log = state["average"], state["log"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.done, self.step = state["epoch"], state["done"], state["step"]
        if self.config.dropout and self.step:
            self.reader.dropout.fill(torch.bfloat16)  # from the seed, as it was when the run began
        torch.set_rng_state(state["random"])
        say(f"going on from epoch {self.epoch}, batch {self.done}")
