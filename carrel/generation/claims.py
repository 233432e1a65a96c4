"""A sentence taken apart into what can be compared without a model: words, numbers, dates, names, quotations."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal

from carrel.generation.numbers import MONTHS, NUMBER, Quantity, is_number_word, read_quantity

Kind = Literal["word", "stop", "name", "number", "year", "month"]

_TOKEN = re.compile(
    rf"(?P<number>{NUMBER})|(?P<letters>(?:[A-Z]\.){{2,}}|(?:[A-Z]\. ){{2,}}(?=[A-Z]))"
    r"|(?P<word>[^\W\d_]+(?:[’'][^\W\d_]+)*)|(?P<sign>[%$€£¥])"
)
_QUOTED = re.compile(r"“([^”\n]{8,})”|\"([^\"\n]{8,})\"")
_ROMAN = {word: at for at, word in enumerate("I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI".split(), start=1)}
_ALPHANUMERIC = re.compile(r"[^\W_]+")
NEGATIONS = frozenset(
    "not no never none nobody nothing neither nor without cannot hardly fail fails failed unable refuse refused"
    " refuses lack lacks lacked deny denies denied".split()
)
STOPWORDS = frozenset(
    "a an the and or but if then than so as of in on at by for from to into onto upon with within about between around"
    " is are was were be been being am do does did doing have has had having will would shall should can could may"
    " might must it its this that these those there here he she they him them his her hers their our your my we you i"
    " who whom whose which what when where why how also just only very more most such some any each other own same s t"
    " during while because since until through both all per via yes called named known according".split()
)
_OPPOSITES = (
    "increase decrease,rise fall,rose fell,risen fallen,gain loss,gained lost,win lose,won lost,before after,above"
    " below,more less,most least,more fewer,higher lower,highest lowest,largest smallest,larger smaller,first last,"
    "north south,east west,northern southern,eastern western,open closed,opened closed,begin end,began ended,start"
    " stop,started stopped,accept reject,accepted rejected,allow forbid,allowed forbidden,allowed banned,early late,"
    "earlier later,earliest latest,old new,older younger,oldest youngest,male female,man woman,men women,major minor,"
    "majority minority,maximum minimum,buy sell,bought sold,import export,imports exports,enter leave,up down,inside"
    " outside,true false,same different,legal illegal,possible impossible,positive negative,"
    "upper lower,longest shortest,longer shorter,support oppose,supported opposed,best worst"
)
_IRREGULAR = (
    "be was were been,become became,begin began begun,break broke broken,bring brought,build built,buy bought,catch"
    " caught,choose chose chosen,come came,cost,cut,deal dealt,draw drew drawn,drive drove driven,eat ate eaten,fall"
    " fell fallen,feel felt,fight fought,find found,fly flew flown,forbid forbade forbidden,forget forgot forgotten,"
    "get got gotten,give gave given,go went gone,grow grew grown,hang hung,hear heard,hide hid hidden,hold held,keep"
    " kept,know knew,lay laid,lead led,leave left,lend lent,lie lay lain,lose lost,make made,mean meant,meet met,pay"
    " paid,ride rode ridden,rise rose risen,run ran,say said,see saw seen,seek sought,sell sold,send sent,shoot shot,"
    "show shown,sing sang sung,sink sank sunk,sit sat,sleep slept,speak spoke spoken,spend spent,stand stood,steal"
    " stole stolen,strike struck,swim swam swum,take took taken,teach taught,tell told,think thought,throw threw"
    " thrown,understand understood,wear wore worn,win won,write wrote written,child children,man men,woman women,foot"
    " feet,die died dies death deaths dying,person people,life lives,wife wives,half halves"
)
_ROOTS = {form: forms.split()[0] for forms in _IRREGULAR.split(",") for form in forms.split()}
_ENDINGS = "ations ation ings ing edly ed ions ion ments ment ors or ers er ies es ly s y e".split()


@dataclass(frozen=True, slots=True)
class Token:
    """One word or number. ``key`` is what is compared: a stem, a name in small letters, ``#`` and a number's value.

    ``run`` numbers the proper name that it belongs to, -1 for none; ``start`` and ``end`` are offsets in the text.
    """

    key: str
    kind: Kind
    text: str
    start: int
    end: int
    unit: str = ""
    run: int = -1


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence taken apart. ``plain`` is its letters and digits alone, to find it as it is in another text."""

    text: str
    tokens: tuple[Token, ...]
    quotations: tuple[str, ...]
    plain: str

    @property
    def content(self) -> tuple[Token, ...]:
        """The tokens that tell something."""
        return tuple(token for token in self.tokens if token.kind != "stop")


@lru_cache(maxsize=16384)
def claim_of(text: str, known_names: frozenset[str] = frozenset()) -> Claim:
    """Take a sentence apart.

    Parameters
    ----------
    known_names : keys of words that are names elsewhere, so that the first word of a sentence, and one in small
        letters, can be seen to be one.
    """
    source = text.lower() if text.isupper() and len(text.split()) > 4 else text
    tokens = _tokens(source)
    tokens = _with_names(tokens, known_names)
    quotations = tuple(first or second for first, second in _QUOTED.findall(text))
    return Claim(text, tuple(tokens), quotations, plain(text))


def plain(text: str) -> str:
    """Letters and digits in small letters without accents, other signs as one space, spaces around."""
    return f" {' '.join(_ALPHANUMERIC.findall(fold(text)))} "


