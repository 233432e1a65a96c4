"""The tables of encoders in docs/embeddings.md, and a plot, from benchmarks/results.

    python benchmarks/encoders.py --data DIR --work FOLDER --cost   # measures benchmarks/results/encoders.json
    python scripts/embeddings_figures.py                            # draws docs/assets/encoders.svg

The tables are written by scripts/generate_docs.py, which takes them from here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
ENCODERS = ROOT / "benchmarks" / "results" / "encoders.json"
TYPES = ROOT / "benchmarks" / "results" / "encoder_types.json"
PASSKEY = ROOT / "benchmarks" / "results" / "passkey.json"
VECTORS = ROOT / "benchmarks" / "results" / "vectors.json"
FIGURE = ROOT / "docs" / "assets" / "encoders.svg"
FUNNEL_SHOWN = 8  # oversampling
NOT_MEASURED = "Not measured yet."
BASELINE = "plain_256"
SETS = ("qmsum", "squality", "squad")
OTHERS = ("spans", "nq", "scifact")
NAMES = {
    "plain_256": ("`MiniLM()` on chunks of 256 tokens", "the baseline"),
    "plain": ("`MiniLM()`", "the default: fastest, and exact for questions that a paragraph answers"),
    "no_prefix": ("`MiniLM()` without headings", "for comparison"),
    "parents": ("`ParentChunks()`", "for comparison: a chunk as its passage of 256 tokens alone"),
    "with_parents": ("`Blended((model, ParentChunks(model)))`", "collections of many kinds"),
    "blended": ("`Blended()`, `--encoder blended`", "long documents: meetings, reports, articles"),
    "late_256": ("`LateChunking(window=256, overlap=32)`", "within one document; not across a collection"),
    "late_512": ("`LateChunking(overlap=32)`", "models trained for long windows; not this one"),
    "late_512_half": ("`LateChunking()`", "the same, every token in the middle of a window"),
    "late_spread": (
        "`LateChunking(window=256, overlap=32, spread=0.5)`",
        "one long talk: evidence over several chunks",
    ),
    "late_document": ("`LateChunking(window=256, overlap=32, document_weight=0.2)`", "for comparison"),
    "situated": ("`SituatedChunks()`", "models trained for it; not this one"),
    "landmarks": ("`SentenceLandmarks(overlap=64)`", "models trained for long windows; not this one"),
    "salient_tokens": ("`SalientTokens(overlap=64)`", "models trained for late interaction; not this one"),
    "extended": (
        '`LateChunking(ExtendedMiniLM(2048, "interpolated", trained=512), overlap=128)`',
        "for comparison: a window that was not trained",
    ),
}


LABELS = {
    "plain": "MiniLM",
    "no_prefix": "MiniLM, no headings",
    "parents": "ParentChunks",
    "with_parents": "with ParentChunks",
    "blended": "Blended",
    "late_256": "late, 256",
    "late_512": "late, 512",
    "late_512_half": "late, 512, half overlap",
    "late_spread": "late, 256, spread",
    "late_document": "late, 256, document",
    "situated": "SituatedChunks",
    "landmarks": "SentenceLandmarks",
    "salient_tokens": "SalientTokens",
    "extended": "late, 2,048, extended",
}


def figures() -> dict[str, Any] | None:
    """What was measured; None where nothing is."""
    return json.loads(ENCODERS.read_text(encoding="utf-8")) if ENCODERS.exists() else None


def points(value: dict[str, Any] | None, *, change: bool) -> str:
    """A share in percent, or what it differs from the baseline's in points, with its interval."""
    if value is None:
        return ""
    if not change or "change" not in value:
        return f"{100 * value['mean']:.1f}"
    by = value["change"]
    return f"{100 * by['mean']:+.1f} [{100 * by['low']:+.1f}, {100 * by['high']:+.1f}]"


def encoder_rows(found: dict[str, Any], columns: list[tuple[str, str, str]]) -> list[list[str]]:
    """An encoder a row: its cost, and a column for each (set, scope, metric)."""
    rows = []
    for name, (shown, _) in NAMES.items():
        measured = found["encoders"].get(name)
        if measured is None:
            continue
        cells = []
        for set_name, scope, metric in columns:
            value = measured.get(set_name, {}).get(scope, {}).get(metric)
            cells.append(points(value, change=name != BASELINE))
        rows.append([shown, *cells])
    return rows


