"""Models from what is on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from transformers.utils import logging  # noqa: E402

from carrel.errors import ModelError  # noqa: E402
from carrel.generation.kv import loading  # noqa: E402
from carrel.generation.kv.loading import load_model  # noqa: E402
from tests.generation.kv.needle_cases import letter_tokenizer, save, word_tokenizer  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "tiny", word_tokenizer())


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder(folder: Path, kind: Any) -> None:
    model, tokenizer = load_model(kind(folder), device="cpu", dtype="bfloat16")
    assert (model.device.type, model.dtype, model.training) == ("cpu", torch.bfloat16, False)
    assert len(tokenizer("", add_special_tokens=False)["input_ids"]) == 0


def test_a_tokenizer_of_its_own(folder: Path, tmp_path: Path) -> None:
    given = letter_tokenizer()
    assert load_model(folder, device="cpu", tokenizer=given)[1] is given
    given.save_pretrained(tmp_path)
    for place in (tmp_path, str(tmp_path)):
        _, found = load_model(folder, device="cpu", tokenizer=place)
        assert found.get_vocab() == given.get_vocab()


def test_nothing_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for kind in (loading.AutoModelForCausalLM, loading.AutoTokenizer):
        load = kind.from_pretrained

        def noted(*names: Any, load: Any = load, **options: Any) -> Any:
            asked.append(options["local_files_only"])
            return load(*names, **options)

        monkeypatch.setattr(kind, "from_pretrained", noted)
    load_model(folder, device="cpu")
    assert asked == [True, True]


@pytest.mark.parametrize("source", ["nobody/no-such-model", "/no/such/folder"])
def test_what_is_not_there_is_an_error(source: str) -> None:
    with pytest.raises(ModelError, match=f"cannot load {source}: OSError"):
        load_model(source, device="cpu")


def test_a_tokenizer_that_is_not_there_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load"):
        load_model(folder, device="cpu", tokenizer=tmp_path)


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("quiet", [True, False])
def test_the_bar_is_as_it_was_afterwards(
    folder: Path, monkeypatch: pytest.MonkeyPatch, shown: bool, quiet: bool
) -> None:
    had, seen = logging.is_progress_bar_enabled(), []
    load = loading.AutoModelForCausalLM.from_pretrained

    def noted(*names: Any, **options: Any) -> Any:
        seen.append(logging.is_progress_bar_enabled())
        return load(*names, **options)

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", noted)
    try:
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
        load_model(folder, device="cpu", quiet=quiet)
        assert seen == [shown and not quiet]
        assert logging.is_progress_bar_enabled() == shown
        with pytest.raises(ModelError):
            load_model("/no/such/folder", quiet=quiet)
        assert logging.is_progress_bar_enabled() == shown
    finally:
        (logging.enable_progress_bar if had else logging.disable_progress_bar)()


def test_weights_that_are_not_there_are_an_error(folder: Path, tmp_path: Path) -> None:
    """The library would draw them at random, and the model would answer."""
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    name = next(key for key in weights if "q_proj" in key)
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"lacks weights, which would be random: {name}"):
        load_model(tmp_path, device="cpu")
