"""True and false answers made from labelled questions by rules that share no code with the verifier.

True: the sentence that holds the answer, light paraphrases of it, a declarative sentence built from question and
answer, the bare answer. False: the same with a number, a date or a name exchanged (for one of the same passage or one
from elsewhere), negated, or the answer of another question. Every case has the gold passage among three others.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verification_declaratives import declarative

from carrel.retrieval.sentences import split_sentences
from carrel.types import Passage

DISTRACTORS = 3
NUMBER = re.compile(r"(?<![\w.,$€£])\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|[.,]\d| ?- ?\d)")
NAME = re.compile(r"(?<![.!?:\"“(`'] )(?<!^)\b[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,}){0,2}\b")
DATE = re.compile(
    r"\b(January|February|March|April|May|June|July|August|September|October|November|December) (\d{1,2})\b(?!,?\d)"
)
MONTHS = "January February March April May June July August September October November December".split()
NOT_NAMES = frozenset(MONTHS) | frozenset(
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday The This That These Those There His Her Its Their However"
    " Although While When Since During After Before Many Most Some Because".split()
)
SMALL_LETTERED = frozenset("the it this he she they in these its".split())
SMALL = "zero one two three four five six seven eight nine ten eleven twelve".split()
AUXILIARY = re.compile(r"\b(is|are|was|were|can|could|will|would|has|have|had|did|does|do|should|must)\b(?! not)")


@dataclass(frozen=True)
class Case:
    """One answer to judge. ``kind`` names how it was made, ``hard`` whether what was put in stands in the passage."""

    id: str
    kind: str
    is_true: bool
    answer: str
    question: str
    passages: tuple[Passage, ...]
    hard: bool = False


@dataclass(frozen=True)
class Item:
    id: str
    title: str
    question: str
    context: str
    answers: tuple[str, ...]
    sentence: str  # the one that holds the first answer


def load_items(path: Path) -> list[Item]:
    """The answerable questions of a file whose answer lies within one sentence."""
    items = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            if row["answerable"] and row["answers"] and _is_whole(row["context"], **row["answers"][0]):
                first = row["answers"][0]
                spans = split_sentences(row["context"])
                held = [s for s in spans if s.start <= first["start"] and first["start"] + len(first["text"]) <= s.end]
                if held:
                    sentence = row["context"][held[0].start : held[0].end].strip()
                    title = row.get("title", "").replace("_", " ")
                    texts = tuple(answer["text"] for answer in row["answers"])
                    items.append(Item(row["id"], title, row["question"], row["context"], texts, sentence))
    return items


def _is_whole(context: str, text: str, start: int) -> bool:
    """Whether the answer is not cut off within a word."""
    before, after = context[:start][-1:], context[start + len(text) :][:1]
    return not (before.isalnum() and text[0].isalnum()) and not (after.isalnum() and text[-1].isalnum())


def cases_of(items: Sequence[Item], limit: int | None, seed: int = 0) -> Iterator[Case]:
    """Every case of up to ``limit`` items, drawn by the seed; the same items always give the same cases."""
    order = sorted(items, key=lambda item: item.id)
    random.Random(seed).shuffle(order)
    names = sorted({name for item in order for name in names_in(item.context)})
    for item in order[:limit]:
        rng = random.Random(f"{seed}/{item.id}")
        yield from _ItemCases(item, order, names, rng).cases()


class _ItemCases:
    def __init__(self, item: Item, items: Sequence[Item], names: Sequence[str], rng: random.Random) -> None:
        self.item, self.items, self.names, self.rng = item, items, names, rng
        others = [i for i in (rng.choice(items) for _ in range(60)) if i.context != item.context]
        near = [i for i in others if i.title and i.title == item.title][:2]
        chosen = {i.context: i for i in [item, *near, *others]}
        contexts = [item, *[i for i in chosen.values() if i is not item][:DISTRACTORS]]
        rng.shuffle(contexts)
        self.passages = tuple(Passage(f"d{i.id}", 0, len(i.context), i.context, title=i.title) for i in contexts)
        self.number = contexts.index(item) + 1
        self.far = next((i for i in others if i.context not in {c.context for c in contexts}), None)
        self.answer = item.answers[0].strip(" ,.;:")

    def case(self, kind: str, is_true: bool, answer: str, hard: bool = False) -> Case:
        mark = f" [{self.number}]" if self.rng.random() < 0.3 else ""
        return Case(f"{self.item.id}/{kind}", kind, is_true, answer + mark, self.item.question, self.passages, hard)

    def cases(self) -> Iterator[Case]:
        sentence = self.item.sentence
        made = declarative(self.item.question, self.answer)
        yield self.case("verbatim", True, sentence)
        texts = {"verbatim": sentence}
        for kind, change in PARAPHRASES.items():
            if changed := change(sentence, self.item):
                yield self.case(kind, True, changed)
                texts.setdefault("paraphrase", changed)
        if made:
            yield self.case("declarative", True, made)
            texts["declarative"] = made
        if len(self.answer.split()) <= 8:
            yield self.case("bare", True, self.answer)
            yield from self._swapped_bare()
        for form, text in texts.items():
            yield from self._swapped(form, text)
        yield from self._negated(texts)
        yield from self._other()

    def _swapped(self, form: str, text: str) -> Iterator[Case]:
        """The text with one number, date and name exchanged; in a declarative, within the answer."""
        low = text.rindex(self.answer) if form == "declarative" and self.answer in text else 0
        high = low + len(self.answer) if low or form == "declarative" else len(text)
        for what, find, rivals in (
            ("number", NUMBER, self._rival_numbers),
            ("name", NAME, self._rival_names),
            ("date", DATE, self._rival_dates),
        ):
            found = [m for m in find.finditer(text) if low <= m.start() and m.end() <= high]
            found = [m for m in found if not set(m.group().split()) & NOT_NAMES or what == "date"]
            if not found:
                continue
            match = self.rng.choice(found)
            for rival, hard in rivals(match.group(), text):
                changed = text[: match.start()] + rival + text[match.end() :]
                yield self.case(f"{form} {what} {'near' if hard else 'far'}", False, changed, hard)

    def _swapped_bare(self) -> Iterator[Case]:
        answer = self.answer
        gold = " ".join(self.item.answers)
        for what, find, rivals in (("number", NUMBER, self._rival_numbers), ("name", NAME, self._rival_names)):
            match = find.search(f" {answer}") if what == "name" else find.search(answer)
            if match is None or (what == "name" and f" {answer}" != f" {match.group()}"):
                continue
            shift = 1 if what == "name" else 0
            for rival, hard in rivals(match.group(), gold):
                changed = answer[: match.start() - shift] + rival + answer[match.end() - shift :]
                yield self.case(f"bare {what} {'near' if hard else 'far'}", False, changed, hard)

    def _rival_numbers(self, value: str, text: str) -> Iterator[tuple[str, bool]]:
        number = float(value.replace(",", ""))
        taken = {float(m.group().replace(",", "")) for m in NUMBER.finditer(text)}
        around = {m.group(): float(m.group().replace(",", "")) for m in NUMBER.finditer(self.item.context)}
        near = sorted(t for t, v in around.items() if v not in taken and _is_year(v) == _is_year(number))
        if near:
            yield self.rng.choice(near), True
        everywhere = {m.group() for p in self.passages for m in NUMBER.finditer(p.text)}
        for _ in range(20):
            step = self.rng.randint(1, 30) * self.rng.choice((-1, 1))
            other = number + step if _is_year(number) else abs(number + max(1, abs(step) * number // 20) or step)
            written = f"{other:,.0f}" if "," in value else f"{other:g}" if "." in value else f"{other:.0f}"
            if written not in everywhere and other != number:
                yield written, False
                return

    def _rival_names(self, value: str, text: str) -> Iterator[tuple[str, bool]]:
        taken = set(text.lower().split()) | set(value.lower().split()) | set(self.item.question.lower().split())
        taken |= {word for answer in self.item.answers for word in answer.lower().split()}
        near = [n for n in names_in(self.item.context) if not set(n.lower().split()) & taken]
        if near:
            yield self.rng.choice(sorted(set(near))), True
        everywhere = " ".join(p.text for p in self.passages).lower()
        for _ in range(50):
            name = self.rng.choice(self.names)
            if not any(word in everywhere for word in name.lower().split()):
                yield name, False
                return

    def _rival_dates(self, value: str, text: str) -> Iterator[tuple[str, bool]]:
        month, day = value.split()
        rival = f"{self.rng.choice([m for m in MONTHS if m != month])} {day}"
        if self.rng.random() < 0.5:
            rival = f"{month} {self.rng.choice([d for d in range(1, 29) if d != int(day)])}"
        if rival not in self.item.context:
            yield rival, False

    def _negated(self, texts: dict[str, str]) -> Iterator[Case]:
        for form in ("verbatim", "declarative"):
            match = AUXILIARY.search(texts.get(form, ""))
            if match and not re.search(r"\b(?:not|no|never|none|nor|neither|without|n.t)\b", texts[form]):
                text = texts[form]
                yield self.case(f"{form} negated", False, f"{text[: match.end()]} not{text[match.end() :]}")

    def _other(self) -> Iterator[Case]:
        """Answers of other questions: on other passages, and, bare, on this one."""
        if self.far is None:
            return
        yield self.case("other verbatim", False, self.far.sentence)
        answer = self.far.answers[0].strip(" ,.;:")
        if made := declarative(self.far.question, answer):
            yield self.case("other declarative", False, made)
        if len(answer.split()) <= 8 and not _shares(answer, self.item.answers):
            yield self.case("other bare", False, answer)
        same = [i for i in self.items if i.context == self.item.context and i.question != self.item.question]
        same = [i for i in same if not _shares(i.answers[0], self.item.answers) and len(i.answers[0].split()) <= 8]
        if same:
            yield self.case("other bare, same passage", False, self.rng.choice(same).answers[0].strip(" ,.;:"), True)


def names_in(text: str) -> list[str]:
    """Capitalised runs within sentences."""
    return [m.group() for m in NAME.finditer(text) if not set(m.group().split()) & NOT_NAMES]


def _shares(answer: str, others: Sequence[str]) -> bool:
    words = set(re.findall(r"\w+", answer.lower())) - {"the", "a", "an", "of", "in", "and"}
    return any(words & set(re.findall(r"\w+", other.lower())) for other in others)


def _is_year(value: float) -> bool:
    return 1000 <= value <= 2100 and value == int(value)


# -- light paraphrases ------------------------------------------------------------------------------


def _shortened(sentence: str, item: Item) -> str | None:
    """Without brackets, a relative clause at the end, or what stands before the first comma."""
    out = re.sub(r" ?\([^()]*\)", "", sentence)
    out = re.sub(r",? (?:which|who|where) [^,]*\.$", ".", out)
    if out == sentence:
        out = re.sub(r"^(?:However|Therefore|Thus|Later|Also|Additionally|Instead|Finally) ?, ", "", out)
        out = re.sub(r",? (?:although|while|whereas|because) [^,]*\.$", ".", out)
    return out[0].upper() + out[1:] if out != sentence and len(out.split()) > 4 else None


def _joined(sentence: str, item: Item) -> str | None:
    """With the sentence that follows it, as one."""
    rest = item.context[item.context.index(sentence) + len(sentence) :].strip()
    spans = split_sentences(rest)
    following = rest[: spans[0].end].strip() if spans else ""
    if not sentence.endswith(".") or not 4 <= len(following.split()) <= 25:
        return None
    first, _, tail = following.partition(" ")
    first = (
        first.lower() if first.lower() in ("the", "it", "this", "he", "she", "they", "in", "these", "its") else first
    )
    return f"{sentence[:-1].rstrip()}, and {first} {tail}"


def _split(sentence: str, item: Item) -> str | None:
    """As two sentences, parted where it has a semicolon or a comma and "and it"."""
    match = re.search(
        r" ?; (?=(?:it|they|he|she|the|this)\b)|, (?:and|but) (?=(?:it|they|he|she|the|this)\b)", sentence
    )
    if match is None or min(match.start(), len(sentence) - match.end()) < 20:
        return None
    if sentence.count(";") > 1 or sentence[: match.start()].count("(") != sentence[: match.start()].count(")"):
        return None
    tail = sentence[match.end() :]
    return f"{sentence[: match.start()]}. {tail[0].upper()}{tail[1:]}"


def _reordered(sentence: str, item: Item) -> str | None:
    """With what stands before the first comma at its end: In 1894, X -> X in 1894."""
    match = re.match(r"(In|On|At|During|After|Before|By|From|Since|Under|Following) ([^,]{3,40}) ?, (?!\d)", sentence)
    if match is None or not sentence.endswith("."):
        return None
    rest = sentence[match.end() : -1].rstrip()
    return f"{rest[0].upper()}{rest[1:]} {match[1].lower()} {match[2].strip()}."


def _numbers(sentence: str, item: Item) -> str | None:
    """With its numbers and dates written in another way."""
    out = re.sub(r"(\d),(?=\d{3})", r"\1", sentence)
    out = re.sub(r"(\d)\s?%", r"\1 percent", out)
    out = DATE.sub(r"\2 \1", out)
    out = re.sub(r"\b(\d+)\.(\d) million", lambda m: f"{m[1]},{m[2]}00,000", out)
    out = re.sub(r"(?<![\d.,$-] )(?<![\d.,$–-])\b([2-9]|1[0-2])\b(?![\d.,:–%-]| [-:]|-| \d)", _spelled, out)
    if out == sentence:
        out = re.sub(rf"\b({'|'.join(SMALL[2:])})\b(?! (?:hundred|thousand|million)|-)", _in_digits, out)
    return out if out != sentence else None


def _spelled(match: re.Match[str]) -> str:
    return SMALL[int(match[1])]


def _in_digits(match: re.Match[str]) -> str:
    return str(SMALL.index(match[1]))


PARAPHRASES: dict[str, Callable[[str, Item], str | None]] = {
    "shortened": _shortened,
    "joined": _joined,
    "split": _split,
    "reordered": _reordered,
    "number format": _numbers,
}
