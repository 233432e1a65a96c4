"""--encoder: a library of another encoder on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from carrel.testing.embedding_server import embedding_server
from carrel.tokens import model_folder
from tests.embeddings.model_folders import declare


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CARREL_ENCODER", "CARREL_ENCODER_API_KEY", "CARREL_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents, and a model beside them."""
    shutil.copy(model_folder("minilm") / "model.onnx", declare(tmp_path / "model", width=384))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "ferry.md").write_text("The ferry leaves at nine.", encoding="utf-8")
    (tmp_path / "docs" / "lamps.md").write_text("Lamps burn all night.", encoding="utf-8")
    return tmp_path


def test_every_command_that_embeds_takes_it(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("add", "docs", "--encoder", "model", cwd=folder).code == 0
    (folder / "docs" / "crane.md").write_text("The crane stops in high wind.", encoding="utf-8")
    assert run("sync", "docs", "--encoder", "model", "--dry-run", cwd=folder).code == 0
    assert run("sync", "docs", "--encoder", "model", cwd=folder).code == 0
    found = run("search", "When does the boat depart?", "--json", "--encoder", "model", cwd=folder)
    assert found.json["passages"][0]["text"] == "The ferry leaves at nine."
    monkeypatch.setenv("CARREL_ENCODER", "onnx:model")
    for command in (("ask", "When does the ferry leave?"), ("context", "ferry"), ("why", "docs/ferry.md", "ferry"),
                    ("flow", "iterative", "When does the ferry leave?"), ("doctor",)):  # fmt: skip
        done = run(*command, cwd=folder)
        assert (done.code, done.err) == (0, ""), (command, done)


def test_another_encoder_is_refused_until_reindex(run, folder: Path) -> None:
    run("add", "docs", cwd=folder)
    refused = run("search", "boat", "--encoder", "model", cwd=folder)
    assert refused.code == 4 and "was indexed with all-MiniLM-L6-v2" in refused.err and "carrel reindex" in refused.err
    done = run("reindex", "--encoder", "model", "--json", cwd=folder)
    assert done.code == 0 and done.json["encoder"] == "onnx model" and done.json["embedded"] == 2
    assert run("search", "boat", "--encoder", "model", cwd=folder).code == 0
    assert run("search", "boat", cwd=folder).code == 4


def test_doctor_says_what_the_encoder_is(run, folder: Path) -> None:
    run("add", "docs", "--encoder", "model", cwd=folder)
    checks = {
        check["name"]: check for check in run("doctor", "--json", "--encoder", "model", cwd=folder).json["checks"]
    }
    said = checks["encoder"]["message"]
    assert said.startswith("onnx model, 384 dimensions, window 64 tokens, any language, about ")
    assert " tokens/s in chunks of 64, fingerprint " in said


def test_a_server_with_its_key(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARREL_ENCODER_API_KEY", "secret-1")
    monkeypatch.setenv("CARREL_API_KEY", "secret-2")
    with embedding_server() as server:
        assert run("add", "docs", "--encoder", f"{server.url}#tiny", cwd=folder).code == 0
        found = run("search", "ferry", "--json", "--encoder", server.url, cwd=folder)
        assert found.json["passages"][0]["text"] == "The ferry leaves at nine."
    assert {headers["authorization"] for headers in server.headers} == {"Bearer secret-1"}
    down = run("doctor", "--encoder", f"{server.url}#tiny", cwd=folder)
    assert down.code == 4 and "Is the server running" in " ".join(down.out.split())


def test_a_text_that_names_none(run, folder: Path) -> None:
    done = run("add", "docs", "--encoder", "modle", cwd=folder)
    assert done.code == 2 and "cannot understand the encoder 'modle': it is no folder" in done.err
    assert not (folder / ".carrel").exists()
