"""The training loop on a reader of a few thousand weights: seeds, interruptions, and the graph made of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
import export  # noqa: E402
import model  # noqa: E402
import onnxruntime  # noqa: E402
import to_onnx  # noqa: E402
from config import SMALL, Config  # noqa: E402
from data import load_pairs, load_questions  # noqa: E402
from features import Featuriser  # noqa: E402
from held_out import best_span, evaluator  # noqa: E402
from mine import _label  # noqa: E402
from train import Training  # noqa: E402

from carrel.tokens import shipped_tokenizer  # noqa: E402
from carrel.types import Passage  # noqa: E402
from examples import Examples  # noqa: E402

pytestmark = pytest.mark.extras
TINY = {"LAYERS": 2, "HEADS": 4, "HIDDEN": 32, "INNER": 64}
CONFIG = SMALL.with_changes(examples=12, epochs=2, average=0.9, save_every=1000, batch_tokens=600)
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """Every module that knows the size of the model is told another."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TINY.items():
            patch.setattr(model, name, value)
            for module in (export, to_onnx):
                if hasattr(module, name):
                    patch.setattr(module, name, value)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # so little work is slower in two
        yield
        torch.set_num_threads(threads)


def reader(seed: int = 0, dropout: float = 0.1) -> Any:
    torch.manual_seed(seed)
    made = model.Reader(dropout)
    made.dropout.size = 1 << 16
    return made


@pytest.fixture(scope="module")
def parts(data: Path) -> tuple[Any, ...]:
    """Questions, candidates, pool and fillers as the stage ``mine`` would give them, the candidates drawn in turn."""
    questions = load_questions(data, CONFIG)
    pool = [{"document": q.document, "title": q.title, "text": q.context, "chunks": [[0, len(q.context)]]} for q in
            {q.document: q for q in questions}.values()]  # fmt: skip
    candidates = []
    for place, question in enumerate(questions):
        rows = [pool[(place + step) % len(pool)] for step in range(6)]
        rows += [row for row in pool if row["document"] == question.document and row not in rows]
        found = []
        for rank, row in enumerate(rows):
            answers = [question.context[start:end] for start, end in question.answers]
            scores = {"dense": 0.9 - rank / 10, "lexical": 1.0, "fused": 0.9 - rank / 10}
            label = _label(passage_of(row), question, answers)
            found.append({"document": row["document"], "start": 0, "end": len(row["text"]), "label": label, **scores})
        candidates.append({"id": question.id, "candidates": found})
    pairs = load_pairs(data, CONFIG, questions)
    fillers = [
        {"question": p.question, "sentence": p.sentence, "fillers": [q.sentence for q in pairs if q != p][:5]}
        for p in pairs
    ]
    return questions, candidates, pool, fillers


def passage_of(row: dict[str, Any]) -> Passage:
    return Passage(document_id=row["document"], start=0, end=len(row["text"]), text=row["text"])


