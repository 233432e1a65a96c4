"""A tiny random model in a folder, with a word-level tokenizer and the words that it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

WORDS = {
    "entities": "bado fiju guka leza miti nopu rase sevo".split(),
    "attributes": "age city river year".split(),
    "relations": "boss mother".split(),
    "values": [f"{number:02}" for number in range(20)],
    "filler": "a about after all also and".split(),
    "fact": "{entity} {field} {value} .",
    "question": "? {entity} {field} =",
    "two_hop_question": "? {entity} {relation} {attribute} =",
}
LISTS = ("entities", "attributes", "relations", "values", "filler")
CHAT = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def word_tokenizer() -> Any:
    """Of single words, ``<s>`` in front."""
    words = ["<unk>", "<s>", "</s>", ".", "?", "=", *(word for name in LISTS for word in WORDS[name])]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def letter_tokenizer(template: str | None = CHAT) -> Any:
    """Of single characters, with a chat template."""
    marks = ["<unk>", "<s>", "</s>", "\n", *(chr(32 + number) for number in range(95))]
    inner = Tokenizer(models.WordLevel({mark: number for number, mark in enumerate(marks)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer


def save(folder: Path, tokenizer: Any, *, words: bool = True, window: int = 1024) -> Path:
    """A random model of two layers, wild enough that what it says depends on what it has read."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=window, initializer_range=0.25, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if words:
        (folder / "language.json").write_text(json.dumps(WORDS), encoding="utf-8")
    return folder
