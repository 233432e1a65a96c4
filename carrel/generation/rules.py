"""What an answer says, checked without a model: quotations, numbers, dates, names, negation, telling words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from carrel.embeddings.language import mismatch
from carrel.generation.alignment import exchanged
from carrel.generation.case import COUNTS, HARD, Case, Fit
from carrel.generation.claims import OPPOSITES, Claim, Token, claim_of, dates_of, plain, runs_of
from carrel.generation.evidence import Evidence, Source
from carrel.generation.verification import LEAST_SCORE, Judgement, Statement, Verifier

LEAST_COVERAGE = 0.5  # of the weight of a sentence's telling words
LEAST_QUOTED_WORDS = 6  # of a part of a sentence that is a quotation of it
LEAST_WORDS_TO_TURN = 3  # telling words of a claim whose negation can be judged
MOST_SHOWN = 3  # sentences of a quotation
_CLAUSE_END = re.compile(r"[,;:()–—]")
_IDIOMS = frozenset({"only", "until", "just", "merely", "least", "later", "longer"})
_NO_YES = "a bare yes or no cannot be checked by its words"


class RuleVerifier(Verifier):
    """Looks for the numbers, dates, names and telling words of a sentence where the rest of it stands; no model.

    It cannot follow a paraphrase in wholly other words, nor tell which of two names near the words of a question
    is its answer.
    """

    name: ClassVar[str] = "rules"
    citation: ClassVar[str] = "Nan et al., Entity-level Factual Consistency of Summarization, arXiv 2102.09130"

    def judge(self, statements: Sequence[Statement], evidence: Evidence, question: str | None) -> list[Judgement]:
        out = []
        for statement in statements:
            case = examine(statement, evidence, question)
            out.append(case if isinstance(case, Judgement) else conclude(case, displaced(case.fits)))
        return out


def examine(statement: Statement, evidence: Evidence, question: str | None) -> Case | Judgement:
    """The case of a statement, or its judgement where that needs no more: a quotation, or nothing to look for."""
    if quoted := quoted_by(statement, evidence):
        return Judgement(1.0, quoted)
    claim = claim_of(statement.text, evidence.known_names)
    if not claim.content:
        return Judgement(0.0, (), (_NO_YES,))
    case = Case(claim, evidence, question)
    if not case.chosen:
        missing = absent(case)
        return Judgement(0.0, (), _once(missing) or ("nothing in the passages is about this",))
    return case


def conclude(case: Case, more: Sequence[str] = (), scale: float = 1.0) -> Judgement:
    """The judgement on a case: what speaks against it by the rules, and ``more``.

    ``scale`` from 0 to 1 is how far something beyond the rules trusts it.
    """
    problems = [
        *absent(case),
        *more,
        *_exchanged(case),
        *_dates(case),
        *_units(case),
        *_quotations(case),
    ]
    sources = tuple(case.sources)
    if language := _foreign(case):
        return _unread(case, problems, sources, language)
    problems += [*_unjoined(case), *_turned(case), *_uncovered(case)]
    notes = ("a short answer can hardly be judged without its question",) if case.is_bare and not case.asked else ()
    if problems:
        return Judgement(0.4 * case.coverage, sources, _once(problems), notes)
    return Judgement(LEAST_SCORE + 0.5 * case.coverage * scale, sources, (), notes)


def displaced(fits: Sequence[Fit]) -> list[str]:
    """What fits worse where it stands than another of its kind would."""
    return [_instead(fit.token.text, fit.instead) for fit in fits if fit.place is not None and fit.is_worse]


def _instead(said: str, instead: str) -> str:
    return f"where the rest of it stands, the passages say “{instead}”, not “{said}”"


def _once(problems: Sequence[str]) -> tuple[str, ...]:
    """Each once, whatever its letters' case."""
    once: dict[str, str] = {}
    for problem in problems:
        once.setdefault(problem.lower(), problem)
    return tuple(once.values())


def absent(case: Case) -> list[str]:
    """Numbers, months and names of the claim that stand nowhere in the passages."""
    out = []
    for token in case.claim.tokens:
        if token.kind not in HARD or token.key in COUNTS or case.evidence.has(token.key):
            continue
        if token.kind == "name" and (token.key in case.asked or case.evidence.has_name(token)):
            continue
        what = {"name": "name", "month": "month"}.get(token.kind, "number")
        out.append(f"the {what} “{token.text}” is nowhere in the passages")
    return out


def _unjoined(case: Case) -> list[str]:
    """Neighbouring words of a name that nowhere in the passages stand near each other."""
    out = []
    for run in runs_of(case.claim.tokens):
        for one, other in pairwise(run):
            known = case.evidence.has(one.key) and case.evidence.has(other.key)
            if known and {one.key, other.key} & set(case.new) and not case.evidence.joins(one.key, other.key):
                out.append(f"“{one.text}” and “{other.text}” nowhere stand together")
    return out


def _exchanged(case: Case) -> list[str]:
    """What stands where a sentence of its evidence, or that and the next, has something else."""
    found = [pair for target in case.targets for pair in exchanged(case.claim, target)]
    return [
        f"where it says “{pair.token.text}”, the passages say “{pair.instead.text}”"
        for pair in found
        if pair.token.key in case.new or not case.answers
    ]


