"""The sections on adaptive-k in docs/evaluation.md, from the studies alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from study_adaptive import METRICS, SKIP_HEAD, Comparison, Study
from study_format import listed, markdown, number, signed
from study_text import CAPTIONS, SAVINGS, WHY

from carrel.evaluation.results import Scores


def adaptive_sections(studies: Sequence[Study], savings: Mapping[str, Any]) -> Iterable[str]:
    kinds = {str(study.content["kind"]) for study in studies}
    retrieved = [study for study in studies if study.content["kind"] != "relevance"]
    relevance = [study for study in studies if study.content["kind"] == "relevance"]
    yield "## Adaptive-k beside a fixed k"
    yield CAPTIONS["adaptive"]
    for title, some in (("On the scores of retrieval:", retrieved), ("On the reader's relevance:", relevance)):
        if some:
            yield f"{title}\n\n{verdict(some)}"
    yield "![Adaptive-k less fixed k at equal tokens](assets/evaluation-adaptive-gain.svg)"
    yield CAPTIONS["gain"]
    yield gain_table(studies)
    if savings:
        yield from savings_section(savings)
    yield "The curves:"
    for kind, name in (("relevance", "relevance"), ("fused", "fused scores"), ("dense", "dense scores")):
        if kind in kinds:
            yield f"![Recall against tokens on {name}](assets/evaluation-adaptive-{kind}.svg)"
    yield paper_table(studies)
    yield "### Why"
    yield why_text(retrieved or studies)
    yield why_table(studies)


def savings_section(savings: Mapping[str, Any]) -> Iterable[str]:
    """Tokens at equal answer recall over the whole collection, for every cutoff on relevance."""
    yield "### Tokens at equal answer recall, the whole collection"
    yield SAVINGS
    rows = []
    for name, row in savings.items():
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        fixed = "no fixed k reaches it" if row["fixed_tokens"] is None else f"{row['fixed_tokens']:,.0f}"
        rows.append((name, f"{100 * row['recall']:.1f}", f"{row['tokens']:,.0f}", fixed, ratio))
    yield markdown(("Cutoff", "Answer recall", "Tokens", "Tokens of the equal fixed k", "Ratio"), rows)


def all_comparisons(studies: Sequence[Study], head: bool) -> list[tuple[Study, Comparison]]:
    return [(study, found) for study in studies for found in study.comparisons(head=head)]


def verdict(studies: Sequence[Study]) -> str:
    """Wins, ties and losses, counted."""
    lines = []
    for head in (False, True):
        found = all_comparisons(studies, head)
        if not found:
            continue
        wins = [(s, c) for s, c in found if c.difference.low > 0]
        losses = [(s, c) for s, c in found if c.difference.high < 0]
        what = f"With the best {100 * SKIP_HEAD:g} % skipped (musique)" if head else "With no head skipped"
        line = f"- {what}: adaptive-k wins {len(wins)} of {len(found)} comparisons, loses {len(losses)}, "
        line += f"ties {len(found) - len(wins) - len(losses)}."
        for name, some in (("Wins", wins), ("Losses", losses)):
            if some:
                line += f" {name}: " + "; ".join(grouped(some)) + "."
        lines.append(line)
    return "\n".join(lines)


def grouped(found: Sequence[tuple[Study, Comparison]]) -> list[str]:
    """One text a study: its buffers and the range of the differences."""
    texts = []
    for study in dict.fromkeys((s.title, str(s.content["kind"])) for s, _ in found):
        mine = [c for s, c in found if (s.title, s.content["kind"]) == study]
        means = [c.difference.mean for c in mine]
        buffers = listed("+" + c.name.split(",")[0].removeprefix("buffer ") for c in mine)
        span = number(means[0]) if len(means) == 1 else f"{number(min(means))} to {number(max(means))}"
        texts.append(f"{study[0]}, {study[1]} scores, buffer {buffers} ({span} points)")
    return texts


def gain_table(studies: Sequence[Study]) -> str:
    rows = []
    for study in studies:
        for head in (False, True):
            found = list(study.comparisons(head=head))
            if found:
                name = study.title + (f", best {100 * SKIP_HEAD:g} % skipped" if head else "")
                rows.append((name, str(study.content["kind"]), *(signed(c.difference) for c in found)))
    buffers = [name.removeprefix("buffer ") for name in studies[0].adaptive()]
    title = "**Adaptive-k less fixed k at equal mean tokens, in points, by buffer**"
    return f"{title}\n\n" + markdown(("Questions", "Scores", *(f"+{buffer}" for buffer in buffers)), rows)


def paper_table(studies: Sequence[Study]) -> str:
    rows = []
    for study in studies:
        found = study.compare("buffer 5")
        if found is None:
            continue
        ideal = study.content["oracle"]
        rows.append(
            (
                study.title,
                str(study.content["kind"]),
                f"{found.passages:.1f}",
                f"{found.tokens:,.0f}",
                f"{100 * found.recall:.1f}",
                f"{found.equal_k:.1f}",
                f"{100 * found.fixed_recall:.1f}",
                f"{100 * ideal['recall']:.1f} at {ideal['tokens']:,.0f}",
            )
        )
    header = ("Questions", "Scores", "Passages", "Tokens", "Recall", "Equal fixed k", "Its recall", "Ideal choice")
    title = "**The paper's setting (buffer 5), the fixed k that spends the same, and an ideal choice**"
    return f"{title}\n\n{markdown(header, rows)}\n\n{CAPTIONS['ideal']}"


def why_text(studies: Sequence[Study]) -> str:
    first = np.array([(study.ranks == 1).mean() for study in studies])
    correlations = [correlation(study) for study in studies]
    factoid = [study for study in studies if METRICS[study.content["corpus"]] == "answer"]
    ratio = np.median([np.median(study.gaps("gap") / np.maximum(study.gaps("second"), 1e-4)) for study in studies])
    enough = np.array([(study.needed() == 1).sum() / np.isfinite(study.needed()).sum() for study in factoid])
    return WHY.format(
        first_low=f"{100 * first.min():.0f}",
        first_high=f"{100 * first.max():.0f}",
        ratio=f"{ratio:.1f}",
        low=f"{min(correlations):.2f}".replace("-", "−"),
        high=f"{max(correlations):.2f}".replace("-", "−"),
        enough_low=f"{100 * enough.min():.0f}",
        enough_high=f"{100 * enough.max():.0f}",
    )


def correlation(study: Study) -> float:
    """Spearman's rank correlation of where the drop is and how many passages were needed, where any fixed k did."""
    needed = study.needed()
    known = np.isfinite(needed)
    if np.unique(study.ranks[known]).size < 2 or np.unique(needed[known]).size < 2:
        return 0.0  # one of them never changes, so it says nothing about the other
    return float(np.corrcoef(middle_ranks(study.ranks[known]), middle_ranks(needed[known]))[0, 1])