def quality() -> str:
    """What is found in long documents, and which document, beside plain chunks of 256 tokens."""
    found = figures()
    if found is None:
        return NOT_MEASURED
    from generate_docs import table

    inside = [(name, "set", "own") for name in ("qmsum", "squad")] + [
        (name, "whole", "span") for name in ("qmsum", "squad")
    ]
    header = ("Encoder", *(f"{name}, {'its document' if scope == 'set' else 'whole'}" for name, scope, _ in inside))
    first = table(header, encoder_rows(found, inside))
    of_documents = [(name, "whole", "document") for name in SETS]
    second = table(("Encoder", *(name for name, _, _ in of_documents)), encoder_rows(found, of_documents))
    others = [("spans", "set", "own"), ("spans", "whole", "span"), ("nq", "whole", "document"),
              ("scifact", "whole", "document")]  # fmt: skip
    tried = {name: each for name, each in found["encoders"].items() if "spans" in each}
    third = table(
        (
            "Encoder",
            "spans, its document",
            "spans, whole",
            "nq, whole, document first",
            "scifact, whole, document first",
        ),
        encoder_rows({"encoders": tried}, others),
    )
    base = found["encoders"][BASELINE]
    counts = ", ".join(f"{name} {base[name]['set']['questions']}" for name in (*SETS, *OTHERS) if name in base)
    made = found["manifest"]
    where = f"{made['cores']} cores, {made['cpu']}, commit {made['commit'][:12]}"
    note = f"Questions: {counts}. `{made['command']}` on {where}."
    return (
        "![What encoders add to plain chunks](assets/encoders.svg)\n\n"
        "Span recall in 1,000 tokens, percent; below the first row the difference in points with its 95 % interval:\n\n"
        f"{first}\n\nThe best chunk is of the right document, whole collection:\n\n{second}\n\n"
        "The default blend was chosen, among some forty mixtures of these vectors, by the sets above, so that its"
        f" differences there are a little flattered. On sets that had no part in that:\n\n{third}\n\n{note}"
    )


def cost() -> str:
    """What each encoder costs, and for whom it is."""
    found = figures()
    if found is None:
        return NOT_MEASURED
    from generate_docs import table

    rows = []
    for name, (shown, whom) in NAMES.items():
        measured = found["encoders"].get(name)
        if measured is None:
            continue
        timed = measured.get("cost")
        speed = [f"{timed['ratio']:.2f}", f"{timed['tokens_a_second']:,}"] if timed else ["", ""]
        rows.append([shown, *speed, f"{measured['vectors_a_chunk']:g}", whom])
    return table(("Encoder", "Time, plain 256 = 1", "Tokens a second", "Vectors a chunk", "For"), rows)


WAYS = {
    "shipped_int8": "`MiniLM()`, as it ships: int8",
    "carrel_bfloat16": "`SentenceTransformerEncoder(FOLDER)`: bfloat16",
    "carrel_float32": '`SentenceTransformerEncoder(FOLDER, dtype="float32")`',
    "sentence_transformers": "sentence-transformers itself, `encode()`",
}


def types() -> str:
    """The same model in several number formats: speed and nearness."""
    if not TYPES.exists():
        return NOT_MEASURED
    from generate_docs import table

    found = json.loads(TYPES.read_text(encoding="utf-8"))
    rows = [
        [shown, f"{row['tokens_a_second']:,}", f"{row['times_faster']:.1f}", f"{row['cosine']:.4f}"]
        for name, shown in WAYS.items()
        for row in [found["ways"][name]]
    ]
    made = found["manifest"]
    return (
        f"What a number format costs: all-MiniLM-L6-v2 on {found['passages']} passages of {found['tokens']} tokens,"
        f" {found['cores']} cores:\n\n"
        + table(("Read by", "Tokens a second", "Times faster", "Cosine with the last row"), rows)
        + f"\n\n`{made['command']}`, {made['cpu']}."
    )


LONG = 4096  # tokens of the documents in the table
SYSTEMS = {
    "truncated": "the first 512 tokens, nothing else",
    "windows_averaged": "`MiniLM()`: windows of 512, averaged",
    "parallel_128": "`ExtendedMiniLM()`: windows of 128, by what stands out",
    "parallel": "`ExtendedMiniLM(trained=512)`",
    "interpolated": '`ExtendedMiniLM(method="interpolated", trained=512)`',
    "interpolated_128": '`ExtendedMiniLM(method="interpolated")`',
    "interpolated_128_t0.7": '`ExtendedMiniLM(method="interpolated", temperature=0.7)`',
    "grouped": '`ExtendedMiniLM(method="grouped", trained=512)`',
    "recurrent": '`ExtendedMiniLM(method="recurrent", trained=512)`',
    "recurrent_128": '`ExtendedMiniLM(method="recurrent")`',
    "window_vectors": "for comparison: a vector for each window of 512",
    "window_vectors_128": "for comparison: a vector for each window of 128",
}


def passkey() -> str:
    """How often one vector a document finds the document that holds one fact."""
    if not PASSKEY.exists():
        return NOT_MEASURED
    from generate_docs import table

    found = json.loads(PASSKEY.read_text(encoding="utf-8"))
    rows = []
    for system, shown in SYSTEMS.items():
        cells = [found["cells"][kind].get(system, {}).get(str(LONG)) for kind in ("passkey", "needle")]
        seconds = next((f"{cell['seconds_a_document']:.2f}" for cell in cells if cell), "")
        rows.append([shown, *map(_interval, cells), seconds])
    made = found["manifest"]
    return (
        "![Accuracy against length](assets/passkey.svg)\n\n"
        f"{found['documents']} documents of {LONG:,} tokens, {found['questions']} questions; how often the right one is"
        " first, percent:\n\n"
        + table(("A document as", "Passkey", "Needle", "Seconds a document, one core"), rows)
        + f"\n\n`{made['command']}` on {made['cores']} cores, {made['cpu']}, with other work on the machine. How"
        " windows are weighted was chosen on tasks of this kind, of 1,024 and 4,096 tokens."
    )


