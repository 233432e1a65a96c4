"""Sentences that share the words of a question and do not answer it: its repetitions, and code."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from carrel.retrieval.indexes.lexical import STOPWORDS
from carrel.types import Span

_WORDS = re.compile(r"\w+")
_SAYINGS = re.compile(r"\"([^\"\n]{1,400})\"|“([^”\n]{1,400})”|'([^'\n]{1,400})'|([^.!?\"“”]{1,400}\?)")
_CALL = re.compile(r"[\w)\]]\s?[(\[=]\s?$|[=,(\[{]\s?$")  # what stands before an argument
_FENCE = re.compile(r"^[ \t]{0,3}(?:```+|~~~+)[ \t]*(\S?)[^\n]*(?:\n|\Z)", re.MULTILINE)
_CODE = re.compile(r"`|\w\(|\w_\w|\w\.\w+\(|[{}]|==|::")
_NEARLY = 0.75  # share of the question's telling words, in their order, that make a repetition of it


def is_echo(question: str, sentence: str, *, is_code: bool = False) -> bool:
    """Whether the sentence repeats the question, whole or nearly, and has nothing of its own to say around it.

    What nearly repeats it is a quoted text or a question. Words around it are its own, unless they are code.
    """
    if plain(question) in plain(sentence):
        return True
    asked = _telling(question)
    for match in _SAYINGS.finditer(sentence):
        said = _telling(match[match.lastindex or 0])
        in_order = SequenceMatcher(None, asked, said, autojunk=False).get_matching_blocks()
        if sum(block.size for block in in_order) < _NEARLY * len(asked):
            continue
        if not match[0].rstrip("\"'”").endswith("?") and set(said) - set(asked):
            continue
        before, after = sentence[: match.start()], sentence[match.end() :]
        if is_code or _CALL.search(before) or not set(_telling(f"{before} {after}")) - set(asked):
            return True
    return False


def code_spans(text: str) -> list[Span]:
    """Where the fenced code of a Markdown text is. A text may begin or end within a fence."""
    fences = list(_FENCE.finditer(text))
    if not fences:
        return []
    # Only the line that opens a fence says a language.
    starts_inside = any(fence[1] for fence in fences[1::2]) and not any(fence[1] for fence in fences[::2])
    bounds = [0] if starts_inside else []
    for fence in fences:
        bounds.append(fence.end() if len(bounds) % 2 else fence.start())
    bounds += [len(text)] * (len(bounds) % 2)
    return [Span(start, end) for start, end in zip(bounds[::2], bounds[1::2], strict=True)]


def asks_for_code(question: str) -> bool:
    """Whether the question has code in it, so that an answer may well be code."""
    return _CODE.search(question) is not None


def plain(text: str) -> str:
    """The words alone, set off by spaces."""
    return f" {' '.join(_WORDS.findall(text.lower()))} "


def _telling(text: str) -> list[str]:
    words: list[str] = _WORDS.findall(text.lower())
    return [word for word in words if word not in STOPWORDS]
