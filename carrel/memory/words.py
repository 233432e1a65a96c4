"""Words of turns and questions: terms for matching, names of people, who is asked about."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from carrel.retrieval.indexes.lexical import STOPWORDS

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
USER, ASSISTANT = "user", "assistant"
_FIRST_PERSON = re.compile(r"\b(?:i|i['’](?:m|ve|d|ll)|my|me|mine|myself|we|our|us)\b", re.IGNORECASE)
_SECOND_PERSON = re.compile(r"\b(?:you|you['’](?:re|ve|d|ll)|your|yours)\b", re.IGNORECASE)
_YOU_SAID = re.compile(
    r"\byou(?:['’]ve| have| had)? (?:\w+ly )?(?:say|said|tell|told|gave|give|given|recommend\w*|suggest\w*|mention\w*"
    r"|explain\w*|write|wrote|written|list\w*|propose\w*|advise\w*|call\w*|answer\w*)\b",
    re.IGNORECASE,
)
_REQUEST = re.compile(r"\b(?:remind|tell|show|give|help) (?:me|us)\b|\b(?:can|could|would|will) you\b", re.IGNORECASE)
_ASKING = frozenset(
    """ago any anything does doing done ever get gets getting go goes going gone got have having kind know like likely
    long make makes making name often one other recently said say says something sort tell thing things time times told
    type types use used want way went""".split()
)
_OWN = re.compile(
    r"\b(?:[Mm]y|[Oo]ur)\s+(?:\w+\s+)?(?:sister|brother|mother|father|mom|mum|dad|wife|husband|partner|son|daughter|baby"
    r"|child|friend|boss|colleague|neighbou?r|aunt|uncle|cousin|niece|nephew|grandmother|grandfather|grandma|grandpa"
    r"|girlfriend|boyfriend|teacher|doctor|roommate|dog|cat|horse|goat|parrot|rabbit)(?:\s+is\s+called|,)?\s+"
    r"([A-Z][^\W\d_]+)"
)
_LEAST_NICKNAME = 3
_LONGEST_KEPT = 40  # characters between spaces; of a script without spaces that is a paragraph


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A word without its inflection, so that painted, paints and painting meet. Plainer than Porter: endings alone."""
    word = word.lower().replace("’", "'")
    for ending in ("'s", "'"):
        word = word.removesuffix(ending)
    word = _IRREGULAR.get(word, word)
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "i"
    for ending in ("ing", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word.endswith("y") else word.removesuffix("e")


_IRREGULAR = dict(
    pair.split(":")
    for pair in """going:go doing:do went:go gone:go goes:go did:do done:do does:do saw:see seen:see bought:buy
    brought:bring took:take taken:take gave:give given:give got:get gotten:get made:make told:tell said:say
    thought:think found:find lost:lose met:meet ran:run won:win began:begin begun:begin wrote:write written:write
    spoke:speak spoken:speak ate:eat eaten:eat drove:drive driven:drive flew:fly left:leave felt:feel kept:keep
    taught:teach caught:catch chose:choose chosen:choose broke:break broken:break sold:sell built:build held:hold
    heard:hear knew:know known:know grew:grow grown:grow drew:draw drawn:draw swam:swim sang:sing sung:sing
    rode:ride sent:send spent:spend slept:sleep became:become came:come fell:fall fallen:fall wore:wear worn:wear
    hid:hide stood:stand understood:understand children:child kids:kid wives:wife lives:life mice:mouse feet:foot
    people:person mom:mother mum:mother dad:father grandma:grandmother grandpa:grandfather photo:picture pic:picture
    pics:picture photos:picture""".split()
)


def terms(text: str) -> list[str]:
    """The stems of a text's words in order, without the commonest words."""
    found: list[str] = []
    for piece in text.split():  # most have been seen before, which is quicker than to look for words in them
        found += _terms_of(piece) if len(piece) <= _LONGEST_KEPT else _terms(piece)
    return found


def _terms(piece: str) -> list[str]:
    stems = (stem(word) for word in WORD.findall(piece) if plain(word) not in STOPWORDS)
    return [term for term in stems if term]


_terms_of = lru_cache(maxsize=65536)(_terms)  # nobody changes what it gives


def asked_terms(query: str, names: Collection[str] = ()) -> list[str]:
    """What a question is about: its terms without names that are looked for apart, and words of asking; each once."""
    left = {plain(name) for name in names}
    words = (word for word in WORD.findall(query) if plain(word) not in left)
    kept = (stem(word) for word in words if plain(word) not in STOPWORDS and plain(word) not in _ASKING)
    return list(dict.fromkeys(kept))


def plain(word: str) -> str:
    """A word in small letters, without a possessive."""
    word = word.lower().replace("’", "'")
    return word.removesuffix("'s").removesuffix("'")


def _about_you(query: str) -> bool:
    return bool(_SECOND_PERSON.search(query)) and not _FIRST_PERSON.search(query)


def own_people(text: str) -> list[str]:
    """The names, without a possessive, of those whom a speaker calls theirs: "my sister Marta", "our dog Rex"."""
    return _OWN.findall(text)


def same_person(word: str, name: str) -> bool:
    """Whether a word of a text names someone: the name, a word of it, or a shorter form (Mel for Melanie)."""
    said = plain(word)
    for part in name.lower().split() or [name.lower()]:
        short, whole = sorted((said, part), key=len)
        if said == part or (len(short) >= _LEAST_NICKNAME and whole.startswith(short) and _nickname(short, whole)):
            return True
    return False


def _nickname(short: str, whole: str) -> bool:
    """Mel of Melanie, Jo of Joanna; not Mari of Maria, which is a name of its own as likely as not."""
    return len(whole) - len(short) >= 2


@lru_cache(maxsize=256)
def naming(name: str) -> re.Pattern[str]:
    """Finds a name, a word of it, or a shorter form of one, with a capital letter, in a text."""
    forms: list[str] = []
    for part in name.split() or [name]:
        part = part[:1].upper() + part[1:]
        forms += [part] + [part[:length] for length in range(len(part) - 2, _LEAST_NICKNAME - 1, -1)]
    kept = [re.escape(form) for form in forms if form.lower() not in STOPWORDS]
    return re.compile(rf"\b(?:{'|'.join(kept)})\b" if kept else r"(?!)")


@dataclass(frozen=True, slots=True)
class Asked:
    """Who a question is about.

    Attributes
    ----------
    people : the speakers that it names, in order; ``owner`` : the one whom the answer is about, where it says so.
    words : the words that named them, as they stand in the question.
    together : whether it is about all of them ("Ann and Bob", "both").
    """

    people: tuple[str, ...] = ()
    owner: str | None = None
    words: tuple[str, ...] = ()
    together: bool = False

    def owns(self, speaker: str) -> bool:
        """Whether the answer is to be looked for in what this speaker said."""
        return speaker == self.owner or (self.together and speaker in self.people)


def asked_people(query: str, speakers: Iterable[str]) -> Asked:
    """The speakers that a question names, by name or short name; "I" is the user, "you" the assistant.

    With several, the first that is no possessive owns the question ("What does Ann think of Bob's plan?": Ann).
    """
    known = sorted(set(speakers))
    named = [name for name in known if name not in (USER, ASSISTANT)]
    people: dict[str, str] = {}
    owner: str | None = None
    for word in WORD.findall(query):
        if not word[:1].isupper() and plain(word) not in {name.lower() for name in named}:
            continue
        for name in named:
            if same_person(word, name) and (plain(word) not in STOPWORDS):
                people.setdefault(name, word)
                if owner is None and not word.endswith(("'s", "’s", "'", "’")):
                    owner = name
    if not people and USER in known:
        rest = _REQUEST.sub(" ", query)
        if ASSISTANT in known and (_YOU_SAID.search(rest) or _about_you(rest)):
            people[ASSISTANT] = ""
        elif _FIRST_PERSON.search(rest):
            people[USER] = ""
    found, words = tuple(people), tuple(word for word in people.values() if word)
    together = len(words) > 1 and any(
        re.search(rf"\b{re.escape(one)},? and {re.escape(two)}(?!['’\w])", query) for one, two in pairwise(words)
    )
    return Asked(found, owner or (found[0] if found else None), words, together)


_EMBEDDED = 20_000  # characters, which is more than a vector can tell


def embedded_text(speaker: str, text: str) -> str:
    """What the vector of a turn is made of: named speakers say who they are; user and assistant are everybody's."""
    text = text[:_EMBEDDED]
    return text if speaker in (USER, ASSISTANT) or not speaker.strip() else f"{speaker}: {text}"


_ASKING_FIRST = re.compile(
    r"^\W*(?:(?:in|on|at|for|to|with|from|by|about) )?(?:what(?:['’]s)?|when|where|who|whose|whom|why"
    r"|how(?: (?:many|much|long|often|old))?|which|did|does|do|is|are|was|were|has|have|had|would|could|can|will"
    r"|should)\b",
    re.IGNORECASE,
)
_AUXILIARY = re.compile(
    r"\b(?:did|does|do|is|are|was|were|has|have|had|would|could|can|will|should|be)\b", re.IGNORECASE
)
_THIRD_POSSESSIVE, _THIRD = re.compile(r"\b(?:her|his|their)\b", re.I), re.compile(r"\b(?:she|he|they)\b", re.I)


def as_said(query: str, asked: Asked) -> str:
    """A question as its owner might have told it: "When did Ann join the choir?" is "I join the choir".

    Turns are told in the first person, so that this is closer to them than the question (the idea of HyDE, Gao et al.,
    arXiv 2212.10496, without a model).
    """
    text = _AUXILIARY.sub("", _ASKING_FIRST.sub("", query.rstrip("?!. ")), count=1)
    if asked.owner is None or asked.owner == ASSISTANT:
        return " ".join(text.split()) or query
    for word in asked.words:
        if same_person(word, asked.owner):
            possessive = word.endswith(("'s", "’s", "'", "’"))
            text = re.sub(rf"\b{re.escape(word)}(?!\w)", "my" if possessive else "I", text)
    text = _THIRD.sub("I", _THIRD_POSSESSIVE.sub("my", text)) if asked.words else text
    return " ".join(text.split()) or query
