"""Questions and answers of a document to train on, each checked to be answerable from where it comes from.

Offline, a sentence becomes a question where a number, a date, a name or what something is stands in it: that is asked
for, in the sentence's own words. The reader then answers from the passage; what it does not answer alike is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from carrel.errors import GenerationError, InputError
from carrel.generation import replies
from carrel.generation.answerer import Answerer
from carrel.generation.base import Generator
from carrel.inputs import check_kind
from carrel.retrieval.sentences import split_sentences
from carrel.types import Document, Passage, Prompt

One = TypeVar("One")
Other = TypeVar("Other")
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(rf"\b(?:\d{{1,2}} (?:{_MONTHS})(?: \d{{4}})?|(?:{_MONTHS}) \d{{1,2}}(?:, \d{{4}})?)\b")
_YEAR = re.compile(r"(?<=\b[Ii]n )(?:1[0-9]|20)\d\d\b(?![-–%])")
_COUNT = re.compile(
    r"(?<![\w.,$£€#/–-])\d{1,3}(?:,\d{3})*(?:\.\d+)?(?= (?!(?:and|or|to|of|in|at|by|on|is|was|were)\b)[a-z]{3,})"
)
_NAME = re.compile(r"(?<![\w'’-])[A-Z][\w'’-]+(?: (?:(?:of|de|van|von|the) )?[A-Z][\w'’-]+){1,4}(?![\w'’-])")
_DEFINED = re.compile(
    r"^(?P<what>(?:The |An? )?[A-Z][\w'’-]+(?: [\w'’-]+){0,4}?) (?P<verb>is|was|are|were)"
    r" (?P<answer>(?:an?|one of the) [^,.;:()]{6,70})(?=[,.;:])"
)
_POINTS_BACK = re.compile(
    r"^(?:[\"'“(]*)(?:He|She|It|They|This|That|These|Those|His|Her|Its|Their|We|I|You|However|Also|But|And|Then|There|Here"
    r"|Such|Another|Both|Later|After|Before|During|Meanwhile|Thus|So)\b"
)
_ASKED = ((_DATE, "what date"), (_YEAR, "what year"), (_COUNT, "how many"), (_NAME, "who or what"))
_LEADS = re.compile(  # what a whole name may stand behind: anything else may be a part of it
    r"(?:^|[,;(] |\b(?:and|as|at|by|for|from|in|into|is|of|on|over|than|that|to|was|were|with|called|named|when) )$"
)
_FOLLOWS = re.compile(
    r"^(?:$|[,;)]|\.$| (?:and|as|at|by|from|has|had|in|is|on|or|that|to|was|were|which|who|with)\b)"
)
_TRANSCRIBED = re.compile(r"[{}\[\]|]|\w: | [,.?] ")
_SHORTEST, _LONGEST = 6, 30  # words of a sentence that is asked about
_TITLES = frozenset(("Mr", "Mrs", "Ms", "Dr", "Prof", "The", "In", "On", "At", "For", "By"))
_ALIKE = 0.6  # of the words of two answers
_WRITE = (
    "Write questions about the passage, each answered by a few words of it. Each question can be understood without the"
    " passage, names what it is about, and has one answer. Reply with JSON alone:"
    ' {"pairs": [{"question": "...", "answer": "..."}]}'
)
_REWRITE = (
    "Say all that the passage says in other words. Keep every name, number and date; add nothing. Reply with the new"
    " text alone."
)
_SAY = ("Write it anew.", "Write it anew, from its end to its beginning.", "Write it anew, in short sentences.")
_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
                "required": ["question", "answer"],
            },
        }
    },
    "required": ["pairs"],
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A question, its answer, and the part of the document that both come from; without a question, a text to learn."""

    question: str
    answer: str
    source: str = ""


class PairMaker(Protocol):
    """Makes pairs of a document."""

    def __call__(self, document: Document) -> Sequence[Pair]:
        """The pairs; none where there is nothing to ask."""


