"""Vectors made in the background: none is lost, none of another encoder is used, failures are told."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.memory import background
from carrel.memory.embedding import embed
from carrel.memory.words import embedded_text
from carrel.testing import HashEncoder


class Held(HashEncoder):
    """Waits for a sign before it embeds."""

    def __init__(self) -> None:
        super().__init__(32)
        self.go = threading.Event()

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        assert self.go.wait(10)
        return super().encode_texts(texts)


class Failing(HashEncoder):
    """Fails so many times."""

    failures = 0

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("out of memory")
        return super().encode_texts(texts)


def vector_count(memory) -> int:
    with memory.stream.store.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM memory_vectors").scalar_one())


def test_nobody_waits_for_a_vector(make) -> None:
    encoder = Held()
    with make(encoder=encoder) as memory:
        memory.observe("My goat is called Zora.")
        assert memory.status().unembedded == 1
        assert not memory.flush(0.01)
        (found,) = memory._source.search("goat", encoder.encode_query("goat"), 5)
        assert (found.lexical > 0, np.isnan(found.dense)) == (True, True)
        encoder.go.set()
        assert memory.flush(10)
        (found,) = memory._source.search("goat", encoder.encode_query("goat"), 5)
        assert found.dense > 0.1


def test_each_vector_is_of_its_turn(make) -> None:
    with make() as memory:
        memory.observe_many([f"goat number {number}" for number in range(100)])
        memory.observe("I agree", speaker="Bob")
        assert memory.flush(10)
        turns = memory.turns()
        texts = [embedded_text(turn.speaker, turn.text) for turn in turns]
        expected = memory.stream.encoder.encode_texts(texts)
        assert np.array_equal(memory._source.vectors([turn.id for turn in turns]), expected)


def test_what_a_crash_left_is_embedded_by_whoever_opens_it(make) -> None:
    encoder = Held()
    memory = make(encoder=encoder)
    memory.observe_many([f"goat {number}" for number in range(50)])
    folder = memory.stream.store.folder
    with make(folder) as other:  # the first goes on holding its turns
        assert other.flush(10)
        assert other.status().unembedded == 0
    encoder.go.set()
    memory.close()
    with make(folder) as last:
        assert vector_count(last) == 50


def test_vectors_of_another_encoder_are_never_used(make) -> None:
    with make() as memory:
        memory.observe_many(["goat", "lamp"])
        assert memory.flush(10)
        folder = memory.stream.store.folder
    encoder = Held()
    encoder.seed = 1
    with make(folder, encoder=encoder) as memory:
        assert memory.status().unembedded == 2
        assert np.isnan(memory._source.vectors([1, 2])).all()
        encoder.go.set()
        assert memory.flush(10)
        assert np.array_equal(memory._source.vectors([1, 2]), encoder.encode_texts(["goat", "lamp"]))
        assert vector_count(memory) == 4  # the first encoder's are as up to date, and may be in use
        memory.observe("rope")
        assert memory.flush(10)
        assert vector_count(memory) == 3


def test_a_failure_is_told_and_tried_again(make, monkeypatch) -> None:
    monkeypatch.setattr(background, "_TRIES_AFTER_S", (0.01, 0.01))
    encoder = Failing(32)
    with make(encoder=encoder) as memory:
        encoder.failures = 1
        memory.observe("goat")
        assert memory.flush(10)
        assert memory.status().failure == ""
        encoder.failures = 100
        memory.observe("lamp")
        assert not memory.flush(10)
        assert memory.status().failure == "RuntimeError: out of memory"
        assert memory.recall("lamp").tokens > 0
        encoder.failures = 0
        assert memory.flush(10)
        assert memory.status().failure == ""


class Choosy(HashEncoder):
    """Cannot embed one word."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        if any("poison" in text for text in texts):
            raise RuntimeError("no such token")
        return super().encode_texts(texts)


def test_a_text_that_cannot_be_embedded_holds_up_no_other(make, monkeypatch) -> None:
    monkeypatch.setattr(background, "_TRIES_AFTER_S", (0.01, 0.01))
    with make(encoder=Choosy(32)) as memory:
        for text in ("goat", "A poison here.", "lamp", "Poison? poison!", "rope"):
            memory.observe(text)
        assert memory.flush(10) and memory.status().unembedded == 0
        failure = memory.status().failure
        assert "2 turns could not be embedded" in failure and "turn 2: no such token" in failure
        assert memory.status().refused == 2
        assert "A poison here." in memory.in_session("new").recall("What was here?").text  # by its words
        vectors = memory._source.vectors([1, 2, 3])
        assert np.isnan(vectors[1]).all() and vectors[0].any() and vectors[2].any()
        memory.observe("boat")
        assert memory.flush(10) and memory._source.vectors([6]).any()
        memory.forget(matching="a poison")
        assert memory.status().refused == 1 and "turn 2" not in memory.status().failure
        memory.forget(user=True)
        assert memory.status().failure == ""


