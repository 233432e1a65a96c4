"""What a user said, quoted, where the documents do not answer a question about that user; no language model."""

from __future__ import annotations

from dataclasses import replace
from datetime import timezone, tzinfo
from typing import ClassVar

from carrel.generation.base import Generator
from carrel.memory.base import Recollection, StoredTurn
from carrel.memory.controller import of_the_past
from carrel.memory.days import day_of, in_zone
from carrel.memory.times import day_shown
from carrel.memory.words import ASSISTANT, USER, WORD, own_people
from carrel.tokens import Tokenizer
from carrel.types import Completion, Prompt

_ALIKE = 1.0  # log-odds: of turns as good as the best, two are quoted
_MOST = 2


class Remembered(Generator):
    """An answerer of documents that, where it abstains, quotes what the user said of it, with the day.

    Only for questions about the user, whoever else speaks in the memory, or whom they call theirs ("my sister Marta"),
    and only where that seems to hold an answer (``Recollection.holds_answer``). It quotes turns word for word; it does
    not reason about them.

    Parameters
    ----------
    answerer : answers from documents. recollection : what the memory holds for the question. zone : of the user, in
        whose days it is told when something was said.
    """

    name: ClassVar[str] = "remembered"
    cites = True

    def __init__(self, answerer: Generator, recollection: Recollection, zone: tzinfo = timezone.utc) -> None:
        self.answerer, self.recollection, self.zone = answerer, recollection, zone
        self.context_window = answerer.context_window

    @property
    def tokenizer(self) -> Tokenizer:
        return self.answerer.tokenizer

    def complete(self, prompt: Prompt) -> Completion:
        found = self.answerer.complete(prompt)
        if found.finish_reason != "abstained":
            return found
        turns = telling(self.recollection)
        if not turns:
            return found
        with in_zone(self.zone):
            text = "\n".join(map(_quoted, turns))
        usage = replace(found.usage, completion_tokens=self.tokenizer.count(text))
        return Completion(
            text, usage, "stop", found.model, confidence=self.recollection.answerable,
            metrics={**found.metrics, "quoted_turns": len(turns)},
        )  # fmt: skip


def telling(recollection: Recollection) -> list[StoredTurn]:
    """The turns that tell best what a recollection was asked for, at most two; none where nothing seems to.

    Questions tell nothing, nor does what the assistant said, which is the documents' or a guess, nor what is no longer
    so.
    """
    speakers = {each.turns[0].speaker for each in recollection.best} - {USER, ASSISTANT}
    theirs = {name for each in recollection.best for name in own_people(each.turns[0].text)}
    query = recollection.rewritten
    named = theirs & {word.replace("’", "'").removesuffix("'s") for word in WORD.findall(query)}
    if not recollection.holds_answer or not (named or of_the_past(query, speakers)):
        return []
    old = {turn.id for each in recollection.best for turn in each.superseded}
    told = [
        each
        for each in recollection.best
        if each.turns[0].speaker != ASSISTANT and each.turns[0].id not in old and not _asks(each.turns[0])
    ]
    return [each.turns[0] for each in told if each.score >= told[0].score - _ALIKE][:_MOST]


def _asks(turn: StoredTurn) -> bool:
    return turn.text.rstrip().endswith("?")


def _quoted(turn: StoredTurn) -> str:
    who = "You" if turn.speaker == USER else turn.speaker
    said = " ".join(turn.text.split())
    return f"{who} said on {day_shown(day_of(turn.said_at))}: “{said}”"
