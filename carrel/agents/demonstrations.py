"""Demonstrations: a question with the answer that stands in a passage, read from a reply, checked, shown as turns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carrel.agents.hops import plain
from carrel.agents.tasks import DATA
from carrel.types import Passage, Turn

DEMONSTRATE = (
    "Make up a question that one of the passages answers, and that can be understood without the passages. Reply with"
    " three lines, and nothing else: QUESTION: and the question; PASSAGE: and the number of the passage, like this:"
    " [2]; ANSWER: and the answer, a few words exactly as they stand in that passage."
    f" {DATA}"
)
_LONGEST = {"question": 300, "answer": 200}  # characters
WHY = "it is not three lines with QUESTION: a question, PASSAGE: [a number], ANSWER: a few words of that passage"
_LINE = re.compile(
    r"^[^\w\n]{0,8}(?P<name>question|passage|answer)[^\w\n]{0,4}:[ \t*]{0,8}(?P<said>\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_MARK = re.compile(r"\s*\[\d+\]\W*$")
_NO_SPACES = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")  # scripts that part words by nothing


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A question and its answer, which stands in its passage word for word, but for case and signs."""

    question: str
    answer: str
    passage: Passage


def read_lines(text: str) -> tuple[str, int, str]:
    """Reads a question, the number of its passage, and the answer.

    Raises
    ------
    ValueError : one of them is missing, or too long.
    """
    found = {match["name"].lower(): " ".join(match["said"].split()) for match in _LINE.finditer(text)}
    number = re.search(r"\d{1,6}", found.get("passage", ""))
    question = found.get("question", "")
    answer = _MARK.sub("", found.get("answer", "")).strip("\"'“”. ")
    if number is None or not plain(question) or not plain(answer):
        raise ValueError(WHY)
    if len(question) > _LONGEST["question"] or len(answer) > _LONGEST["answer"]:
        raise ValueError(f"the question has more than {_LONGEST['question']} characters, or the answer too many")
    return question, int(number[0]), answer


def is_answered(made: Demonstration, passage: Passage) -> bool:
    """Whether what is shown of a passage holds the answer, as whole words, and is of the passage it was made from."""
    if passage.document_id != made.passage.document_id or passage.end <= made.passage.start:
        return False
    if made.passage.end <= passage.start:
        return False
    answer, text = plain(made.answer), plain(" … ".join(passage.pieces))
    return answer in text if _NO_SPACES.search(answer) else f" {answer} " in f" {text} "


def distinct(question: str, made: Iterable[Demonstration | str]) -> tuple[list[Demonstration], list[str]]:
    """The demonstrations that ask each something else, and not the question itself; and why the others are none."""
    kept, dropped, known = list[Demonstration](), list[str](), {plain(question)}
    for each in made:
        if isinstance(each, str):
            dropped.append(each)
        elif plain(each.question) in known:
            dropped.append(f"{each.question}: it is asked already")
        else:
            kept.append(each)
            known.add(plain(each.question))
    return kept, dropped


def number_of(made: Demonstration, context: Sequence[Passage]) -> int:
    """The number that the passage of a demonstration has in its context."""
    return next(number for number, passage in enumerate(context, start=1) if is_answered(made, passage))


def turns(made: Demonstration, number: int) -> tuple[Turn, Turn]:
    """A demonstration as a question and its answer, with the number that its passage has in the context."""
    return Turn("user", made.question), Turn("assistant", f"Passages: [{number}]\n{made.answer} [{number}]")
