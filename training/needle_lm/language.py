"""The words of the model: entities, fields and values, words that say nothing, and a tokenizer made of them.

A text looks like this: ``bado age 41 . fiju city 07 . bado mother fiju . ? bado age = 41 </s>``.
A fact is an entity, a field, a value and a full stop; the key of the look-up is the entity with the field, so that
most facts of a context share one half of the key with others. A value is a number, or, for the fields in
``RELATIONS``, another entity, whose fields a question may go on to: ``? bado mother city = 07 </s>``.
"""

from __future__ import annotations

import json
from typing import Any

SYLLABLES = "ba do fi gu ka le mi no pu ra se ti vo zu he ju".split()
CONTROL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, BEGIN, END, UNKNOWN = range(4)
MARKS = (".", "?", "=", "again")
STOP, QUESTION, ANSWER, AGAIN = range(4, 8)
ATTRIBUTES = tuple("age city color food height job language music number price river year".split())
RELATIONS = tuple("boss friend mother teacher".split())
FIELDS = ATTRIBUTES + RELATIONS
VALUES = tuple(f"{number:02}" for number in range(100))
FILLER = tuple(
    "a about after all also an and any are as at be been before but by can could did even first for from had has have"
    " how if in into is it its just like made many may more most much must not now of on one only or other out over so"
    " some than that the then there these they this to up was were what when which will with".split()
)
ENTITIES = tuple(first + second for first in SYLLABLES for second in SYLLABLES)
VOCABULARY = (*CONTROL, *MARKS, *FIELDS, *VALUES, *FILLER, *ENTITIES)

FIRST_FIELD = len(CONTROL) + len(MARKS)
FIRST_VALUE = FIRST_FIELD + len(FIELDS)
FIRST_FILLER = FIRST_VALUE + len(VALUES)
FIRST_ENTITY = FIRST_FILLER + len(FILLER)
"""Token ids: each kind of word is a range that begins here."""

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %} = {{ message['content'] }} {{ eos_token }}"
    "{% else %} {{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %} ={% endif %}"
)
"""A conversation, rendered as the text that the model was trained on: the user writes facts and ``? entity field``."""


def tokenizer_json() -> str:
    """A word-level tokenizer: lower case, split at white space and around punctuation, ``<s>`` in front.

    The file is what `tokenizers` and transformers' PreTrainedTokenizerFast load; unknown words are ``<unk>``, which
    training has shown to the model as one of the words that say nothing.
    """
    begin = {"SpecialToken": {"id": CONTROL[BEGIN], "type_id": 0}}
    single = [begin, {"Sequence": {"id": "A", "type_id": 0}}]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for number, word in enumerate(CONTROL)
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BEGIN], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": {
            "type": "WordLevel", "vocab": {word: number for number, word in enumerate(VOCABULARY)},
            "unk_token": CONTROL[UNKNOWN],
        },
    }  # fmt: skip
    return json.dumps(content, indent=1) + "\n"


def tokenizer_config(window: int) -> dict[str, Any]:
    """What transformers and vLLM need beside the tokenizer itself."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": CONTROL[BEGIN], "eos_token": CONTROL[END], "pad_token": CONTROL[PAD],
        "unk_token": CONTROL[UNKNOWN], "chat_template": TEMPLATE, "model_max_length": window,
        "clean_up_tokenization_spaces": False, "add_bos_token": True,
    }  # fmt: skip


def words() -> dict[str, Any]:
    """The words by kind, for whoever writes texts in this language (language.json beside the model)."""
    return {
        "entities": ENTITIES, "attributes": ATTRIBUTES, "relations": RELATIONS, "values": VALUES, "filler": FILLER,
        "fact": "{entity} {field} {value} .", "question": "? {entity} {field} =",
        "two_hop_question": "? {entity} {relation} {attribute} =", "copy": "{words} again {words}",
    }  # fmt: skip


def text(ids: Any) -> str:
    """Token ids as text; the tokenizer reads it back to the same ids."""
    return " ".join(VOCABULARY[number] for number in ids)
