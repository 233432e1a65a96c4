"""How much of the evidence a memory brings back: shares of evidence turns within a budget, and abstention.

Every system fills the same budget, counted on the text as rendered, with turns rendered in the same way; what Carrel
adds to a turn (what "yesterday" meant) counts against its own budget alone. A turn counts where all of it is told, not
where an excerpt of it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import TextEncoder, Vectors
from carrel.errors import InputError
from carrel.evaluation.bootstrap import Interval, bootstrap_difference, bootstrap_mean
from carrel.evaluation.dialogues import ADVERSARIAL, Dialogue, DialogueQuestion
from carrel.memory.base import ABSTAINS_BELOW, Recollection, StoredTurn
from carrel.memory.recalling import recollect
from carrel.memory.rendering import Fitting, said
from carrel.memory.scoring import fitted_on
from carrel.memory.words import embedded_text
from carrel.testing.memory import PlainTurns
from carrel.tokens import Tokenizer, shipped_tokenizer

CARREL, READER = "carrel", "carrel, reader"
BASELINES: Mapping[str, str] = {
    "cosine": "nearest turns, embedded with their speaker's name",
    "cosine, text alone": "nearest turns, embedded without a name",
    "bm25": "best turns by words, with their speaker's name",
    "bm25, text alone": "best turns by words, without a name",
    "last turns": "the end of the conversation",
}
ALL = "all"
_MOST_MISSES = 12  # turns that do not fit, as in carrel.memory.recalling
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what each system brought: the share of its evidence, NaN where it has none."""

    dialogue: str
    id: str
    kind: str
    shares: Mapping[str, float]
    answerable: float
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class MemoryEvaluation:
    """All questions; ``fitted`` names the dialogues that Carrel's weights were fitted on."""

    budget: int
    tokenizer: str
    systems: tuple[str, ...]
    asked: tuple[Asked, ...]
    fitted: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """Kinds with evidence to find, the most frequent first."""
        counts: dict[str, int] = {}
        for each in self.asked:
            if each.kind != ADVERSARIAL:
                counts[each.kind] = counts.get(each.kind, 0) + 1
        return sorted(counts, key=lambda kind: (-counts[kind], kind))

    def of(self, *, fitted: bool | None = None) -> MemoryEvaluation:
        """The questions of dialogues that were fitted on, or that were not; None: of all."""
        kept = tuple(each for each in self.asked if fitted is None or (each.dialogue in self.fitted) == fitted)
        return MemoryEvaluation(self.budget, self.tokenizer, self.systems, kept, self.fitted, self.manifest)

    def shares(self, system: str, kind: str = ALL) -> NDArray[np.float64]:
        """(questions,) of a kind, or of all that have an answer."""
        rows = [each for each in self.asked if each.kind == kind or (kind == ALL and each.kind != ADVERSARIAL)]
        return np.array([each.shares[system] for each in rows], np.float64)

    def recall(self, system: str, kind: str = ALL) -> Interval | None:
        """The mean share of evidence; None where no question of the kind has any."""
        shares = self.shares(system, kind)
        return bootstrap_mean(shares) if np.isfinite(shares).any() else None

    def best_baseline(self, kind: str = ALL) -> str:
        """The baseline with the greatest share."""
        return max(
            (name for name in self.systems if name in BASELINES),
            key=lambda name: float(np.nanmean(self.shares(name, kind))),
        )

    def gain(self, system: str = CARREL, kind: str = ALL, over: str | None = None) -> Interval | None:
        """By how much a system is above another, the best baseline by default, on the same questions."""
        if not np.isfinite(self.shares(system, kind)).any():
            return None
        return bootstrap_difference(self.shares(system, kind), self.shares(over or self.best_baseline(kind), kind))

    def abstained(self, *, adversarial: bool) -> Interval | None:
        """The share of questions that Carrel would not answer, among those without or with an answer."""
        rows = [each.answerable < ABSTAINS_BELOW for each in self.asked if (each.kind == ADVERSARIAL) == adversarial]
        return bootstrap_mean(np.array(rows, np.float64)) if rows else None

    def to_json(self) -> str:
        """The figures, and every question, as one JSON document."""
        scopes = {"all": self.of()}
        if self.fitted and self.of(fitted=False).asked:
            scopes = {"not_fitted": self.of(fitted=False), **scopes}
        content = {
            "budget": self.budget,
            "tokenizer": self.tokenizer,
            "fitted_on": list(self.fitted),
            "manifest": dict(self.manifest),
            "scopes": {name: figures(scope) for name, scope in scopes.items()},
        }
        return json.dumps(content, indent=1)


def figures(found: MemoryEvaluation) -> dict[str, Any]:
    """The means and differences with their intervals, ready for JSON."""
    rows: dict[str, Any] = {}
    for kind in (*found.kinds, ALL):
        if found.recall(CARREL, kind) is None:
            continue
        best = found.best_baseline(kind)
        rows[kind] = {
            "questions": int(np.isfinite(found.shares(CARREL, kind)).sum()),
            "best_baseline": best,
            "recall": {name: _plain(found.recall(name, kind)) for name in found.systems},
            "gain": {
                name: _plain(found.gain(name, kind)) for name in found.systems if name not in BASELINES
            },
        }  # fmt: skip
    seconds = [each.seconds for each in found.asked]
    return {
        "dialogues": sorted({each.dialogue for each in found.asked}),
        "kinds": rows,
        "abstained": {
            "adversarial": _plain(found.abstained(adversarial=True)),
            "others": _plain(found.abstained(adversarial=False)),
        },
        "tokens_mean": round(float(np.mean([each.tokens for each in found.asked])), 1),
        "tokens_most": max(each.tokens for each in found.asked),
        "recall_ms_p50": round(1000 * float(np.median(seconds)), 2),
    }


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {name: round(value, 4) for name, value in asdict(interval).items()}


