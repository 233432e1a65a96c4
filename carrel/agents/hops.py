"""Following what was found: the next queries of a multi-hop question, and one ranking of all that they brought.

No model writes sub-questions here. Every part is plain text and ranks, in the manner of

- MDR (Xiong et al., arXiv 2009.12756): the next query is the question with a passage that was found;
- IterDRAG (Yue et al., arXiv 2410.04343): retrieval is repeated, each time with what is known by then;
- HippoRAG (Gutierrez et al., arXiv 2405.14831): names lead from one passage to another;
- GoldEn Retriever (Qi et al., arXiv 1910.07000): a title that is named in one passage is the next hop;
- reciprocal rank fusion (Cormack et al., SIGIR 2009): rankings are joined by rank, so no score is weighed.

All functions are pure: a flow retrieves and reads, and hands over passages and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from carrel.errors import InputError
from carrel.retrieval.indexes.lexical import STOPWORDS
from carrel.retrieval.pruned_packing import Key, key_of
from carrel.types import Passage

SEEDS = 4
NAMES_EACH = 8
NAME_HITS = 2
BRIDGE_HITS = 12
RANK_CONSTANT = 10
HEAD = 20  # about as many pruned paragraphs as 1,000 tokens hold
_LEAST_NAME = 3  # characters
_PART = r"[^\W_a-zß-öø-ÿ](?:[\w'’&-]|\.(?=\w))*"
_LINK = r"(?:of|the|and|de|la|le|du|da|di|von|van|der|al|el)"
_NAME = re.compile(rf"\b{_PART}(?:(?:\s+{_LINK}){{0,2}}\s+{_PART})*")
_ASIDE = re.compile(r"\s*\([^()]*\)")
_NO_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Seed:
    """A passage that is followed, and how sure it is: 0 to 1, the surest passage of the question has 1."""

    passage: Passage
    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise InputError(f"the weight of a seed is between 0 and 1, not {self.weight}")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A query of the next hop. ``is_name`` tells a name, looked up alone, from the question with a passage."""

    query: str
    weight: float
    is_name: bool

    @property
    def limit(self) -> int:
        """How many passages to retrieve for it."""
        return NAME_HITS if self.is_name else BRIDGE_HITS


@dataclass(frozen=True, slots=True)
class Followed:
    """A follow-up and what was retrieved for it, best first."""

    follow_up: FollowUp
    passages: tuple[Passage, ...]


def names(text: str, known: str = "") -> list[str]:
    """The capitalised names of a text, in order, each once; those that stand in ``known`` are left out.

    Words that only begin a sentence ("The", "In", "He") are cut from their ends; a number is no name.
    """
    seen = f" {plain(known)} "
    found: dict[str, str] = {}
    for match in _NAME.finditer(text):
        name = _trimmed(match.group())
        key = plain(name)
        if len(key) >= _LEAST_NAME and any(c.isalpha() for c in key) and f" {key} " not in seen:
            found.setdefault(key, name)
    return list(found.values())


def _trimmed(name: str) -> str:
    words = name.split()
    while words and words[0].lower() in STOPWORDS:
        words.pop(0)
    while words and words[-1].lower() in STOPWORDS:
        words.pop()
    return " ".join(words)


def plain(text: str) -> str:
    """Lower case, words parted by single spaces, nothing else: so that texts are compared word by word."""
    return _NO_WORD.sub(" ", text.lower()).strip()


def subject(title: str) -> str:
    """What a title names, as ``plain`` text: without an aside in brackets, as in "Always (2011 film)"."""
    return plain(_ASIDE.sub("", title)) or plain(title)


def seeds(passages: Iterable[Passage], followed: Iterable[Key] = (), count: int = SEEDS) -> list[Seed]:
    """The passages to follow next: the first ``count``, by relevance, that were not followed before.

    Parameters
    ----------
    passages : what was read; ``scores.relevance`` orders them and weighs them against the best of all.
    followed : those that were seeds before, by ``key_of``.
    """
    done = frozenset(followed)
    ordered = sorted(passages, key=lambda passage: -_relevance(passage))
    best = max((_relevance(passage) for passage in ordered), default=0.0)
    fresh = [passage for passage in ordered if key_of(passage) not in done][: max(0, count)]
    return [Seed(passage, _relevance(passage) / best if best > 0 else 1.0) for passage in fresh]


def _relevance(passage: Passage) -> float:
    return 0.0 if passage.scores.relevance is None else passage.scores.relevance


