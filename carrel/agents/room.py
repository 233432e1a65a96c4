"""Prompts that fit the window by construction, without passages too, and where a form may be asked for twice."""

from __future__ import annotations

from dataclasses import replace

from carrel.agents.base import Fit, Fitted, Steps
from carrel.agents.tasks import REPAIR
from carrel.types import Passage, Prompt

_PROBE = Passage("", 0, 1, ".")
_LONGEST_WORD = 12  # characters for each token, at the most


def with_passages(
    prompt: Prompt, passages: tuple[Passage, ...] = (), *, why: str = "", limit: int | None = None, whole: bool = False
) -> Steps[tuple[Prompt, tuple[Passage, ...]]]:
    """A prompt with as many passages as the window holds, and those that are left.

    Parameters
    ----------
    why : the longest that may be said of a reply of the wrong form; room for that is kept.
    limit, whole : as of ``Fit``.

    Raises
    ------
    ContextOverflowError : the prompt is too long without passages, or leaves no room for a sentence of them.
    """
    longest = replace(prompt, notes=(*prompt.notes, REPAIR.format(why=why))) if why else prompt
    if not passages:
        yield Fit(longest, (_PROBE,))
        return prompt, ()
    fitted: Fitted = yield Fit(longest, passages, limit, whole)
    return replace(prompt, passages=(*prompt.passages, *fitted.taken)), fitted.left


def bounded(text: str, tokens: int) -> str:
    """A reply on one line, cut where a model said more than it was allowed."""
    return " ".join(text.split()[:tokens])[: tokens * _LONGEST_WORD]
