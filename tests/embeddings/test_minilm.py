"""The shipped embedder: shapes, determinism, long texts, and closeness to the float32 model."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.embeddings.base import Vectors
from carrel.embeddings.minilm import MiniLM, available_cores
from carrel.errors import ModelError
from carrel.testing import ChunkEncoderConformance
from carrel.tokens import model_folder

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))["vectors"]
TEXTS = [
    "The ferry leaves at nine.",
    "",
    "Lamps burn whale oil all night, and the keeper trims them at dusk. " * 9,
    "渡轮九点开。",
    "🚢",
    "x",
]


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


class TestMiniLM(ChunkEncoderConformance):
    def make(self) -> MiniLM:
        return MiniLM()


def cosine(first: Vectors, second: Vectors) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_vectors_are_close_to_those_of_the_float32_model(encoder) -> None:
    assert len(REFERENCE) >= 8
    found = encoder.encode_texts([item["text"] for item in REFERENCE])
    for vector, item in zip(found, REFERENCE, strict=True):
        reference = np.array(item["vector"], np.float32)
        assert reference.shape == (384,) and np.linalg.norm(reference) == pytest.approx(1, abs=1e-3)
        least = 0.985 if " " in item["text"] else 0.95  # a single word has little to average over
        assert cosine(vector, reference) > least, item["text"]


def test_neighbours_are_those_of_the_float32_model(encoder) -> None:
    found = encoder.encode_texts([item["text"] for item in REFERENCE])
    reference = np.array([item["vector"] for item in REFERENCE], np.float32)
    assert np.abs(found @ found.T - reference @ reference.T).max() < 0.06


def test_shape_type_and_length(encoder) -> None:
    vectors = encoder.encode_texts(TEXTS)
    assert vectors.shape == (len(TEXTS), 384) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-4)
    assert encoder.encode_texts([]).shape == (0, 384)
    assert (encoder.dimension, encoder.window, encoder.languages) == (384, 512, frozenset({"English"}))


def test_meaning_is_near(encoder) -> None:
    question, near, far = encoder.encode_texts(
        ["When does the boat depart?", "The ferry leaves at nine.", "Sugar is made from beets."]
    )
    assert question @ near > question @ far + 0.2


@settings(max_examples=15)
@given(st.lists(st.one_of(st.text(max_size=60), st.sampled_from(TEXTS)), min_size=1, max_size=5), st.integers(1, 4))
def test_a_vector_does_not_depend_on_the_batch(texts: list[str], threads: int) -> None:
    alone = [MiniLM().encode_texts([text])[0] for text in texts] if threads == 1 else None
    shared = MiniLM(threads=threads)
    together = shared.encode_texts(texts)
    one_by_one = np.stack(alone or [shared.encode_texts([text])[0] for text in texts])
    assert np.array_equal(together, one_by_one)
    assert np.array_equal(shared.encode_texts(texts[::-1])[::-1], together)
    assert np.array_equal(shared.encode_queries(texts), together)


def test_every_part_of_a_long_text_counts(encoder) -> None:
    filler = "The harbour is quiet. " * 220  # about 1,100 tokens: several windows
    assert encoder.tokenizer.count(filler) > 2 * encoder.window
    special = "Photosynthesis turns light into sugar. " * 25
    plain, *marked = encoder.encode_texts(
        [filler * 2, special + filler * 2, filler + special + filler, filler * 2 + special, special]
    )
    *marked, own = marked
    for vector in marked:
        assert vector @ own > plain @ own + 0.02
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_windows_are_averaged_by_their_length(encoder) -> None:
    room = encoder.window - 2
    ids = np.arange(2000, 2000 + room + 300, dtype=np.int64)
    windows = [ids[start : start + room] for start in (0, room // 2, room)]
    total = sum(encoder._run(window) * len(window) for window in windows)
    assert encoder._embed(ids) == pytest.approx(total / np.linalg.norm(total), abs=1e-6)
    assert windows[-1][-1] == ids[-1]


@pytest.mark.parametrize("length", [1, 509, 510, 511, 765, 766, 1020, 1021, 2000])
def test_windows_cover_every_token_and_none_is_too_long(encoder, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def run(ids: np.ndarray) -> np.ndarray:
        seen.append(ids)
        return np.ones(384, np.float32)

    monkeypatch.setattr(encoder, "_run", run)
    encoder._embed(np.arange(length))
    assert set(np.concatenate(seen).tolist()) == set(range(length))
    assert all(0 < len(ids) <= 510 for ids in seen)
    assert len(seen) <= 1 + length // 255


def test_many_threads_at_once(encoder) -> None:
    expected, found = encoder.encode_texts(TEXTS), []
    fresh = MiniLM(threads=2)
    threads = [threading.Thread(target=lambda: found.append(fresh.encode_texts(TEXTS))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(np.array_equal(vectors, expected) for vectors in found)


def test_the_model_is_loaded_once_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    loaded = []
    real = onnxruntime.InferenceSession

    def counted(*arguments):
        loaded.append(arguments[0])
        return real(*arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    MiniLM(threads=4).encode_texts(TEXTS * 4)
    assert len(loaded) == 1


def test_cores() -> None:
    assert available_cores() >= 1
    assert MiniLM(threads=3).threads == 3
    assert MiniLM().threads == available_cores()


# -- model files --------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped files, to be damaged."""
    return Path(shutil.copytree(model_folder("minilm"), tmp_path / "minilm"))


