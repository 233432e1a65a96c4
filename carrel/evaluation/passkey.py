"""Needle and passkey tasks: which of many long documents holds one short fact, at any length of document.

Each document is filler around one fact at a random depth; a question asks for the fact of one of them, and the right
document should come first. All else being the same, an encoder that reads only the beginning, or that drowns the fact
in the rest, shows it.

Reference: Zhu et al., "LongEmbed: Extending Embedding Models for Long Context Retrieval", arXiv 2404.12096 (100
documents and 50 questions a length, from 256 to 32,768 tokens); the passkey's filler: Mohtashami and Jaggi, "Landmark
Attention", arXiv 2305.16300.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import ChunkEncoder
from carrel.errors import InputError
from carrel.tokens import Tokenizer
from carrel.types import Chunk, Document

Kind = Literal["passkey", "needle"]
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
GRASS = ("The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again.")
_GIVEN = ("Adela", "Bruno", "Carmen", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Ingrid", "Jonas", "Keiko", "Liam",
          "Marta", "Nadia", "Oscar", "Priya", "Quentin", "Rosa", "Stefan", "Tomoko")  # fmt: skip
_FAMILY = ("Abara", "Brandt", "Castillo", "Doyle", "Eriksen", "Fontaine", "Gallo", "Haddad", "Ivanov", "Jansen",
           "Kovacs", "Lindqvist", "Moreau", "Novak", "Okafor", "Petrov", "Quispe", "Rossi", "Sato",
           "Tanaka")  # fmt: skip
_PLACES = (
    "Valmera",
    "Ostrand",
    "Quillon",
    "Tarsk",
    "Brivane",
    "Selmouth",
    "Dorrance",
    "Yelvin",
    "Corvath",
    "Umbria Bay",
)
_FACTS = (  # the fact, its question, what fills the second place
    ("The best soup in {0} is made from {1}.", "What is the best soup in {0} made from?", "nettles and smoked eel"),
    ("The oldest violin in {0} belongs to {1}.", "Who owns the oldest violin in {0}?", "a retired tram driver"),
    ("The mountain railway of {0} was paid for by {1}.", "Who paid for the mountain railway of {0}?", "a hat maker"),
    ("The town clock of {0} runs {1}.", "How does the town clock of {0} run?", "eleven minutes slow on purpose"),
    ("The football team of {0} plays in {1}.", "In which colours does the football team of {0} play?", "pale orange"),
    ("The university of {0} is famous for the study of {1}.", "What is the university of {0} famous for?", "moss"),
    ("The winter festival of {0} ends with {1}.", "How does the winter festival of {0} end?", "a race on barrels"),
    ("The first chess master of {0} learned the game from {1}.", "From whom did {0}'s first chess master learn?",
     "a blind cook"),
    ("The botanical garden of {0} grows {1}.", "What grows in the botanical garden of {0}?", "black tulips"),
    ("The hospital of {0} was once {1}.", "What was the hospital of {0} once?", "a mustard factory"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """One length: question ``i`` is about document ``gold[i]``; ``depths`` are of each document, from 0 to 1."""

    kind: Kind
    length: int
    documents: tuple[Document, ...]
    questions: tuple[str, ...]
    gold: tuple[int, ...]
    depths: tuple[float, ...]


def passkey_task(
    length: int, tokenizer: Tokenizer, *, documents: int = 100, questions: int = 50, seed: int = 0
) -> Task:
    """Documents that name one person's pass key each, among sentences that are the same in all.

    Parameters
    ----------
    length : of every document, in tokens; met to within a sentence, never exceeded.
    tokenizer : counts them.
    documents, questions : how many; each question is about another document.
    seed : another seed has other names, keys and depths.
    """
    draw = random.Random(f"passkey/{seed}")
    names = draw.sample([f"{given} {family}" for given, family in product(_GIVEN, _FAMILY)], _at_most(documents, 400))
    facts = [
        f"{name}'s pass key is {key}. Remember it. {key} is the pass key for {name}."
        for name, key in zip(names, draw.sample(range(10_000, 100_000), documents), strict=True)
    ]
    return _task("passkey", length, tokenizer, GRASS, facts, [f"What is the pass key for {name}?" for name in names],
                 questions, seed)  # fmt: skip


def needle_task(
    length: int,
    tokenizer: Tokenizer,
    haystack: Sequence[str],
    *,
    documents: int = 100,
    questions: int = 50,
    seed: int = 0,
) -> Task:
    """Documents that hold one short fact each, among the sentences of a haystack, which is the same in all.

    Parameters
    ----------
    haystack : sentences or paragraphs in order, read again from the beginning where they do not suffice.
    length, tokenizer, documents, questions, seed : as for passkeys; there are 100 facts.
    """
    pairs = random.Random(f"needle/{seed}").sample(list(product(_FACTS, _PLACES)), _at_most(documents, 100))
    facts = [fact.format(place, filler) for (fact, _, filler), place in pairs]
    asked = [question.format(place) for (_, question, _), place in pairs]
    return _task("needle", length, tokenizer, haystack, facts, asked, questions, seed)


def _at_most(documents: int, limit: int) -> int:
    if not 1 <= documents <= limit:
        raise InputError(f"there are facts for 1 to {limit} documents, not {documents}")
    return documents


def _task(
    kind: Kind,
    length: int,
    tokenizer: Tokenizer,
    filler: Sequence[str],
    facts: Sequence[str],
    asked: Sequence[str],
    questions: int,
    seed: int,
) -> Task:
    if not 1 <= questions <= len(facts):
        raise InputError(f"each question is about a document of its own: 1 to {len(facts)}, not {questions}")
    draw = random.Random(f"{kind}/{seed}/{length}")
    counts = [tokenizer.count(text) for text in filler]
    if not sum(counts):
        raise InputError("the filler has no tokens: give sentences")
    made, depths = [], []
    for number, fact in enumerate(facts):
        text, depth = _around(fact, length - tokenizer.count(fact), filler, counts, draw.random())
        made.append(Document(text, id=f"{kind}-{length}-{number}"))
        depths.append(depth)
    gold = tuple(draw.sample(range(len(facts)), questions))
    return Task(kind, length, tuple(made), tuple(asked[place] for place in gold), gold, tuple(depths))


def _around(fact: str, room: int, filler: Sequence[str], counts: Sequence[int], depth: float) -> tuple[str, float]:
    """The text with the fact before the first sentence that begins past the depth, and where it stands in tokens."""
    if room < 0:
        raise InputError(f"the fact alone is {-room} tokens longer than a document should be: {fact!r}")
    parts: list[str] = []
    starts = [0]
    while starts[-1] + counts[len(parts) % len(filler)] <= room:
        starts.append(starts[-1] + counts[len(parts) % len(filler)])
        parts.append(filler[len(parts) % len(filler)])
    place = int(np.searchsorted(starts, depth * starts[-1]))
    return " ".join([*parts[:place], fact, *parts[place:]]), starts[place] / max(1, starts[-1])


def chunked(task: Task) -> list[tuple[Document, list[Chunk]]]:
    """Each document as one chunk, as ``encode_many`` takes them."""
    return [(document, [Chunk(0, 0, len(document.text), document.text)]) for document in task.documents]


def score(task: Task, encoder: ChunkEncoder) -> NDArray[np.float64]:
    """(questions,): 1 where the right document has the highest cosine of all, 0 where another has.

    Documents that tie share the point: texts that differ only in what an encoder does not read are a guess. A document
    with several vectors counts with the best of them for each vector of the question.
    """
    vectors = [rows[0] for rows in encoder.encode_many(chunked(task))]
    firsts = np.cumsum([0, *(len(rows) for rows in vectors[:-1])])
    rows = np.concatenate(vectors)
    found = [
        np.maximum.reduceat(rows @ encoder.encode_query(question).T, firsts, axis=0).mean(axis=1)
        for question in task.questions
    ]
    return accuracy(np.array(found), task.gold)


def accuracy(similarities: NDArray[np.floating], gold: Sequence[int]) -> NDArray[np.float64]:
    """(questions,) from (questions, documents): 1 where the gold document is first, shared among those that tie."""
    best = similarities.max(axis=1, keepdims=True) - 1e-6  # what differs less was rounded apart
    first = similarities >= best
    right = first[np.arange(len(gold)), list(gold)]
    points: NDArray[np.float64] = right / first.sum(axis=1)
    return points
