"""ask with a language model behind a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.generation.extractive import ABSTENTION
from carrel.testing.chat_server import ChatServer, chat_server

WIND = "At what wind speed does the quay crane stop lifting today?"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for name in ("CARREL_SERVER", "CARREL_MODEL", "CARREL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with chat_server() as running:
        running.chat = lambda exchange: exchange.reply("It stops at 24 knots [1]. It is painted red [1].")
        yield running


def test_a_model_answers_and_its_marks_are_checked(run, filled: Path, server: ChatServer) -> None:
    done = run("ask", WIND, "--server", server.url, cwd=filled)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "It stops at 24 knots [1]. It is painted red [1]."
    assert any(line.startswith("[1] Notice 7 of 2024") for line in lines)
    assert "[1] does not bear this out: “It is painted red [1].”" in lines
    assert "quotations" in server.asked[0]["messages"][0]["content"]


def test_json_says_the_same(run, filled: Path, server: ChatServer) -> None:
    found = run("ask", WIND, "--server", server.url, "--json", cwd=filled).json
    assert found["answer"].startswith("It stops at 24 knots")
    assert [mark["sentence"] for mark in found["unsupported"]] == ["It is painted red [1]."]
    assert all("24 knots" in citation["quote"] for citation in found["citations"])
    assert found["usage"]["prompt_tokens"] == 21


def test_server_model_and_key_come_from_the_environment(run, filled: Path, server, monkeypatch) -> None:
    monkeypatch.setenv("CARREL_SERVER", server.url)
    monkeypatch.setenv("CARREL_MODEL", "tiny")
    monkeypatch.setenv("CARREL_API_KEY", "secret-123")
    done = run("ask", WIND, "--explain", cwd=filled)
    assert done.code == 0 and "secret" not in done.out + done.err
    assert "that the passage does not support" in done.out
    assert server.headers[0]["authorization"] == "Bearer secret-123"


def test_a_model_that_abstains_exits_with_3(run, filled: Path, server: ChatServer) -> None:
    server.chat = lambda exchange: exchange.reply(ABSTENTION)
    done = run("ask", WIND, "--server", server.url, cwd=filled)
    assert (done.code, done.out) == (3, f"{ABSTENTION}\n")


def test_what_goes_wrong_is_one_message(run, filled: Path, server: ChatServer) -> None:
    server.chat = lambda exchange: exchange.json({"error": {"message": "no such key"}}, 401)
    done = run("ask", WIND, "--server", server.url, cwd=filled)
    assert done.code == 1 and done.out == ""
    assert done.err.count("\n") == 1 and "refuses the key (HTTP 401): no such key" in done.err
    alone = run("ask", WIND, "--model", "tiny", cwd=filled)
    assert alone.code == 2 and "needs the address of its server" in alone.err