def test_a_copy_is_the_same_encoder(copy, encoder) -> None:
    assert MiniLM(copy).fingerprint == encoder.fingerprint
    assert np.array_equal(MiniLM(copy).encode_texts(["ferry"]), encoder.encode_texts(["ferry"]))


def test_other_files_are_another_encoder(copy, encoder) -> None:
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert MiniLM(copy).fingerprint != encoder.fingerprint
    shutil.copy(model_folder("minilm") / "model.onnx", copy)
    provenance = copy / "provenance.json"
    facts = json.loads(provenance.read_text(encoding="utf-8"))
    facts["files_sha256"]["model.onnx"] = "0" * 64
    provenance.write_text(json.dumps(facts), encoding="utf-8")
    assert MiniLM(copy).fingerprint != encoder.fingerprint


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_damaged_model_is_an_error_with_a_remedy(copy, damage: str) -> None:
    path = copy / "model.onnx"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:1_000_000], "noise": b"\x08\x07noise" * 99}[damage])
    with pytest.raises(ModelError, match=r"cannot load the embedder in .*Reinstall carrel\."):
        MiniLM(copy).encode_texts(["ferry", "pier"])


@pytest.mark.parametrize("name", ["model.onnx", "provenance.json"])
def test_a_missing_file_has_no_fingerprint(copy, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelError, match=r"cannot read the embedder in .*Reinstall carrel\."):
        _ = MiniLM(copy).fingerprint


@pytest.mark.parametrize("content", ["", "{}", "not json"])
def test_a_damaged_provenance_has_no_fingerprint(copy, content: str) -> None:
    (copy / "provenance.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot read the embedder in .*Reinstall carrel\."):
        _ = MiniLM(copy).fingerprint


def test_a_missing_tokenizer_is_an_error_with_a_remedy(copy) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"cannot read the tokenizer .*Reinstall carrel"):
        MiniLM(copy).encode_texts(["ferry"])


def test_the_shipped_files_are_those_of_their_provenance() -> None:
    import hashlib

    folder = model_folder("minilm")
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    for name, digest in provenance["files_sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_what_a_long_run_of_letters_says_reaches_the_vector() -> None:
    model = MiniLM()
    one, other = model.encode_texts(["the key " + "abc" * 60, "the key " + "xyz" * 60])
    assert one @ other < 0.99