class ReaderPairs:
    """Pairs by templates, checked by the reader; no generator, no network.

    Parameters
    ----------
    answerer : that checks them; the shipped reader by default.
    most : pairs of a document, spread over it. passage_characters : about the size of a source.
    """

    def __init__(self, answerer: Answerer | None = None, *, most: int = 256, passage_characters: int = 700) -> None:
        check_kind("an answerer", answerer, Answerer)
        self._answerer, self.most, self.passage_characters = answerer, most, passage_characters

    @property
    def name(self) -> str:
        """What it makes; an adapter that was trained on something else is another one."""
        return f"reader:{self.most}:{self.passage_characters}"

    def __call__(self, document: Document) -> list[Pair]:
        found: dict[str, Pair] = {}
        for source in sources(document.text, self.passage_characters):
            for pair in cloze(source):
                if pair.question not in found and self.holds(pair):
                    found[pair.question] = pair
        return _spread(list(found.values()), self.most)

    def holds(self, pair: Pair) -> bool:
        """Whether the reader answers the question alike from its source."""
        if self._answerer is None:
            from carrel.reader.methods import ReaderAnswerer

            self._answerer = ReaderAnswerer()
        passage = Passage("", 0, len(pair.source), pair.source)
        answers = self._answerer.find(pair.question, (passage,))
        return bool(answers) and alike(answers[0].text, pair.answer)


class GeneratedPairs:
    """Pairs that a generator writes, checked by the reader; and what it says in other words, checked by the verifier.

    A passage that it makes nothing of is left out.

    Parameters
    ----------
    generator : writes them. answerer, most, passage_characters : as of ReaderPairs.
    rewrites : how often each passage is said in other words, too, which a recipe that learns text learns besides the
        text. Sentences that the passage does not support are left out.
    concurrency : passages that it is given at a time; more than one for a server or vLLM, not for the model that is
        trained.

    Raises
    ------
    GenerationError : at a document, where the generator wrote no pair for any passage.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        answerer: Answerer | None = None,
        most: int = 256,
        passage_characters: int = 1500,
        rewrites: int = 0,
        concurrency: int = 1,
    ) -> None:
        check_kind("a generator", generator, Generator)
        for name, number, least in (("rewrites", rewrites, 0), ("concurrency", concurrency, 1)):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise InputError(f"{name} is a number, {least} or more, not {number!r}")
        self.concurrency = concurrency
        self.generator, self.most, self.passage_characters, self.rewrites = (
            generator, most, passage_characters, rewrites,
        )  # fmt: skip
        self._check = ReaderPairs(answerer)

    @property
    def name(self) -> str:
        """As of ReaderPairs, with the generator's model."""
        model = getattr(self.generator, "model", self.generator.name)
        return f"{model}:{self.most}:{self.passage_characters}:{self.rewrites}"

    def __call__(self, document: Document) -> list[Pair]:
        passages = [
            Passage(document.id, 0, len(source), source, title=document.title)
            for source in sources(document.text, self.passage_characters)
        ]
        found: dict[str, Pair] = {}
        failure: GenerationError | None = None
        for written in self._each(self._pairs, passages):
            if isinstance(written, GenerationError):
                failure = written
                continue
            for pair in written:
                if pair.question not in found and self._check.holds(pair):
                    found[pair.question] = pair
        if failure is not None and not found:
            raise failure
        asked = [(passage, number) for passage in passages for number in range(self.rewrites)]
        told = [pair for pair in self._each(lambda each: self._rewritten(*each), asked) if pair is not None]
        return [*_spread(list(found.values()), self.most), *told]

    def _each(self, call: Callable[[One], Other], items: Sequence[One]) -> Iterator[Other]:
        """The results in order. One at a time it stays on this thread, which may hold the lock of the model."""
        if self.concurrency == 1:
            yield from map(call, items)
            return
        with ThreadPoolExecutor(self.concurrency) as pool:
            yield from pool.map(call, items)

    def _pairs(self, passage: Passage) -> Sequence[Pair] | GenerationError:
        prompt = Prompt("Which questions does it answer?", (passage,), task=_WRITE, schema=_SCHEMA, kind="pairs")
        try:
            return list(_written(replies.complete(self.generator, prompt).text, passage.text))
        except GenerationError as error:
            return error

    def _rewritten(self, passage: Passage, number: int) -> Pair | None:
        """The passage in other words, without what it does not say; None where nothing is left."""
        from carrel.generation.verification import verify

        prompt = Prompt(_SAY[number % len(_SAY)], (passage,), task=_REWRITE, kind="rewrite")
        try:
            said = replies.complete(self.generator, prompt).text
        except GenerationError:
            return None
        supported = [each.text.strip() for each in verify(said, (passage,)).sentences if each.supported]
        return Pair("", " ".join(supported), passage.text) if supported else None


