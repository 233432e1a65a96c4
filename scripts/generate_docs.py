"""Write the tables of the documentation that follow from the code or its figures: formats, errors, methods, the reader.

    python scripts/generate_docs.py            # write them into docs/
    python scripts/generate_docs.py --check    # change nothing; exit 1 when a page is stale

A table stands between ``<!-- generated: NAME -->`` and ``<!-- end generated -->``; the rest of a page is
written by hand.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REGION = re.compile(r"(<!-- generated: (?P<name>[a-z_]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def summary(subject: object) -> str:
    """The first paragraph of a docstring, on one line, in Markdown."""
    text = (inspect.getdoc(subject) or "").split("\n\n")[0]
    return " ".join(text.split()).replace("``", "`")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") or "–" for cell in line) + " |" for line in lines)


def formats() -> str:
    from carrel.retrieval.loaders import LOADERS

    rows = [(loader.name, " ".join(f"`{end}`" for end in loader.suffixes), summary(type(loader))) for loader in LOADERS]
    return table(("Loader", "Suffixes", "What it reads"), rows)


def errors() -> str:
    from carrel import errors as module

    classes = [
        member
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, module.CarrelError) and member.__module__ == module.__name__
    ]
    return table(
        ("Error", "Is a", "When"),
        [(f"`{member.__name__}`", f"`{member.__bases__[0].__name__}`", summary(member)) for member in classes],
    )


def methods() -> str:
    from carrel.registry import methods as registered

    found = registered()
    rows = [(f"`{m.name}`", m.kind, " ".join(m.idea.split()).replace("``", "`"), m.citation) for m in found]
    return table(("Name", "Kind", "Idea", "Source"), rows)


def reader() -> str:
    from reader_figures import rows

    header, found = rows()
    return table(header, found)


def contexts() -> str:
    from reader_figures import context_rows

    header, found = context_rows()
    return table(header, found)


def verification() -> str:
    """How much each verifier flags of true and of false answers."""
    figures = json.loads((ROOT / "benchmarks" / "results" / "verification.json").read_text(encoding="utf-8"))["summary"]
    names = ["words", "rules", "rules and reader"]
    rows = []
    for group, first in figures[names[0]].items():
        cells = [figures[name][group] for name in names]
        shown = [f"{100 * c['flagged']:.1f} [{100 * c['low']:.1f}, {100 * c['high']:.1f}]" for c in cells]
        rows.append([group, f"{first['count']:,}", *shown])
    return table(("Flagged, percent, with 95 % interval", "Answers", *names), rows)


def kv() -> str:
    from kv_figures import region

    return region()


def kv_contexts() -> str:
    from kv_figures import contexts_region

    return contexts_region()


def kv_dialogues() -> str:
    from kv_figures import dialogues_region

    return dialogues_region()


def presses() -> str:
    from kv_figures import presses_region

    return presses_region()


def flows() -> str:
    from agents_figures import quality

    return quality()


def flows_busy() -> str:
    from agents_figures import busy

    return busy()


def encoders() -> str:
    from embeddings_figures import quality

    return quality()


def encoders_cost() -> str:
    from embeddings_figures import cost

    return cost()


def encoder_types() -> str:
    from embeddings_figures import types

    return types()


def passkey() -> str:
    from embeddings_figures import passkey

    return passkey()


def parametric() -> str:
    from parametric_figures import region

    return region()


def vectors() -> str:
    from embeddings_figures import vectors

    return vectors()


def memory_speed() -> str:
    from memory_speed_figures import speed

    return speed()


def memory() -> str:
    from memory_figures import quality

    return quality()


def memory_signals() -> str:
    from memory_figures import signals

    return signals()


GENERATORS: dict[str, Callable[[], str]] = {
    "errors": errors, "formats": formats, "methods": methods, "reader": reader, "memory_speed": memory_speed,
    "contexts": contexts, "verification": verification, "kv": kv,
    "kv_contexts": kv_contexts, "kv_dialogues": kv_dialogues, "presses": presses,
    "flows": flows, "flows_busy": flows_busy,
    "encoders": encoders, "encoders_cost": encoders_cost, "vectors": vectors,
    "passkey": passkey, "encoder_types": encoder_types, "parametric": parametric,
    "memory": memory, "memory_signals": memory_signals,
}  # fmt: skip


def generated(page: str) -> str:
    """The page with its tables as the code would have them."""
    return REGION.sub(lambda match: f"{match[1]}\n{GENERATORS[match['name']]()}\n\n{match[3]}", page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a page is stale")
    check = parser.parse_args().check
    sys.path.insert(0, str(ROOT))  # the tables are those of this checkout
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        wanted = generated(page)
        if wanted != page:
            stale.append(path.relative_to(ROOT).as_posix())
            if not check:
                path.write_text(wanted, encoding="utf-8")
    for name in stale:
        print(f"{name} is stale: run make generate" if check else f"{name} written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
