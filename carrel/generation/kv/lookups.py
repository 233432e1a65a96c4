"""Texts to measure what a model still finds: facts among words that say nothing, and questions that each ask for one.

Key-value look-up, the associative recall of Arora et al. (Zoology, arXiv 2312.04927): a policy or an attention that
loses keys loses answers, and nothing else explains the loss.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from carrel.errors import InputError, ModelError
from carrel.generation.model_tokenizer import PLACEHOLDERS

LANGUAGE = "language.json"  # beside a model that knows its own few words only
_FACTS = 0.5  # share of a context's tokens that are facts
_PER_ENTITY = 4  # facts of an entity on average, where it has so many fields


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: its tokens after the context, up to where the reply begins, and the right answer."""

    ids: tuple[int, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class LookUp:
    """A context in tokens, and questions that are each asked right after it."""

    context: tuple[int, ...]
    questions: tuple[Asked, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest question."""
        return max(len(asked.ids) for asked in self.questions)


@dataclass(frozen=True, slots=True)
class Fact:
    """What a field of an entity is; ``link`` where the value is another entity."""

    entity: str
    field: str
    value: str
    link: bool = False


class LookUps(ABC):
    """Draws look-ups for one model.

    Parameters
    ----------
    tokenizer : of the transformers library.
    hops : 1 asks for a field of an entity; 2 for a field of the entity that a field of another one names.
    """

    name: ClassVar[str]
    longest_reply: int = 0  # tokens of a reply at most

    def __init__(self, tokenizer: Any, hops: int = 1) -> None:
        if hops not in (1, 2):
            raise InputError(f"A question has 1 or 2 hops, not {hops}.")
        self.tokenizer, self.hops = tokenizer, hops

    @abstractmethod
    def draw(self, length: int, questions: int, seed: Sequence[int]) -> LookUp:
        """A context of ``length`` tokens, or a few less, and at most so many questions about different facts.

        The same seed draws the same.

        Raises
        ------
        InputError : the length is too small for a single question.
        """

    def is_right(self, reply: str, answer: str) -> bool:
        """Whether the reply says the answer."""
        return reply.strip() == answer

    def is_complete(self, reply: str) -> bool:
        """Whether what follows cannot matter any more."""
        return False

    def _count(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def look_ups(model: Path, tokenizer: Any, hops: int = 1) -> LookUps:
    """In the model's own words where its folder says which ones it knows, else in English and as a chat.

    Raises
    ------
    ModelError : ``language.json`` is damaged, or an ordinary model has no chat template.
    """
    path = model / LANGUAGE
    if not path.exists():
        return ChatLookUps(tokenizer, hops, model=str(model))
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    return WordLookUps(words, tokenizer, hops, path=str(path))


# -- a model of few words --------------------------------------------------------------------------


class WordLookUps(LookUps):
    """In the words of ``language.json``, each of them one token: ``bado age 41 .`` and ``? bado age =``.

    Its lists: ``entities``, ``attributes``, ``relations`` (fields whose value is an entity), ``values``, ``filler``.
    Its patterns: ``fact``, ``question``, ``two_hop_question``. A reply is right if its first word is.
    """

    name: ClassVar[str] = "words"
    longest_reply = 1
    _LISTS = ("entities", "attributes", "relations", "values", "filler")
    _PATTERNS = ("fact", "question", "two_hop_question")

    def __init__(self, words: Mapping[str, Any], tokenizer: Any, hops: int = 1, *, path: str = LANGUAGE) -> None:
        super().__init__(tokenizer, hops)
        self.path = path
        lists = {name: words.get(name) for name in self._LISTS} if isinstance(words, Mapping) else {}
        bad = [name for name in self._LISTS if not _is_texts(lists.get(name))]
        bad += [name for name in self._PATTERNS if not lists or not isinstance(words.get(name), str)]
        if bad:
            raise ModelError(f"{path} lacks what texts are made of: {', '.join(bad)}.")
        self.lists: dict[str, list[str]] = {name: list(found or ()) for name, found in lists.items()}
        self.patterns = {name: str(words[name]) for name in self._PATTERNS}

    def draw(self, length: int, questions: int, seed: Sequence[int]) -> LookUp:
        chance = np.random.default_rng(list(seed))
        begin = self.tokenizer("")["input_ids"]
        room = length - len(begin)
        entity, attribute, value = (self.lists[name][0] for name in ("entities", "attributes", "values"))
        sample = Fact(entity, attribute, value)
        facts = self._facts(chance, int(room * _FACTS) // self._count(self._said(sample)))
        items = [self._said(fact) for fact in facts]
        items += chance.choice(self.lists["filler"], max(0, room - sum(map(self._count, items)))).tolist()
        text = " ".join(items[place] for place in chance.permutation(len(items)))
        context = tuple(self.tokenizer(text)["input_ids"])
        if len(context) != length:
            raise ModelError(f"The words of {self.path} are not one token each for the model's tokenizer.")
        asked = [self._asked(*found) for found in _chosen(chance, facts, self.hops, questions)]
        if not asked:
            raise InputError(f"{length} tokens hold no question of {self.hops} hops: use longer contexts.")
        return LookUp(context, tuple(asked))

    def _facts(self, chance: np.random.Generator, count: int) -> list[Fact]:
        attributes, relations = self.lists["attributes"], self.lists["relations"]
        fields, names = [*attributes, *relations], self.lists["entities"]
        count = min(count, len(names) * len(fields))
        known = min(len(names), max(2, -(-count // min(_PER_ENTITY, len(fields)))))
        people = chance.choice(names, known, replace=False).tolist()
        facts = []
        for cell in chance.choice(known * len(fields), min(count, known * len(fields)), replace=False).tolist():
            who, field = divmod(cell, len(fields))
            link = field >= len(attributes)
            other = people[(who + 1 + int(chance.integers(known - 1))) % known]
            value = other if link else str(chance.choice(self.lists["values"]))
            facts.append(Fact(people[who], fields[field], value, link))
        return facts

    def _said(self, fact: Fact) -> str:
        return _filled(self.patterns["fact"], entity=fact.entity, field=fact.field, value=fact.value)

    def _asked(self, fact: Fact, goal: Fact | None) -> Asked:
        if goal is None:
            text, answer = _filled(self.patterns["question"], entity=fact.entity, field=fact.field), fact.value
        else:
            pattern = self.patterns["two_hop_question"]
            text = _filled(pattern, entity=fact.entity, relation=fact.field, attribute=goal.field)
            answer = goal.value
        return Asked(tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"]), answer)


# -- any other model -------------------------------------------------------------------------------

_COLOURS = (
    "amber black blue bronze brown copper crimson golden green grey ivory jade olive orange pearl pink purple red"
    " scarlet silver tawny violet white yellow"
).split()
_ANIMALS = (
    "badger bear bison buzzard camel crane deer dolphin donkey eagle falcon ferret fox gecko goat goose hare hawk"
    " hedgehog heron horse hyena ibex jackal lark lemur leopard lion llama lynx magpie marten mole moose newt otter owl"
    " ox panda"
    " parrot pelican puffin rabbit raven robin salmon seal sparrow squirrel stork swan tiger toad trout turtle viper"
    " walrus weasel wolf wren"
).split()
_THINGS = "boat bridge door field garden gate harbour hill lamp path river roof square table tower wall".split()
_STATES = "calm clean cold dark dry empty full warm quiet wet".split()
_TIMES = "afternoon autumn evening morning night spring summer winter".split()
_ANSWER = re.compile(r"\d[\d,]*")


class ChatLookUps(LookUps):
    """In plain English, through the model's chat template: ``The code of the grey heron is 4817.``

    A question of two hops goes over ``The neighbour of the red fox is the grey heron.`` A reply is right if the first
    number in it is.
    """

    name: ClassVar[str] = "English"
    longest_reply = 24

    def __init__(self, tokenizer: Any, hops: int = 1, *, model: str = "The model") -> None:
        super().__init__(tokenizer, hops)
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(f"{model} has no chat template and no {LANGUAGE}: take a model that was made for chats.")

    def draw(self, length: int, questions: int, seed: Sequence[int]) -> LookUp:
        chance = np.random.default_rng(list(seed))
        room = length - len(self._context("", ()))
        facts = self._facts(chance, int(room * _FACTS))
        said = [_sentence(fact) for fact in facts]
        used = sum(self._count(f" {sentence}") for sentence in said)
        filler: list[str] = []
        while used < room:
            words = (chance.choice(kind) for kind in (_THINGS, _STATES, _TIMES))
            filler.append("The {} was {} in the {}.".format(*words))
            used += self._count(f" {filler[-1]}")
        asked = _chosen(chance, facts, self.hops, questions)
        texts = [_question(*found) for found in asked]
        context: tuple[int, ...] = ()
        while asked and filler:
            sentences = [*said, *filler]
            chance.shuffle(sentences)
            text = " ".join(sentences)
            context = self._context(text, texts)
            if len(context) <= length:
                break
            del filler[-max(1, (len(context) - length) // 16) :]
        if not asked or not filler:
            raise InputError(f"{length} tokens hold no question: use longer contexts.")
        chats = [self._chat(f"{text}\n\n{question}") for question in texts]
        answers = [(goal or fact).value for fact, goal in asked]
        pairs = zip(chats, answers, strict=True)
        return LookUp(context, tuple(Asked(tuple(ids[len(context) :]), answer) for ids, answer in pairs))

    def is_right(self, reply: str, answer: str) -> bool:
        found = _ANSWER.search(reply)
        return found is not None and found[0].replace(",", "") == answer

    def is_complete(self, reply: str) -> bool:
        found = _ANSWER.search(reply)
        return found is not None and found.end() < len(reply)

    def _facts(self, chance: np.random.Generator, room: int) -> list[Fact]:
        """Codes of different animals, and for two hops as many neighbours, in at most so many tokens."""
        animals = len(_COLOURS) * len(_ANIMALS)
        names = [f"{_COLOURS[n // len(_ANIMALS)]} {_ANIMALS[n % len(_ANIMALS)]}" for n in chance.permutation(animals)]
        facts: list[Fact] = []
        for one, other in zip(names[::2], names[1::2], strict=True):
            code = str(chance.integers(1000, 10_000))
            more = [Fact(one, "code", code)]
            more.append(Fact(other, "neighbour", one, link=True) if self.hops == 2 else self._code(chance, other))
            room -= sum(self._count(f" {_sentence(fact)}") for fact in more)
            if room < 0:
                break
            facts += more
        return facts

    def _code(self, chance: np.random.Generator, name: str) -> Fact:
        return Fact(name, "code", str(chance.integers(1000, 10_000)))

    def _context(self, text: str, questions: Sequence[str]) -> tuple[int, ...]:
        """What the chats of these questions, and of any other, have in common."""
        chats = [self._chat(f"{text}\n\n{question}") for question in (*PLACEHOLDERS, *questions)]
        first, last = min(chats), max(chats)
        pairs = enumerate(zip(first, last, strict=False))
        end = next((place for place, (one, other) in pairs if one != other), min(len(first), len(last)))
        return tuple(first[:end])

    def _chat(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=True, return_dict=False,
            enable_thinking=False,
        )  # fmt: skip
        return ids


def _sentence(fact: Fact) -> str:
    value = f"the {fact.value}" if fact.link else fact.value
    return f"The {fact.field} of the {fact.entity} is {value}."


def _question(fact: Fact, goal: Fact | None) -> str:
    of = f"the {fact.entity}" if goal is None else f"the {fact.field} of the {fact.entity}"
    return f"What is the code of {of}? Answer with the number alone."


# -- both --------------------------------------------------------------------------------------------


def _chosen(
    chance: np.random.Generator, facts: Sequence[Fact], hops: int, count: int
) -> list[tuple[Fact, Fact | None]]:
    """Facts to ask about, each with the one that its question goes on to; at most ``count``, all different."""
    order = [facts[place] for place in chance.permutation(len(facts))]
    if hops == 1:
        return [(fact, None) for fact in order[:count]]
    goals: dict[str, list[Fact]] = {}
    for fact in order:
        if not fact.link:
            goals.setdefault(fact.entity, []).append(fact)
    found = [(fact, goals[fact.value]) for fact in order if fact.link and fact.value in goals]
    return [(fact, among[int(chance.integers(len(among)))]) for fact, among in found[:count]]


def _filled(pattern: str, **words: str) -> str:
    for name, word in words.items():
        pattern = pattern.replace("{" + name + "}", word)
    return pattern


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(word, str) for word in value)
