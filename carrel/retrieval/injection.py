"""Noticing passages that read like orders to a model. They stay data; the ledger points at them."""

from __future__ import annotations

import re

_ORDERS = r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instructions?|prompts?|rules|context)\b"
_ROLES = r"\byou are (?:now|no longer)\b.{0,60}\b(?:assistant|ai|model|bot|unrestricted|developer)\b"
_ANSWERS = r"\b(?:respond|reply|answer) (?:only )?with\b.{0,40}[\"“'].{0,80}(?:regardless|always)"
_ADDRESSES = r"\b(?:to|attention|note to|dear) (?:the )?(?:ai|llm|language model|assistant|chatbot)\b\s*[:,]"
_PATTERNS = {
    "asks to ignore instructions": _ORDERS,
    "speaks of the system prompt": r"\b(?:reveal|print|repeat|show|output)\b.{0,40}\bsystem (?:prompt|message)\b",
    "gives the model a new role": _ROLES,
    "imitates chat markup": r"<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|\[/?INST\]|<</?SYS>>",
    "imitates a turn of the conversation": r"(?m)^\s*(?:###\s*)?(?:system|assistant)\s*:\s",
    "tells the model what to say": _ANSWERS,
    "addresses the model": _ADDRESSES,
}
_COMPILED = {reason: re.compile(pattern, re.IGNORECASE | re.DOTALL) for reason, pattern in _PATTERNS.items()}


# A text without any of these can match none of the patterns: most are passed over at the cost of a search.
_TELLING = (
    *("instruction", "prompt", "rule", "context", "message", "you are n", "<|", "inst]", "<<", "assistant", "system"),
    *("respond", "reply", "answer", "llm", "language model", "chatbot", "ai:", "ai,", "ai "),
)


def suspicion(text: str) -> str | None:
    """What makes a text look like an instruction to a model, or None."""
    lowered = text.lower()
    if not any(word in lowered for word in _TELLING):
        return None
    for reason, pattern in _COMPILED.items():
        if pattern.search(text):
            return reason
    return None
