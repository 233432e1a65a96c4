"""A question and its short answer as one declarative sentence, by a few sure patterns; None where none fits."""

from __future__ import annotations

import re

PAST = {
    "begin": "began", "become": "became", "break": "broke", "bring": "brought", "build": "built", "buy": "bought",
    "come": "came", "choose": "chose", "draw": "drew", "fall": "fell", "fight": "fought", "find": "found", "get": "got",
    "give": "gave", "go": "went", "grow": "grew", "have": "had", "hold": "held", "keep": "kept", "know": "knew",
    "lead": "led", "leave": "left", "lose": "lost", "make": "made", "meet": "met", "pay": "paid", "run": "ran",
    "say": "said", "see": "saw", "sell": "sold", "send": "sent", "sign": "signed", "speak": "spoke", "spend": "spent",
    "take": "took", "teach": "taught", "tell": "told", "think": "thought", "win": "won", "write": "wrote",
    "rise": "rose",
    "start": "started", "end": "ended", "die": "died", "live": "lived", "move": "moved", "play": "played",
    "occur": "occurred", "happen": "happened", "arrive": "arrived", "join": "joined", "open": "opened",
    "close": "closed", "create": "created", "publish": "published", "return": "returned", "receive": "received",
    "invade": "invaded", "declare": "declared", "establish": "established", "found": "founded", "release": "released",
    "defeat": "defeated", "attend": "attended", "study": "studied", "work": "worked", "use": "used", "introduce":
    "introduced", "produce": "produced", "adopt": "adopted", "claim": "claimed", "discover": "discovered", "serve":
    "served", "visit": "visited", "announce": "announced", "reach": "reached", "appear": "appeared", "originate":
    "originated", "invent": "invented", "form": "formed", "develop": "developed", "cost": "cost", "enter": "entered",
}  # fmt: skip
_PARTICIPLE = (
    r"(?:(?!(?:united|red|bed|need|seed|sacred|hundred|united|used)\b)\w{2,}ed|built|born|found|made|held|known|written|won"
    r"|taken|given|sent|sold|taught|fought|led|lost|seen|shown|set|put|laid|chosen|driven|drawn|spoken|paid)"
)
_PREPOSITION = re.compile(
    r"(?:in|on|at|by|from|to|of|during|since|after|before|between|until|about|around|near)\b", re.I
)
_SUBJECT = r"(?P<subject>(?!(?:the|a|an) \w+ed\b)(?!.*\bto be\b)(?:(?!\b(?:who|which|that)\b).)+?)"
_BASE = "|".join(PAST)
_PLACE = r"(?P<wh>when|where|in (?:what|which) (?:year|month|city|country|state|century))"
_LATER = r"(?P<rest>(?: (?:in|on|at|as|after|during)\b.*)?)$"
_WHEN_BE = re.compile(
    rf"{_PLACE} (?P<be>was|were|is|are) {_SUBJECT} (?P<verb>{_PARTICIPLE})(?P<rest>(?: .*)?)$", re.IGNORECASE
)
_WHEN_DID = re.compile(rf"{_PLACE} did {_SUBJECT} (?P<verb>{_BASE})\b(?P<rest>.*)$", re.IGNORECASE)
_WHAT_DID = re.compile(rf"(?:what|who|whom) did {_SUBJECT} (?P<verb>{_BASE}){_LATER}", re.IGNORECASE)
_HOW_MANY_DID = re.compile(
    rf"how many (?P<noun>[\w ]+?) did {_SUBJECT} (?P<verb>{_BASE})\b(?P<rest>.*)$", re.IGNORECASE
)
_HOW_MANY = re.compile(
    r"how many (?P<noun>\w+(?: \w+)?) (?P<rest>(?:are|were|is|was|live|lived|attended|died|have|had)\b.*)$",
    re.IGNORECASE,
)
_WHO = re.compile(r"who (?P<rest>(?!(?:did|does|do|were|are|else|all)\b)\w+ .*)$", re.IGNORECASE)
_WHAT_BE = re.compile(r"what (?P<be>is|was|are|were) (?P<subject>(?:the|[A-Z]\w+'s)\b.*)$")
_ENDS_OPEN = re.compile(
    r"\b(?:of|in|on|at|by|from|to|for|with|as|after|about|into|like|\w+ed|known|made|built)$", re.IGNORECASE
)
_WHICH = re.compile(
    r"(?:which|what) (?P<noun>(?!(?:is|was|are|were|did|does|do|has|had|have|can|would|will|the)\b)\w+(?: \w+)?)"
    r" (?P<rest>(?:was (?:the|a|an)|won|became|wrote|made|led|created|founded|invented)\b.*)$",
    re.IGNORECASE,
)
_DAY = re.compile(
    r"(?:\d{1,2} )?(?:January|February|March|April|May|June|July|August|September|October|November|December) ?\d"
)


def declarative(question: str, answer: str) -> str | None:
    """The sentence, with a capital and a full stop."""
    asked = re.sub(r"\s+", " ", question).strip(" ?.`'\"")
    answer = answer.strip()
    if not answer or len(answer.split()) > 10 or len(asked.split()) > 20:
        return None
    made = _made(asked, answer)
    if made is None or made.lower().count(answer.lower()) > 1:
        return None
    made = re.sub(r"\s+", " ", made).strip()
    return f"{made[0].upper()}{made[1:]}."


def _made(asked: str, answer: str) -> str | None:
    if match := _WHEN_BE.match(asked):
        where = _placed(match["wh"], answer)
        return f"{match['subject']} {match['be']} {match['verb']}{match['rest']} {where}"
    if match := _WHEN_DID.match(asked):
        return f"{match['subject']} {_past(match)}{match['rest']} {_placed(match['wh'], answer)}"
    if match := _HOW_MANY_DID.match(asked):
        return f"{match['subject']} {_past(match)} {_counted(answer, match['noun'])}{match['rest']}"
    if match := _WHAT_DID.match(asked):
        return f"{match['subject']} {_past(match)} {answer}{match['rest']}"
    if match := _HOW_MANY.match(asked):
        return f"{_counted(answer, match['noun'])} {match['rest']}"
    if match := _WHO.match(asked):
        return f"{answer} {match['rest']}"
    if match := _WHICH.match(asked):
        return f"{answer} {match['rest']}"
    match = _WHAT_BE.match(asked)
    if match and not _ENDS_OPEN.search(match["subject"]) and not re.search(r"\b(?:called|that|which|who)\b", asked):
        return f"{match['subject']} {match['be']} {answer}"
    return None


def _past(match: re.Match[str]) -> str:
    return PAST[match["verb"].lower()]


def _placed(asked: str, answer: str) -> str:
    """The answer with a preposition, unless it has one."""
    if _PREPOSITION.match(answer) or re.match(r"(?:today|now|early|late|never|once)\b", answer, re.IGNORECASE):
        return answer
    return f"{'on' if _DAY.match(answer) and 'when' in asked.lower() else 'in'} {answer}"


def _counted(answer: str, noun: str) -> str:
    last = noun.split()[-1].lower()
    return answer if last[:4] in answer.lower() else f"{answer} {noun}"
