"""Follow-up questions made whole from what was said before: "and in 2019?", "what about her sister?", "why?".

Rules do it where there is no generator: short forms take over the last question, pronouns without anyone to stand for
take the name that was last spoken of. A generator is asked where there is one, and believed only if what it says
is a question of reasonable length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carrel.errors import GenerationError
from carrel.memory.base import StoredTurn
from carrel.memory.times import times
from carrel.memory.words import ASSISTANT, USER, WORD, plain
from carrel.retrieval.indexes.lexical import STOPWORDS
from carrel.types import Prompt, Turn

if TYPE_CHECKING:
    from carrel.generation.base import Generator

_LOOKED_AT = 6  # turns before
_LONGEST_REPLY = 300  # characters more than the query
_ABOUT = re.compile(
    r"^\W*(?:(?:and|but|or|so|ok(?:ay)?)[\s,]+)*(?:what|how) about\s+(?P<rest>.+?)[\s?.!]*$"
    r"|^\W*(?:and|or|but)[\s,]+(?P<fragment>(?!(?:what|when|where|who|whom|whose|why|how|which|please|tell|show|give|list"
    r"|say|explain|describe|write|find|remind|remember|let|make|add|note|thanks?|thank)\b)"
    r"(?:(?!(?:did|does|do|is|are|was|were|am|has|have|had|would|could|can|will|should|must|may i|i|you|he|she|we|they"
    r"|i['’]\w+|\w+n['’]t)\b)[^\s.!?:;]+\s*){1,6})\??\s*$",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"^\W*(?:(?:and|but|so|ok(?:ay)?)[\s,]+)*(?P<word>why|when|where|who|how|how come|how (?:many|much|long|often|old)"
    r"|since when|with whom|who with|which one|why not)(?: (?:is|was|did) (?:that|it|this|so))?\W*$",
    re.IGNORECASE,
)
_QUESTION_WORD = re.compile(
    r"^\W*(?:when|where|why|how(?: (?:many|much|long|often|old))?|who|what)\s+"
    r"(?P<rest>(?:did|does|do|is|are|was|were|has|have|had|would|could|can|will|should)\b.+?)[\s?.!]*$",
    re.IGNORECASE,
)
_LED = re.compile(r"^\W*(?:and|but|so)\b[\s,]*(?=\w)", re.IGNORECASE)
_PERSON = re.compile(r"\b(?P<p>he|she|him|his|her|hers|himself|herself)\b", re.IGNORECASE)
_BE = r"is|are|was|were|be|been|will|would|has|have|had|can|could|should|might|may|isn['’]t|aren['’]t|wasn['’]t"
_NOT_AFTER = "".join(rf"(?<!\b{word} )" for word in "is are was were be has have will can could".split())
_THING = re.compile(
    r"\b(?P<p>it|its|that one|this one|those|these|they|them|their"
    rf"|{_NOT_AFTER}(?<!n['’]t )there(?!['’]s|\s+(?:{_BE}|any|a|an|no|enough|much|many)\b))\b",
    re.IGNORECASE,
)
_DUMMY = re.compile(
    r"\bwhat (?:time|day|date|year|month|season) (?:is|was) it\b"
    r"|\bit(?:['’]s| is| was| will be| be)?(?: going to| still| really)? (?:rain|snow|hail|freez|thunder|storm)\w*\b"
    r"|\b(?:is|was|isn['’]t|would) it (?:be )?(?:\w+ly |so |too |very )?(?:legal|illegal|possible|true|allowed"
    r"|forbidden|ok|okay|necessary|safe|dangerous|important|hard|difficult|easy|better|best|worth|wise|time|late|early|cold|hot"
    r"|warm|dark|cloudy|sunny|windy|normal|common|fair|rude|polite|christmas|easter|my turn|your turn)\b"
    r"|\bit (?:takes?|took|costs?|matters?|hurts?)\b(?= (?:to|if|that|when|for|you|me|one)\b)",
    re.IGNORECASE,
)
_SOMEBODY = re.compile(
    r"\b(?:an?|every|each|any|no|some)\s+(?!of\b)[a-z]+|\b(?:some|any|every|no)(?:one|body)\b|\b(?:person|people|whoever)\b",
    re.IGNORECASE,
)
_SOMETHING = re.compile(r"\b(?:the|an?|every|each|any|this|that)\s+(?!of\b)[a-z]+", re.IGNORECASE)
_NAME = re.compile(r"\b[A-Z][\w'’-]*[a-z]\w*(?:\s+[A-Z][\w'’-]*[a-z]\w*)*")
_RELATIVE = re.compile(
    r"\b(?:[Mm]y|[Yy]our|[Hh]is|[Hh]er|[Tt]heir|[Oo]ur|[A-Z]\w+['’]s)\s+(?:\w+\s+)?(?:sister|brother|mother|father|mom|mum|dad|wife|husband"
    r"|partner|son|daughter|friend|boss|colleague|neighbou?r|aunt|uncle|cousin|grandmother|grandfather|grandma|grandpa"
    r"|girlfriend|boyfriend|teacher|doctor)\b"
)
_ACTS = re.compile(
    r"['’]s\b|,? (?:and [A-Z]|(?:is|was|has|had|will|can|could|would|did|does|told|said|got|went)\b|\w+(?:s|ed)\b)"
)
_PREPOSITIONS = frozenset("in at to from near on for of with by about".split())
_PLACE = re.compile(r"\b(?:in|at|to|from|near|on|for|of)\s+(?:the\s+)?$", re.IGNORECASE)
_PART = re.compile(
    r"\b(?P<word>(?:in|at|on|during)\s+)?(?P<part>(?:the\s+)?(?:spring|summer|autumn|winter|morning|afternoon|evening|night))\b",
    re.IGNORECASE,
)
_OWNED = re.compile(r"['’]s\s+[a-z]")
_NO_NAMES = frozenset(
    """i i'm i've i'd i'll when where who what why how which did does do is are was were has have had
