"""The tokenizer that comes with a model in the format of the transformers library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carrel.errors import ModelError
from carrel.generation.messages import Message
from carrel.tokens import truncated

PLACEHOLDERS = ("A", "7")  # two questions with nothing in common, to see where a chat's stable part ends


class ModelTokenizer:
    """A tokenizer of the transformers library (a fast one) as Carrel's; it renders chats, too."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.inner, self.name = tokenizer, name

    def count(self, text: str) -> int:
        return len(self.inner(text, add_special_tokens=False)["input_ids"])

    def offsets(self, text: str) -> list[tuple[int, int]]:
        found = self.inner(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return [(int(start), int(end)) for start, end in found]

    def truncate(self, text: str, limit: int) -> str:
        return truncated(self, text, limit)

    def check_chat(self, model: str) -> None:
        """Raise ModelError, which names the model, where it has no chat template."""
        if not getattr(self.inner, "chat_template", None):
            raise ModelError(f"{model} has no chat template: take a model that was made for chats")

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a chat by the model's template, up to where the reply begins."""
        ids: list[int] = self.inner.apply_chat_template(
            [message.as_dict() for message in messages], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return ids
