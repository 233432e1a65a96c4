"""The needle model's training loop: seeds, stages, interruptions."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from training.needle_lm.config import FULL, SMALL, Config, Shape, Stage  # noqa: E402
from training.needle_lm.data import batch  # noqa: E402
from training.needle_lm.train import Training  # noqa: E402

pytestmark = pytest.mark.extras
CONFIG = Config(
    shape=Shape(layers=1, hidden=16, heads=2, key_value_heads=1, head=8, inner=16, window=64),
    stages=(Stage((28,), 84, 4, 1e-2, 1e-2, 0.0, 0.3), Stage((28, 40), 84, 5, 1e-2, 1e-3, 0.5, 0.3)),
    warm_up=2, recent=3, log_every=2, save_every=100,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def stopped_after(training: Training, steps: int) -> None:
    """Ctrl-C during the last of so many steps."""
    take = training._step

    def counted(stage: Stage) -> Any:
        if training.step == steps - 1:
            signal.raise_signal(signal.SIGINT)
        return take(stage)

    training._step = counted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        training.run()
    assert training.step == steps


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Training:
    made = Training(CONFIG, tmp_path_factory.mktemp("whole"))
    made.run()
    return made


def test_the_same_seed_gives_the_same_weights_and_another_does_not(trained: Training, tmp_path: Path) -> None:
    assert trained.has_ended and trained.step == 9
    assert same(Training(CONFIG, tmp_path / "again").run(), trained.model)
    assert not same(Training(CONFIG.with_changes(seed=1), tmp_path / "other").run(), trained.model)
    begun = Training(CONFIG, tmp_path / "begun").model
    assert not any(torch.equal(value, trained.model.state_dict()[name]) for name, value in begun.state_dict().items())


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_an_interrupted_run_ends_with_the_same_weights_and_log(trained: Training, tmp_path: Path, steps: int) -> None:
    stopped_after(Training(CONFIG, tmp_path), steps)
    again = Training(CONFIG, tmp_path)
    assert same(again.run(), trained.model)
    assert [{**row, "seconds": 0} for row in again.log] == [{**row, "seconds": 0} for row in trained.log]


def test_a_killed_run_goes_on_from_the_last_step_saved(trained: Training, tmp_path: Path) -> None:
    config = CONFIG.with_changes(save_every=2)
    training = Training(config, tmp_path)
    take = training._step

    def killed(stage: Stage) -> Any:
        if training.step == 3:
            raise MemoryError
        return take(stage)

    training._step = killed  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        training.run()
    again = Training(config, tmp_path)
    again.resume()
    assert again.step == 2
    assert same(again.run(), trained.model)


def test_a_finished_run_is_not_run_again(trained: Training) -> None:
    again = Training(CONFIG, trained.folder)
    before = again.checkpoint.read_bytes()
    assert same(again.run(), trained.model) and again.step == trained.step
    assert again.checkpoint.read_bytes() == before


def test_another_configuration_needs_another_folder(trained: Training) -> None:
    for other in (CONFIG.with_changes(seed=1), CONFIG.with_changes(stages=CONFIG.stages[:1])):
        with pytest.raises(SystemExit, match="another configuration"):
            Training(other, trained.folder).run()
    measured_otherwise = CONFIG.with_changes(exam=SMALL.exam, log_every=1, save_every=1)
    assert same(Training(measured_otherwise, trained.folder).run(), trained.model)


def test_a_stage_ends_once_enough_is_known(tmp_path: Path) -> None:
    first, second = CONFIG.stages
    early = CONFIG.with_changes(stages=(replace(first, enough=0.0), second))
    training = Training(early, tmp_path)
    training.run()
    assert training.step == CONFIG.recent + second.steps
    never = Training(CONFIG.with_changes(stages=(replace(first, enough=1.01), second)), tmp_path / "never")
    never.run()
    assert never.step == first.steps + second.steps


def test_the_learning_rate_rises_then_follows_each_stage() -> None:
    training = Training.__new__(Training)
    training.config = CONFIG.with_changes(warm_up=4)
    rates = []
    for stage in CONFIG.stages:
        for training.done in range(stage.steps):
            training.step = len(rates)
            rates.append(training._learning_rate(stage))
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[4:] == pytest.approx(np.linspace(1e-2, 1e-3, 5))


def test_the_loss_is_of_the_answers_alone(tmp_path: Path) -> None:
    """Each token to be predicted weighs the same, the others nothing."""
    training = Training(CONFIG, tmp_path)
    rows = batch(np.random.default_rng(0), 60, 3, 0.3, 0.3)
    with torch.no_grad():
        loss, right, kinds = training._loss(rows)
        logits = training.model.logits(training.model(torch.from_numpy(rows.ids)))
    losses = [
        -float(torch.log_softmax(logits[row, place - 1], -1)[rows.ids[row, place]])
        for row, place in zip(*np.nonzero(rows.kinds), strict=True)
    ]
    assert float(loss) == pytest.approx(np.mean(losses), abs=1e-5)
    assert len(right) == len(kinds) == len(losses) and kinds.tolist() == rows.kinds[rows.kinds > 0].tolist()


def test_it_learns(tmp_path: Path) -> None:
    """Even so small a model soon learns which words can be answers at all, and that an answer ends."""
    config = CONFIG.with_changes(stages=(Stage((28,), 280, 40, 2e-2, 2e-2, 0.0, 0.0),), log_every=10)
    training = Training(config, tmp_path)
    training.run()
    assert training.log[-1]["loss"] < 0.6 * training.log[0]["loss"]


def test_the_full_training_is_within_the_window_and_its_goal_is_trained() -> None:
    longest = max(max(stage.lengths) for stage in FULL.stages)
    assert FULL.exam.goal_length < longest <= FULL.shape.window
    assert max(FULL.exam.lengths) <= longest
    assert all(min(stage.lengths) <= stage.tokens >= max(stage.lengths) for stage in FULL.stages)
    assert FULL.exam.goal_length in FULL.exam.lengths and SMALL.exam.goal_length in SMALL.exam.lengths