def middle_ranks(values: Scores) -> Scores:
    """The rank of each value, ties sharing the middle of theirs."""
    ordered = np.sort(values)
    first, last = np.searchsorted(ordered, values, side="left"), np.searchsorted(ordered, values, side="right")
    return np.asarray((first + last - 1) / 2, dtype=np.float64)


def why_table(studies: Sequence[Study]) -> str:
    rows = []
    for study in studies:
        ranks, needed = study.ranks, study.needed()
        one, more = ranks[needed == 1], ranks[needed > 1]
        rows.append(
            (
                study.title,
                str(study.content["kind"]),
                f"{100 * (ranks == 1).mean():.0f} %",
                f"{100 * (ranks > 20).mean():.0f} %",
                f"{np.median(study.gaps('gap')):.3f}",
                f"{np.median(study.gaps('second')):.3f}",
                f"{100 * (one == 1).mean():.0f} %" if one.size else "–",
                f"{100 * (more == 1).mean():.0f} %" if more.size else "–",
                f"{correlation(study):.2f}".replace("-", "−"),
            )
        )
    header = (
        "Questions", "Scores", "Drop at rank 1", "after 20", "Largest drop", "Second",
        "At 1, one needed", "At 1, more needed", "Correlation",
    )  # fmt: skip
    return f"{markdown(header, rows)}\n\n{CAPTIONS['why']}"