def sources(text: str, characters: int) -> Iterator[str]:
    """The text in runs of whole sentences, each of about so many characters."""
    if characters < 1:
        raise InputError(f"passage_characters is a number above 0, not {characters!r}")
    start = 0
    spans = split_sentences(text)
    for number, span in enumerate(spans):
        if span.end - start >= characters or number == len(spans) - 1:
            if text[start : span.end].strip():
                yield text[start : span.end].strip()
            start = span.end


def cloze(source: str) -> Iterator[Pair]:
    """Questions about what stands in the sentences of a text, each in the sentence's own words; not yet checked."""
    for span in split_sentences(source):
        sentence = " ".join(source[span.start : span.end].split())
        words = len(sentence.split())
        if not _SHORTEST <= words <= _LONGEST or not sentence.endswith("."):
            continue
        if _POINTS_BACK.match(sentence) or _TRANSCRIBED.search(sentence):
            continue
        defined = _DEFINED.match(sentence)
        if defined:
            what = defined["what"]
            what = what[0].lower() + what[1:] if what.startswith(("The ", "A ", "An ")) else what
            yield Pair(f"What {defined['verb']} {what}?", defined["answer"], source)
        for pattern, asked in _ASKED:
            for match in pattern.finditer(sentence):
                pair = _asked(sentence, match, asked, source)
                if pair is not None:
                    yield pair


def _asked(sentence: str, match: re.Match[str], asked: str, source: str) -> Pair | None:
    """The sentence with what was found replaced by a question word, or None where that would be no question."""
    answer, before, after = match.group(), sentence[: match.start()], sentence[match.end() :].rstrip(" .")
    if answer.split()[0] in _TITLES or answer in before + after or not (before + after).strip():
        return None
    if match.re is _NAME:
        before = re.sub(r"\b[Tt]he $", "", before)
        if not _LEADS.search(before) or not _FOLLOWS.match(after):
            return None
    question = f"{before}{asked}{after}"
    return Pair(question[0].upper() + question[1:] + "?", answer, source)


def alike(first: str, second: str) -> bool:
    """Whether two answers are the same in most of their words."""
    one, other = (set(re.findall(r"\w+", text.lower())) for text in (first, second))
    if not one or not other:
        return False
    numbers = [{word for word in words if word[0].isdigit()} for words in (one, other)]
    return numbers[0] == numbers[1] and len(one & other) / len(one | other) >= _ALIKE


def _written(reply: str, source: str) -> Iterable[Pair]:
    """The pairs of a generator's reply.

    Raises
    ------
    GenerationError : it is not what was asked for.
    """
    start, end = reply.find("{"), reply.rfind("}")
    try:
        pairs = json.loads(reply[start : end + 1])["pairs"]
        return [Pair(str(one["question"]).strip(), str(one["answer"]).strip(), source) for one in pairs]
    except (ValueError, LookupError, TypeError) as error:
        raise GenerationError(f"the generator wrote no pairs: {reply[:120]!r}") from error


def _spread(pairs: list[Pair], most: int) -> list[Pair]:
    """At most so many, from all parts of the document."""
    if len(pairs) <= most:
        return pairs
    return [pairs[number * len(pairs) // most] for number in range(most)]
