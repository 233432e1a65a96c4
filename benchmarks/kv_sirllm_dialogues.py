"""Dialogues with planted facts in the words of the shipped test model, and that model taught to predict them.

The test model was trained on answers alone: what else it predicts, nobody has asked of it. Real models predict all of
a text, and how little they expect a word is what SirLLM goes by. So the same weights are also trained on for some
steps on other dialogues of the same kind, each next token counting.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

Chatter = Literal["phrases", "words"]
_PHRASES, _PHRASE_WORDS = 40, (5, 12)  # so many set phrases, each of 5 to 11 words
_TURN = 48  # tokens of a turn, or a few more
_TOKENS, _LENGTHS, _ANSWER_WEIGHT = 4096, (128, 256, 512), 5.0  # of a batch, of its rows; of an answer in the loss
_RATE, _WARM_UP = 1e-3, 20


@dataclass(frozen=True, slots=True)
class Fact:
    """A field of an entity, by token ids, and the turn that says it."""

    entity: int
    field: int
    value: int


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns in tokens, and the facts among them, each with the number of its turn."""

    turns: list[list[int]]
    facts: list[tuple[Fact, int]]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.turns))


class Language:
    """The words of the test model by kind, and the phrases that everybody uses."""

    def __init__(self, model: Path, tokenizer: Any) -> None:
        words = json.loads((model / "language.json").read_text(encoding="utf-8"))
        known = tokenizer.get_vocab()
        self.entities, self.fields, self.values, self.filler = (
            [known[word] for word in words[kind]] for kind in ("entities", "attributes", "values", "filler")
        )
        self.begin, self.end, self.stop, self.ask, self.equals = (known[m] for m in ("<s>", "</s>", ".", "?", "="))
        chance = np.random.default_rng(20240512)
        self.phrases = [self._words(chance) for _ in range(_PHRASES)]

    def facts(self, chance: np.random.Generator, count: int) -> list[Fact]:
        """Facts of which no two have the same entity and field."""
        cells = chance.choice(len(self.entities) * len(self.fields), count, replace=False)
        pairs = [divmod(int(cell), len(self.fields)) for cell in cells]
        return [Fact(self.entities[e], self.fields[f], int(chance.choice(self.values))) for e, f in pairs]

    def said(self, fact: Fact) -> list[int]:
        return [fact.entity, fact.field, fact.value, self.stop]

    def asked(self, fact: Fact) -> list[int]:
        return [self.ask, fact.entity, fact.field, self.equals]

    def chatter(self, chance: np.random.Generator, kind: Chatter) -> list[int]:
        """A set phrase, or as many words at random."""
        return self.phrases[int(chance.integers(_PHRASES))] if kind == "phrases" else self._words(chance)

    def dialogue(self, chance: np.random.Generator, length: int, facts: int, kind: Chatter) -> Dialogue:
        """About ``length`` tokens of chatter with facts anywhere in it."""
        items: list[tuple[list[int], Fact | None]] = [(self.said(fact), fact) for fact in self.facts(chance, facts)]
        used = sum(len(ids) for ids, _ in items)
        while used < length - 1:
            items.append((self.chatter(chance, kind), None))
            used += len(items[-1][0])
        turns, planted = [[self.begin]], []
        for place in chance.permutation(len(items)):
            if len(turns[-1]) >= _TURN:
                turns.append([])
            ids, fact = items[place]
            turns[-1] += ids
            if fact is not None:
                planted.append((fact, len(turns) - 1))
        return Dialogue(turns, planted)

    def row(self, chance: np.random.Generator, length: int) -> tuple[list[int], list[float]]:
        """A dialogue to learn from, with questions that are answered, and what each token counts."""
        waiting = self.facts(chance, max(2, int(length * chance.uniform(0.05, 0.4)) // 4))
        quiet = chance.uniform(0.1, 0.9)
        ids, weights, known = [self.begin], [1.0], []
        while len(ids) < length:
            drawn = chance.random()
            if drawn < 0.25 and known:
                fact = known[int(chance.integers(len(known)))]
                more = [*self.asked(fact), fact.value, self.end]
                counts = [1.0, 1.0, 1.0, 1.0, _ANSWER_WEIGHT, 1.0]
            elif drawn < 0.25 + 0.75 * (1 - quiet) and waiting:
                known.append(waiting.pop())
                more = self.said(known[-1])
                counts = [1.0] * len(more)
            else:
                more = self.chatter(chance, "phrases")
                counts = [1.0] * len(more)
            ids, weights = [*ids, *more], [*weights, *counts]
        return ids[:length], weights[:length]

    def _words(self, chance: np.random.Generator) -> list[int]:
        count = int(chance.integers(*_PHRASE_WORDS))
        return [*(int(word) for word in chance.choice(self.filler, count)), self.stop]


def teach(model: Any, language: Language, steps: int, seed: int) -> float:
    """Train a model, in place, to predict dialogues; the mean loss of the last tenth of the steps, in nats a token."""
    chance = np.random.default_rng([seed, 1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.01)
    model.train()
    losses = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / _WARM_UP) * (1 - step / steps)
        length = int(chance.choice(_LENGTHS))
        loss = _loss(model, [language.row(chance, length) for _ in range(_TOKENS // length)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    model.eval()
    return float(np.mean(losses[-max(1, steps // 10) :]))


def _loss(model: Any, rows: Sequence[tuple[list[int], list[float]]]) -> torch.Tensor:
    ids = torch.tensor([ids for ids, _ in rows])  # (B, S)
    weights = torch.tensor([weights for _, weights in rows])[:, 1:]
    logits = model(input_ids=ids).logits[:, :-1].float()
    each = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view_as(weights)
    return (each * weights).sum() / weights.sum()
