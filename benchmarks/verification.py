"""How many false answers the verifiers flag, and how many true ones: `python benchmarks/verification.py --data DIR`.

    python benchmarks/verification.py --data DIR                    both development sets
    python benchmarks/verification.py --data DIR --limit 50 --output /tmp/trial.json
    python benchmarks/verification.py --data DIR --tune             the reader's constants, on held-out documents

`DIR` holds `reader_dev/squad2.jsonl.gz` and `reader_dev/nq_qed.jsonl.gz`; `--tune` reads `train/` instead. The labels
come from the data and from rules (verification_cases.py), none from the reader. What is finished is kept in the
output, by set and verifier and for the model that made it; `--fresh` measures again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verification_cases import Case, cases_of, load_items

from carrel.evaluation.bootstrap import bootstrap_mean
from carrel.generation.rules import RuleVerifier
from carrel.generation.verification import verify
from carrel.reader.methods import Reader
from carrel.reader.model import ReaderModel
from carrel.reader.verifier import ReaderVerifier

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "benchmarks" / "results" / "verification.json"
FORMAT = "carrel-verification/1"
SETS = ("squad2", "nq_qed")
LEAST_OVERLAP = 0.8  # of the words of an answer in one passage, for the baseline
Bits = dict[str, str]  # kind of case -> "1" where it was flagged
# What the tables show: a name, and which kinds of cases it takes together.
GROUPS: dict[str, str] = {
    "true: verbatim": r"verbatim$",
    "true: paraphrase": r"(?:shortened|joined|split|reordered|number format)$",
    "true: declarative": r"declarative$",
    "true: bare": r"bare$",
    "true: all (false alarms)": r"(?:verbatim|shortened|joined|split|reordered|number format|declarative|bare)$",
    "number or date, of the passage": r".* (?:number|date) near$",
    "number or date, from elsewhere": r".* (?:number|date) far$",
    "name, of the passage": r".* name near$",
    "name, from elsewhere": r".* name far$",
    "swapped in a sentence": r"(?:verbatim|paraphrase|declarative) (?:number|date|name) (?:near|far)$",
    "swapped in a bare answer": r"bare (?:number|date|name) (?:near|far)$",
    "swapped: all": r".* (?:number|date|name) (?:near|far)$",
    "negated": r".* negated$",
    "other question: sentence": r"other (?:verbatim|declarative)$",
    "other question: bare, other passage": r"other bare$",
    "other question: bare, same passage": r"other bare, same passage$",
}


def by_words(case: Case) -> bool:
    """The baseline: flags an answer when no passage has most of its words."""
    words = set(re.findall(r"\w+", re.sub(r"\[\d+\]", "", case.answer).lower()))
    found = max(len(words & set(re.findall(r"\w+", p.text.lower()))) for p in case.passages)
    return found < LEAST_OVERLAP * len(words)


def verifiers(model: Path | None) -> dict[str, Callable[[Case], bool]]:
    """Each answers whether it flags a case."""
    rules, reader = RuleVerifier(), ReaderVerifier(Reader(ReaderModel(model)))

    def flags(verifier: Any, asks: bool = True) -> Callable[[Case], bool]:
        def flagged(case: Case) -> bool:
            found = verify(case.answer, case.passages, question=case.question if asks else None, verifier=verifier)
            return not (found.supported and found.sentences)

        return flagged

    return {
        "words": by_words,
        "rules without the question": flags(rules, asks=False),
        "rules": flags(rules),
        "rules and reader": flags(reader),
    }


def measure(cases: Sequence[Case], flagged: Callable[[Case], bool]) -> tuple[Bits, float]:
    """What was flagged of each kind, and the milliseconds a case took."""
    bits: dict[str, list[str]] = defaultdict(list)
    started = time.perf_counter()
    for case in cases:
        bits[case.kind].append(str(int(flagged(case))))
    took = 1000 * (time.perf_counter() - started) / max(1, len(cases))
    return {kind: "".join(found) for kind, found in sorted(bits.items())}, round(took, 2)


def summary(all_bits: Sequence[Bits]) -> dict[str, dict[str, float]]:
    """Count, share flagged and its 95 % bootstrap interval of each group over some sets."""
    out = {}
    for group, kinds in GROUPS.items():
        joined = "".join(found for bits in all_bits for kind, found in bits.items() if re.match(kinds, kind))
        if joined:
            interval = bootstrap_mean([float(bit) for bit in joined])
            out[group] = {
                "count": len(joined),
                "flagged": round(interval.mean, 4),
                "low": round(interval.low, 4),
                "high": round(interval.high, 4),
            }
    return out


def table(summaries: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """One line a group, one column a verifier: per cent flagged, with the interval."""
    names = list(summaries)
    lines = [f"{'flagged, %':38s}{'n':>6s}" + "".join(f"{name:>28s}" for name in names)]
    for group in GROUPS:
        if group in summaries[names[0]]:
            cells = [summaries[name][group] for name in names]
            shown = [f"{100 * c['flagged']:.1f} ({100 * c['low']:.1f} to {100 * c['high']:.1f})" for c in cells]
            lines.append(f"{group:38s}{cells[0]['count']:6d}" + "".join(f"{cell:>28s}" for cell in shown))
    return "\n".join(lines)


def code_version() -> str:
    """A hash of what is measured, so that kept results are those of this code."""
    files = [*sorted((REPOSITORY / "carrel" / "generation").glob("*.py")), REPOSITORY / "carrel/reader/verifier.py"]
    files += sorted((REPOSITORY / "benchmarks").glob("verification*.py"))
    return hashlib.blake2b(b"".join(path.read_bytes() for path in files), digest_size=6).hexdigest()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is not kept, writing after each set and verifier."""
    conditions = {
        "limit": options.limit,
        "code": code_version(),
        "model": Reader(ReaderModel(options.model)).model.fingerprint,
    }
    content: dict[str, Any] = {"format": FORMAT, "conditions": conditions, "sets": {}}
    if options.output.exists() and not options.fresh:
        known = json.loads(options.output.read_text(encoding="utf-8"))
        if known.get("format") == FORMAT and known.get("conditions") == conditions:
            content = known
    for name in SETS:
        cases: list[Case] = []
        for verifier, flagged in verifiers(options.model).items():
            kept = content["sets"].setdefault(name, {})
            if verifier in kept:
                continue
            cases = cases or list(cases_of(load_items(options.data / "reader_dev" / f"{name}.jsonl.gz"), options.limit))
            bits, took = measure(cases, flagged)
            kept[verifier] = {"milliseconds": took, "flagged": bits}
            sys.stdout.write(f"{name}, {verifier}: {len(cases):,} answers, {took} ms each\n")
            sys.stdout.flush()
            _write(options.output, content)
    content["summary"] = {
        verifier: summary([content["sets"][name][verifier]["flagged"] for name in SETS])
        for verifier in content["sets"][SETS[0]]
    }
    _write(options.output, content)
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("CARREL_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, metavar="DIR")
    parser.add_argument("--limit", type=int, default=400, metavar="N", help="questions of each set at most (400)")
    parser.add_argument("--model", type=Path, metavar="DIR", help="the reader; the shipped one by default")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    parser.add_argument("--tune", action="store_true", help="fit the reader's constants instead, and print them")
    parser.add_argument("--fresh", action="store_true", help="measure again what is finished")
    options = parser.parse_args()
    if options.data is None:
        parser.error("say where the data is: --data DIR, or CARREL_DATA")
    if options.tune:
        from verification_tuning import tune

        sys.stdout.write(tune(options.data, options.limit, ReaderVerifier(Reader(ReaderModel(options.model)))))
        return 0
    content = run(options)
    for name in SETS:
        per_set = {v: summary([kept["flagged"]]) for v, kept in content["sets"][name].items()}
        sys.stdout.write(f"\n{name}\n{table(per_set)}\n")
    sys.stdout.write(f"\nboth\n{table(content['summary'])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
