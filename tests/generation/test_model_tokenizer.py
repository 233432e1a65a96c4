"""The tokenizer of a model, and chats as its template has them."""

from __future__ import annotations

from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")
from carrel.errors import ModelError  # noqa: E402
from carrel.generation.messages import Message  # noqa: E402
from carrel.generation.model_tokenizer import ModelTokenizer  # noqa: E402
from carrel.testing import TokenizerConformance  # noqa: E402
from carrel.tokens import FileTokenizer  # noqa: E402
from tests.slow.tiny_llama import make  # noqa: E402

pytestmark = pytest.mark.extras


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def tokenizer(folder: Path) -> ModelTokenizer:
    return ModelTokenizer(transformers.AutoTokenizer.from_pretrained(folder), "tiny")


class TestModelTokenizer(TokenizerConformance):
    @pytest.fixture(autouse=True)
    def _made(self, tokenizer: ModelTokenizer) -> None:
        self.tokenizer = tokenizer

    def make(self) -> ModelTokenizer:
        return self.tokenizer

    def test_it_counts_as_the_models_file_does(self, folder: Path) -> None:
        file = FileTokenizer(folder / "tokenizer.json")
        assert [self.tokenizer.count(text) for text in self.texts] == [file.count(text) for text in self.texts]


def test_a_chat_ends_where_the_reply_begins(tokenizer: ModelTokenizer) -> None:
    tokenizer.check_chat("tiny")
    ids = tokenizer.chat_ids([Message("system", "Be brief."), Message("user", "When?")])
    assert tokenizer.inner.decode(ids) == "<|system|>Be brief.</s><|user|>When?</s><|assistant|>"


def test_a_model_that_was_not_made_for_chats(tokenizer: ModelTokenizer) -> None:
    tokenizer.inner.chat_template = None
    with pytest.raises(ModelError, match="^a/model has no chat template: take a model that was made for chats$"):
        tokenizer.check_chat("a/model")