would could can will should yes no ok okay thanks hi hey hello please tell and but so also the my your monday tuesday
wednesday thursday friday saturday sunday january february march april may june july august september october november
december""".split()
)
_TASK = (
    "Rewrite the last question of the conversation as one whole question that can be understood by itself: replace"
    " pronouns and add what is left out. Keep its language. If it is whole already, repeat it. Reply with the question"
    " alone."
)


def whole(query: str, before: Sequence[StoredTurn], generator: Generator | None = None) -> str:
    """The query as it can be looked up by itself; unchanged where it is whole already or nothing was said before.

    Parameters
    ----------
    before : the turns before it in its session, in order.
    generator : rewrites instead of the rules; the rules stand in where it fails or says something useless.
    """
    turns = [turn for turn in before if turn.text.strip()]
    if turns and turns[-1].text.strip() == query.strip():
        turns.pop()
    turns = turns[-_LOOKED_AT:]
    if not turns or not depends(query):
        return query
    if generator is not None:
        written = _written(query, turns, generator)
        if written is not None:
            return written
    return _by_rules(query, turns)


def depends(query: str) -> bool:
    """Whether a query cannot be understood by itself: a short form, or a pronoun with nobody to stand for."""
    if _BARE.match(query) or _ABOUT.match(query) or _LED.match(query):
        return True
    named = _names(query)
    person, thing = _PERSON.search(query), _THING.search(query)
    if person and not any(query.find(name) < person.start() for name in named) and not _RELATIVE.search(query):
        return not _is_meant_before(query, person)
    return thing is not None and not named and len(_content(query)) <= 3 and not _is_meant_before(query, thing)


def _is_meant_before(query: str, pronoun: re.Match[str]) -> bool:
    """Whether a pronoun stands for something in the query itself: "an operator ... when he", or for nothing at all."""
    before, word = query[: pronoun.start()], pronoun["p"].lower()
    if any(match.start() <= pronoun.start() < match.end() for match in _DUMMY.finditer(query)):
        return True
    if re.search(r"\b(?:of|about|for|with|to)\s+$", before, re.IGNORECASE):
        return False
    if word in ("it", "its"):
        return bool(_SOMETHING.search(before))
    plural = word in ("they", "them", "their") and any(
        match.group().endswith("s") and len(match.group()) > 3 and plain(match.group()) not in STOPWORDS
        for match in WORD.finditer(before)
    )
    return plural or (word not in ("that one", "this one", "there") and bool(_SOMEBODY.search(before)))


def _content(text: str) -> list[str]:
    return [word for word in WORD.findall(text) if plain(word) not in STOPWORDS and plain(word) not in _NO_NAMES]


def _names(text: str) -> list[str]:
    """Capitalised names in order; words that only begin a sentence or ask are none."""
    found: list[str] = []
    for match in _NAME.finditer(text):
        words = match.group().split()
        while words and plain(words[0]) in STOPWORDS | _NO_NAMES:
            words.pop(0)
        if words:
            found.append(" ".join(words).removesuffix("'s").removesuffix("’s"))
    return found


def _by_rules(query: str, turns: Sequence[StoredTurn]) -> str:
    last = _last_asked(turns)
    bare, about = _BARE.match(query), _ABOUT.match(query)
    if bare:
        return _reasked(bare["word"], _resolved(last, turns[:-1]))
    if about:
        return _exchanged(_resolved(about["rest"] or about["fragment"], turns), last)
    return _resolved(_LED.sub("", query, count=1), turns)


def _last_asked(turns: Sequence[StoredTurn]) -> str:
    """The last question, or else what was said last. A question that leaned on one before it is made whole, too."""
    place = next((i for i in reversed(range(len(turns))) if turns[i].text.rstrip().endswith("?")), len(turns) - 1)
    last = _last_sentence(turns[place].text.strip())
    return _by_rules(last, turns[:place]) if place and depends(last) else last


def _last_sentence(text: str) -> str:
    from carrel.retrieval.sentences import split_sentences

    spans = split_sentences(text)
    return text[spans[-1].start : spans[-1].end].strip() if spans else text


def _reasked(word: str, question: str) -> str:
    """After "When did Ann join the choir?", "why?" is "Why did Ann join the choir?"."""
    match = _QUESTION_WORD.match(question)
    first = word[:1].upper() + word[1:]
    if match:
        return f"{first} {match['rest']}?"
    return f"{first}: {question}"


def _exchanged(fragment: str, question: str) -> str:
    """After a question, "and in 2019?" takes the place of its time or season, or of its name; else it is added."""
    body = question.rstrip("?!. ")
    new, old = times(fragment, 0.0), times(body, 0.0)
    if new and old:
        first = old[0]
        start, word = first.at, re.search(r"(?:\b(?:in|on|at|during)\s+)?$", body[: first.at], re.IGNORECASE)
        start = word.start() if word and re.match(r"(?:in|on|at|during)\b", fragment, re.IGNORECASE) else start
        return f"{body[:start]}{fragment}{body[first.at + len(first.words) :]}?"
    if new:
        return f"{body} {fragment}?"
    part, other = _PART.search(fragment), _PART.search(body)
    if part and other:
        leading = part["word"] or other["word"] or ""
        return f"{body[: other.start()]}{leading}{part['part']}{body[other.end() :]}?"
    names = _names(body)
    is_person = bool(_names(fragment) or _RELATIVE.search(fragment))
    if names and _OWNED.search(fragment) and not _RELATIVE.search(fragment):  # a thing takes no person's place
        owned = re.search(rf"\b{re.escape(names[0])}['’]s(?:\s+[a-z]\w*)?", body)
        return f"{body[: owned.start()]}{fragment}{body[owned.end() :]}?" if owned else f"What about {fragment}?"
    if is_person and names:
        place = body.find(names[0])
        head = _shared_head(fragment, body, place)
        if head is not None:
            return f"{body[:head]}{fragment}{body[place + len(names[0]) :]}?"
        kept = body[:place]
        opening = fragment.split()[0].lower()
        if opening in _PREPOSITIONS and kept.lower().rstrip().endswith(f" {opening}"):
            kept = kept.rstrip()[: -len(opening)]
        return f"{kept}{fragment}{body[place + len(names[0]) :]}?"
    return f"{body}, {fragment}?"


def _shared_head(fragment: str, body: str, end: int) -> int | None:
    """Where in a question the words begin with which a fragment begins, too: "the ferry to" of "the ferry to Berg"."""
    words = fragment.split()
    for count in range(len(words) - 1, 0, -1):
        head = " ".join(words[:count])
        if count > 1 and body[:end].rstrip().lower().endswith(head.lower()):
            return len(body[:end].rstrip()) - len(head)
    return None


def _resolved(query: str, turns: Sequence[StoredTurn]) -> str:
    """Pronouns without anyone before them in the query, replaced by who was spoken of last."""
    person = _PERSON.search(query)
    own = _names(query)
    if (
        person
        and not any(0 <= query.find(name) < person.start() for name in own)
        and not _is_meant_before(query, person)
    ):
        who = _spoken_of(turns)
        if who:
            word = person["p"].lower()
            possessive = word == "his" or (word == "her" and re.match(r"\s+[a-z]", query[person.end() :]) is not None)
            shown = f"{who}'s" if possessive or word == "hers" else who
            return f"{query[: person.start()]}{shown}{query[person.end() :]}"
    thing = _THING.search(query)
    if thing and not own and turns and not _is_meant_before(query, thing):
        topic = [word for word in _content(_last_sentence(turns[-1].text if len(turns) == 1 else _asked(turns)))][:6]
        return f"{query.rstrip('?!. ')} ({' '.join(topic)})?" if topic else query
    return query


def _asked(turns: Sequence[StoredTurn]) -> str:
    return next((turn.text for turn in reversed(turns) if turn.text.rstrip().endswith("?")), turns[-1].text)


def _spoken_of(turns: Sequence[StoredTurn]) -> str:
    """Who was spoken of last: a relative ("my sister") or a name; not whoever was speaking to the other."""
    for turn in reversed(turns):
        relative = list(_RELATIVE.finditer(turn.text))
        names = [
            name
            for name in _names(turn.text)
            if name.lower() not in (turn.speaker.lower(), USER, ASSISTANT)
            and not _PLACE.search(turn.text[: turn.text.find(name)])
            and not _only_begins(name, turn.text)
        ]
        if names and (not relative or turn.text.rfind(names[-1]) > relative[-1].start()):
            return names[-1]
        if relative:
            found = relative[-1].group()
            return found if found[:1].isupper() and "'" in found else found[:1].lower() + found[1:]
    return ""


def _only_begins(name: str, text: str) -> bool:
    """Whether a word has its capital from the beginning of a sentence, as "Above" in "Above the lake."."""
    if " " in name:
        return False
    places = list(re.finditer(rf"\b{re.escape(name)}\b", text))
    begins = all(re.search(r"(?:^|[.!?:…\"“]\s*)$", text[: each.start()]) for each in places)
    acts = any(_ACTS.match(text, each.end()) for each in places)
    return begins and (not acts or name.endswith("ing"))


def _written(query: str, turns: Sequence[StoredTurn], generator: Generator) -> str | None:
    """What the generator makes of it; None where it fails, or where its reply is no question."""
    history = tuple(Turn("assistant" if turn.speaker == ASSISTANT else "user", _said(turn)) for turn in turns)
    prompt = Prompt(query, task=_TASK, history=history, max_tokens=100, kind="write")
    try:
        reply = generator.complete(prompt).text.strip()
    except GenerationError:
        return None
    lines = [line.strip().strip("\"'“”") for line in reply.splitlines() if line.strip()]
    if len(lines) != 1 or not WORD.search(lines[0]):
        return None
    written = re.sub(r"^(?:rewritten )?question:\s*", "", lines[0], flags=re.IGNORECASE).strip("\"'“”")
    too_long = len(written) > len(query) + _LONGEST_REPLY
    return None if too_long or ("?" in query and not written.endswith("?")) else written


def _said(turn: StoredTurn) -> str:
    return turn.text if turn.speaker in (USER, ASSISTANT) else f"{turn.speaker}: {turn.text}"