def training(parts: tuple[Any, ...], folder: Path, config: Config = CONFIG) -> Training:
    featuriser = Featuriser(shipped_tokenizer(), config)
    return Training(reader(config.seed), Examples(*parts, config), featuriser, config, folder)


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def trained(parts: tuple[Any, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return training(parts, tmp_path_factory.mktemp("whole")).run()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(parts, trained, tmp_path: Path) -> None:
    assert same(training(parts, tmp_path / "again").run(), trained)
    other = training(parts, tmp_path / "other", CONFIG.with_changes(seed=1)).run()
    assert not same(other, trained)
    begun = reader().state_dict()
    learnt = {name for name in begun if not torch.equal(begun[name], trained[name])}
    assert learnt == set(begun) - {"words.weight"}  # the table of words is kept as it is


@pytest.mark.parametrize("step", [1, 3, 5])
def test_ctrl_c_loses_nothing(parts, trained, tmp_path: Path, step: int) -> None:
    first = training(parts, tmp_path)
    seen: list[int] = []

    def interrupt(*_: Any) -> None:
        seen.append(1)
        if len(seen) == step:
            signal.raise_signal(signal.SIGINT)

    hook = first.reader.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    hook.remove()
    assert first.step == step == len(seen)  # the step was ended, and saved
    second = training(parts, tmp_path)
    assert same(second.run(), trained)
    assert second.step > step


def test_an_interrupted_evaluation_is_made_up_for(parts, trained, tmp_path: Path) -> None:
    def stopped(_: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(parts, tmp_path).run(stopped)
    again = training(parts, tmp_path)
    assert same(again.run(lambda _: {"figure": 0.5}), trained)
    assert [row["epoch"] for row in again.log if "held_out" in row] == [1, 2]


def test_a_finished_run_is_not_run_again(parts, trained, tmp_path: Path) -> None:
    training(parts, tmp_path).run()
    again = training(parts, tmp_path)
    assert same(again.run(), trained)
    assert again.log[-1]["step"] == again.step


def test_another_configuration_needs_another_folder(parts, tmp_path: Path) -> None:
    training(parts, tmp_path).run()
    with pytest.raises(SystemExit, match="another configuration"):
        training(parts, tmp_path, CONFIG.with_changes(seed=1)).run()


def test_part_of_an_epoch_is_trained(parts, tmp_path: Path) -> None:
    whole = training(parts, tmp_path / "one", CONFIG.with_changes(epochs=1))
    half = training(parts, tmp_path / "half", CONFIG.with_changes(epochs=0.5))
    whole.run(), half.run()
    assert half.step == round(whole.step / 2)


def test_the_learning_rate_rises_and_falls() -> None:
    train = Training.__new__(Training)
    train.config = CONFIG
    rates = [train._learning_rate(share) for share in np.linspace(0, 1, 101)]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(CONFIG.learning_rate, rel=0.03) and top == pytest.approx(
        100 * CONFIG.warm_up, abs=1
    )
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) < 0).all()
    assert rates[-1] == pytest.approx(CONFIG.least_learning_rate)


def test_the_average_lags_behind_the_weights(parts, tmp_path: Path) -> None:
    run = training(parts, tmp_path)
    average, own = run.run(), run.reader.state_dict()
    begun = reader().state_dict()
    name = "layers.0.qkv.weight"
    assert 0 < (average[name] - begun[name]).norm() < (own[name] - begun[name]).norm()


def test_held_out_figures_are_shares(parts) -> None:
    questions, candidates, pool, _ = parts
    questions = [replace(question, held_out=True) for question in questions]
    figures = evaluator(questions, candidates, pool, Featuriser(shipped_tokenizer(), CONFIG), CONFIG)(reader().eval())
    assert {"token_f1", "rank_first", "retriever_first", "answerable_auc"} <= set(figures)
    assert all(0 <= value <= 1 for value in figures.values())


def test_the_best_span_is_the_best_of_all_spans() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        token = random.normal(size=(14, 3))
        allowed = random.random(14) < 0.7
        allowed[3] = True
        places = np.flatnonzero(allowed)
        wanted = max(
            ((token[a, 1] + token[b, 2], (int(a), int(b))) for i, a in enumerate(places) for b in places[i:]),
            key=lambda pair: pair[0],
        )
        span, score = best_span(token, allowed)
        assert span == wanted[1] and score == pytest.approx(wanted[0])


def random_state(seed: int = 2) -> Any:
    """Weights large enough that every part of the graph matters."""
    made = reader(seed, 0.0)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in made.named_parameters():
            value.copy_(torch.randn(value.shape, generator=draw) * 0.3 + ("norm.weight" in name))
    return made.eval()


def arrays(made: Any) -> Arrays:
    return {name: value.detach().numpy() for name, value in made.state_dict().items()}


def forward(made: Any, ids: np.ndarray, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        window, token = made(torch.from_numpy(ids), torch.from_numpy(types), torch.tensor([len(ids)]))
    return window.numpy(), token.numpy()


def run(graph: onnx.ModelProto, ids: np.ndarray, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {
        "input_ids": ids[None], "token_type_ids": types[None],
        "position_ids": np.arange(len(ids), dtype=np.int64)[None], "attention_mask": np.ones((1, len(ids)), np.int32),
    }  # fmt: skip
    window, token = session.run(["window_logits", "token_logits"], feed)
    return window, token[0]


def inputs(length: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(0, 30522, length).astype(np.int64)
    return ids, (np.arange(length) >= length // 3).astype(np.int64)


@pytest.mark.parametrize("length", [3, 17, 64])
def test_the_float_graph_is_the_model(length: int) -> None:
    made = random_state()
    graph = to_onnx.build(arrays(made), int8=False)
    for ours, theirs in zip(run(graph, *inputs(length)), forward(made, *inputs(length)), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-5 * max(1.0, np.abs(theirs).max())


@pytest.mark.parametrize("bits", [7, 8])
def test_the_int8_graph_is_near_the_model(bits: int) -> None:
    made = random_state()
    graph = to_onnx.build(arrays(made), int8=True, weight_bits=bits)
    for ours, theirs in zip(run(graph, *inputs(64)), forward(made, *inputs(64)), strict=True):
        assert np.abs(ours - theirs).max() > 0
        assert np.abs(ours - theirs).mean() < 0.15 * np.abs(theirs).mean()


def test_segments_and_order_matter_to_the_graph() -> None:
    graph = to_onnx.build(arrays(random_state()), int8=False)
    ids, types = inputs(20)
    plain = run(graph, ids, types)[0]
    assert np.abs(plain - run(graph, ids, 1 - types)[0]).max() > 0.01
    assert np.abs(plain - run(graph, ids[::-1].copy(), types)[0]).max() > 0.01


def test_windows_laid_end_to_end_do_not_see_each_other() -> None:
    made = random_state()
    parts = [inputs(length, seed=length) for length in (9, 30, 4)]
    ids, types = (np.concatenate(each) for each in zip(*parts, strict=True))
    with torch.no_grad():
        window, token = made(torch.from_numpy(ids), torch.from_numpy(types), torch.tensor([9, 30, 4]))
    for row, tokens, part in zip(window.numpy(), np.split(token.numpy(), [9, 39]), parts, strict=True):
        alone_window, alone_token = forward(made, *part)
        assert np.abs(row - alone_window[0]).max() < 1e-4 and np.abs(tokens - alone_token).max() < 1e-4


def test_the_embedders_weights_keep_their_places() -> None:
    made = random_state()
    theirs = to_onnx.bert_names(arrays(made))
    again = model.from_embedder({name: value for name, value in theirs.items() if "_head" not in name}, dropout=0.0)
    heads = {"window_head.weight", "window_head.bias", "token_head.weight", "token_head.bias"}
    for name, value in again.state_dict().items():
        assert torch.equal(value, made.state_dict()[name]) == (name not in heads), name


def test_dropout_drops_the_share_it_is_asked_to() -> None:
    torch.manual_seed(0)
    dropout = model.Dropout(0.25, size=1 << 16)
    out = dropout(torch.ones(10_000))
    assert out.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(dropout.eval()(torch.ones(5)), torch.ones(5))
