"""What the embedder is trained further on: articles, their chunks, and the questions that one chunk of them answers.

Only the ``train`` folder is learnt from. Articles whose title or text is in a corpus that is reported on are left out,
and a slice of titles is held out to choose by: all paragraphs and passages of a title are on one side.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carrel.embeddings.base import Vectors
from carrel.embeddings.token_states import Ids, tokens_of
from carrel.retrieval.sentences import split_sentences
from carrel.tokens import FileTokenizer

SOURCES = ("squad2", "squad1", "nq_qed")
TELLING = 4  # letters of an answer that tell something
BEGINNING = 600  # characters of an article that say what it is about
BETWEEN = "\n\n"  # paragraphs of an article
Row = Mapping[str, Any]
Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class Question:
    """A question, the ids of its tokens, where in its article the answer begins, and the answers' texts."""

    text: str
    ids: Ids
    start: int
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Article:
    """Text in order, its tokens, and the questions asked about it; ``key`` names it in splits and batches."""

    key: str
    title: Ids
    text: str
    ids: Ids
    starts: Ids  # of the tokens, in characters
    sentences: tuple[int, ...]  # where they begin, in characters
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Window:
    """What one pass reads: tokens, the chunks among them, and questions with the chunk that answers each.

    ``spans`` (chunks, 2) are half-open token ranges of ``ids``, ``texts`` the words of the chunks; ``answers`` those
    of each question's answers. Both are in lower case.
    """

    key: str
    ids: Ids
    spans: list[tuple[int, int]]
    texts: list[str]
    questions: list[Ids]
    positives: list[int]
    answers: list[tuple[str, ...]]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a gzipped file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def key_of(row: Row) -> str:
    """The title, alike however it is written; of a row without one its text."""
    return " ".join(str(row.get("title") or row["context"]).replace("_", " ").casefold().split())


def letters(text: str) -> str:
    """What is left of a text to compare it by: spacing and punctuation differ between sources."""
    return "".join(filter(str.isalnum, text.casefold()))


class Reported:
    """The titles and texts of the corpora that figures are given of: nothing of them may be learnt."""

    def __init__(self, documents: Iterable[Row]) -> None:
        listed = list(documents)
        self.titles = {key_of({"title": row["title"]}) for row in listed if row["title"]}
        self.text = "\n".join(letters(row["text"]) for row in listed)

    def holds(self, row: Row) -> bool:
        """Whether the title of a row, or a stretch from within its text, is in a corpus."""
        text = letters(row["context"])
        part = text[20:90] if len(text) >= 90 else text
        return key_of(row) in self.titles or (part != "" and part in self.text)


def reported(data: Path) -> Reported:
    """All corpora in a folder of question sets."""
    return Reported(row for path in sorted(data.glob("*/corpus.jsonl.gz")) for row in rows_of(path))


