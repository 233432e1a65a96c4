"""The reader's runtime: what it reads does not depend on how it is asked, and anything can be read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.errors import ModelError
from carrel.reader.model import ReaderInput, ReaderModel
from carrel.reader.reading import Reading, windows
from carrel.testing.passages import ODD_TEXTS
from carrel.tokens import model_folder

QUESTION = "When was the pier built?"
PIER = "The pier was built in 1894 by the harbour company. It is ninety metres long."
LONG = " ".join(f"On day {n} the ferry carried {7 * n % 31} people to the northern quay." for n in range(60))
INPUTS = [
    ReaderInput("Harbour > Pier", PIER),
    ReaderInput("", ""),
    ReaderInput("Ferry", LONG),
    ReaderInput("", "🚢 1894"),
]


@pytest.fixture(scope="module")
def model() -> ReaderModel:
    return ReaderModel()


def same(one: Reading, other: Reading) -> bool:
    """Equal to the last bit."""
    arrays = ("offsets", "keep", "start", "end")
    return (one.relevance, one.answerable) == (other.relevance, other.answerable) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


# -- what a reading is ----------------------------------------------------------------------------


def test_shapes_types_and_ranges(model) -> None:
    for item, reading in zip(INPUTS, model.read(QUESTION, INPUTS), strict=True):
        tokens = len(model.tokenizer.rust.encode(item.text, add_special_tokens=False).ids)
        assert isinstance(reading.relevance, float) and isinstance(reading.answerable, float)
        assert reading.offsets.shape == (tokens, 2) and reading.offsets.dtype == np.int64
        for array in (reading.keep, reading.start, reading.end):
            assert array.shape == (tokens,) and array.dtype == np.float32 and np.isfinite(array).all()
        assert ((reading.keep >= 0) & (reading.keep <= 1)).all()
        assert all(item.text[start:end].strip() for start, end in reading.offsets.tolist())


def slow(model: ReaderModel, question: str, item: ReaderInput) -> Reading:
    """The definition: every window by itself, every token from the window in which it is farthest from an edge."""
    encode = model.tokenizer.rust.encode
    asked = encode(question, add_special_tokens=False).ids[:64]
    prefix = encode(item.prefix, add_special_tokens=False).ids[:48]
    text = encode(item.text, add_special_tokens=False)
    head = [101, *asked, 102, *prefix]
    covering = windows(len(text.ids), 320 - len(head) - 1, 96)
    rows: dict[int, tuple[float, list[float]]] = {}
    overall = []
    for number, (first, last) in enumerate(covering):
        ids = np.array([[*head, *text.ids[first:last], 102]], np.int64)
        types = np.array([[0] * (2 + len(asked)) + [1] * (ids.shape[1] - 2 - len(asked))], np.int64)
        feed = {
            "input_ids": ids,
            "position_ids": np.arange(ids.shape[1])[None],
            "token_type_ids": types,
            "attention_mask": np.ones(ids.shape, np.int32),
        }
        of_window, of_tokens = model._session.run(["window_logits", "token_logits"], feed)
        overall.append(of_window[0])
        for token in range(first, last):
            before = np.inf if number == 0 else token - first
            after = np.inf if number == len(covering) - 1 else last - 1 - token
            keep, start, end = of_tokens[0, len(head) + token - first]
            row = [1 / (1 + np.exp(-keep)), start - of_tokens[0, 0, 1], end - of_tokens[0, 0, 2]]
            if token not in rows or min(before, after) >= rows[token][0]:
                rows[token] = (min(before, after), row)
    table = np.array([rows[token][1] for token in range(len(text.ids))], np.float32).reshape(-1, 3)
    relevance, answerable = (max(float(logits[column]) for logits in overall) for column in (0, 1))
    offsets = np.array(text.offsets, np.int64).reshape(-1, 2)
    return Reading(relevance, answerable, offsets, table[:, 0], table[:, 1], table[:, 2])


@pytest.mark.parametrize("words", [0, 1, 30, 190, 200, 205, 210, 300, 700])
def test_a_reading_is_that_of_the_slow_way(model, words: int) -> None:
    item = ReaderInput("Harbour > Ferry", " ".join(LONG.split()[:words]))
    found, expected = model.read(QUESTION, [item])[0], slow(model, QUESTION, item)
    assert (found.relevance, found.answerable) == (expected.relevance, expected.answerable)
    assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(found.start, expected.start) and np.array_equal(found.end, expected.end)
    assert found.keep == pytest.approx(expected.keep, abs=1e-6)


def test_windows_are_full_and_begin_with_question_and_headings(model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[int], int]] = []
    real = ReaderModel._run

    def run(self: ReaderModel, window: Any, segment: int) -> Any:
        seen.append((window.ids.tolist(), segment))
        return real(self, window, segment)

    monkeypatch.setattr(ReaderModel, "_run", run)
    ReaderModel().read("why " * 100, [ReaderInput("head " * 100, LONG)])
    why, head = (model.tokenizer.rust.encode(word, add_special_tokens=False).ids for word in ("why", "head"))
    start = [101, *why * 64, 102, *head * 48]
    assert len(seen) > 5
    for ids, segment in seen:
        assert ids[: len(start)] == start and ids[-1] == 102 and segment == 66
        assert len(ids) == 320


# -- nothing else matters -------------------------------------------------------------------------


texts = st.one_of(st.text(max_size=80), st.sampled_from([*ODD_TEXTS, PIER, LONG]))


FORGETFUL = {threads: ReaderModel(threads=threads, remembered=0) for threads in (1, 2, 3)}


@settings(max_examples=15)
@given(st.lists(texts, min_size=1, max_size=4), st.sampled_from(sorted(FORGETFUL)))
def test_a_reading_does_not_depend_on_what_else_is_read(found: list[str], threads: int) -> None:
    inputs = [ReaderInput("Harbour", text) for text in found]
    together = FORGETFUL[threads].read(QUESTION, inputs)
    one_by_one = [FORGETFUL[1].read(QUESTION, [item])[0] for item in inputs]
    backwards = FORGETFUL[2].read(QUESTION, inputs[::-1])[::-1]
    for one, alone, other in zip(together, one_by_one, backwards, strict=True):
        assert same(one, alone) and same(one, other)


def test_question_headings_and_text_all_count(model) -> None:
    plain = model.read(QUESTION, [ReaderInput("Pier", PIER)])[0]
    for question, item in (
        ("How long is the pier?", ReaderInput("Pier", PIER)),
        (QUESTION, ReaderInput("Ferry", PIER)),
        (QUESTION, ReaderInput("Pier", PIER.replace("1894", "1895"))),
    ):
        assert not same(model.read(question, [item])[0], plain)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_anything_can_be_read(model, text: str) -> None:
    for question, prefix in ((QUESTION, text), (text, ""), ("", text)):
        (reading,) = model.read(question, [ReaderInput(prefix, text)])
        assert np.isfinite([reading.relevance, reading.answerable]).all()
        assert np.isfinite(reading.start).all() and np.isfinite(reading.end).all()
        for found in reading.answers(5):
            assert 0 <= found.start < found.end <= len(text)
        starts = reading.offsets[:, 0]
        assert (np.diff(starts) >= 0).all()


def test_a_megabyte_without_spaces_is_one_word(model) -> None:
    (reading,) = model.read(QUESTION, [ReaderInput("", "x" * 1_000_000)])
    assert len(reading.keep) == 1


def test_a_long_text_is_read_to_its_end() -> None:
    text = "The ferry is late today. " * 800 + PIER
    (reading,) = ReaderModel(remembered=0).read(QUESTION, [ReaderInput("", text)])
    assert len(reading.keep) > 4000
    assert reading.offsets[-1].tolist() == [len(text) - 1, len(text)]
    (alone,) = ReaderModel().read(QUESTION, [ReaderInput("", "The ferry is late today. " * 5 + PIER)])
    assert reading.answers(1)[0].score == pytest.approx(alone.answers(1)[0].score, abs=6)
    assert reading.relevance > model_relevance_of("The ferry is late today. " * 20)


def model_relevance_of(text: str) -> float:
    return ReaderModel().read(QUESTION, [ReaderInput("", text)])[0].relevance


def test_names_of_special_tokens_are_words(model) -> None:
    hostile = "The pier [SEP] [CLS] was built [MASK] in [PAD] 1894. [UNK]"
    ids = model.tokenizer.rust.encode(hostile, add_special_tokens=False).ids
    assert not {0, 101, 102, 103} & set(ids)


def test_offsets_hold_where_characters_are_left_out(model) -> None:
    text = "\0\0The\u200b pier\x07 was \ud800 built\u0301 in \ufeff1894."
    (reading,) = model.read(QUESTION, [ReaderInput("", text)])
    pieces = [text[start:end] for start, end in reading.offsets.tolist()]
    assert "The" in pieces and any("1894" in piece for piece in pieces)


# -- memory ---------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the windows that are run from here on."""
    runs: list[int] = []
    real = ReaderModel._run

    def run(self: ReaderModel, window: Any, segment: int) -> Any:
        runs.append(len(window.ids))
        return real(self, window, segment)

    monkeypatch.setattr(ReaderModel, "_run", run)
    return runs


