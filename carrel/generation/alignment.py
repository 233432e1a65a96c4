"""A claim laid beside its evidence, word by word: what stands where the evidence has something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from carrel.generation.claims import Claim, Token

_LEAST_ANCHOR = 3  # words beside a gap that claim and evidence share
_LEAST_MATCHED = 0.6  # of the words of the claim
_LONGEST_GAP = 4  # words
_NUMERIC = frozenset({"number", "year"})


@dataclass(frozen=True, slots=True)
class Exchange:
    """A number or name of the claim, and what the evidence has in its place."""

    token: Token
    instead: Token


@dataclass(frozen=True, slots=True)
class Gap:
    """Words of the claim, and words of the evidence, between the same neighbours."""

    ours: Sequence[Token]
    theirs: Sequence[Token]


def exchanged(claim: Claim, sources: Sequence[Claim]) -> list[Exchange]:
    """The numbers, months and names for which the evidence has others of their kind in the same place.

    What either has unmatched elsewhere has only moved, unless two have changed places. Nothing is said of a claim
    that shares too few words with its evidence, in their order.
    """
    theirs = [token for source in sources for token in source.tokens]
    both = Counter(t.key for t in claim.tokens) & Counter(t.key for t in theirs)
    if both.total() < _LEAST_MATCHED * len(claim.tokens):
        return []
    matcher = SequenceMatcher(None, [t.key for t in claim.tokens], [t.key for t in theirs], autojunk=False)
    codes = matcher.get_opcodes()
    if sum(i2 - i1 for kind, i1, i2, _, _ in codes if kind == "equal") < _LEAST_MATCHED * len(claim.tokens):
        return []
    gaps, ours_left, theirs_left = [], Counter[str](), Counter[str]()
    for at, (kind, i1, i2, j1, j2) in enumerate(codes):
        if kind == "equal":
            continue
        ours_left.update(token.key for token in claim.tokens[i1:i2])
        theirs_left.update(token.key for token in theirs[j1:j2])
        beside = [codes[near] for near in (at - 1, at + 1) if 0 <= near < len(codes)]
        anchor = sum(code[2] - code[1] for code in beside if code[0] == "equal")
        if anchor >= _LEAST_ANCHOR and j2 > j1 and i2 - i1 <= _LONGEST_GAP:
            gaps.append(Gap(claim.tokens[i1:i2], theirs[j1:j2]))
    return [found for gap in gaps for found in _of_gap(gap, gaps, ours_left, theirs_left)]


def _of_gap(gap: Gap, gaps: Sequence[Gap], ours_left: Counter[str], theirs_left: Counter[str]) -> list[Exchange]:
    out = []
    for token in gap.ours:
        if token.kind in ("word", "stop"):
            continue
        rivals = [other for other in gap.theirs if _alike(token, other)]
        new = [other for other in rivals if not ours_left[other.key] and not theirs_left[token.key]]
        if new:
            out.append(Exchange(token, new[0]))
        elif rivals and _is_crossed(token, rivals, gaps):
            out.append(Exchange(token, rivals[0]))
    return out


def _alike(token: Token, other: Token) -> bool:
    """Whether one may stand for the other: both numbers, both months, or a name and another word."""
    if token.kind in _NUMERIC:
        return other.kind in _NUMERIC
    return other.kind == token.kind


def _is_crossed(token: Token, rivals: Sequence[Token], gaps: Sequence[Gap]) -> bool:
    """Whether one of the rivals stands in the claim where the evidence has the token: two have changed places."""
    keys = {rival.key for rival in rivals}
    return any(
        any(ours.key in keys for ours in gap.ours) and any(theirs.key == token.key for theirs in gap.theirs)
        for gap in gaps
        if len(gap.theirs) <= _LONGEST_GAP
    )
