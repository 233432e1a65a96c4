"""An encoder from a text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import carrel
from carrel.embeddings import sentence_transformers
from carrel.embeddings.blending import Blended
from carrel.embeddings.choose import encoder_of
from carrel.embeddings.late import LateChunking
from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.onnx_folder import OnnxEncoder
from carrel.embeddings.openai_compatible import OpenAIEmbeddings
from carrel.embeddings.sentence_transformers import SentenceTransformerEncoder
from carrel.errors import EncoderMismatchError, InputError, MissingDependencyError, ModelError
from carrel.testing.embedding_server import DIMENSION, embedding_server
from carrel.tokens import model_folder
from carrel.types import Document
from tests.embeddings.model_folders import declare, put


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The shipped weights as an export of another model: with a word on how they are to be used."""
    folder = declare(tmp_path / "exported", width=384)
    shutil.copy(model_folder("minilm") / "model.onnx", folder)
    return folder


@pytest.mark.parametrize("name", ["shipped", "all-MiniLM-L6-v2"])
def test_the_shipped_one(name: str) -> None:
    assert type(encoder_of(name)) is MiniLM


def test_a_folder_with_a_graph(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = encoder_of(str(exported))
    assert type(found) is OnnxEncoder and found.window == 64
    assert encoder_of(f"onnx:{exported}").fingerprint == found.fingerprint
    monkeypatch.setenv("HOME", str(exported.parent))
    assert type(encoder_of("~/exported")) is OnnxEncoder
    (exported / "onnx").mkdir()
    (exported / "model.onnx").rename(exported / "onnx" / "model.onnx")
    assert encoder_of(str(exported)).dimension == 384


def test_a_server_and_its_model() -> None:
    with embedding_server() as server:
        found = encoder_of(f"{server.url}#tiny", api_key="secret")
        assert type(found) is OpenAIEmbeddings and found.model == "tiny" and found.dimension == DIMENSION
        assert server.headers[0]["authorization"] == "Bearer secret"
        assert encoder_of(server.url).fingerprint == found.fingerprint


def test_chunks_read_in_their_document(exported: Path) -> None:
    assert encoder_of("blended").fingerprint == Blended().fingerprint
    late = encoder_of("late")
    assert isinstance(late, LateChunking) and (late.window, late.spread) == (256, 0.5)
    for kind, made in (("late", LateChunking), ("blended", Blended)):
        found = encoder_of(f"{kind}:{exported}")
        assert type(found) is made and found.window == 64 and found.fingerprint != encoder_of(kind).fingerprint
        assert encoder_of(f"{kind}:onnx:{exported}").fingerprint == found.fingerprint
    with (
        embedding_server() as server,
        pytest.raises(InputError, match="does not show the states of its tokens, which late: needs"),
    ):
        encoder_of(f"late:{server.url}#tiny")


@pytest.mark.parametrize("prefix", ["", "sentence-transformers:"])
def test_a_model_of_sentence_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    folder = declare(tmp_path / "st")
    monkeypatch.setattr(sentence_transformers, "find_spec", lambda name: name)  # as if it were installed
    found = encoder_of(f"{prefix}{folder}")
    assert type(found) is SentenceTransformerEncoder and found.window == 64
    monkeypatch.setattr(sentence_transformers, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'carrel\[sentence-transformers\]'"):
        encoder_of(f"{prefix}{folder}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "an encoder is named by a text, not ''"),
        ("  ", "an encoder is named by a text"),
        (3, "an encoder is named by a text, not 3"),
        ("nowhere", "cannot understand the encoder 'nowhere': it is no folder. Name a folder with"),
        ("org/model", "it is no folder.*sentence-transformers:NAME"),
        ("a\0b", "cannot hold a NUL"),
        ("http://", "base_url is an address"),
        ("http://user:pass@host/v1#m", "base_url holds a password"),
    ],
)
def test_texts_that_name_none(spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        encoder_of(spec)


def test_folders_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no encoder: neither model.onnx nor onnx/model.onnx, nor the modules"):
        encoder_of(str(tmp_path))
    put(tmp_path / "file", {})
    with pytest.raises(InputError, match="cannot understand the encoder .*: it is a file"):
        encoder_of(str(tmp_path / "file"))
    with pytest.raises(ModelError, match="there is no folder"):
        encoder_of(f"onnx:{tmp_path / 'missing'}")


def test_a_library_opens_with_a_text(exported: Path, tmp_path: Path) -> None:
    with carrel.open(tmp_path / "library", encoder=str(exported)) as library:
        library.add([Document("The ferry leaves at nine.", id="ferry"), Document("Lamps burn all night.", id="lamps")])
        assert library.search("When does the boat depart?", limit=1, retriever="dense")[0].document_id == "ferry"
        assert type(library.encoder) is OnnxEncoder
    with (
        carrel.open(tmp_path / "library") as library,
        pytest.raises(EncoderMismatchError, match="was indexed with onnx exported"),
    ):
        library.search("boat")
    with pytest.raises(InputError, match="an encoder is an object of carrel.embeddings.base.ChunkEncoder, not 3"):
        carrel.open(tmp_path / "library", encoder=3)  # type: ignore[arg-type]