def fold(text: str) -> str:
    """Small letters without accents."""
    text = text.lower().replace("’", "'")
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _tokens(text: str) -> list[Token]:
    matches = list(_TOKEN.finditer(text))
    words = [fold(match.group()) for match in matches]
    out: list[Token] = []
    index = 0
    while index < len(matches):
        match = matches[index]
        quantity = read_quantity(words, index) if match["number"] or is_number_word(words[index]) else None
        if quantity is not None:
            last = matches[quantity.next - 1]
            out += _of_quantity(quantity, text[match.start() : last.end()], match.start(), last.end())
            index = quantity.next
            continue
        if not match["sign"]:
            out.append(_of_word(match, words[index]))
        index += 1
    return out


def _of_quantity(quantity: Quantity, text: str, start: int, end: int) -> list[Token]:
    kinds: list[tuple[str, Kind]] = [(f"#{value:.10g}", quantity.kind) for value in quantity.values]
    if quantity.months:  # a year and a day, with the month between them as they are written in words
        (year, _), (day, _) = kinds
        kinds = [(day, "number"), (quantity.months[0], "month"), (year, "year")]
    return [Token(key, kind, text.strip(), start, end, quantity.unit) for key, kind in kinds]


def _of_word(match: re.Match[str], word: str) -> Token:
    written = match.group()
    if match["number"]:  # 1.2.3
        return Token(f"#{word}", "number", written, *match.span())
    if match["letters"]:
        return Token(word.replace(".", "").replace(" ", ""), "name", written, *match.span())
    word = word.removesuffix("'s").removesuffix("'")
    if word in MONTHS and (word not in ("may", "march") or written[0].isupper()):
        return Token(word[:3], "month", written, *match.span())
    if word.endswith("n't") or word in NEGATIONS:
        return Token("not", "stop", written, *match.span())
    if written.isupper() and len(written) > 1 and written not in _ROMAN and len(written) < 7:
        return Token(word, "name", written, *match.span())
    if written in _ROMAN and _after_name(match):
        return Token(f"#{_ROMAN[written]}", "name", written, *match.span())
    if word in STOPWORDS or len(word) == 1:
        return Token(word, "stop", written, *match.span())
    return Token(stem(word), "name" if written[0].isupper() else "word", written, *match.span())


def _after_name(match: re.Match[str]) -> bool:
    """Whether the word before begins with a capital: World War I."""
    before = match.string[: match.start()].split()
    return bool(before) and before[-1][0].isupper() and len(before) > 1


def _with_names(tokens: list[Token], known: Collection[str]) -> list[Token]:
    """Names told from words, without regard to the case of the first word; neighbours of one name numbered alike."""
    kinds: list[Kind] = [
        "name" if token.kind in ("word", "name") and token.key in known else token.kind for token in tokens
    ]
    if tokens and kinds[0] in ("word", "name") and tokens[0].key not in known and not _is_acronym(tokens[0].text):
        followed = len(tokens) > 1 and kinds[1] == "name" and tokens[1].start - tokens[0].end <= 1
        kinds[0] = "name" if followed else "word"
    out: list[Token] = []
    run, previous = -1, -9
    for token, kind in zip(tokens, kinds, strict=True):
        if kind == "name":
            run += token.start - previous > 1
            previous = token.end
        out.append(
            Token(token.key, kind, token.text, token.start, token.end, token.unit, run if kind == "name" else -1)
        )
    return out


def _is_acronym(text: str) -> bool:
    return text.isupper() and len(text) > 1


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A crude stem, enough to match plurals, verb endings and the commonest derived nouns; irregular forms by table."""
    word = _ROOTS.get(word, word)
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= (3 if len(ending) < 3 or ending == "ing" else 4):
            word = word[: -len(ending)]
            break
    word = word[:-1] if len(word) > 4 and word[-1] == word[-2] else word
    return word[:-1] if len(word) > 3 and word[-1] in "eiy" else word


def _opposites() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for pair in _OPPOSITES.split(","):
        one, other = (word if word in STOPWORDS else stem(word) for word in pair.split())
        if one != other:
            found[one] = found.get(one, frozenset()) | {other}
            found[other] = found.get(other, frozenset()) | {one}
    return found


OPPOSITES = _opposites()


def dates_of(tokens: Collection[Token]) -> frozenset[tuple[str, str, str]]:
    """Every (year, month, day) with a month, by keys; empty where it is not said. 12 March 1998 is March 12, 1998."""
    sequence: list[Token | None] = [None, *tokens, None, None]
    found: set[tuple[str, str, str]] = set()
    for index, token in enumerate(sequence):
        if token is None or token.kind != "month":
            continue
        before, (after, then) = sequence[index - 1], sequence[index + 1 : index + 3]
        if _is_day(after):
            day, year = after, then
        else:
            day, year = before if _is_day(before) else None, after
        found.add((year.key if year is not None and _is_year(year) else "", token.key, day.key if day else ""))
    return frozenset(found)


def _is_day(token: Token | None) -> bool:
    return token is not None and token.kind == "number" and not token.unit and 1 <= float(token.key[1:]) <= 31


def _is_year(token: Token | None) -> bool:
    return token is not None and token.kind == "year"


def runs_of(tokens: Collection[Token]) -> list[tuple[Token, ...]]:
    """The proper names, each with all its words."""
    named = [token for token in tokens if token.run >= 0]
    return [tuple(group) for _, group in groupby(named, key=lambda token: token.run)]