def articles_of(rows: Sequence[Row], tokenizer: FileTokenizer) -> list[Article]:
    """Rows as articles: the contexts of a title one after the other, in the order they come in."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        if row["answerable"] and row["answers"]:
            grouped.setdefault(key_of(row), []).append(row)
    return [_article(key, group, tokenizer) for key, group in grouped.items()]


def _article(key: str, rows: Sequence[Row], tokenizer: FileTokenizer) -> Article:
    text, at = "", {}
    sentences: list[int] = []
    for row in rows:
        context = row["context"]
        if context in at:
            continue
        text += BETWEEN if text else ""
        at[context] = len(text)
        begun = row.get("sentence_starts") or [span.start for span in split_sentences(context)]
        sentences += [len(text) + start for start in begun]
        text += context
    questions = tuple(
        Question(
            row["question"],
            np.array(tokenizer.ids_many([row["question"]])[0], np.int64),
            at[row["context"]] + row["answers"][0]["start"],
            tuple(answer["text"] for answer in row["answers"]),
        )
        for row in rows
    )
    tokens = tokens_of(tokenizer, text)
    title = tokens_of(tokenizer, str(rows[0].get("title") or "").replace("_", " ")).ids
    return Article(key, title, text, tokens.ids, tokens.starts, tuple(sentences), questions)


def parted(articles: Sequence[Article], share: float) -> tuple[list[Article], list[Article]]:
    """Those to learn from and those held out: about ``share`` of the keys, at least one, told by their hashes."""

    def place(article: Article) -> str:
        return hashlib.blake2b(article.key.encode(), digest_size=8).hexdigest()

    ordered = sorted({(place(article), article.key) for article in articles})
    held = {key for _, key in ordered[: max(1, round(share * len(ordered)))]}
    return [a for a in articles if a.key not in held], [a for a in articles if a.key in held]


def load(data: Path, tokenizer: FileTokenizer, share: float) -> tuple[list[Article], list[Article]]:
    """Articles to learn from and held-out ones, of every source; what the corpora hold is in neither."""
    kept_apart = reported(data)
    learnt, held = [], []
    for source in SOURCES:
        rows = [row for row in rows_of(data / "train" / f"{source}.jsonl.gz") if not kept_apart.holds(row)]
        first, second = parted(articles_of(rows, tokenizer), share)
        learnt += first
        held += second
    keys = {article.key for article in held}
    return [article for article in learnt if article.key not in keys], held


def cut(article: Article, target: int) -> list[tuple[int, int]]:
    """Chunks of whole sentences, as near to ``target`` tokens as they come: token ranges that tile the article."""
    bounds = [int(np.searchsorted(article.starts, start)) for start in article.sentences]
    bounds = sorted({0, *bounds, len(article.ids)})
    chunks, begin = [], 0
    for stop, following in zip(bounds[1:], [*bounds[2:], None], strict=True):
        full = following is None or following - begin > target + (following - stop) // 2
        if stop > begin and full:
            chunks.append((begin, stop))
            begin = stop
    return chunks


def windows(length: int, room: int, first: int) -> Iterator[tuple[int, int]]:
    """Ranges of ``room`` tokens, the first of only ``first`` where the text is longer than a window."""
    if length <= room:
        yield 0, length
        return
    begin, stop = 0, first
    while begin < length:
        yield begin, min(length, stop)
        begin, stop = stop, stop + room


def sequences_of(
    article: Article, target: int, room: int, first: int, titled: bool, most: int | None, chance: random.Random
) -> list[Window]:
    """The passes over an article that have two chunks or more and a question.

    A chunk is of a window that holds half of it or more. ``titled``: the title stands before the first window, as it
    stands at the head of a page, in no chunk. ``most`` questions of a window are drawn.
    """
    found = []
    chunks = cut(article, target)
    for begin, stop in windows(len(article.ids), room, first):
        head = article.title[: room // 8] if titled and begin == 0 else article.title[:0]
        stop = min(stop, begin + room - len(head))
        spans, parts = [], []
        for low, high in chunks:
            inside = (max(low, begin), min(high, stop))
            if 2 * (inside[1] - inside[0]) >= high - low:
                spans.append((inside[0] - begin + len(head), inside[1] - begin + len(head)))
                parts.append(inside)
        asked = _asked(article, parts)
        if len(spans) < 2 or not asked:
            continue
        if most is not None and len(asked) > most:
            asked = chance.sample(asked, most)
        ids = np.concatenate([head, article.ids[begin:stop]])
        questions, positives = (list(column) for column in zip(*asked, strict=True))
        answers = [tuple(answer.casefold() for answer in question.answers) for question in questions]
        texts = [_words(article, part) for part in parts]
        found.append(Window(article.key, ids, spans, texts, [q.ids for q in questions], positives, answers))
    return found


def _asked(article: Article, parts: Sequence[tuple[int, int]]) -> list[tuple[Question, int]]:
    """The questions that one of these token ranges answers, and which."""
    found = []
    for question in article.questions:
        token = int(np.searchsorted(article.starts, question.start, side="right")) - 1
        place = next((i for i, (low, high) in enumerate(parts) if low <= token < high), None)
        if place is not None:
            found.append((question, place))
    return found


def _words(article: Article, part: tuple[int, int]) -> str:
    end = int(article.starts[part[1]]) if part[1] < len(article.starts) else len(article.text)
    return article.text[int(article.starts[part[0]]) : end].casefold()


def may_answer(windows: Sequence[Window]) -> list[frozenset[int]]:
    """Of each question the chunks of all windows that hold an answer's words without being the right chunk.

    They count neither for nor against. Answers of fewer than 4 letters are everywhere, and say nothing.
    """
    texts = [text for window in windows for text in window.texts]
    found = []
    before = 0
    for window in windows:
        for place, answers in zip(window.positives, window.answers, strict=True):
            words = [answer for answer in answers if len(answer) >= TELLING]
            holding = {index for index, text in enumerate(texts) if any(word in text for word in words)}
            found.append(frozenset(holding - {before + place}))
        before += len(window.spans)
    return found


def batches(
    windows: Sequence[Window], size: int, chance: random.Random, near: Mapping[str, Sequence[str]], group: int
) -> list[list[Window]]:
    """Batches of ``size`` in random order, no article twice in one; what is left over at the end is dropped.

    A window drawn at random brings windows of the articles most like its own (``near``), ``group`` together, so that
    a question has documents to be told from that are about nearly the same.
    """
    order = list(range(len(windows)))
    chance.shuffle(order)
    of: dict[str, list[int]] = {}
    for place in order:
        of.setdefault(windows[place].key, []).append(place)
    used: set[int] = set()
    out: list[list[Window]] = []
    while True:
        batch: dict[str, int] = {}
        for seed in order:
            if len(batch) == size:
                break
            if seed in used or windows[seed].key in batch:
                continue
            wanted = [windows[seed].key, *near.get(windows[seed].key, ())]
            _join(batch, seed, [key for key in wanted if key not in batch], of, used, min(group, size - len(batch)))
        if len(batch) < size:
            return out
        out.append([windows[place] for place in batch.values()])
        order = [place for place in order if place not in used]


def _join(
    batch: dict[str, int], seed: int, keys: Sequence[str], of: Mapping[str, list[int]], used: set[int], room: int
) -> None:
    """Put a window, and an unused one of each key after its own, into a batch, ``room`` of them at most."""
    for key in keys:
        place = seed if key == keys[0] else next((each for each in of.get(key, ()) if each not in used), None)
        if place is not None and room > 0:
            batch[key] = place
            used.add(place)
            room -= 1


def neighbours(articles: Sequence[Article], encode: Encode, count: int = 20) -> dict[str, list[str]]:
    """Of each article the keys of those most like it by the vectors of how their texts begin, the nearest first."""
    vectors = encode([article.text[:BEGINNING] for article in articles])  # (N, D)
    found = {}
    for start in range(0, len(articles), 1000):
        scores = vectors[start : start + 1000] @ vectors.T
        for row, article in zip(scores, articles[start : start + 1000], strict=True):
            best = np.argsort(-row, kind="stable")[: count + 1]
            found[article.key] = [articles[place].key for place in best if articles[place].key != article.key][:count]
    return found
