"""A real vLLM server on the CPU that embeds: discovery, vectors against transformers, long texts, its refusals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import carrel
from carrel.embeddings.base import Vectors
from carrel.embeddings.choose import encoder_of
from carrel.embeddings.instructions import instruct
from carrel.embeddings.openai_compatible import OpenAIEmbeddings
from carrel.errors import CarrelError, GenerationError, ServerConnectionError, UnknownModelError
from carrel.testing import ChunkEncoderConformance
from carrel.tokens import FileTokenizer
from carrel.types import Document
from tests.slow.test_vllm_server import WINDOW, Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TEXTS = ["The ferry leaves at nine.", "", "渡轮九点开。 🚢", "Lamps burn whale oil all night. " * 40, "x"]
Oracle = Callable[[str], Vectors]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A tiny Llama behind vLLM's pooling runner: the vector is the last token's state."""
    server = Running(tmp_path_factory.mktemp("vllm"), layers=2, serving=("--runner", "pooling"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def encoder(running: Running) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(running.url)


@pytest.fixture(scope="module")
def oracle(running: Running) -> Oracle:
    """The same vectors by transformers, one text at a time."""
    torch = pytest.importorskip("torch")
    model = pytest.importorskip("transformers").AutoModel.from_pretrained(running.model, dtype=torch.float32).eval()
    tokenizer = FileTokenizer(running.model / "tokenizer.json")

    def embed(text: str) -> Vectors:
        ids = torch.tensor(tokenizer.ids_many([text or " "]))
        with torch.inference_mode():
            state = model(ids).last_hidden_state[0, -1].numpy()
        return np.asarray(state / np.linalg.norm(state), np.float32)

    return embed


class TestVllm(ChunkEncoderConformance):
    tolerance = 1e-3  # what is in a batch with a text changes its last digits

    @pytest.fixture(autouse=True)
    def _running(self, running: Running) -> None:
        self.url = running.url

    def make(self) -> OpenAIEmbeddings:
        return OpenAIEmbeddings(self.url)


def test_it_is_discovered(encoder: OpenAIEmbeddings, running: Running) -> None:
    assert (encoder.model, encoder.window, encoder.dimension) == ("tiny", WINDOW, 128)
    file = FileTokenizer(running.model / "tokenizer.json")
    assert [encoder.tokenizer.count(text) for text in TEXTS] == [file.count(text) for text in TEXTS]


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_vectors_are_those_of_transformers(running: Running, oracle: Oracle, encoding: str) -> None:
    encoder = OpenAIEmbeddings(running.url, encoding=encoding, batch_texts=2, concurrency=3)  # type: ignore[arg-type]
    found = encoder.encode_texts(TEXTS * 3)
    expected = np.stack([oracle(text) for text in TEXTS * 3])
    assert np.einsum("td,td->t", found, expected).min() > 0.9999


def test_prefixes_are_read(running: Running, oracle: Oracle) -> None:
    prefix = instruct("Find the passage").before
    encoder = OpenAIEmbeddings(running.url, query_prefix=prefix, document_prefix="passage: ")
    assert encoder.encode_queries(["when?"])[0] @ oracle(f"{prefix}when?") > 0.9999
    assert encoder.encode_texts(["at nine"])[0] @ oracle("passage: at nine") > 0.9999


def test_a_long_text_is_read_to_its_end(encoder: OpenAIEmbeddings, oracle: Oracle) -> None:
    text = " ".join(f"pier {number} of the harbour" for number in range(900))
    assert encoder.tokenizer.count(text) > 2 * WINDOW
    pieces = list(encoder._pieces(text, 0, ""))
    assert len(pieces) > 3 and all(encoder.tokenizer.count(piece.text) <= WINDOW for piece in pieces)
    total = sum(piece.tokens * oracle(piece.text) for piece in pieces)
    assert encoder.encode_texts([text])[0] @ (total / np.linalg.norm(total)) > 0.9999


def test_what_it_refuses_is_said(running: Running) -> None:
    with pytest.raises(UnknownModelError, match="has no model 'huge'"):
        OpenAIEmbeddings(running.url, "huge").encode_texts(["ferry"])
    with pytest.raises(GenerationError, match="(?i)matryoshka|dimensions"):
        OpenAIEmbeddings(running.url, dimensions=16).encode_texts(["ferry"])


def test_a_library_over_it(running: Running, tmp_path: Path) -> None:
    chosen = encoder_of(f"{running.url}#tiny")
    with carrel.open(tmp_path, encoder=f"{running.url}#tiny") as library:
        library.add([Document("The pier was built in 1894.", id="pier"), Document("Lamps burn all night.", id="lamps")])
        assert library.search("The pier was built in 1894.", retriever="dense")[0].document_id == "pier"
        assert library.encoder.fingerprint == chosen.fingerprint
        assert all(check.ok for check in library.doctor())


def test_a_server_that_was_killed(running: Running) -> None:
    """Last: nobody needs the server afterwards."""
    encoder = OpenAIEmbeddings(running.url, "tiny", retries=1)
    encoder.encode_texts(["ferry"])
    os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait(30)
    with pytest.raises(CarrelError) as failed:
        encoder.encode_texts(["ferry"])
    assert isinstance(failed.value, ServerConnectionError) and "Is the server running" in str(failed.value)
