"""The controller of the memory: whether it is needed at all, and whether the answer is in it.

After SCM (Wang et al., arXiv 2304.13343), where a model is asked both; here rules tell the first and a logistic
model over the ranking the second.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carrel.memory.claims import claims, concerns
from carrel.memory.scoring import FEATURES, SIGNALS, Floats, Scored
from carrel.memory.words import ASSISTANT, USER, WORD, asked_people, asked_terms

_COSINES = ("cosine", "told", "bare")
Flags = NDArray[np.bool_]

_THANKS = re.compile(
    r"^\W*(?:(?:many |ok(?:ay)?,? |great,? |perfect,? )*(?:thanks?(?: you)?|thx|cheers)(?: (?:a lot|so much|again))?"
    r"|ok(?:ay)?|yes|no|yep|nope|sure|great|cool|nice|perfect|wow|lol|haha+|hm+|hi|hey|hello|good (?:morning|evening"
    r"|night|afternoon)|bye|goodbye|see you(?: later| soon)?|you(?:'|’)?re welcome|got it|i see|sounds good|never mind"
    r"|how are you(?: doing)?(?: today)?|what(?:'|’)?s up|well done|good job|please|go on|continue|stop)"
    r"(?:[\s,]+(?:thanks|thank you|then|there|for (?:that|this|your help|the help)|so much|bye|all))*\W*$",
    re.IGNORECASE,
)
_SUM = re.compile(
    r"^\W*(?:what(?:['’]s| is)|how much is|calculate|compute|solve)?\s*(?P<figures>[\d(][\d\s.,+*/×÷^()%-]*)[\s?!.=]*$"
    r"|^\W*(?:what(?:['’]s| is)|how much is)\s+\w+(?: \w+)? (?:plus|minus|times|divided by) \w+(?: \w+)?\W*$",
    re.IGNORECASE,
)
_OPERATOR = re.compile(r"[+*/×÷^-]")
_TASK = re.compile(
    r"^\W*(?:please |can you |could you )*(?:translate|spell|define|convert|capitali[sz]e|proofread|reverse|count the"
    r"|write (?:a|an|some) (?:haiku|limerick|regex|function|script|joke)|tell me a joke)\b",
    re.IGNORECASE,
)
_OF_THE_PAST = re.compile(
    r"\b(?:i|i['’](?:m|ve|d|ll)|me|my|mine|we|us|our|you|your|he|she|they|his|her|their|remember|remind|again|last|earlier"
    r"|before|yesterday|ago|previous(?:ly)?|said|told|mentioned|talked|discussed)\b",
    re.IGNORECASE,
)


def needed(query: str) -> bool:
    """Whether what was said before can be of use; small talk, sums and self-contained tasks need no memory."""
    if not asked_terms(query) and not _OF_THE_PAST.search(query) and "?" not in query:
        return False
    if _THANKS.match(query) or _is_sum(query):
        return False
    task = _TASK.match(query)
    return task is None or _OF_THE_PAST.search(query, task.end()) is not None


def _is_sum(query: str) -> bool:
    found = _SUM.match(query)
    return found is not None and (found["figures"] is None or _OPERATOR.search(found["figures"]) is not None)


def of_the_past(query: str, speakers: Collection[str] = ()) -> bool:
    """Whether a question is about those who speak: "I", "my sister", "you told me", or one of them by name."""
    return bool(_OF_THE_PAST.search(query) or asked_people(query, speakers).people)


SIGNS: tuple[str, ...] = (
    "mass_of_others", "others_ahead", "others_cover_more", "others_nearer", "covered",
)  # fmt: skip
_UNLIKE, _NEVER_SAID = 0.3, 0.25  # a cosine below which, without one common word, nothing was said of it
_CLAIMING = 16  # best turns in which a claim may answer
_COMPARED = 3  # best turns of each side


def signs(found: Scored) -> dict[str, float]:
    """What the ranking shows of whether the answer is there.

    Most of it compares the turns of the speaker asked about with those of the others, scored as if nobody had been
    named: "What did Ann say of her boat?" where it is Bob who has one. Between a user and an assistant nothing is
    compared, for both speak about the user.

    mass_of_others : their share of the softmax over those scores. others_ahead, others_nearer, others_cover_more : by
    how much their best turns lead, by score, by cosine, by the question's words. covered : the share of those words,
    by rarity, in the best turn of who is asked about.
    """
    asked = found.question.asked
    compared = bool(asked.people) and asked.owner not in (USER, ASSISTANT)
    own = np.array([not compared or asked.owns(turn.speaker) for turn in found.turns], bool)
    neutral = _without_people(found)
    share = np.exp(neutral - neutral.max())
    covered, cosine = found.column("covered"), found.column("cosine")
    return {
        "mass_of_others": float(share[~own].sum() / share.sum()),
        "others_ahead": _lead(neutral, own, _COMPARED),
        "others_cover_more": _lead(covered, own, 1),
        "others_nearer": _lead(cosine, own, 1),
        "covered": float(covered[own].max(initial=0.0)),
    }


def _lead(values: Floats, own: Flags, count: int) -> float:
    """By how much the mean of the others' best is above that of the own best, between -5 and 5."""
    if own.all():
        return 0.0
    ours, theirs = (np.sort(values[side])[::-1][:count] for side in (own, ~own))
    return float(np.clip(theirs.mean() - (ours.mean() if len(ours) else values.min()), -5, 5))


def _without_people(found: Scored) -> Floats:
    """The scores without what comes of who speaks, with the cosine of the bare question for those with names."""
    named = [FEATURES.index(name) for name in (*SIGNALS["people"], *_COSINES)]
    left = found.scores - found.features[:, named] @ found.weights[named]
    weight = sum(float(found.weights[FEATURES.index(name)]) for name in _COSINES)
    return np.asarray(left + weight * found.column("bare"), np.float64)


def _is_claimed(found: Scored) -> bool:
    """Whether one of the best turns tells, in other words, of what is asked: "I moved to York" of where one lives."""
    best = np.argsort(-found.scores, kind="stable")[:_CLAIMING]
    query = found.question.text
    return any(concerns(query, claim.attribute) for place in best for claim in claims(found.turns[place]))


@lru_cache(maxsize=1)
def fitted() -> Mapping[str, Any]:
    """The weights of the signs, with the share of answerable questions that they were calibrated on."""
    content: dict[str, Any] = json.loads(files("carrel.memory").joinpath("controller.json").read_text(encoding="utf-8"))
    return content


def answerable(found: Scored) -> float:
    """The probability that the turns hold the answer, 0 to 1; 0.5 is where to abstain.

    Where no turn has a word of the question and none is near it, no model is needed to say so.
    A query without a word to look for is answered from what is recent: 1.
    """
    if not found.turns:
        return 0.0
    if not WORD.search(found.question.text):
        return 1.0
    weights = fitted()["weights"]
    told = signs(found)
    if told["covered"] == 0.0 and float(found.column("bare").max()) < _UNLIKE and not _is_claimed(found):
        return _NEVER_SAID
    logit = float(fitted()["bias"]) + sum(float(weights.get(name, 0.0)) * told[name] for name in SIGNS)
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))