def _interval(cell: dict[str, float] | None) -> str:
    if cell is None:
        return ""
    return f"{100 * cell['accuracy']:.0f} [{100 * cell['low']:.0f}, {100 * cell['high']:.0f}]"


def vectors() -> str:
    """What shorter vectors take, miss and save: a library's ranking, the indexes themselves, and vectors cut short."""
    if not VECTORS.exists():
        return NOT_MEASURED
    from generate_docs import table

    found = json.loads(VECTORS.read_text(encoding="utf-8"))
    many, few = found["million"], found["chunks"]
    header = ("Index", "Bytes", "Oversampling", "Recall@10", "Of a million", "Search, ms", "Floor, ms", "Times faster")
    searches = []
    for row, small in zip(many["searches"], few["searches"], strict=True):
        if row["index"].startswith("funnel") and row["oversampling"] != FUNNEL_SHOWN:
            continue
        index = many["indexes"][row["index"]]
        factor = "" if row["oversampling"] is None else f"{row['oversampling']:g}"
        searches.append(
            [row["index"], f"{index['bytes_a_vector']:,.0f}", factor, _percent(small), _percent(row),
             f"{row['search_ms']:.1f}", f"{index['floor_ms']:.1f}", f"{row['times_faster']:.1f}"]
        )  # fmt: skip
    ranked = [
        [f'`"{row["index"]}"`', _percent(row), f"{row['search_ms']:.0f}", f"{row['times_faster']:.1f}",
         f"{small['times_faster']:.1f}"]
        for row, small in zip(many["rankings"], few["rankings"], strict=True)
    ]  # fmt: skip
    cut = [[f"{row['dimension']}", _percent(row)] for row in found["truncated"]]
    made = found["manifest"]
    return (
        f"The dense ranking of a library, 200 candidates, {found['questions']} questions, among {many['vectors']:,}"
        f" vectors and among {few['vectors']:,}:\n\n"
        + table(("`vectors=`", "Recall@10", "Ranking, ms", "Times faster", f"Of {few['vectors']:,}"), ranked)
        + f"\n\nThe indexes themselves, ten hits, with what they read from the database. Bytes are those of a vector in"
        f" memory with the id of its chunk; the floor is the time to read the bytes that are gone through, at"
        f" {many['memory_gb_a_second']:.0f} GB/s:\n\n"
        + table(header, searches)
        + "\n\nThe shipped model's vectors cut short, without a second look:\n\n"
        + table(("Dimensions", "Recall@10"), cut)
        + "\n\n![Recall against bytes](assets/vectors.svg)\n\n"
        f"The million: {many['what']}; {many['real']:,} are real, and {100 * many['real_among_the_best']:.0f} % of"
        f" the ten best. `{made['command']}` on {made['cores']} cores, {made['cpu']}, with other work on the machine;"
        " the quotients compare searches of the same question, one after the other."
    )


def _percent(row: dict[str, Any]) -> str:
    return f"{100 * row['recall_at_10']:.1f} %"


def draw(figure: Figure) -> None:
    """Differences of span recall with their intervals, an encoder a line, a panel a set."""
    found = figures()
    assert found is not None
    from carrel.evaluation.figures import FAINT, INK

    names = [name for name in NAMES if name in found["encoders"] and name != BASELINE]
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("qmsum", "squad"), strict=True):
        for place, encoder in enumerate(names):
            by = found["encoders"][encoder][name]["set"]["own"]["change"]
            colour = "#1f6f54" if by["low"] > 0 else "#b03a2e" if by["high"] < 0 else "#777777"
            ends = [[100 * (by["mean"] - by["low"])], [100 * (by["high"] - by["mean"])]]
            axes.errorbar([100 * by["mean"]], [place], xerr=ends, fmt="o", color=colour, capsize=3, markersize=5)
        axes.axvline(0, color="#999999", linewidth=0.8)
        axes.set_title(f"{name}: span recall in 1,000 tokens", fontsize=9, color=INK, loc="left")
        axes.set_yticks(range(len(names)), [LABELS[name] for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0, colors=INK, labelsize=8)
    figure.supxlabel("points above plain chunks of 256 tokens, 95 % intervals", fontsize=9)
    figure.tight_layout()


def main() -> None:
    """Draw the plot."""
    if figures() is None:
        raise SystemExit(f"{ENCODERS} is missing: run benchmarks/encoders.py first")
    from carrel.evaluation.figures import write_figure

    write_figure(FIGURE, (10, 3.6), draw, dpi=150)
    print(f"drawn: {FIGURE.name}")


if __name__ == "__main__":
    main()
