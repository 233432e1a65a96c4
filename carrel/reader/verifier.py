"""The shipped reader over the rules: does it find the answer where the claim says it is?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from carrel.generation.case import Case
from carrel.generation.claims import claim_of
from carrel.generation.evidence import Evidence, PassageIndex
from carrel.generation.rules import RuleVerifier, conclude, displaced, examine, is_foreign
from carrel.generation.verification import Judgement, Statement, Verifier
from carrel.reader.methods import Reader, shipped_reader
from carrel.reader.reading import Reading

MOST_PASSAGES = 12  # read at most, the best by the words of claim and question
SLACK_TOKENS = 3  # beside the words of a claim, where a span that gives them may begin and end
LEAST_SAID = 0.6  # of the weight of what a claim adds to its question, in a sentence that gives it
MOST_NEW = 8  # telling words that a claim adds to its question, where it is taken as its answer
# Of the odds that another answer is right: for a logit by which the reader prefers it, for the logarithm of how much
# better another name or number fits, and where to flag. Fitted on held-out documents of the training data
# (benchmarks/verification.py --tune).
BY_READER, BY_NAME, BY_NUMBER, LIMIT = 0.29, 0.97, 1.35, 1.23
_MARGINS = (-6.0, 12.0)
_LOWEST = -20.0  # logit of an answer that no span gives


@dataclass(frozen=True, slots=True)
class Contest:
    """The claim against the best other answer, by the reader: logits of their spans above that of no answer."""

    own: float
    rival: float
    instead: str

    @property
    def margin(self) -> float:
        """By how much the reader prefers the other answer."""
        return min(max(self.rival - self.own, _MARGINS[0]), _MARGINS[1])


class ReaderVerifier(Verifier):
    """The rules, and where a sentence answers the question, the reader's own answer beside that of the sentence.

    Parameters
    ----------
    reader : the shipped one by default; one that has reranked the passages for the question has read them already.
    """

    name: ClassVar[str] = "reader"
    citation: ClassVar[str] = "Wang et al., Asking and Answering Questions to Evaluate Consistency, arXiv 2004.04228"

    def __init__(self, reader: Reader | None = None) -> None:
        self.reader, self.rules = reader or shipped_reader(), RuleVerifier()

    def judge(self, statements: Sequence[Statement], evidence: Evidence, question: str | None) -> list[Judgement]:
        out = []
        for statement in statements:
            case = examine(statement, evidence, question)
            if isinstance(case, Judgement):
                out.append(case)
                continue
            contest = self.contest(case, question) if question and is_answer(case, question) else None
            if contest is None or not is_found(contest):
                out.append(conclude(case, displaced(case.fits)))
            else:
                out.append(_weighed(case, contest))
        return out

    def contest(self, case: Case, question: str) -> Contest:
        """What the reader makes of the claim's answer and of the best other one."""
        numbers = dict.fromkeys(case.evidence.sources[index].number for index in [*case.chosen, *case.ranked])
        rest = [p.number for p in case.evidence.in_order if p.number not in numbers]
        passages = [case.evidence.passages[number] for number in [*numbers, *rest][:MOST_PASSAGES]]
        readings = self.reader.read(question, [passage.passage for passage in passages])
        own, rival, instead = _LOWEST, _LOWEST, ""
        for passage, reading in zip(passages, readings, strict=True):
            own = max(own, _said(case, passage, reading))
            for found in reading.answers(4):
                text = passage.passage.text[found.start : found.end]
                if found.score > rival and passage.keeps(found.start, found.end) and not _says(case, text):
                    rival, instead = found.score, text
        return Contest(own, rival, instead)


def is_answer(case: Case, question: str) -> bool:
    """Whether a claim is a short answer to its question, bare or with the question's words, and in English.

    One that stands nearly whole in a sentence of the passages is a repetition of that, which the rules judge well.
    """
    repeats = bool(case.homes) and not case.is_bare
    return case.answers and not repeats and len(case.new) <= MOST_NEW and not is_foreign(case, question)


def is_found(contest: Contest) -> bool:
    """Whether the claim's words stand together anywhere, so that the reader can weigh them."""
    return contest.own > _LOWEST


def odds(case: Case, contest: Contest) -> float:
    """How much speaks for another answer, as logits; see LIMIT."""
    names = [fit.worse_by for fit in case.fits if fit.token.kind == "name"]
    numbers = [fit.worse_by for fit in case.fits if fit.token.kind != "name"]
    by_fit = BY_NAME * max(names, default=-1.0) + BY_NUMBER * max(numbers, default=-1.0)
    return BY_READER * contest.margin + by_fit


def _weighed(case: Case, contest: Contest) -> Judgement:
    """The judgement where the reader has its say in what would fit better."""
    against = odds(case, contest) - LIMIT
    problems: list[str] = []
    if against > 0:
        problems = displaced(case.fits)
        if contest.margin > 0:
            problems = [f"the passages rather answer “{contest.instead}”"]
        problems = problems or ["another answer fits the question better"]
    return conclude(case, problems, 1 / (1 + math.exp(against)))


def _says(case: Case, text: str) -> bool:
    """Whether a span says some of what the claim adds to its question, or nothing that the question does not."""
    keys = {token.key for token in claim_of(text, case.evidence.known_names).content}
    return bool(keys & set(case.new)) or not keys - set(case.asked)


def _said(case: Case, passage: PassageIndex, reading: Reading) -> float:
    """The logit of the best span that gives the claim's words, where a sentence of the passage has enough of them."""
    if not len(reading.start):
        return _LOWEST
    weights = {key: case.evidence.weight(key) for key in case.new}
    total, best = sum(weights.values()), _LOWEST
    for source in passage.sources:
        found = [token for token in source.claim.tokens if token.key in weights]
        if sum(weights[key] for key in {token.key for token in found}) < LEAST_SAID * total:
            continue
        offset = source.span.start - passage.passage.start
        first, last = _narrowest([(t.key, t.start, t.end) for t in found])
        best = max(best, _span_logit(reading, offset + first, offset + last))
    return best


def _narrowest(found: Sequence[tuple[str, int, int]]) -> tuple[int, int]:
    """The shortest stretch (start, end) that holds every key once."""
    wanted = len({key for key, _, _ in found})
    best = (found[0][1], found[-1][2])
    for at, (_, start, _) in enumerate(found):
        seen: set[str] = set()
        for key, _, end in found[at:]:
            seen.add(key)
            if len(seen) == wanted:
                best = min(best, (start, end), key=lambda span: span[1] - span[0])
                break
    return best


def _span_logit(reading: Reading, start: int, end: int) -> float:
    """The best span that begins and ends in or just beside this stretch of the text."""
    first = int(np.searchsorted(reading.offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(reading.offsets[:, 0], end, side="left")) - 1
    if last < first:
        return _LOWEST
    low, high = max(0, first - SLACK_TOKENS), min(len(reading.start), last + SLACK_TOKENS + 1)
    begins, ends = reading.start[low : last + 1], reading.end[first:high]  # (B,), (E,)
    table = begins[:, None] + ends[None, :]
    table[np.arange(low, last + 1)[:, None] > np.arange(first, high)[None, :]] = -np.inf
    return float(table.max())
