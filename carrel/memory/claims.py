"""Claims that change: "I live in Oslo", later "I moved to Bergen". The latest counts; what it replaces is kept.

A claim is who, what of them, what it is, and since when. Only things of which there is one at a time are looked for (a
home, a job, an age, a favourite, the day of a meeting), in the few forms in which people say them. Two that differ need
not exclude each other ("I live in Bern", "I live in Switzerland"): only one that says that something changed ends
another; else the later one goes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from carrel.memory.base import StoredTurn
from carrel.memory.times import times
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
_WORKING = r"(?:work|working|works|worked|started(?: working| a (?:new )?job)?|got (?:a|the|my) (?:new )?job|hired)"
_WORKS_AS, _WORKS_AT = rf"{_WORKING} as ", rf"{_WORKING} (?:at|for) (?!(?:me|us|you|him|her|them|it|a|an|\d)\b)"
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("home", rf"{_I} {_LIVES}{_VALUE}"),
        ("home", rf"{_WE} {_LIVES}{_VALUE}"),  # who moves with others lives elsewhere as well
        ("home", rf"{_WHO} {_LIVES}{_VALUE}"),
        ("job", rf"{_I} {_WORKS_AS}{_VALUE}"),
        ("job", rf"{_WHO} {_WORKS_AS}{_VALUE}"),
        ("employer", rf"{_I} {_WORKS_AT}{_VALUE}"),
        ("employer", rf"{_WHO} {_WORKS_AT}{_VALUE}"),
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
# letters of which some stand in whatever a form finds, so that most turns are not looked at more closely
_HINTS: dict[str, tuple[str, ...]] = {
    "home": ("liv", "mov", "relocat"), "job": ("work", "start", "job", "hired"), "age": (),  # see _DIGIT
    "diet": ("veg", "pesc"), "relationship": ("single", "married", "engaged", "divorced", "dating", "widowed"),
    "thing": ("My ", "my "),
    "plan": (
        "meeting", "appointment", "deadline", "interview", "party", "wedding", "flight", "exam", "launch", "call",
        "review", "trip",
    ),
}  # fmt: skip
_HINTS["employer"] = _HINTS["job"]
_DIGIT = re.compile(r"\d")
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
_ASKED["employer"] = _ASKED["job"]
_NO_NAMES = frozenset(
    """i we they he she it this that there who what where monday tuesday wednesday thursday friday saturday sunday
january february march april may june july august september october november december""".split()
)
_SENTENCE = re.compile(r"[^.!?\n]*[.!?\n]?")
_NOT_SO = re.compile(
    r"\b(?:if|unless|whether|would|wish|maybe|perhaps|might|could|should|imagine|suppose|want(?:ed|s)? to"
    r"|hop(?:e|ed|ing) to|plan(?:s|ned|ning)? (?:to|on)|think(?:ing)? (?:of|about)|thought (?:of|about)|dream\w*"
    r"|used to|almost|nearly|never|when i was|back then|at the time|\w+n['’]t)\b",
    re.IGNORECASE,
)
_CHANGES = re.compile(
    r"\b(?:moved|moving|relocat\w+|now|just|recently|finally|chang\w+|became|become|turned|got|getting|postponed"
    r"|rescheduled|pushed|brought forward|started|switched|hired|instead|no longer|any ?more|new)\b",
    re.IGNORECASE,
)
_PAST = re.compile(r"\b(?:moved|relocated|worked|started|got|hired|went|became|turned|was)\b", re.IGNORECASE)
_HOUR = re.compile(
    r"\b\d{1,2}(?:[:.]\d\d)? ?(?:[ap]\.?m\b|o['’]clock)|\b\d{1,2}:\d\d\b|\b(?:noon|midnight)\b", re.IGNORECASE
)
_DAY = re.compile(
    r"\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|tomorrow|today|tonight|week|weekend|month|january|february|march"
    r"|april|may|june|july|august|september|october|november|december|\d{1,2}(?:st|nd|rd|th))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who, what of them, what it is, and the turn that says so. All in small letters, for comparing.

    Attributes
    ----------
    facet : of an attribute that has several: the day, the hour or the place of a meeting.
    since : when it began to be so, or when it was said, in seconds since 1970.
    is_change : whether it is told as a change.
    """

    subject: str
    attribute: str
    value: str
    turn: StoredTurn
    facet: str = ""
    since: float = 0.0
    is_change: bool = False

    def agrees(self, other: Claim) -> bool:
        """Whether both may be so at once: "Bern", "in Bern", "Bern, Switzerland"."""
        one, two = (frozenset(terms(each.value)) or frozenset([each.value]) for each in (self, other))
        return one <= two or two <= one