def test_what_was_read_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, model = counted(monkeypatch), ReaderModel()
    first = model.read(QUESTION, [*INPUTS, *INPUTS])
    once = len(runs)
    head = 3 + sum(len(model.tokenizer.rust.encode(t, add_special_tokens=False).ids) for t in (QUESTION, "Ferry"))
    assert once == len(windows(len(first[2].keep), 320 - head, 96)) + 3
    assert all(one is other for one, other in zip(first[:4], first[4:], strict=True))
    again = model.read(QUESTION, INPUTS[::-1])
    assert len(runs) == once
    assert all(one is other for one, other in zip(first, again[::-1], strict=False))
    model.read(QUESTION, [ReaderInput("Pier", PIER)])  # other headings
    model.read("How long is it?", INPUTS[:1])
    assert len(runs) == once + 2


def test_parts_that_join_to_the_same_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, model = counted(monkeypatch), ReaderModel()
    for question, prefix, text in (("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""), ("", "ab", "c"), ("", "", "abc")):
        model.read(question, [ReaderInput(prefix, text)])
    assert len(runs) == 5


def test_memory_is_bounded_and_forgets_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, model = counted(monkeypatch), ReaderModel(remembered=3)
    items = [ReaderInput("", f"{n}") for n in range(4)]
    model.read(QUESTION, items[:3])
    model.read(QUESTION, items[:1])  # used again: the second is now the oldest
    assert len(runs) == 3
    model.read(QUESTION, items[3:])
    model.read(QUESTION, [items[0], items[2]])
    assert len(runs) == 4 and len(model._known) == 3
    model.read(QUESTION, items[1:2])
    assert len(runs) == 5
    assert model._size == len(model._known) == 3


def test_a_long_passage_takes_the_room_of_many() -> None:
    model = ReaderModel(remembered=3)
    model.read(QUESTION, [ReaderInput("", f"{n}") for n in range(3)])
    model.read(QUESTION, [ReaderInput("", LONG * 2)])  # more than three windows
    assert len(model._known) == model._size == 0
    assert len(model.read(QUESTION, [ReaderInput("", "x")])) == 1 and model._size == 1


def test_no_text_is_kept() -> None:
    model = ReaderModel()
    model.read("a secret question", [ReaderInput("a secret heading", "a secret text")])
    assert model._known
    assert "secret" not in repr(model._known)


# -- threads and processes ------------------------------------------------------------------------


def test_many_threads_at_once() -> None:
    expected = ReaderModel(threads=1).read(QUESTION, INPUTS)
    shared, found, failed = ReaderModel(threads=2, remembered=2), [], []

    def read() -> None:
        try:
            for _ in range(3):
                found.append(shared.read(QUESTION, INPUTS))
                shared.read(f"{threading.get_ident()}", INPUTS[:1])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(found) == 24
    assert all(same(a, b) for readings in found for a, b in zip(readings, expected, strict=True))
    assert shared._size == sum(shared._weight(reading) for reading in shared._known.values()) <= 2


def test_the_model_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    loaded = []
    real = onnxruntime.InferenceSession

    def session(*arguments: Any) -> Any:
        loaded.append(arguments[0])
        return real(*arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    model = ReaderModel(threads=4)
    threads = [threading.Thread(target=lambda: model.read(QUESTION, INPUTS)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1


def test_an_error_in_one_window_ends_the_read(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def run(self: ReaderModel, window: Any, segment: int) -> Any:
        runs.append(window)
        raise RuntimeError("broken")

    monkeypatch.setattr(ReaderModel, "_run", run)
    model = ReaderModel(threads=2)
    with pytest.raises(RuntimeError, match="broken"):
        model.read(QUESTION, [ReaderInput("", f"{n}") for n in range(200)])
    assert len(runs) < 200, "the others are not run for nothing"
    assert not model._known


FORKED = """
import os, sys, threading
from carrel.reader.model import ReaderInput, ReaderModel
model, inputs = ReaderModel(threads=2), [ReaderInput("", f"The pier of {n} was built.") for n in range(6)]
before = [reading.relevance for reading in model.read("When?", inputs)]
stop = threading.Event()
def busy():
    while not stop.is_set():
        model.read("Why?", inputs[:2])
threads = [threading.Thread(target=busy, daemon=True) for _ in range(3)]
for thread in threads: thread.start()
children = []
for _ in range(6):
    child = os.fork()
    if child == 0:
        model._known.clear(); model._size = 0
        after = [reading.relevance for reading in model.read("When?", inputs)]
        os._exit(0 if after == before else 1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stop.set()
print(codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_it_reads_after_a_fork() -> None:
    """Also where another thread was reading at that moment."""
    environment = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.stdout.strip() == str([0] * 6), done.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_is_left_to_wait_for(threads: int) -> None:
    program = (
        "import threading; from carrel.reader.model import ReaderInput, ReaderModel;"
        f"ReaderModel(threads={threads}).read('When?', [ReaderInput('', str(n)) for n in range(9)]);"
        "print(threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "1" and not done.stderr


# -- model files ----------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped files, to be damaged."""
    return Path(shutil.copytree(model_folder("reader"), tmp_path / "reader"))


def test_a_copy_is_the_same_reader(copy, model) -> None:
    assert ReaderModel(copy).fingerprint == model.fingerprint
    assert same(ReaderModel(copy).read(QUESTION, INPUTS[:1])[0], model.read(QUESTION, INPUTS[:1])[0])


def test_other_weights_are_another_reader(copy, model) -> None:
    facts = json.loads((copy / "provenance.json").read_text(encoding="utf-8"))
    facts["files_sha256"]["model.onnx"] = "0" * 64
    (copy / "provenance.json").write_text(json.dumps(facts), encoding="utf-8")
    assert ReaderModel(copy).fingerprint != model.fingerprint


def test_the_shipped_files_are_those_of_their_provenance(model) -> None:
    for name, known in model.provenance["files_sha256"].items():
        assert hashlib.sha256((model.folder / name).read_bytes()).hexdigest() == known


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_damaged_model_is_an_error_with_a_remedy(copy, damage: str) -> None:
    path = copy / "model.onnx"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:1_000_000], "noise": b"\x08\x07noise" * 99}[damage])
    with pytest.raises(ModelError, match=r"cannot load the reader in .*Reinstall carrel\."):
        ReaderModel(copy).read(QUESTION, INPUTS)


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"files_sha256": {}}', '{"files_sha256": null}', "not json"]
)
def test_a_damaged_provenance_has_no_fingerprint(copy, content: str | None) -> None:
    (copy / "provenance.json").unlink()
    if content is not None:
        (copy / "provenance.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot read the reader in .*Reinstall carrel\."):
        _ = ReaderModel(copy).fingerprint


def test_a_missing_tokenizer_is_an_error_with_a_remedy(copy) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"cannot read the tokenizer .*Reinstall carrel"):
        ReaderModel(copy).read(QUESTION, INPUTS)
