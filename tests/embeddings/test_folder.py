"""What a model's folder says of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from carrel.embeddings.folder import ModelFolder
from carrel.embeddings.instructions import E5
from carrel.errors import ModelError
from tests.embeddings.model_folders import declare, put


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"])
def test_the_declared_pooling(tmp_path: Path, mode: str) -> None:
    assert ModelFolder(declare(tmp_path, mode)).pooling == (mode,)
    put(tmp_path / "1_Pooling" / "config.json", {"embedding_dimension": 4, "pooling_mode": mode})
    assert ModelFolder(tmp_path).pooling == (mode,)
    put(tmp_path / "1_Pooling" / "config.json", {"pooling_mode": ["cls", mode]})
    assert ModelFolder(tmp_path).pooling == ("cls", mode)


def test_nothing_is_declared(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    assert (folder.modules, folder.pooling, folder.pools_prompts, folder.window) == ([], (), True, None)
    assert folder.languages == frozenset() and folder.prompts.parts == ("", "", "", "") and folder.transformer == ""


def test_prompts_and_whether_they_count(tmp_path: Path) -> None:
    declare(tmp_path, prompts={"query": "query: ", "passage": "passage: "}, include_prompt=False)
    assert ModelFolder(tmp_path).prompts == E5 and not ModelFolder(tmp_path).pools_prompts


def test_modules_come_in_their_order(tmp_path: Path) -> None:
    rows = [{"idx": 1, "type": "a.b.Pooling", "path": "1_Pooling"}, {"idx": 0, "type": "Transformer", "path": "0_T"}]
    put(tmp_path / "modules.json", rows)
    assert ModelFolder(tmp_path).modules == [("Transformer", "0_T"), ("Pooling", "1_Pooling")]
    assert ModelFolder(tmp_path).transformer == "0_T"


@pytest.mark.parametrize(
    ("declared_length", "config", "of_tokenizer", "window"),
    [
        (256, {"max_position_embeddings": 512}, 512, 256),
        (1024, {"max_position_embeddings": 512}, None, 512),
        (None, {"max_position_embeddings": 512}, 10**30, 512),
        (None, {"max_position_embeddings": 40960}, 8192, 8192),
        (None, {"max_position_embeddings": 514, "model_type": "xlm-roberta", "pad_token_id": 1}, None, 512),
        (None, {}, 512, 512),
        (None, {}, 1e30, None),
        (True, {"max_position_embeddings": 0}, "512", None),
    ],
)
def test_the_window(
    tmp_path: Path, declared_length: Any, config: dict[str, Any], of_tokenizer: Any, window: int | None
) -> None:
    put(tmp_path / "sentence_bert_config.json", {"max_seq_length": declared_length})
    put(tmp_path / "config.json", config)
    put(tmp_path / "tokenizer_config.json", {"model_max_length": of_tokenizer})
    assert ModelFolder(tmp_path).window == window


@pytest.mark.parametrize(
    ("card", "languages"),
    [
        ("---\nlanguage: en\nlicense: mit\n---\n", {"English"}),
        ("---\nlicense: mit\nlanguage:\n- en\ntags:\n- x\n---\n", {"English"}),
        ("---\nlanguage:\n- en\n- zh\n---\n", set()),
        ("---\nlanguage: multilingual\n---\n", set()),
        ("---\nlicense: mit\n---\nlanguage: en\n", set()),
        ("language: en\n", set()),
        ("---\nlanguage: 'de'\n---\n", {"German"}),
        ("---\nlanguage: xx\n---\n", set()),
        ("", set()),
    ],
)
def test_the_language_of_the_card(tmp_path: Path, card: str, languages: set[str]) -> None:
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert ModelFolder(tmp_path).languages == languages


def test_fingerprints_are_of_names_and_contents(tmp_path: Path) -> None:
    folder = ModelFolder(declare(tmp_path / "one"))
    other = ModelFolder(declare(tmp_path / "two"))
    assert folder.fingerprint(folder.declarations()) == other.fingerprint(other.declarations())
    put(other.path / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    assert folder.fingerprint(folder.declarations()) != other.fingerprint(other.declarations())
    weights = folder.path / "model.safetensors"
    weights.write_bytes(b"1234")
    before = folder.fingerprint([weights])
    weights.write_bytes(b"1235")
    os.utime(weights, ns=(1, 1))
    assert folder.fingerprint([weights]) != before
    weights.unlink()
    with pytest.raises(ModelError, match="cannot read"):
        folder.fingerprint([weights])


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", b"{"), ("config.json", b"[]"), ("modules.json", b"{}x"), ("modules.json", b"[3]"),
     ("config.json", b"\xff\xfe")],
)  # fmt: skip
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="Get the model's files anew"):
        _ = (ModelFolder(tmp_path).window, ModelFolder(tmp_path).modules)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder .*missing. Name the folder"):
        ModelFolder(tmp_path / "missing")