def evaluate_memory(
    dialogues: Sequence[Dialogue],
    *,
    budget: int = 1000,
    encoder: TextEncoder | None = None,
    tokenizer: Tokenizer | None = None,
    reader: bool = False,
    progress: Progress | None = None,
) -> MemoryEvaluation:
    """Ask all questions of all dialogues after their end, of Carrel and of the baselines.

    The turns are searched exactly (`carrel.testing.memory.PlainTurns`); ``seconds`` include neither that search nor
    the embedding of turns.

    Raises
    ------
    InputError : there is no dialogue.
    """
    if not dialogues:
        raise InputError("there is no dialogue to evaluate a memory on")
    if encoder is None:
        from carrel.embeddings.minilm import MiniLM

        encoder = MiniLM()
    counted = tokenizer or shipped_tokenizer()
    systems = (CARREL, *((READER,) if reader else ()), *BASELINES)
    total = sum(len(dialogue.questions) for dialogue in dialogues)
    asked: list[Asked] = []
    for dialogue in dialogues:
        if progress:
            progress(f"embedding dialogue {dialogue.name}", len(asked), total)
        desk = _Desk(dialogue, encoder, counted, budget, reader)
        for question in dialogue.questions:
            asked.append(desk.ask(question))
            if progress:
                progress(f"dialogue {dialogue.name}", len(asked), total)
    known = fitted_on()
    fitted = tuple(dialogue.name for dialogue in dialogues if dialogue.fingerprint in known)
    return MemoryEvaluation(budget, counted.name, systems, tuple(asked), fitted)


class _Timed(PlainTurns):
    """Notes how long its search takes, which is not the ranking's."""

    searching = 0.0

    def search(self, *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return super().search(*arguments, **options)
        finally:
            self.searching += time.perf_counter() - start


def _whole(found: Recollection) -> set[int]:
    """The turns that are told word for word, from the first to the last."""
    return {turn.id for each in found.recalled for turn in each.turns if said(turn.text) in found.text}


class _Desk:
    """One dialogue, embedded once for all systems."""

    def __init__(
        self, dialogue: Dialogue, encoder: TextEncoder, tokenizer: Tokenizer, budget: int, reader: bool
    ) -> None:
        self.dialogue, self.encoder, self.tokenizer = dialogue, encoder, tokenizer
        self.budget, self.reader = budget, reader
        turns = dialogue.turns
        self.named: Vectors = encoder.encode_texts([embedded_text(turn.speaker, turn.text) for turn in turns])
        self.bare: Vectors = encoder.encode_texts([turn.text for turn in turns])
        self.source = _Timed(turns, vectors=self.named)
        named = [replace(turn, text=f"{turn.speaker}: {turn.text}") for turn in turns]
        self.titled = PlainTurns(named, vectors=self.named)

    def ask(self, question: DialogueQuestion) -> Asked:
        self.source.searching, start = 0.0, time.perf_counter()
        found = self._recollect(question, reader=False)
        seconds = time.perf_counter() - start - self.source.searching
        taken = {CARREL: _whole(found)}
        if self.reader:
            read = self._recollect(question, reader=True)
            taken[READER] = _whole(read)
        taken |= {name: self._filled(order) for name, order in self._orders(question.text).items()}
        wanted = question.evidence
        shares = {
            name: sum(id in ids for id in wanted) / len(wanted) if wanted else float("nan")
            for name, ids in taken.items()
        }
        return Asked(
            self.dialogue.name, question.id, question.kind, shares, found.answerable, found.tokens, max(0.0, seconds)
        )

    def _recollect(self, question: DialogueQuestion, *, reader: bool) -> Any:
        return recollect(
            self.source, question.text, encoder=self.encoder, tokenizer=self.tokenizer, budget=self.budget,
            now=self.dialogue.ends_at, reader=reader,
        )  # fmt: skip

    def _orders(self, query: str) -> dict[str, Iterable[int]]:
        """The places of the turns as each baseline would take them."""
        vector = self.encoder.encode_queries([query])[0]
        count = len(self.dialogue.turns)
        lexical = {}
        for name, source in (("bm25", self.titled), ("bm25, text alone", self.source)):
            words = {candidate.turn.id: candidate.lexical for candidate in source.search(query, vector, 200)}
            scores = np.array([words.get(turn.id, 0.0) for turn in self.dialogue.turns])
            lexical[name] = np.argsort(-scores, kind="stable")
        return {
            "cosine": np.argsort(-(self.named @ vector), kind="stable"),
            "cosine, text alone": np.argsort(-(self.bare @ vector), kind="stable"),
            **lexical,
            "last turns": range(count - 1, -1, -1),
        }

    def _filled(self, order: Iterable[int]) -> set[int]:
        fitting = Fitting(self.tokenizer, self.budget)
        misses = 0
        for place in order:
            turn: StoredTurn = self.dialogue.turns[int(place)]
            if not fitting.take(turn):
                misses += 1
                if misses > _MOST_MISSES:
                    break
        return {turn.id for turn in fitting.rendered()[1]}
