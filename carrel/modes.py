"""How much is read before a context is put together: nothing, the best candidates, or many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from carrel.embeddings.language import mismatch
from carrel.errors import InputError
from carrel.types import Passage

if TYPE_CHECKING:
    from carrel.compression.base import Pruner
    from carrel.retrieval.reranking import Reranker

NONE = "none"
READER = "reader"
_JUDGED_PASSAGES = 4


@dataclass(frozen=True, slots=True)
class Mode:
    """A choice between speed and care. ``depth`` is how many retrieved passages the reader reads."""

    name: str
    depth: int
    idea: str


MODES: Mapping[str, Mode] = MappingProxyType(
    {
        mode.name: mode
        for mode in (
            Mode("fast", 0, "retrieval alone, no reader"),
            Mode("balanced", 32, "the reader orders and prunes the best 32 passages"),
            Mode("thorough", 100, "the same with the best 100"),
        )
    }
)
DEFAULT_MODE = "balanced"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one question is read with. None leaves a stage out; ``depth`` passages are read at most."""

    depth: int
    reranker: Reranker | None
    pruner: Pruner | None

    def foreign(self, question: str, passages: Sequence[Passage]) -> str | None:
        """The language of the question or of what was found first, where it is plainly not one the models know."""
        models = (self.reranker, self.pruner)
        found = (foreign_language(question, passages, model.languages) for model in models if model is not None)
        return next((language for language in found if language), None)


def foreign_language(question: str, passages: Sequence[Passage], known: frozenset[str]) -> str | None:
    """The language of a question or of the first passages, where it is plainly none of those known (none: any)."""
    shown = " ".join(passage.text for passage in passages[:_JUDGED_PASSAGES])
    return mismatch(question, known) or mismatch(shown, known)


def make_mode(mode: str) -> Mode:
    """The Mode of a name.

    Raises
    ------
    InputError : there is none of that name.
    """
    if not isinstance(mode, str) or mode not in MODES:
        raise InputError(f"unknown mode {mode!r}. Use one of: {', '.join(MODES)}")
    return MODES[mode]


def make_reading(mode: str, reranker: str | Reranker | None, pruner: str | Pruner | None) -> Reading:
    """The stages that a mode and the choices beside it mean: None follows the mode, "none" leaves a stage out."""
    chosen = make_mode(mode or DEFAULT_MODE)
    if reranker is None:
        reranker = READER if chosen.depth else NONE
    if pruner is None:
        pruner = READER if chosen.depth else NONE
    return Reading(chosen.depth or MODES[DEFAULT_MODE].depth, _reranker(reranker), _pruner(pruner))


def _reranker(chosen: str | Reranker) -> Reranker | None:
    if chosen == NONE:
        return None
    from carrel.retrieval.reranking import Reranker

    if chosen == READER:
        from carrel.reader.methods import ReaderReranker, shipped_reader

        return ReaderReranker(shipped_reader())
    if not isinstance(chosen, Reranker):
        raise InputError(f'a reranker is "{READER}", "{NONE}" or a Reranker, not {_shown(chosen)}')
    return chosen


def _pruner(chosen: str | Pruner) -> Pruner | None:
    if chosen == NONE:
        return None
    from carrel.compression.base import Pruner

    if chosen == READER:
        from carrel.reader.methods import ReaderPruner, shipped_reader

        return ReaderPruner(shipped_reader())
    if not isinstance(chosen, Pruner):
        raise InputError(f'a pruner is "{READER}", "{NONE}" or a Pruner, not {_shown(chosen)}')
    return chosen


def _shown(value: object) -> str:
    return f"the class {value.__name__} itself" if isinstance(value, type) else f"{value!r:.100}"
