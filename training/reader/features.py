"""Windows as arrays: token ids and, for every token, the labels of the heads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from config import Config
from numpy.typing import NDArray

from carrel.tokens import FileTokenizer
from examples import Group, Window

CLS, SEP = 101, 102
IGNORED = -100
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """One window. ``keep`` is -1 where nothing is learnt; ``start`` and ``end`` are 0 (the CLS) for no answer."""

    ids: Ints  # (T,)
    types: Ints  # (T,): 0 for the question, 1 for the passage
    keep: Floats  # (T,)
    start: int
    end: int
    relevance: float  # -1: unknown
    answerable: float
    weight: float  # in learning when to abstain


@dataclass(frozen=True)
class Batch:
    """Windows one after another without padding, N tokens of B windows in G groups."""

    ids: Ints  # (N,)
    types: Ints  # (N,)
    lengths: Ints  # (B,)
    keep: Floats  # (N,)
    starts: Ints  # (B,) token of the window, IGNORED where unknown
    ends: Ints
    relevance: Floats  # (B,)
    answerable: Floats
    weights: Floats  # (B,)
    groups: Ints  # (B,)


class Featuriser:
    """Tokenises windows with the shipped tokenizer."""

    def __init__(self, tokenizer: FileTokenizer, config: Config) -> None:
        self.tokenizer, self.config = tokenizer, config

    def groups(self, groups: Sequence[Group]) -> list[list[Features]]:
        """All windows of all groups."""
        windows = [window for group in groups for window in group]
        encode = self.tokenizer.rust.encode_batch
        questions = encode([w.question for w in windows], add_special_tokens=False)
        prefixes = encode([w.prefix for w in windows], add_special_tokens=False)
        texts = encode([w.text for w in windows], add_special_tokens=False)
        rows = iter(
            self._features(window, q.ids[: self.config.question_tokens], p.ids[:48], t.ids, t.offsets)
            for window, q, p, t in zip(windows, questions, prefixes, texts, strict=True)
        )
        return [[next(rows) for _ in group] for group in groups]

    def _features(
        self, window: Window, question: list[int], prefix: list[int], text: list[int], offsets: list[tuple[int, int]]
    ) -> Features:
        first = 2 + len(question) + len(prefix)  # where the text starts
        room = self.config.window - first - 1
        starts = [start for start, _ in offsets]
        ends = [end for _, end in offsets]
        answer = _tokens(window.answer, starts, ends) if window.answer else None
        shift = 0
        if len(text) > room:  # show the part with the answer
            shift = 0 if answer is None or answer[1] < room else min(answer[0] - room // 3, len(text) - room)
        shown = text[shift : shift + room]
        ids = np.array([CLS, *question, SEP, *prefix, *shown, SEP], np.int64)
        keep = np.full(len(ids), -1, np.float32)
        keep[first : first + len(shown)] = -1 if window.keep is None else 0
        for span in window.keep or ():
            a, b = _tokens(span, starts, ends)
            keep[first + max(0, a - shift) : first + max(0, min(b + 1 - shift, len(shown)))] = 1
        start = end = IGNORED
        if window.span_known:
            start = end = 0
            if answer is not None:
                start, end = first + answer[0] - shift, first + answer[1] - shift
                if end >= len(ids) - 1:
                    start = end = IGNORED
        types = np.zeros(len(ids), np.int64)
        types[2 + len(question) :] = 1
        unknown = -1.0
        return Features(
            ids, types, keep, start, end,
            unknown if window.relevance is None else window.relevance,
            unknown if window.answerable is None else window.answerable,
            self.config.retrieved_weight if window.retrieved else 1.0,
        )  # fmt: skip


def _tokens(span: tuple[int, int], starts: list[int], ends: list[int]) -> tuple[int, int]:
    """First and last token of a character span."""
    first = min(max(0, bisect_left(ends, span[0] + 1)), len(starts) - 1)
    last = max(first, bisect_left(starts, span[1]) - 1)
    return first, last


def batches(groups: Sequence[list[Features]], batch_tokens: int) -> list[Batch]:
    """Whole groups in batches of about ``batch_tokens`` tokens, in the order given."""
    out: list[Batch] = []
    current: list[list[Features]] = []
    size = 0
    for group in groups:
        tokens = sum(len(f.ids) for f in group)
        if current and size + tokens > batch_tokens:
            out.append(_batch(current))
            current, size = [], 0
        current.append(group)
        size += tokens
    return [*out, _batch(current)] if current else out


def _batch(groups: Sequence[list[Features]]) -> Batch:
    rows = [features for group in groups for features in group]
    return Batch(
        np.concatenate([f.ids for f in rows]),
        np.concatenate([f.types for f in rows]),
        np.array([len(f.ids) for f in rows], np.int64),
        np.concatenate([f.keep for f in rows]),
        np.array([f.start for f in rows], np.int64),
        np.array([f.end for f in rows], np.int64),
        np.array([f.relevance for f in rows], np.float32),
        np.array([f.answerable for f in rows], np.float32),
        np.array([f.weight for f in rows], np.float32),
        np.array([index for index, group in enumerate(groups) for _ in group], np.int64),
    )