def test_what_failed_once_is_tried_again_by_whoever_opens_it(make, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(background, "_TRIES_AFTER_S", (0.01, 0.01))
    with make(tmp_path, encoder=Choosy(32)) as memory:
        memory.observe_many(["goat", "A poison here.", "lamp"])
        assert memory.flush(10) and memory.status().refused == 1
    with make(tmp_path, encoder=Choosy(32)) as memory:  # and another process knows of it
        assert memory.status().refused == 1 and "1 turn could not be embedded" in memory.status().failure
    with make(tmp_path) as memory:  # the same model, which can by now
        assert memory.status().refused == 1
        assert memory.flush(10) and memory.status().refused == 0
        assert memory._source.vectors([1, 2, 3]).any(axis=1).all()


class Flaky(HashEncoder):
    """Fails now and then, or cannot be reached."""

    fails: Iterator[Exception | None] = iter(())

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        if (failure := next(self.fails, None)) is not None:
            raise failure
        return super().encode_texts(texts)


def test_what_may_pass_gives_up_no_turn(make, monkeypatch) -> None:
    monkeypatch.setattr(background, "_TRIES_AFTER_S", (0.01, 0.01))
    encoder = Flaky(32)
    with make(encoder=encoder) as memory:
        encoder.fails = iter([RuntimeError("busy")] * 4)  # of the batch twice, of the turn twice
        memory.observe("goat")
        assert memory.flush(10) and memory._source.vectors([1]).any() and not memory.status().refused
        encoder.fails = itertools.repeat(TimeoutError("no answer"))
        memory.observe("lamp")
        assert not memory.flush(10) and memory.status().unembedded == 1 and not memory.status().refused
        encoder.fails = iter(())
        assert memory.flush(10) and memory._source.vectors([2]).any()


def test_where_the_encoder_fails_no_text_is_given_up(make, monkeypatch) -> None:
    monkeypatch.setattr(background, "_TRIES_AFTER_S", (0.01, 0.01))
    encoder = Failing(32)
    with make(encoder=encoder) as memory:
        encoder.failures = 100
        for text in ("goat", "lamp", "rope"):
            memory.observe(text)
        assert not memory.flush(10) and memory.status().unembedded == 3
        encoder.failures = 0
        memory.observe("boat")
        assert memory.flush(10) and memory._source.vectors([1, 2, 3, 4]).any(axis=1).all()


def test_vectors_of_the_wrong_shape_are_refused(make) -> None:
    class Short(HashEncoder):
        def encode_texts(self, texts: Sequence[str]) -> Vectors:
            return super().encode_texts(texts)[:, :5]

    with make() as memory:
        turn = memory.observe("goat")
        with pytest.raises(Exception, match=r"shape \(1, 5\) for 1 texts"):
            embed(Short(32), [turn])


def test_an_encoder_of_documents_is_given_each_turn_as_one(make) -> None:
    class Documents(ChunkEncoder):
        """Two vectors a chunk."""

        name, dimension, window, max_chunk_tokens = "documents", 2, 512, 512
        fingerprint, tokenizer = "documents", HashEncoder().tokenizer

        def encode(self, document, chunks):
            assert [chunk.text for chunk in chunks] == [document.text]
            return [np.array([[1, 0], [0, 1]], np.float32)]

        def encode_queries(self, questions):
            return np.tile(np.array([[1, 0]], np.float32), (len(questions), 1))

    with make(encoder=Documents()) as memory:
        memory.observe("goat")
        assert memory.flush(10)
        assert memory._source.vectors([1]) == pytest.approx(np.full((1, 2), 0.5**0.5), abs=1e-6)
        assert memory.recall("goat").tokens > 0


def test_closing_ends_the_thread_and_what_is_left_comes_later(make) -> None:
    with make() as memory:
        memory.observe_many([f"goat {number}" for number in range(300)])
        folder, embedder = memory.stream.store.folder, memory.stream.embedder
    assert embedder._thread is None
    with make(folder) as memory:
        assert memory.flush(20)
        assert vector_count(memory) == 300
