"""Training the embedder further: its data, its losses, its loop, and the rule by which it would ship."""

from __future__ import annotations

import json
import math
import random
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors")
import insent  # noqa: E402
import insent_data  # noqa: E402
from insent_data import Article, Reported, Window, batches, cut, load, may_answer, parted, sequences_of  # noqa: E402
from insent_held_out import figures_of, fixed_windows  # noqa: E402
from insent_loss import contrast, drift  # noqa: E402
from insent_model import alone, model_of, situated, states  # noqa: E402

from carrel.tokens import shipped_tokenizer  # noqa: E402

pytestmark = pytest.mark.extras
HIDDEN, WIDE, LAYERS, WORDS, POSITIONS = 24, 48, 2, 30522, 80
CONFIG = insent.Config(
    steps=4, batch=3, group=2, room=70, targets=(16, 24), questions=2, warm_up=2, learning_rate=1e-2, held_out=0.2
)
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def weights() -> Arrays:
    """Random weights of a small BERT, by its names."""
    random_ = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return random_.normal(0, 0.2, shape).astype(np.float32)

    made = {
        "embeddings.word_embeddings.weight": normal(WORDS, HIDDEN),
        "embeddings.position_embeddings.weight": normal(POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": normal(2, HIDDEN),
    }
    norms = ["embeddings"]
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        norms += [f"{name}.attention.output", f"{name}.output"]
        sizes = {f"attention.self.{part}": (HIDDEN, HIDDEN) for part in ("query", "key", "value")}
        sizes |= {"attention.output.dense": (HIDDEN, HIDDEN), "intermediate.dense": (WIDE, HIDDEN)}
        sizes |= {"output.dense": (HIDDEN, WIDE)}
        for part, shape in sizes.items():
            made[f"{name}.{part}.weight"], made[f"{name}.{part}.bias"] = normal(*shape), normal(shape[0])
    for name in norms:
        made[f"{name}.LayerNorm.weight"], made[f"{name}.LayerNorm.bias"] = 1 + normal(HIDDEN), normal(HIDDEN)
    return made


@pytest.fixture(scope="module")
def articles(data: Path) -> tuple[list[Article], list[Article]]:
    return load(data, shipped_tokenizer(), 0.2)


def test_articles_hold_every_answer_where_they_say(articles) -> None:
    asked = 0
    for article in (*articles[0], *articles[1]):
        assert len(article.ids) == len(article.starts)
        for question in article.questions:
            assert any(article.text.startswith(answer, question.start) for answer in question.answers)
            asked += 1
    assert asked > 100
    assert max(len(article.questions) for article in articles[0]) > 5  # paragraphs of a title are one article


def test_what_is_held_out_shares_no_title_and_no_text(articles, data: Path) -> None:
    learnt, held = articles
    assert held and len(held) < len(learnt)
    assert not {a.key for a in learnt} & {a.key for a in held}
    rows = [row for source in insent_data.SOURCES for row in insent_data.rows_of(data / "train" / f"{source}.jsonl.gz")]
    sides = {
        row["context"]: {name for name, side in zip("lh", (learnt, held), strict=True) for a in side
                         if row["context"] in a.text}
        for row in rows if row["answerable"]
    }  # fmt: skip
    assert {len(found) for found in sides.values()} == {1}
    again = load(data, shipped_tokenizer(), 0.2)
    assert [a.key for a in again[1]] == [a.key for a in held]


def test_the_slice_does_not_depend_on_the_order(articles) -> None:
    every = [*articles[0], *articles[1]]
    _, held = parted(every, 0.3)
    _, turned = parted(every[::-1], 0.3)
    assert {a.key for a in held} == {a.key for a in turned}
    assert parted(every[:1], 0.01)[1] == every[:1]


def test_what_a_corpus_holds_is_left_out() -> None:
    text = "The lighthouse of Cordale was built in 1873 by two brothers from the north, and it burned for 9 nights. It"
    corpora = Reported(
        [{"title": "Amazon rainforest", "text": "Rain."}, {"title": "", "text": f"Before. {text} stood."}]
    )
    row = {
        "context": "Something else that is said at length about a town and its river, its walls, its mayor, its people."
    }
    assert corpora.holds({**row, "title": "Amazon_rainforest"})
    assert corpora.holds({"context": text.replace(", ", " , ").upper()})
    assert not corpora.holds({**row, "title": "Amazon"}) and not corpora.holds(row)
    assert not Reported([]).holds({"context": " "})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.randoms(use_true_random=False), st.integers(1, 40), st.integers(8, 50))