def claims(turn: StoredTurn) -> list[Claim]:
    """What a turn claims of things that change."""
    found: list[Claim] = []
    hinted = {kind for kind, letters in _HINTS.items() if any(each in turn.text for each in letters)}
    if _DIGIT.search(turn.text):
        hinted.add("age")
    for kind, pattern in _FORMS:
        if kind not in hinted:
            continue
        for match in pattern.finditer(turn.text):
            groups = match.groupdict()
            who = groups.get("who") or ""
            begin, sentence = _sentence(turn.text, match.start())
            if plain(who.split()[0] if who else "") in _NO_NAMES or sentence.rstrip().endswith("?"):
                continue
            if _NOT_SO.search(turn.text[begin : match.end()]):
                continue
            own = not who or who.lower().startswith("my ")
            subject = f"{turn.speaker.lower()} {who.lower()}".strip() if own else who.lower()
            thing = " ".join((groups.get("thing") or kind).lower().replace("favorite", "favourite").split())
            value = " ".join(match["value"].lower().split())
            facet = _facet(value) if kind == "plan" else ""
            changes = _CHANGES.search(sentence) is not None
            found.append(Claim(subject, thing, value, turn, facet, _since(turn, match.group(), sentence), changes))
    return found


def _sentence(text: str, at: int) -> tuple[int, str]:
    """Where the sentence begins in which a place lies, and the sentence."""
    found = next(each for each in _SENTENCE.finditer(text) if at < each.end() or each.end() == len(text))
    return found.start(), found.group()


def _facet(value: str) -> str:
    return "hour" if _HOUR.search(value) else "day" if _DAY.search(value) else "place"


def _since(turn: StoredTurn, claimed: str, sentence: str) -> float:
    """When a thing of the past happened, where its sentence tells; else when it was said."""
    if not _PAST.search(claimed):
        return turn.said_at
    told = [time.seconds()[1] - 1.0 for time in times(sentence, turn.said_at)]  # on its last day, at the latest
    return min([turn.said_at, *told])


@dataclass(frozen=True, slots=True)
class Superseded:
    """A turn that says otherwise of something than the later claim ``by``; it has ended where that is a change."""

    turn: StoredTurn
    by: Claim


def superseded(turns: Iterable[StoredTurn]) -> list[Superseded]:
    """The turns that say otherwise than a later one of the same thing; those of a thing together, the latest first."""
    by_topic: dict[tuple[str, str, str], list[Claim]] = {}
    for turn in turns:
        for claim in claims(turn):
            by_topic.setdefault((claim.subject, claim.attribute, claim.facet), []).append(claim)
    found: list[Superseded] = []
    for told in by_topic.values():
        ordered = sorted(told, key=lambda claim: (claim.since, claim.turn.said_at, claim.turn.id))
        latest = ordered[-1]
        older = {
            c.turn.id: c.turn for c in reversed(ordered) if not latest.agrees(c) and c.turn.id != latest.turn.id
        }
        found += [Superseded(turn, latest) for turn in older.values()]
    return found


def concerns(query: str, attribute: str) -> bool:
    """Whether a question is about what a claim is about."""
    pattern = _ASKED.get(attribute)
    if pattern is not None:
        return pattern.search(query) is not None
    return bool(frozenset(terms(attribute)) & frozenset(terms(query)))
