"""Claims that change: "I live in Oslo", later "I moved to Bergen". The latest counts; what it replaces is kept.

A claim is who, what of them, and what it is. Only things of which there is one at a time are looked for (a home, a
job, an age, a favourite, the day of a meeting), in the few forms in which people say them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from carrel.memory.base import StoredTurn
from carrel.memory.words import plain, terms

_VALUE = (
    r"(?P<value>[^.,;!?\n()]{2,60}?)(?=\s+(?:and|but|because|since|with|last|this|next|yesterday|today|now|these days"
    r"|for (?:a|the|my|work|\d)|where|which|so|in (?:19|20)\d\d|on (?:mon|tues|wednes|thurs|fri|satur|sun)day)\b"
    r"|[.,;!?\n()]|$)"
)
_I = r"\bI(?:['’]m| am|['’]ve| have)?(?: (?:just|now|recently|finally|still|currently|actually|also))*"
_WE = r"\b[Ww]e(?:['’]re| are|['’]ve| have)?(?: (?:just|now|recently|finally|still|currently|actually|also|both|all))*"
_WHO = (
    r"\b(?P<who>[Mm]y (?:\w+ )?(?:sister|brother|mother|father|mom|mum|dad|wife|husband|partner|son|daughter|friend"
    r"|boss|girlfriend|boyfriend)(?: [A-Z]\w+)?|[A-Z][a-z]+)(?: (?:has|is|just|now|recently|finally))*"
)
_THING = (
    r"(?P<thing>favou?rite \w+(?: \w+)?|(?:phone |telephone |mobile )?number|e-?mail(?: address)?|address|birthday|name"
    r"|job|boss|landlord|deadline|password|(?:dog|cat|pet|horse|son|daughter|wife|husband|sister|brother|partner)"
    r"['’]s name)"
)
_PLAN = (
    r"(?P<thing>(?:\w+ )?(?:meeting|appointment|deadline|interview|party|wedding|flight|exam|launch|call|review|trip))"
)
_LIVES = (
    r"(?:live|living|lives|moved|moving|relocated|relocating|move)(?: (?:back|here|there|out|from [A-Z]\w+))? (?:in|to)"
    r" (?!(?:a|the) )"
)
_WORKS = (
    r"(?:work|working|works|worked|started(?: working| a (?:new )?job)?|got (?:a|the|my) (?:new )?job|hired)"
    r" (?:as|at|for) "
)
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("home", rf"{_I} {_LIVES}{_VALUE}"),
        ("home", rf"{_WE} {_LIVES}{_VALUE}"),  # who moves with others lives elsewhere as well
        ("home", rf"{_WHO} {_LIVES}{_VALUE}"),
        ("job", rf"{_I} {_WORKS}{_VALUE}"),
        ("job", rf"{_WHO} {_WORKS}{_VALUE}"),
        ("age", rf"{_I} (?:turned |am |turning )?(?P<value>\d{{1,3}})(?= years? old|[.!,]| now| today|$)"),
        ("diet", rf"{_I} (?:a |gone |went |become |became |turned )?(?P<value>vegetarian|vegan|pescatarian)\b"),
        ("relationship", rf"{_I} (?:got |getting )?(?P<value>single|married|engaged|divorced|dating|widowed)\b"),
        ("thing", rf"\b[Mm]y (?:new )?{_THING}"
                  rf" (?:is|was|(?:has )?changed to|became|['’]s) (?:now )?{_VALUE}"),
        ("plan", rf"\b(?:[Tt]he|[Mm]y|[Oo]ur) {_PLAN} (?:is|was|has been|got|will be)(?: now)?"
                 rf"(?: (?:moved|postponed|rescheduled|pushed back|brought forward|set|planned))?"
                 rf" ?(?:to|on|at|for) {_VALUE}"),
    )
)  # fmt: skip
_ASKED = {
    name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for name, words in (
        ("home", "where|liv(?:e|es|ed|ing)|home|mov(?:e|es|ed|ing)|city|town|country|address|residence|reside"),
        ("job", r"work\w*|jobs?|employ\w*|career|company|profession|for a living|occupation"),
        ("age", "old|age|birthday"),
        ("diet", r"eat\w*|diet|food|cook\w*|meals?|vegetarian|vegan|meat"),
        ("relationship", r"single|married|relationship|partner|dat(?:e|es|ing)|husband|wife|status|engaged|divorced"),
    )
}
_NO_NAMES = frozenset("i we they he she it this that there who what where".split())


@dataclass(frozen=True, slots=True)
class Claim:
    """Who, what of them, what it is, and the turn that says so. All in small letters, for comparing."""

    subject: str
    attribute: str
    value: str
    turn: StoredTurn


def claims(turn: StoredTurn) -> list[Claim]:
    """What a turn claims of things that change."""
    found: list[Claim] = []
    for kind, pattern in _FORMS:
        for match in pattern.finditer(turn.text):
            groups = match.groupdict()
            who = groups.get("who") or ""
            if plain(who.split()[0] if who else "") in _NO_NAMES or _is_asked(turn.text, match.end()):
                continue
            own = not who or who.lower().startswith("my ")
            subject = f"{turn.speaker.lower()} {who.lower()}".strip() if own else who.lower()
            thing = " ".join((groups.get("thing") or kind).lower().replace("favorite", "favourite").split())
            found.append(Claim(subject, thing, " ".join(match["value"].lower().split()), turn))
    return found


def _is_asked(text: str, end: int) -> bool:
    """Whether the sentence around is a question."""
    stop = re.search(r"[.!?\n]", text[end:])
    return stop is not None and stop.group() == "?"


@dataclass(frozen=True, slots=True)
class Superseded:
    """A turn that says of something what is no longer so: since the claim ``by``."""

    turn: StoredTurn
    by: Claim


def superseded(turns: Iterable[StoredTurn]) -> list[Superseded]:
    """The turns that say otherwise than a later one of the same thing; those of a thing together, the latest first."""
    by_topic: dict[tuple[str, str], list[Claim]] = {}
    for turn in turns:
        for claim in claims(turn):
            by_topic.setdefault((claim.subject, claim.attribute), []).append(claim)
    found: list[Superseded] = []
    for told in by_topic.values():
        ordered = sorted(told, key=lambda claim: (claim.turn.said_at, claim.turn.id))
        latest = ordered[-1]
        older = {
            c.turn.id: c.turn for c in reversed(ordered) if c.value != latest.value and c.turn.id != latest.turn.id
        }
        found += [Superseded(turn, latest) for turn in older.values()]
    return found


def concerns(query: str, attribute: str) -> bool:
    """Whether a question is about what a claim is about."""
    pattern = _ASKED.get(attribute)
    if pattern is not None:
        return pattern.search(query) is not None
    return bool(frozenset(terms(attribute)) & frozenset(terms(query)))
