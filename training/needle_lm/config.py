"""What a run of the training is made of: every number that changes the weights or the figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The model, in Llama's terms. Query heads share key-value heads in groups of ``heads // key_value_heads``."""

    layers: int = 4
    hidden: int = 128
    heads: int = 4
    key_value_heads: int = 2
    head: int = 32  # dimensions of each
    inner: int = 256
    rope_theta: float = 1e7
    """High: rotations so slow that they hardly turn within the window are what a look-up over any distance needs."""
    norm_epsilon: float = 1e-5
    window: int = 4608  # positions: a context of 4,096 tokens, its question and an answer


@dataclass(frozen=True)
class Stage:
    """Part of the curriculum. Ends after ``steps``, or once ``enough`` of the look-ups of late are answered right."""

    lengths: tuple[int, ...]  # tokens of a row; each step draws one of them, and all its rows have it
    tokens: int  # of a step: rows times length
    steps: int
    learning_rate: float  # at its first step
    last_learning_rate: float  # at its last
    two_hop: float  # share of the questions of a row
    copying: float  # share of the rows
    enough: float | None = None


@dataclass(frozen=True)
class Exam:
    """How the finished model is measured."""

    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)  # tokens of the context and its question together
    contexts: int = 64  # of each length and kind
    questions: int = 16  # of each context, each answered on its own
    goal_length: int = 2048
    goal: float = 0.99  # of look-ups at that length


@dataclass(frozen=True)
class Config:
    """One reproducible training. ``CONFIGS`` has that of the shipped weights, and that of a toy for the tests."""

    stages: tuple[Stage, ...]
    seed: int = 0
    shape: Shape = Shape()
    exam: Exam = Exam()
    warm_up: int = 100  # steps, at the beginning
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    recent: int = 20  # steps that ``enough`` looks back on
    log_every: int = 20  # steps
    save_every: int = 100  # steps

    def with_changes(self, **changes: Any) -> Config:
        """The same with some values changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


FULL = Config(
    stages=(
        Stage((64,), 4096, 400, 3e-3, 2e-3, two_hop=0.0, copying=0.15),
        Stage((64, 128), 4096, 1000, 2e-3, 2e-3, two_hop=0.4, copying=0.1),
        Stage((128, 256, 256), 8192, 800, 2e-3, 1.5e-3, two_hop=0.4, copying=0.1),
        Stage((256, 512, 512), 8192, 800, 1.5e-3, 1.5e-3, two_hop=0.4, copying=0.05, enough=0.995),
        Stage((256, 1024, 1024), 16384, 300, 1.5e-3, 1e-3, two_hop=0.4, copying=0.05, enough=0.997),
        Stage((512, 2304, 2304), 16384, 400, 1e-3, 3e-4, two_hop=0.4, copying=0.05),
        Stage((512, 2304, 4224), 16896, 200, 3e-4, 1e-5, two_hop=0.4, copying=0.05),
    ),
)
"""Short rows are cheap, and two hops take long to learn: the first stages are many steps whatever they know."""
SMALL = Config(
    shape=Shape(layers=2, hidden=32, heads=4, key_value_heads=2, head=8, inner=48, window=128),
    exam=Exam(lengths=(32, 64), contexts=3, questions=4, goal_length=64),
    stages=(
        Stage((32,), 256, 30, 3e-3, 3e-3, two_hop=0.0, copying=0.25, enough=0.99),
        Stage((32, 64), 256, 30, 3e-3, 1e-4, two_hop=0.4, copying=0.25),
    ),
    warm_up=5, log_every=10, save_every=20,
)  # fmt: skip
CONFIGS = {"full": FULL, "small": SMALL}
