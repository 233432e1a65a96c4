"""Vectors from a server: good replies, and a server that misbehaves in every way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.embeddings.openai_compatible import OpenAIEmbeddings
from carrel.errors import (
    AuthenticationError,
    CarrelError,
    ContextOverflowError,
    GenerationError,
    GenerationTimeoutError,
    InputError,
    MalformedReplyError,
    RateLimitError,
    ServerConnectionError,
    UnknownModelError,
)
from carrel.testing import ChunkEncoderConformance, HashEncoder, WordTokenizer
from carrel.testing.chat_server import ChatServer, Exchange, hanging, words_as_tokens
from carrel.testing.embedding_server import DIMENSION, embed, embedding_server, rows

TEXTS = ["The pier was built in 1894.", "", "渡轮九点开。 🚢", "lamps burn all night"]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with embedding_server() as running:
        yield running


def encoder(server: ChatServer, **options: Any) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(server.url, **{"timeout_s": 10.0, **options})


class TestOpenAIEmbeddings(ChunkEncoderConformance):
    @pytest.fixture(autouse=True)
    def _serve(self, server: ChatServer) -> None:
        self.server = server

    def make(self) -> OpenAIEmbeddings:
        return encoder(self.server)


class TestInWindows(ChunkEncoderConformance):
    """Every text is longer than the window."""

    @pytest.fixture(autouse=True)
    def _serve(self, server: ChatServer) -> None:
        self.server = server

    def make(self) -> OpenAIEmbeddings:
        prefixes = {"document_prefix": "passage: ", "query_prefix": "query: "}
        return encoder(self.server, window=8, tokenizer=WordTokenizer(), batch_texts=2, **prefixes)


# -- good replies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_vectors_are_those_of_the_server(server: ChatServer, encoding: str) -> None:
    found = encoder(server, encoding=encoding).encode_texts(TEXTS)
    assert found == pytest.approx(HashEncoder(DIMENSION).encode_texts(TEXTS), abs=1e-6)
    [body] = server.asked
    assert body["encoding_format"] == encoding and body["model"] == "tiny" and "dimensions" not in body
    assert body["input"] == [TEXTS[0], " ", *TEXTS[2:]]  # servers refuse an empty text


def test_model_window_and_dimension_are_asked_of_the_server(server: ChatServer) -> None:
    found = encoder(server)
    assert (found.model, found.window, found.max_chunk_tokens) == ("tiny", 1000, 256)
    assert found.dimension == DIMENSION and len(server.asked) == 1
    assert found.dimension == DIMENSION and len(server.asked) == 1
    server.tokenize = words_as_tokens
    assert (encoder(server).window, encoder(server).tokenizer.name) == (400, "tiny")
    assert encoder(server, window=90).window == 90


def test_a_server_that_does_not_say_its_window_reads_512(server: ChatServer) -> None:
    server.models = {"data": [{"id": "tiny"}]}
    assert encoder(server).window == 512
    assert OpenAIEmbeddings("https://api.openai.com/v1", "m", tokenizer=WordTokenizer(), window=7).window == 7


def test_prefixes_dimensions_and_fields_are_sent(server: ChatServer) -> None:
    made = encoder(
        server, dimensions=8, query_prefix="query: ", document_prefix="passage: ", extra={"user": "u"},
        query_extra={"input_type": "query"}, api_key="secret",
    )  # fmt: skip
    assert made.encode_queries(["when?"]).shape == (1, 8) and made.encode_texts(["at nine", ""]).shape == (2, 8)
    query, document = server.asked
    assert (query["input"], query["dimensions"], query["input_type"]) == (["query: when?"], 8, "query")
    assert document["input"] == ["passage: at nine", "passage: "] and document["user"] == "u"
    assert "input_type" not in document
    assert server.headers[0]["authorization"] == "Bearer secret" and "secret" not in repr(made)


@settings(max_examples=20)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=9), st.integers(1, 4), st.integers(1, 40), st.integers(1, 3))
def test_the_order_is_kept_whatever_the_batches(texts: list[str], count: int, tokens: int, concurrency: int) -> None:
    with embedding_server() as server:
        made = encoder(server, batch_texts=count, batch_tokens=tokens, concurrency=concurrency)
        expected = HashEncoder(DIMENSION).encode_texts([text if text.strip() else " " for text in texts])
        assert made.encode_texts(texts) == pytest.approx(expected, abs=1e-6)
        assert all(0 < len(body["input"]) <= count for body in server.asked)


def test_no_more_requests_at_once_than_allowed(server: ChatServer) -> None:
    most, lock = [0], threading.Lock()

    def slow(exchange: Exchange) -> None:
        with lock:
            most[0] = max(most[0], server.running)
        time.sleep(0.05)
        embed(exchange)

    server.chat = slow
    encoder(server, batch_texts=1, concurrency=3).encode_texts([f"text {n}" for n in range(12)])
    assert 1 < most[0] <= 3 and len(server.asked) == 12


def test_rows_in_another_order_are_put_right(server: ChatServer) -> None:
    server.chat = lambda exchange: embed(exchange, rows(exchange)[::-1])
    assert encoder(server).encode_texts(TEXTS) == pytest.approx(HashEncoder(DIMENSION).encode_texts(TEXTS), abs=1e-6)


def test_a_server_that_knows_no_base64_is_asked_for_numbers(server: ChatServer) -> None:
    def picky(exchange: Exchange) -> None:
        if exchange.body["encoding_format"] == "base64":
            exchange.json({"error": {"message": "encoding_format: only float is supported"}}, 400)
        else:
            embed(exchange)

    server.chat = picky
    made = encoder(server, retries=0)
    for _ in range(2):
        assert made.encode_texts(["pier"]).shape == (1, DIMENSION)
    assert [body["encoding_format"] for body in server.asked] == ["base64", "float", "float"]


def test_fingerprints_tell_apart_what_gives_other_vectors(server: ChatServer) -> None:
    server.models = {"data": [{"id": "tiny", "max_model_len": 1000}, {"id": "other", "max_model_len": 1000}]}
    variants = [
        {"model": "tiny"}, {"model": "other"}, {"model": "tiny", "dimensions": 8}, {"model": "tiny", "window": 90},
        {"model": "tiny", "query_prefix": "q"}, {"model": "tiny", "document_prefix": "q"},
        {"model": "tiny", "extra": {"truncate": "none"}},
    ]  # fmt: skip
    found = [encoder(server, **variant).fingerprint for variant in variants]
    assert len(set(found)) == len(variants)
    assert found == [encoder(server, **variant).fingerprint for variant in variants]
    assert encoder(server, model="tiny", api_key="k", batch_texts=1).fingerprint == found[0]


# -- long texts -------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(1, 120), st.integers(8, 30), st.sampled_from(["", "passage: "]))
def test_a_long_text_is_sent_in_parts_that_fit_and_cover_it(words: int, window: int, prefix: str) -> None:
    with embedding_server() as server:
        text = " ".join(f"harbour{number}" for number in range(words))
        made = encoder(server, window=window, document_prefix=prefix, tokenizer=WordTokenizer())
        [vector] = made.encode_texts([text])
        sent = [part.removeprefix(prefix) for body in server.asked for part in body["input"]]
    room = window - 4 - WordTokenizer().count(prefix)
    assert all(len(part.split()) <= room for part in sent)
    assert {word for part in sent for word in part.split()} == set(text.split())
    assert sent[0][:9] == text[:9] and sent[-1][-3:] == text[-3:]
    lengths = [len(part.split()) for part in sent] if len(sent) > 1 else [1]
    parts = HashEncoder(DIMENSION).encode_texts([prefix + part for part in sent])
    total = sum(length * part for length, part in zip(lengths, parts, strict=True))
    assert vector == pytest.approx(total / np.linalg.norm(total), abs=1e-5)


def test_a_long_text_is_counted_by_the_server(server: ChatServer) -> None:
    server.tokenize = words_as_tokens
    text = "pier " * 30
    assert encoder(server, window=19).encode_texts([text])[0] == pytest.approx(
        HashEncoder(DIMENSION).encode_texts(["pier"])[0], abs=1e-5
    )
    assert len(server.asked[0]["input"]) > 2
    assert all(len(part.split()) <= 15 for body in server.asked for part in body["input"])


@given(st.text(max_size=200), st.integers(5, 40))
@settings(max_examples=40)
def test_every_character_of_any_text_is_sent(text: str, window: int) -> None:
    made = OpenAIEmbeddings("http://127.0.0.1:9/v1", "m", window=window, tokenizer=WordTokenizer())
    pieces, place = list(made._pieces(text, 0, "")), 0
    for piece in pieces:
        begin = text.index(piece.text, max(0, place - len(piece.text)))
        assert begin <= place or not text[place:begin].strip()
        place = max(place, begin + len(piece.text))
    assert not text[place:].strip()
    assert all(made.tokenizer.count(piece.text) <= max(1, window - 4) or len(piece.text) < 2 for piece in pieces)


def test_what_the_server_finds_too_long_is_halved(server: ChatServer) -> None:
    def strict(exchange: Exchange) -> None:
        if any(len(text) > 30 for text in exchange.body["input"]):
            exchange.json({"error": {"message": "input exceeds the maximum context length"}}, 400)
        else:
            embed(exchange)

    server.chat = strict
    text = "The keeper trims the lamps at dusk, and the ferry leaves."
    found = encoder(server).encode_texts(["pier", text, "rope"])
    cut = len(text) // 2
    halves = [len(part) * HashEncoder(DIMENSION).encode_texts([part])[0] for part in (text[:cut], text[cut:])]
    total = halves[0] + halves[1]
    assert found[1] == pytest.approx(total / np.linalg.norm(total), abs=1e-5)
    assert found[[0, 2]] == pytest.approx(HashEncoder(DIMENSION).encode_texts(["pier", "rope"]), abs=1e-6)


def test_a_server_that_finds_everything_too_long(server: ChatServer) -> None:
    server.chat = lambda exchange: exchange.json({"error": {"message": "input is too long"}}, 400)
    with pytest.raises(ContextOverflowError, match="too long"):
        encoder(server).encode_texts(["pier"])


def test_a_prefix_longer_than_the_window(server: ChatServer) -> None:
    server.tokenize = words_as_tokens
    with pytest.raises(InputError, match="a window of 10 tokens has no room for a text after the prefix"):
        encoder(server, window=10, query_prefix="a b c d e f g h ").encode_queries(["when was the pier built?"])


# -- a server that misbehaves -----------------------------------------------------------------------


def spoilt(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Exchange], None]:
    def answer(exchange: Exchange) -> None:
        exchange.body["encoding_format"] = "float"
        data = rows(exchange)
        made = change(data)
        embed(exchange, data if made is None else made)

    return answer


BROKEN: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "a row less": (lambda data: data[1:], "has 3 embeddings for 4 texts"),
    "a row more": (lambda data: [*data, data[0]], "has 5 embeddings for 4 texts"),
    "an index twice": (lambda data: data[0].update(index=1), "numbers its embeddings"),
    "an index beyond": (lambda data: data[0].update(index=9), "numbers its embeddings"),
    "an index that is none": (lambda data: data[0].update(index="0"), "numbers its embeddings"),
    "another dimension": (lambda data: data[1].update(embedding=[1.0, 2.0]), "different dimensions"),
    "NaN": (lambda data: data[1]["embedding"].__setitem__(3, float("nan")), "not finite"),
    "too large": (lambda data: data[1]["embedding"].__setitem__(3, 1e300), "not finite"),
    "zeros": (lambda data: data[1].update(embedding=[0.0] * DIMENSION), "nothing but zeros"),
    "no vector": (lambda data: data[1].update(embedding=None), "no list of numbers"),
    "a text": (lambda data: data[1].update(embedding="not base64!"), "an embedding that is none"),
    "half a number": (lambda data: data[1].update(embedding="AAAA"), "an embedding that is none"),
    "words": (lambda data: data[1].update(embedding=["a"]), "an embedding that is none"),
    "a matrix": (lambda data: data[1].update(embedding=[[1.0]]), "no list of numbers"),
    "no rows": (lambda data: {"rows": data}, "has no list of embeddings"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_reply_is_found_out(server: ChatServer, case: str) -> None:
    change, message = BROKEN[case]
    server.chat = spoilt(change)
    with pytest.raises(MalformedReplyError, match=message):
        encoder(server, retries=1).encode_texts(TEXTS)
    assert len(server.asked) == 2  # tried again


def test_a_broken_reply_may_pass(server: ChatServer) -> None:
    server.chat = lambda exchange: (
        exchange.raw(b"<html>bad gateway</html>") if exchange.number == 1 else embed(exchange)
    )
    assert encoder(server).encode_texts(TEXTS).shape == (4, DIMENSION)


def test_rows_without_indexes_are_taken_as_they_come(server: ChatServer) -> None:
    server.chat = spoilt(lambda data: [{"embedding": row["embedding"]} for row in data])
    assert encoder(server).encode_texts(TEXTS) == pytest.approx(HashEncoder(DIMENSION).encode_texts(TEXTS), abs=1e-6)


def test_a_dimension_that_changes(server: ChatServer) -> None:
    made = encoder(server)
    made.encode_texts(["pier"])
    server.chat = spoilt(lambda data: [{"index": 0, "embedding": [1.0, 2.0]}])
    with pytest.raises(MalformedReplyError, match="gave vectors of 24 dimensions, and now of 2: is it the same model"):
        made.encode_texts(["pier"])


def test_a_server_that_does_not_shorten(server: ChatServer) -> None:
    server.chat = spoilt(lambda data: [{"index": 0, "embedding": [1.0] * 24}])
    with pytest.raises(MalformedReplyError, match="asked for 8 dimensions and gives 24. Leave out dimensions="):
        encoder(server, dimensions=8).encode_texts(["pier"])


@pytest.mark.parametrize(
    ("status", "kind", "tries"),
    [(401, AuthenticationError, 1), (404, UnknownModelError, 1), (429, RateLimitError, 3), (500, GenerationError, 3),
     (400, GenerationError, 1)],
)  # fmt: skip
def test_failures_by_status(server: ChatServer, status: int, kind: type[CarrelError], tries: int) -> None:
    server.chat = lambda exchange: exchange.json({"error": {"message": "no"}}, status, retry_after="0")
    with pytest.raises(kind, match=": no"):
        encoder(server, retries=2).encode_texts(["pier"])
    assert len(server.asked) == tries


def test_a_busy_server_is_asked_again_when_it_says(server: ChatServer) -> None:
    def busy(exchange: Exchange) -> None:
        if exchange.number == 1:
            exchange.json({"error": {"message": "slow down"}}, 429, retry_after="0.2")
        else:
            embed(exchange)

    server.chat = busy
    begun = time.monotonic()
    assert encoder(server).encode_texts(["pier"]).shape == (1, DIMENSION)
    assert 0.2 <= time.monotonic() - begun < 5


def test_one_failure_ends_the_other_requests(server: ChatServer) -> None:
    def mixed(exchange: Exchange) -> None:
        if exchange.body["input"] == ["bad"]:
            exchange.json({"error": {"message": "no"}}, 400)
        else:
            hanging(exchange)

    server.chat = mixed
    with pytest.raises(GenerationError, match="HTTP 400"):
        encoder(server, batch_texts=1).encode_texts(["good", "bad", "good too"])
    assert server.hung_up.wait(5)


def test_a_server_that_does_not_answer(server: ChatServer) -> None:
    server.chat = hanging
    with pytest.raises(GenerationTimeoutError, match=r"did not answer within 0\.3 s"):
        encoder(server, timeout_s=0.3, model="tiny", window=100, tokenizer=WordTokenizer()).encode_texts(["pier"])


def test_a_server_that_is_down() -> None:
    made = OpenAIEmbeddings("http://127.0.0.1:9/v1", "tiny", retries=0)
    for ask in (lambda: made.encode_texts(["pier"]), lambda: made.dimension, lambda: made.fingerprint):
        with pytest.raises(ServerConnectionError, match=r"cannot reach http://127.0.0.1:9/v1 .*Is the server running"):
            ask()


def test_a_model_that_the_server_does_not_have(server: ChatServer) -> None:
    with pytest.raises(UnknownModelError, match="has no model 'huge'. It has: tiny"):
        encoder(server, model="huge").encode_texts(["pier"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_texts": 0}, "batch_texts is a number, 1 or more, not 0"),
        ({"concurrency": True}, "concurrency is a number"),
        ({"dimensions": -3}, "dimensions is a number"),
        ({"window": 1.5}, "window is a number"),
        ({"encoding": "hex"}, "encoding is 'base64' or 'float', not 'hex'"),
        ({"query_prefix": 3}, "query_prefix is a text"),
        ({"timeout_s": 0}, "timeout_s must be above 0"),
    ],
)
def test_arguments_of_no_use(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OpenAIEmbeddings("http://localhost:8000/v1", **options)


def test_an_address_that_is_none() -> None:
    with pytest.raises(InputError, match="base_url is an address"):
        OpenAIEmbeddings("localhost:8000")


def test_closing_twice(server: ChatServer) -> None:
    made = encoder(server)
    made.encode_texts(["pier"])
    made.close()
    made.close()
    assert made.encode_texts(["pier"]).shape == (1, DIMENSION)
