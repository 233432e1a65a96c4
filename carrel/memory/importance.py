"""How much there is in a turn to remember, told from its words alone."""

from __future__ import annotations

import math
import re

from carrel.memory.words import WORD, terms

_SMALL_TALK = re.compile(
    r"^\W*(?:(?:hi|hey|hello|bye|goodbye|thanks?|thank you|thx|ok|okay|sure|yes|yeah|yep|no|nope|wow|cool|great|nice"
    r"|awesome|lol|haha|good (?:morning|night|evening|afternoon)|see you|take care|sounds (?:good|great|fun)|you too"
    r"|no problem|you'?re welcome|got it|i see|absolutely|definitely|exactly|how are you|what'?s up)\b[\W]*)+"
    r"(?:\w+(?:\W+|$)){0,3}$",  # each word ends where it ends: else a long one is tried in all its parts
    re.IGNORECASE,
)
_SELF = re.compile(r"\b(?:i|i['’](?:m|ve|d)|my|we|our)\b", re.IGNORECASE)
_LASTING = re.compile(
    r"\b(?:love|hate|favou?rite|prefer|allerg\w*|always|never|remember|name(?:d)?|called|birthday|married|engaged"
    r"|divorced|pregnant|born|died|passed away|moved|live|lives|living|job|work(?:s|ed|ing)? (?:as|at|for)|hired|fired"
    r"|started|joined|bought|adopted|graduated|plan(?:s|ning|ned)?|decided|promised?|won|first|diagnosed|deadline"
    r"|appointment|password|address|phone|email)\b",
    re.IGNORECASE,
)
_FIGURE = re.compile(r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|thousand|million)\b", re.I)
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z]\w+|[\"“][^\"”]{2,60}[\"”]")


def importance(text: str) -> float:
    """From 0, small talk, to 1: new words, names, figures, things said of oneself, things that last.

    After Generative Agents (arXiv 2304.03442), where a model grades every memory; here nothing is called, and the
    grade is the same each time.
    """
    words = WORD.findall(text)
    if not words or _SMALL_TALK.match(text):
        return 0.0
    content = len(set(terms(text)))
    grade = 0.4 * math.tanh(content / 12)
    grade += 0.15 * bool(_SELF.search(text))
    grade += 0.2 * bool(_LASTING.search(text))
    grade += 0.15 * bool(_NAME.search(text))
    grade += 0.1 * bool(_FIGURE.search(text))
    if text.rstrip().endswith("?") and text.count(".") + text.count("!") == 0:
        grade *= 0.5
    return min(1.0, round(grade, 4))