def _dates(case: Case) -> list[str]:
    """Days that the evidence gives to another month, or to another year."""
    known = frozenset[tuple[str, str, str]]().union(*(dates_of(s.claim.tokens) for s in case.sources))
    out = []
    for year, month, day in sorted(dates_of(case.claim.tokens)):
        same = [date for date in known if date[1] == month]
        if day and same and not any(_agree(date[2], day) and _agree(date[0], year) for date in same):
            out.append(
                f"the evidence gives another date than “{day[1:]} {month.capitalize()} {year[1:]}”".replace(" ”", "”")
            )
    return out


def _units(case: Case) -> list[str]:
    """Numbers that have another unit in the evidence."""
    out = []
    for token in case.claim.tokens:
        if not token.unit or token.kind != "number":
            continue
        units = [t.unit for s in case.sources for t in s.claim.tokens if t.key == token.key]
        if units and all(units) and token.unit not in units:
            out.append(f"the evidence has “{token.text}” with “{units[0]}”, not with “{token.unit}”")
    return out


def _quotations(case: Case) -> list[str]:
    texts = [text for passage in case.evidence.passages.values() for text in passage.plain]
    return [
        f"“{quotation}” is no quotation of the passages"
        for quotation in case.claim.quotations
        if not any(plain(quotation) in text for text in texts)
    ]


def _turned(case: Case) -> list[str]:
    """Whether the claim says no where its evidence says yes, or has the opposite of one of its words."""
    claim, source = case.claim, case.sources[0].claim
    if len(claim.content) < LEAST_WORDS_TO_TURN:
        return []
    problems = []
    shared = {t.key for t in claim.content} & {t.key for t in source.content}
    turned = (_negated(claim) & shared) - _near_negation(source)
    turned |= (_negated(source) & shared) - _near_negation(claim)
    if turned and len(shared) >= 2 and not case.asks_negation:
        problems.append("one of the claim and its evidence is negated")
    words, others = {t.key: t for t in claim.tokens}, {t.key: t for t in source.tokens}
    for word in sorted(words.keys() - others.keys()):
        for opposite in sorted(OPPOSITES.get(word, frozenset()) & (others.keys() - words.keys())):
            if _beside(claim, words[word]) & _beside(source, others[opposite]):
                problems.append(f"the evidence says “{others[opposite].text}”, not “{words[word].text}”")
    return problems


def _beside(claim: Claim, token: Token) -> set[str]:
    """Keys of the telling words around one."""
    content = [t for t in claim.tokens if t.kind != "stop" or t is token]
    at = next(index for index, other in enumerate(content) if other is token)
    return {t.key for t in content[max(0, at - 3) : at + 4] if t is not token}


def _uncovered(case: Case) -> list[str]:
    return ["most of its words are not in the passages"] if case.coverage < LEAST_COVERAGE else []


def _foreign(case: Case) -> str | None:
    """The language of the claim or of its evidence, where that is plainly not English."""
    evidence = " ".join(source.text for source in case.sources)
    return mismatch(case.claim.text, RuleVerifier.languages) or mismatch(evidence, RuleVerifier.languages)


def is_foreign(case: Case, question: str) -> bool:
    """Whether claim, evidence or question are plainly not English."""
    return bool(_foreign(case) or mismatch(question, RuleVerifier.languages))


def _unread(case: Case, problems: Sequence[str], sources: tuple[Source, ...], language: str) -> Judgement:
    """The judgement on a claim of which only numbers, names and quotations could be checked."""
    note = f"its words could not be judged: {language}; only quotations, numbers and names were checked"
    has_hard = any(token.kind in HARD for token in case.claim.content)
    if not problems and (not has_hard or case.coverage < LEAST_COVERAGE):
        problems = ["too few numbers and names in it, and its words could not be judged"]
    score = 0.2 if problems else LEAST_SCORE
    return Judgement(score, sources, _once(problems), (note,))


def quoted_by(statement: Statement, evidence: Evidence) -> tuple[Source, ...]:
    """The sentences that a statement is, or is a long enough part of, letter by letter; signs aside."""
    for text in dict.fromkeys((plain(statement.written), plain(statement.text))):
        if found := evidence.same_as(text):
            return (found,)
        if text.count(" ") <= LEAST_QUOTED_WORDS:
            continue
        for passage in evidence.in_order:
            if any(text in part for part in passage.plain):
                whole = [s for s in passage.sources if text in s.claim.plain]
                parts = whole[:1] or [s for s in passage.sources if s.claim.plain in text]
                if parts:
                    return tuple(parts[:MOST_SHOWN])
    return ()


def _agree(one: str, other: str) -> bool:
    return one == other or not one or not other


def _negated(claim: Claim) -> set[str]:
    """Keys of the two telling words after each negation, in its clause."""
    out: set[str] = set()
    for at, token in enumerate(claim.tokens):
        if token.key == "not" and not _is_idiom(claim, at):
            end = token.end + len(_CLAUSE_END.split(claim.text[token.end :], maxsplit=1)[0])
            after = [t for t in claim.tokens[at + 1 :] if t.kind != "stop" and t.start < end]
            out |= {t.key for t in after[:2]}
    return out


def _is_idiom(claim: Claim, at: int) -> bool:
    """Whether a negation is one of not only, not until, ..., which negate nothing."""
    following = claim.tokens[at + 1].text.lower() if at + 1 < len(claim.tokens) else ""
    return following in _IDIOMS


def _near_negation(claim: Claim) -> set[str]:
    """Keys of what stands within some words of a negation."""
    at = [index for index, token in enumerate(claim.tokens) if token.key == "not"]
    return {t.key for index, t in enumerate(claim.tokens) if any(abs(index - place) <= 8 for place in at)}
