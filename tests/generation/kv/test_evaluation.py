"""eval-kv's figures: what each row reads and holds is what it says, and answers are those of the method in force."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from carrel.errors import GenerationError, InputError, MissingDependencyError, ModelError  # noqa: E402
from carrel.evaluation.kv_results import DENSE, KVEvaluation  # noqa: E402
from carrel.generation.kv import evaluation, measuring  # noqa: E402
from carrel.generation.kv.context_model import ContextModel  # noqa: E402
from carrel.generation.kv.evaluation import evaluate_kv, load_model  # noqa: E402
from carrel.generation.kv.lookups import Asked, LookUp, WordLookUps, look_ups  # noqa: E402
from carrel.generation.kv.measured_methods import DEFAULTS, PROFILED, Method, all_methods, methods_of  # noqa: E402
from carrel.generation.kv.measuring import measure  # noqa: E402
from tests.generation.kv.needle_cases import WORDS, letter_tokenizer, save, word_tokenizer  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)
LENGTH = 128
BYTES = 2 * 2 * 2 * LENGTH * 16 * 4  # keys and values, layers, heads, tokens, dimension, float32
OURS = ("int8", "int4", "paged", "paged4", "paged4heads", "clustered", "clustered2", "lambda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "tiny", word_tokenizer())


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_model(folder, device="cpu")[0]


class Known(WordLookUps):
    """The right answer is what the model says with all keys: a random model that is never wrong."""

    def __init__(self, model: Any) -> None:
        super().__init__(WORDS, word_tokenizer())
        self.model = model

    def draw(self, length: int, questions: int, seed: Any) -> LookUp:
        found = super().draw(length, questions, seed)
        asked = []
        for one in found.questions:
            with torch.inference_mode():
                logits = self.model(torch.tensor([[*found.context, *one.ids]])).logits[0, -1]
            asked.append(Asked(one.ids, self.tokenizer.decode([int(logits.argmax())], skip_special_tokens=True)))
        return replace(found, questions=tuple(asked))


@pytest.fixture(scope="module")
def measured(model: Any) -> KVEvaluation:
    return evaluate_kv(
        model, Known(model), names=OURS, budgets=(1, 1 / 8), lengths=(LENGTH,), contexts=3, questions=8, seed=5
    )


def row_of(found: KVEvaluation, method: str, budget: float | None = None) -> Any:
    (row,) = [row for row in found.rows if (row.method, row.budget) == (method, budget)]
    return row


def test_every_method_has_a_row_at_every_budget(measured: KVEvaluation) -> None:
    wanted = [(DENSE, None), ("random", 1), ("random", 1 / 8), ("int8", None), ("int4", None)]
    wanted += [(name, budget) for name in OURS[2:] for budget in (1, 1 / 8)]
    assert [(row.method, row.budget) for row in measured.rows] == wanted
    assert all(sorted(row.cells) == [0, 1, 2] for row in measured.rows)
    assert not measured.manifest.left_out and not measured.manifest.interrupted


def test_dense_is_never_wrong_and_so_is_what_reads_everything(measured: KVEvaluation) -> None:
    assert measured.figures(row_of(measured, DENSE)).right.mean == 1
    for name in ("random", *OURS[2:]):
        if name == PROFILED:  # some of its heads never read everything
            continue
        figures = measured.figures(row_of(measured, name, 1))
        assert figures.right.mean == 1, name
        assert figures.keys == 1, name
    figures = measured.figures(row_of(measured, "random", 1))
    assert figures.difference is not None and figures.difference.mean == 0


def test_few_keys_cost_answers(measured: KVEvaluation) -> None:
    for name in ("random", "lambda"):
        figures = measured.figures(row_of(measured, name, 1 / 8))
        assert figures.right.mean < 0.9, name
        assert figures.difference is not None
        assert figures.difference.mean == pytest.approx(figures.right.mean - 1)


def test_keys_that_are_read(measured: KVEvaluation) -> None:
    keys = {row.method: measured.figures(row).keys for row in measured.rows if row.budget in (None, 1 / 8)}
    assert keys[DENSE] == keys["int8"] == keys["int4"] == 1
    assert keys["random"] == 1 / 8
    for name in OURS[2:]:
        if name != PROFILED:  # in a random model, any heads may look nearby
            assert keys[name] == pytest.approx(1 / 8), name  # the question's four come on top


def test_memory_is_what_is_held(measured: KVEvaluation) -> None:
    held = {(row.method, row.budget): measured.figures(row).bytes for row in measured.rows}
    assert held[DENSE, None] == held["random", 1] == BYTES
    assert held["random", 1 / 8] == BYTES / 8
    assert held["int4", None] < held["int8", None] < 0.3 * BYTES  # of 32 bits
    for name in ("paged", "paged4", "clustered", "clustered2"):
        assert BYTES < held[name, 1 / 8] < 2 * BYTES  # all keys stay, and bounds or clusters come on top
    assert held["paged4", 1] > held["paged", 1]  # four times the pages
    assert held["lambda", 1 / 8] < 1.2 * BYTES  # a few keys to know the context by


def test_a_view_counts_as_the_buffer_behind_it(model: Any) -> None:
    runner = ContextModel(model)
    context, _ = runner.context(range(6, 46))
    whole = context.size_bytes
    layer: Any = context.cache.layers[0]  # type: ignore[union-attr]
    spare = torch.zeros(1, 2, 4000, 16)
    layer._keys = spare[:, :, :40]
    assert context.size_bytes == whole - 2 * 40 * 16 * 4 + spare.nbytes
    layer._values = layer._keys  # the same memory is counted once
    assert context.size_bytes == whole - 2 * 2 * 40 * 16 * 4 + spare.nbytes


def test_the_same_seed_gives_the_same_answers(model: Any, measured: KVEvaluation) -> None:
    again = evaluate_kv(
        model, Known(model), names=("lambda",), budgets=(1 / 8,), lengths=(LENGTH,), contexts=3, questions=8, seed=5
    )
    for name, budget in ((DENSE, None), ("random", 1 / 8), ("lambda", 1 / 8)):
        first, second = row_of(measured, name, budget), row_of(again, name, budget)
        assert [cell.right for cell in first.cells.values()] == [cell.right for cell in second.cells.values()]
        assert [cell.bytes for cell in first.cells.values()] == [cell.bytes for cell in second.cells.values()]


def test_the_model_is_left_as_it_was(model: Any, measured: KVEvaluation) -> None:
    assert measured.rows
    assert model.config._attn_implementation == "sdpa"
    assert not any("attend" in vars(module) for module in model.modules())


def test_the_manifest_says_what_was_measured(folder: Path, measured: KVEvaluation) -> None:
    made = measured.manifest
    assert (made.model, made.task, made.contexts, made.questions) == ("tiny", "words, 1 hop", 3, 8)
    assert made.about["layers"] == made.about["kv_heads"] == 2
    assert made.fingerprint and made.machine["device"] == "cpu"
    assert {"torch", "transformers"} <= set(made.versions)
    assert KVEvaluation.from_json(measured.to_json()) == measured


class Stopped(Known):
    """Ctrl-C after so many replies."""

    left = 20

    def is_right(self, reply: str, answer: str) -> bool:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().is_right(reply, answer)


def test_ctrl_c_keeps_what_was_measured(model: Any) -> None:
    found = evaluate_kv(
        model, Stopped(model), names=("lambda",), budgets=(1 / 2, 1 / 8), lengths=(LENGTH,), contexts=3, questions=4
    )
    assert found.manifest.interrupted  # four replies to warm up, then four a row
    assert [(row.method, row.budget) for row in found.rows] == [(DENSE, None), ("random", 1 / 2), ("random", 1 / 8)]
    assert found.figures(found.rows[-1]).right.questions == 4
    assert model.config._attn_implementation == "sdpa"


def test_rounds_begin_at_different_rows_and_progress_is_told(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = measure

    def noted(model: Any, texts: Any, method: Method, look_up: Any) -> Any:
        order.append(method.title)
        return real(model, texts, method, look_up)

    monkeypatch.setattr(evaluation, "measure", noted)
    told: list[tuple[int, int, str]] = []
    evaluate_kv(
        model, Known(model), names=("int8", "lambda"), budgets=(1 / 2,), lengths=(48, 32), contexts=2, questions=2,
        progress=lambda *at: told.append(at),
    )  # fmt: skip
    rows = ["dense", "random 1/2", "int8", "lambda 1/2"]
    assert order == ["dense", *(rows + rows[3:] + rows[:3]) * 2]
    assert [done for done, _, _ in told] == list(range(17))
    assert {total for _, total, _ in told} == {16}
    assert told[0][2] == "32 tokens, context 1, dense"


def test_the_first_token_and_the_reading_are_timed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: float(next(clock)))
    texts = WordLookUps(WORDS, word_tokenizer())
    cell = measure(model, texts, Method(DENSE), texts.draw(48, 3, (0,)))
    assert cell.first_ms == 1000  # one tick between a question and its first token
    assert cell.read_s == 3  # the context model looks at the clock twice itself


class Failing(Known):
    def is_right(self, reply: str, answer: str) -> bool:
        raise GenerationError("it broke")


def test_a_method_that_fails_on_the_way_is_left_out(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = measure

    def failing(model: Any, texts: Any, method: Method, look_up: Any) -> Any:
        if method.name == "int8":
            raise GenerationError("it broke")
        return real(model, texts, method, look_up)

    monkeypatch.setattr(evaluation, "measure", failing)
    found = evaluate_kv(model, Known(model), names=("int8", "int4"), budgets=(1,), lengths=(48,), contexts=1)
    assert [row.method for row in found.rows] == [DENSE, "random", "int4"]
    assert dict(found.manifest.left_out) == {"int8 at 48 tokens": "it broke"}
    with pytest.raises(GenerationError, match="it broke"):  # without dense there is nothing to compare with
        evaluate_kv(model, Failing(model), names=(), budgets=(1,), lengths=(48,), contexts=1)


def test_missing_kvpress_leaves_its_rows_out_unless_they_were_named(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kvpress", None)
    found = evaluate_kv(model, Known(model), budgets=(1,), lengths=(48,), contexts=1, questions=2)
    assert set(found.manifest.left_out) == set(DEFAULTS) - set(OURS)
    assert all("carrel[kv]" in reason for reason in found.manifest.left_out.values())
    assert {row.method for row in found.rows} == {DENSE, "random", *OURS}
    with pytest.raises(MissingDependencyError, match=r"carrel\[kv\]"):
        evaluate_kv(model, Known(model), names=("snapkv",), lengths=(48,), contexts=1)


def test_a_press_of_kvpress(model: Any) -> None:
    pytest.importorskip("kvpress")
    found = evaluate_kv(
        model, Known(model), names=("knorm", "knorm+int8"), budgets=(1 / 4,), lengths=(LENGTH,), contexts=1, questions=4
    )
    alone, joined = (found.figures(row_of(found, name, 1 / 4)) for name in ("knorm", "knorm+int8"))
    assert alone.keys == joined.keys == 1 / 4
    assert joined.bytes < alone.bytes < BYTES / 2


def test_presses_and_attentions_in_any_order(model: Any) -> None:
    pytest.importorskip("kvpress")  # on import it wraps every attention that is registered by then
    names = ("paged", "knorm", "clustered")
    found = evaluate_kv(model, Known(model), names=names, budgets=(1,), lengths=(48,), contexts=2, questions=3)
    assert [found.figures(row).right.mean for row in found.rows] == [1] * 5


# -- methods ---------------------------------------------------------------------------------------


def test_methods_at_budgets() -> None:
    found = methods_of(["dense", "int8", "paged", "int8", "snapkv+int8"], [0.25, 0.5, 0.25])
    assert [(method.name, method.budget) for method in found] == [
        ("dense", None), ("random", 0.5), ("random", 0.25), ("int8", None), ("paged", 0.5), ("paged", 0.25),
        ("snapkv+int8", 0.5), ("snapkv+int8", 0.25),
    ]  # fmt: skip
    assert found[1].title == "random 1/2"
    assert found[0].title == "dense"
    assert Method("random+int8", 0.5).policy().label == "random:0.5+int8"


@pytest.mark.parametrize(
    ("names", "budgets", "what"),
    [
        (["int8"], [], "shares of the keys"), (["int8"], [0.5, 1.5], "shares of the keys"),
        (["int8"], [0.0], "shares of the keys"), (["paged+int8"], [0.5], "measure them apart"),
        (["snapkv:0.3"], [0.5], "a share of its own"),
    ],
)  # fmt: skip
def test_methods_of_no_use(names: list[str], budgets: list[float], what: str) -> None:
    with pytest.raises(InputError, match=what):
        methods_of(names, budgets)


def test_all_methods_are_the_defaults_and_what_is_tested() -> None:
    found = all_methods()
    assert found[: len(DEFAULTS)] == DEFAULTS
    assert "compactor" in found and "decoding" not in found and "qfilter" not in found and "random" not in found
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("name", "budget", "knobs"),
    [
        ("paged", 1 / 2, {"budget": 261, "page": 16}), ("paged", 1 / 16, {"budget": 37, "page": 8}),
        ("paged", 1 / 512, {"budget": 9, "page": 2}), ("paged4", 1 / 2, {"budget": 261, "page": 4}),
        ("clustered", 1 / 8, {"budget": 60, "keys_per_cluster": 16, "levels": 1}),
        ("clustered2", 1 / 16, {"budget": 28, "keys_per_cluster": 8, "levels": 2}),
        ("lambda", 1 / 4, {"window": 129, "sinks": 4}), ("lambda", 1 / 512, {"window": 6}),
    ],
)  # fmt: skip
def test_attentions_have_the_budget(name: str, budget: float, knobs: dict[str, int]) -> None:
    look_up = LookUp(tuple(range(512)), (Asked((1, 2), ""), Asked((1, 2, 3, 4, 5), "")))
    attention = Method(name, budget).attention(look_up)
    assert attention is not None
    assert {knob: getattr(attention, knob) for knob in knobs} == knobs
    assert name == "lambda" or attention.sparse_queries == 5
    assert Method(name, budget).policy().label == DENSE


# -- mistakes --------------------------------------------------------------------------------------


def test_unknown_methods_numbers_and_lengths(model: Any) -> None:
    texts = Known(model)
    with pytest.raises(InputError, match="no KV policy 'snapkw'"):
        evaluate_kv(model, texts, names=("snapkw",), lengths=(48,), contexts=1)
    with pytest.raises(InputError, match="numbers above 0"):
        evaluate_kv(model, texts, lengths=(48,), contexts=0)
    with pytest.raises(InputError, match="numbers above 0"):
        evaluate_kv(model, texts, lengths=())
    with pytest.raises(InputError, match=r"reads 1,024 tokens; .* takes 1,029"):
        evaluate_kv(model, WordLookUps(WORDS, word_tokenizer()), lengths=(1024,), contexts=1, names=())


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_model(tmp_path / "none")
    with pytest.raises(InputError, match=r"no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="cannot load"):
        load_model(tmp_path)


def test_english_end_to_end(tmp_path: Path) -> None:
    from carrel.generation.kv.lookups import look_ups

    path = save(tmp_path / "chat", letter_tokenizer(), words=False)
    model, tokenizer = load_model(path, device="cpu")
    found = evaluate_kv(
        model, look_ups(path, tokenizer, 2), names=("int8",), budgets=(1,), lengths=(600,), contexts=1, questions=2
    )
    assert found.manifest.task == "English, 2 hops"
    assert [row.method for row in found.rows] == [DENSE, "random", "int8"]
    assert found.figures(found.rows[0]).right.mean == 0  # a random model knows nothing


def test_the_needle_model_finds_what_is_kept_and_read() -> None:
    """What the documentation's table says, at a small size: the shipped model answers nearly everything or nothing."""
    folder = Path(__file__).resolve().parents[2] / "models" / "needle_lm"
    needle, tokenizer = load_model(folder)
    found = evaluate_kv(
        needle, look_ups(folder, tokenizer), names=["int8", "paged4", PROFILED, "clustered", "lambda"],
        budgets=(1 / 8,), lengths=(512,), contexts=2, questions=20,
    )  # fmt: skip
    right = {row.method: found.figures(row).right.mean for row in found.rows}
    keys = {row.method: found.figures(row).keys for row in found.rows}
    assert right[DENSE] == right["int8"] == 1
    assert min(right[name] for name in ("paged4", PROFILED, "clustered")) >= 0.95
    assert max(right["random"], right["lambda"]) < 0.5
    assert keys[PROFILED] < keys["paged4"]  # the first layer looks nearby
