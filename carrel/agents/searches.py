"""What to search for next, as a model says it: the task, and the lines of its reply as follow-ups."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from carrel.agents.base import Fit, Fitted, Steps
from carrel.agents.hops import FollowUp, Seed, names
from carrel.agents.replying import Note, ask_in_form, renumbered
from carrel.agents.tasks import DATA, ENOUGH
from carrel.errors import ContextOverflowError
from carrel.types import Prompt

QUERIES = (
    "To answer the question, more may have to be looked up. From the passages found so far, say what to search for"
    " next: sub-questions of the question that are still open, or names that lead on. One search a line, each after"
    f" SEARCH:, the most telling first. If the passages and notes answer the question already, reply {ENOUGH}. {DATA}"
)
LONGEST_QUESTION = 300
"""Characters of a sub-question; what is longer, such as the question with a passage, is searched for, not answered."""
_QUOTES = ('"', "“", "”", "`")
_LINE = re.compile(
    r"^[\s*>-]{0,8}(?:\d{1,2}[.)]\s{1,4})?[\s*]{0,4}(?:\((?P<weight>0(?:\.\d+)?|1(?:\.0+)?)\)\s{0,4})?"
    r"SEARCH\s?:\*{0,2}(?P<query>.*)$",
    re.IGNORECASE,
)


def missing(
    question: str, fresh: Sequence[Seed], notes: Sequence[Note], asked: Sequence[Sequence[str]], most: int
) -> Steps[list[FollowUp]]:
    """What to search for next, from the passages that were not followed yet; empty where nothing is missing.

    The notes are shown without marks, since what they quote is not shown; the oldest give way where the window is full.

    Raises
    ------
    ContextOverflowError : the question fills the window. RefusalError, ReplyFormatError : the model fails to say.
    """
    said = tuple(renumbered(note.text, {}) for note in notes if note.text)
    seen, known = tuple(seed.passage for seed in fresh), {query for queries in asked for query in queries}
    while True:
        prompt = Prompt(question, task=QUERIES, notes=said, kind="queries")
        try:
            fitted: Fitted = yield Fit(prompt, seen, whole=True)
            break
        except ContextOverflowError:
            if not said:
                raise
            said = said[1:]
    asking = replace(prompt, passages=fitted.taken)
    return (yield from ask_in_form(asking, read_searches(known, most), example=f"SEARCH: {question}"))


def read_searches(known: Collection[str], most: int) -> Callable[[str], list[FollowUp]]:
    """Reads the searches of a reply that are not known, so many at the most; none where it says that it has enough."""

    def read(text: str) -> list[FollowUp]:
        lines = [match for match in map(_LINE.match, text.splitlines()) if match]
        queries = [(_unquoted(line["query"].strip()), line["weight"]) for line in lines]
        queries = [(query, weight) for query, weight in queries if any(map(str.isalnum, query))]
        if not queries and ENOUGH not in text.upper():
            raise ValueError(f"it has no line that begins with SEARCH:, and does not say {ENOUGH}")
        weights: dict[str, float] = {}
        for query, weight in queries:
            if query not in known:
                weights.setdefault(query, float(weight or 1.0))
        return [FollowUp(query, weight, names(query) == [query]) for query, weight in weights.items()][:most]

    return read


def _unquoted(query: str) -> str:
    quotes = query[:1] in _QUOTES and query[-1:] in _QUOTES
    return query.strip("".join(_QUOTES)) if quotes else query


def is_question(follow_up: FollowUp) -> bool:
    """Whether a follow-up is a question of its own, which can be answered."""
    return follow_up.query.endswith("?") and len(follow_up.query) <= LONGEST_QUESTION
