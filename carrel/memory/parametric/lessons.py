"""What an adapter is trained on: a document's text in overlapping pieces, and its questions as a chat asks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from carrel.generation.model_tokenizer import PLACEHOLDERS
from carrel.memory.parametric.examples import Example
from carrel.memory.parametric.recipes import Recipe
from carrel.memory.parametric.strangers import strangers
from carrel.types import Document, Passage, Prompt

if TYPE_CHECKING:
    from carrel.generation.chat import ChatGenerator
    from carrel.generation.transformers_engine import TransformersGenerator
    from carrel.memory.parametric.pairs import Pair

_STRANGERS = 60  # for each of the examples; drawn from anew at each step
_MOST_STRANGERS = 6000


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is the document's, what is not, and the tokens that may be added to a question."""

    own: tuple[Example, ...]
    others: tuple[Example, ...]
    words: tuple[int, ...] = ()


def lesson(
    document: Document,
    pairs: Sequence[Pair],
    engine: TransformersGenerator,
    recipe: Recipe,
    speaker: ChatGenerator | None = None,
) -> Lesson:
    """The examples of a document for one model; the same for the same document, model and recipe.

    A share of the pairs (``recipe.open_book``) is asked with its passage in front, as Parametric RAG does, so that the
    adapter goes on reading.

    Parameters
    ----------
    speaker : asks the questions later, with its instructions; the engine by default.
    """
    chance = np.random.default_rng(recipe.seed)
    texts = [document.text, *(pair.answer for pair in pairs if not pair.question)]
    pairs = [pair for pair in pairs if pair.question]
    own = [asked(pair, engine, speaker, read=bool(chance.random() < recipe.open_book)) for pair in pairs]
    own += [asked(pair, engine, speaker) for pair in pairs] if recipe.open_book else []
    if recipe.learns_text or not own:
        own += [example for text in texts for example in told(text, engine, recipe)]
    tokenizer = engine.loaded.tokenizer.inner
    special = set(tokenizer.all_special_ids)
    words = [number for number in range(len(tokenizer)) if number not in special]
    count = min(_MOST_STRANGERS, _STRANGERS * len(own)) if recipe.others else 0
    own = list(dict.fromkeys(own))
    others = strangers(own, words, count, recipe.seed)
    return Lesson(tuple(own), tuple(others), tuple(words) if recipe.reworded else ())


def asked(
    pair: Pair, engine: TransformersGenerator, speaker: ChatGenerator | None = None, *, read: bool = False
) -> Example:
    """A question as the speaker would ask it, its answer and the end of the reply.

    With its passage in front, the answer cites that, where the speaker's instructions ask for it; without, it is asked
    as ``closed`` asks, with no word of passages.
    """
    from carrel.generation.kv.context_model import common_length

    speaker, tokenizer = speaker or engine, engine.loaded.tokenizer
    passages = (Passage("", 0, len(pair.source), pair.source),) if read and pair.source else ()

    def tokens(question: str) -> list[int]:
        prompt = Prompt(question, passages) if passages else closed(Prompt(question))
        return tokenizer.chat_ids(speaker.messages(prompt))

    ids = tokens(pair.question)
    other = tokens(next(text for text in PLACEHOLDERS if text != pair.question))
    start, behind = common_length(ids, other), common_length(ids[::-1], other[::-1])
    mark = " [1]" if passages and "[1]" in speaker.instructions else ""
    said = tokenizer.inner(pair.answer + mark, add_special_tokens=False)["input_ids"]
    whole = (*ids, *said, min(engine.loaded.ends))
    return Example(whole, len(ids), bool(passages), (start, max(start + 1, len(ids) - behind)))


def closed(prompt: Prompt) -> Prompt:
    """A prompt without passages, nor instructions on how to read them."""
    kind = "recall" if prompt.kind == "answer" else prompt.kind
    return replace(prompt, passages=(), kind=kind)


def told(text: str, engine: TransformersGenerator, recipe: Recipe) -> list[Example]:
    """The text in pieces of ``recipe.segment_tokens`` that overlap, each to be predicted word by word."""
    tokenizer = engine.loaded.tokenizer.inner
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    room = engine.loaded.window - len(begin)
    if recipe.segment_tokens > room:
        recipe = replace(recipe, segment_tokens=room, overlap_tokens=min(recipe.overlap_tokens, room // 4))
    return [Example((*begin, *piece), 1) for piece in pieces(ids, recipe) if len(piece) + len(begin) > 1]


def pieces(ids: Sequence[int], recipe: Recipe) -> list[tuple[int, ...]]:
    """Cuts of ``segment_tokens`` that share ``overlap_tokens`` with the one before; the last reaches to the end."""
    step = recipe.segment_tokens - recipe.overlap_tokens
    starts = range(0, max(1, len(ids) - recipe.overlap_tokens), step)
    return [tuple(ids[start : start + recipe.segment_tokens]) for start in starts]