def test_chunks_tile_an_article_in_whole_sentences(tokens: int, chance, target: int, room: int) -> None:
    starts = np.arange(tokens) * 3
    begun = sorted({0, *(int(chance.choice(starts)) for _ in range(tokens // 5))})
    article = Article("a", np.arange(4), "x. " * tokens, np.arange(tokens), starts, tuple(begun), ())
    chunks = cut(article, target)
    assert [chunks[0][0], *(stop for _, stop in chunks)] == [*(low for low, _ in chunks), tokens]
    assert {low * 3 for low, _ in chunks} <= set(begun)
    covered = [i for low, high in insent_data.windows(tokens, room, min(room, 9)) for i in range(low, high)]
    assert covered == list(range(tokens))


def test_windows_hold_their_chunks_and_their_answers(articles) -> None:
    chance, seen, headed = random.Random(1), 0, 0
    for article in articles[0]:
        for window in sequences_of(article, 16, 70, 50, True, 2, chance):
            seen += 1
            assert len(window.ids) <= 70 and len(window.spans) == len(window.texts) >= 2
            assert 1 <= len(window.questions) == len(window.positives) == len(window.answers) <= 2
            for (low, high), text in zip(window.spans, window.texts, strict=True):
                read = [shipped_tokenizer().rust.id_to_token(int(token)) for token in window.ids[low:high]]
                assert "".join(token.removeprefix("##") for token in read) == "".join(text.split())
            for place, answers in zip(window.positives, window.answers, strict=True):
                assert any(answer in window.texts[place] for answer in answers)
            head = window.spans[0][0]
            if head and list(window.ids[:head]) == list(article.title[:8]):
                headed += 1
    assert seen > 50 and headed > 20


def test_a_chunk_that_is_cut_off_is_of_the_window_with_most_of_it() -> None:
    question = insent_data.Question("q", np.array([1]), 30, ("x.",))
    article = Article("a", np.arange(0), "x. " * 24, np.arange(24), np.arange(24) * 3, (0, 24, 48), (question,))
    found = sequences_of(article, 8, 13, 13, False, None, random.Random(0))
    assert [window.spans for window in found] == [[(0, 8), (8, 13)]]  # the rest of the second chunk is too little
    assert found[0].positives == [1]


def made_window(key: str, texts: list[str], answers: list[tuple[str, ...]], positives: list[int]) -> Window:
    spans = [(2 * i, 2 * i + 2) for i in range(len(texts))]
    questions = [np.array([300 + i]) for i in range(len(answers))]
    return Window(key, np.arange(2 * len(texts)) + 200, spans, texts, questions, positives, answers)


def test_chunks_with_an_answers_words_count_neither_way() -> None:
    windows = [
        made_window("a", ["paris in may", "lyon", "paris again"], [("paris",), ("may",)], [0, 0]),
        made_window("b", ["rome, not paris", "may 1900"], [("rome", "may 1900")], [0]),
    ]
    assert may_answer(windows) == [frozenset({2, 3}), frozenset(), frozenset({4})]
    positives, query_documents, chunk_documents, others = insent.places(windows)
    assert positives.tolist() == [0, 0, 3] and query_documents.tolist() == [0, 0, 1]
    assert chunk_documents.tolist() == [0, 0, 0, 1, 1] and others == may_answer(windows)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 4))
def test_batches_are_full_and_never_hold_an_article_twice(seed: int, size: int, group: int) -> None:
    chance = random.Random(seed)
    windows = [made_window(chance.choice("abcdefghij"), [str(i)], [], []) for i in range(chance.randrange(40))]
    near = {key: chance.sample("abcdefghij".replace(key, ""), 4) for key in "abcdefghij"}
    found = batches(windows, size, random.Random(seed), near, group)
    assert all(len({w.key for w in batch}) == len(batch) == size for batch in found)
    used = Counter(window.texts[0] for batch in found for window in batch)
    assert max(used.values(), default=1) == 1
    left = Counter(w.key for w in windows if w.texts[0] not in used)
    assert len(left) < size  # no further batch could be made


def test_batches_bring_what_is_alike_together() -> None:
    keys = [f"{topic}{i}" for topic in range(20) for i in range(3)]
    near = {key: [other for other in keys if other[:-1] == key[:-1] and other != key] for key in keys}
    windows = [made_window(key, [key], [], []) for key in keys]
    for batch in batches(windows, 6, random.Random(4), near, 3):
        assert sorted(Counter(w.key[:-1] for w in batch).values()) == [3, 3]


def test_neighbours_are_the_nearest_by_cosine(articles) -> None:
    some = articles[0][:9]
    vectors = np.random.default_rng(2).normal(size=(9, 5)).astype(np.float32)
    found = insent_data.neighbours(some, lambda texts: vectors[: len(texts)], count=4)
    for i, article in enumerate(some):
        ranked = sorted((j for j in range(9) if j != i), key=lambda j: -float(vectors[i] @ vectors[j]))
        assert found[article.key] == [some[j].key for j in ranked[:4]]


def test_the_loss_is_that_of_a_plain_loop() -> None:
    torch.manual_seed(1)
    queries = torch.nn.functional.normalize(torch.randn(5, 7), dim=-1)
    chunks = torch.nn.functional.normalize(torch.randn(9, 7), dim=-1)
    document, asked = [0, 0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 1, 2, 2]
    positives, others = (
        [1, 2, 4, 5, 8],
        [frozenset({2, 7}), frozenset(), frozenset({0}), frozenset({6}), frozenset({6})],
    )
    expected = {True: 0.0, False: 0.0}
    for i, right in enumerate(positives):
        score = [math.exp(float(queries[i] @ chunks[j]) / 0.1) for j in range(9)]
        for inside in expected:
            rest = [j for j in range(9) if j != right and j not in others[i] and (document[j] == asked[i]) == inside]
            expected[inside] -= math.log(score[right] / (score[right] + sum(score[j] for j in rest))) / 5
    found = contrast(queries, chunks, torch.tensor(positives), torch.tensor(asked), torch.tensor(document), others, 0.1)
    assert [value.item() for value in found] == pytest.approx([expected[True], expected[False]], rel=1e-4)
    assert drift(queries, queries).item() == pytest.approx(0, abs=1e-6)
    assert drift(queries, -queries).item() == pytest.approx(2, abs=1e-6)


def test_the_model_is_that_of_the_exported_graph(weights: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    import export
    import onnxruntime

    for name, value in {"LAYERS": LAYERS, "HEADS": 12, "HIDDEN": HIDDEN}.items():
        monkeypatch.setattr(export, name, value)
    graph = export.build(weights, int8=False).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rows = [np.random.default_rng(i).integers(1000, WORDS, size) for i, size in enumerate((5, 31, 1, 12))]
    model = model_of(weights).eval()
    with torch.no_grad():
        found, vectors = states(model, rows), alone(model, rows)
    for row, state, vector in zip(rows, found, vectors, strict=True):
        ids = np.array([[101, *row, 102]])
        feed = {
            "input_ids": ids,
            "position_ids": np.arange(ids.shape[1])[None],
            "attention_mask": np.ones_like(ids, np.int32),
        }
        tokens, sentence = session.run(["token_embeddings", "sentence_embedding"], feed)
        assert np.abs(state.numpy() - tokens[0]).max() < 0.15  # bfloat16 beside float32
        assert float(vector @ torch.from_numpy(sentence[0])) > 0.999


def test_chunks_are_the_mean_of_their_own_states(weights: Arrays) -> None:
    model = model_of(weights).eval()
    windows = [made_window("a", ["1", "2", "3"], [], []), made_window("b", ["1", "2"], [], [])]
    with torch.no_grad():
        found = situated(model, windows)
        expected = [states(model, [w.ids])[0][1 + low : 1 + high].mean(0) for w in windows for low, high in w.spans]
    assert found.shape == (5, HIDDEN)
    for vector, mean in zip(found, expected, strict=True):
        assert float(vector @ torch.nn.functional.normalize(mean, dim=0)) > 0.999


def test_held_out_figures_are_counted_one_by_one(weights: Arrays, articles) -> None:
    model = model_of(weights).eval()
    windows = fixed_windows(articles[1], 70)
    assert [w.key for w in windows] == [w.key for w in fixed_windows(articles[1], 70)]
    found = figures_of(model, model, windows)
    assert found["moved"] == pytest.approx(0, abs=1e-5) == found["moved_queries"]
    with torch.no_grad():
        queries = [alone(model, window.questions, 32) for window in windows]
        late = [situated(model, [window]) for window in windows]
    right = asked = 0
    others, before, number = may_answer(windows), 0, 0
    for window, some, chunks in zip(windows, queries, late, strict=True):
        for query, place in zip(some, window.positives, strict=True):
            allowed = [i for i in range(len(chunks)) if before + i not in others[number]]
            right += max(allowed, key=lambda i: float(query @ chunks[i])) == place
            asked, number = asked + 1, number + 1
        before += len(chunks)
    assert found["late_first_in_window"] == pytest.approx(right / asked, abs=0.05)  # padding moves bfloat16 a little
    assert 0 < found["late_mrr"] <= 1 and 0 < found["plain_mrr"] <= 1


def trained(weights: Arrays, articles, folder: Path, config: insent.Config = CONFIG) -> insent.Training:
    return insent.Training(config, weights, articles[0], articles[1], folder, save_every=1, measure_every=2)


def test_a_run_that_was_stopped_ends_like_one_that_was_not(weights: Arrays, articles, tmp_path: Path) -> None:
    whole = trained(weights, articles, tmp_path / "whole").run()
    stopped = trained(weights, articles, tmp_path / "stopped")
    step = stopped.one_step

    def interrupted() -> dict[str, float]:
        if stopped.step == 1:
            signal.raise_signal(signal.SIGINT)
        return step()

    stopped.one_step = interrupted
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert stopped.step == 2
    again = trained(weights, articles, tmp_path / "stopped")
    found = again.run()
    assert all(np.array_equal(found[name], whole[name]) for name in whole)
    log = json.loads((tmp_path / "stopped" / "log.json").read_text())
    assert [row["step"] for row in log] == [0, 2, 4] and set(log[2]) > {"inside", "outside", "moved", "held_out"}
    with pytest.raises(SystemExit, match="another configuration"):
        trained(weights, articles, tmp_path / "stopped", replace(CONFIG, keep=1.0)).run()


def test_tables_of_words_stay_and_the_rest_learns(weights: Arrays, articles, tmp_path: Path) -> None:
    found = trained(weights, articles, tmp_path).run()
    same = {name for name, value in found.items() if np.array_equal(value, weights[name])}
    assert same == {"embeddings.word_embeddings.weight", "embeddings.token_type_embeddings.weight"}


def test_steps_lower_the_loss_and_the_penalty_holds_back(weights: Arrays, articles, tmp_path: Path) -> None:
    logs = []
    for keep in (0.0, 100.0):
        config = replace(CONFIG, steps=12, keep=keep, keep_queries=keep, learning_rate=3e-3)
        run = trained(weights, articles, tmp_path / str(keep), config)
        windows = run.batch()
        run.batch, run.measure_every = lambda windows=windows: windows, 6
        run.run()
        logs.append(run.log)
    free, held = logs
    for log in logs:
        assert log[2]["inside"] + log[2]["outside"] < log[1]["inside"] + log[1]["outside"]
    assert held[-1]["held_out"]["moved"] < 0.5 * free[-1]["held_out"]["moved"]


def test_batches_of_one_article_are_an_error(weights: Arrays, articles, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make no batch of 3"):
        insent.Training(CONFIG, weights, articles[0][:2], articles[1], tmp_path).run()