def follow_ups(question: str, chosen: Sequence[Seed], asked: Iterable[str] = ()) -> list[FollowUp]:
    """The next queries: the question with each seed's title and text, and the first names that the question lacks.

    A name that several seeds have is looked up once, with the greatest weight. Queries in ``asked`` are not
    repeated.
    """
    queries: dict[str, FollowUp] = {}
    done = {plain(query) for query in asked}
    for seed in chosen:
        said = f"{seed.passage.title}. {seed.passage.text.strip()}" if seed.passage.title else seed.passage.text.strip()
        bridge, told = f"{question} {said}", names(said, known=question)[:NAMES_EACH]
        for query, is_name in ((bridge, False), *((name, True) for name in told)):
            key, follow_up = plain(query), FollowUp(query, seed.weight, is_name)
            if key in done:
                continue
            before = queries.setdefault(key, follow_up)
            if seed.weight > before.weight:
                queries[key] = replace(before, weight=seed.weight)
    return list(queries.values())


def links(chosen: Sequence[Seed], passages: Sequence[Passage]) -> dict[Key, float]:
    """How strongly a seed names the subject of each passage: the weight of the surest seed whose text holds it.

    Passages that no seed names are left out; so is what shares its title with the seed.
    """
    texts = [(seed.weight, subject(seed.passage.title), f" {plain(seed.passage.text)} ") for seed in chosen]
    found: dict[Key, float] = {}
    for passage in passages:
        named = subject(passage.title)
        if len(named) < _LEAST_NAME:
            continue
        weights = [weight for weight, own, text in texts if own != named and f" {named} " in text]
        if weights:
            found[key_of(passage)] = max(weights)
    return found


def fused_ranks(scorings: Iterable[Mapping[Key, float]], constant: float = RANK_CONSTANT) -> dict[Key, float]:
    """Reciprocal rank fusion of scorings, higher is better: the sum of 1 / (constant + rank), ranks from 1.

    Equal scores share the best of their ranks; what a scoring lacks gets nothing from it.
    """
    if not constant > 0:
        raise InputError(f"the constant of a rank fusion must be above 0, not {constant}")
    totals: dict[Key, float] = {}
    for scoring in scorings:
        rank, last = 0, None
        for place, (key, score) in enumerate(sorted(scoring.items(), key=lambda item: -item[1]), start=1):
            rank, last = (rank if score == last else place), score
            totals[key] = totals.get(key, 0.0) + 1 / (constant + rank)
    return totals


def ranked(
    found: Sequence[Passage], nearest: Iterable[Passage], chosen: Sequence[Seed], followed: Sequence[Followed]
) -> list[Passage]:
    """All passages that were found, best first, each once.

    Five rankings are fused: the reader's relevance to the question, the cosine with it, the best rank of a passage
    under any question with a seed, its best place under a name (weighed by the seed), and whether a seed
    names its title (weighed likewise).

    Parameters
    ----------
    found : what the question itself brought, read: ``scores.relevance`` is used where there is one.
    nearest : more of what the question itself brought, with ``scores.dense``; it orders what was found and adds
        nothing.
    chosen, followed : every seed and every follow-up so far.
    """
    passages = {key_of(p): p for p in (*(p for f in followed for p in f.passages), *found)}
    bridged: dict[Key, float] = {}
    named: dict[Key, float] = {}
    for each in followed:
        follow_up, scoring = each.follow_up, named if each.follow_up.is_name else bridged
        for place, passage in enumerate(each.passages, start=1):
            score = (follow_up.weight if follow_up.is_name else 1.0) / place
            scoring[key_of(passage)] = max(score, scoring.get(key_of(passage), 0.0))
    relevance = {key_of(p): p.scores.relevance for p in found if p.scores.relevance is not None}
    close = {key_of(p): p.scores.dense for p in nearest if p.scores.dense is not None and key_of(p) in passages}
    linked = links(chosen, list(passages.values()))
    totals = fused_ranks((relevance, close, bridged, named, linked))
    return sorted(passages.values(), key=lambda passage: (-totals.get(key_of(passage), 0.0), key_of(passage)))


def settled(before: Sequence[Passage], after: Sequence[Passage], count: int = HEAD) -> bool:
    """Whether another hop changed nothing that matters: the same passages, in any order, head both rankings."""
    return {key_of(p) for p in before[:count]} == {key_of(p) for p in after[:count]}
