"""Packs passages that a flow has ranked itself, as the library packs what it has retrieved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrel.agents.base import Pack
from carrel.compression.base import passage_sentences
from carrel.compression.companions import companions
from carrel.retrieval.packing import Packer
from carrel.retrieval.pruned_packing import PruningPacker, ScoredPassage, key_of
from carrel.types import Passage

if TYPE_CHECKING:
    from carrel.compression.base import Pruner
    from carrel.tokens import Tokenizer

DEPTH = 32
"""Passages that are read to be pruned; more do not fit anyway."""


def pack(request: Pack, tokenizer: Tokenizer, pruner: Pruner | None) -> tuple[Passage, ...]:
    """The passages that fit, best first, pruned where there is a pruner.

    Raises
    ------
    BudgetError : not even one sentence fits.
    """
    passages, question = list({key_of(passage): passage for passage in request.passages}.values()), request.question
    if pruner is None:
        return tuple(Packer(tokenizer, request.budget, question).pack(passages).passages)
    head = passages[:DEPTH]
    sentences = [passage_sentences(passage) for passage in head]
    scores = [list(row) for row in pruner.checked_scores(question, head, sentences)]
    for row in scores[: request.floor]:
        if row:
            best = max(range(len(row)), key=row.__getitem__)
            row[best] = max(row[best], pruner.threshold)
    scored = {
        key_of(passage): ScoredPassage(passage, tuple(spans), tuple(row), tuple(companions(passage, spans)))
        for passage, spans, row in zip(head, sentences, scores, strict=True)
    }
    packer = PruningPacker(tokenizer, request.budget, question, "relevance", {}, scored, pruner.threshold)
    return tuple(packer.pack(head).passages)
