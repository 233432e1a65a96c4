"""list, show, doctor and methods."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import carrel
from carrel.testing import HashEncoder


def test_list_is_a_table_with_paths_one_can_use(run, filled: Path) -> None:
    done = run("list", cwd=filled)
    lines = done.out.splitlines()
    assert lines[0].split() == ["document", "title", "characters", "chunks", "changed"]
    assert len(lines) == 2 + 27
    assert done.err == "27 documents, 105 chunks\n"
    for line in lines[2:]:
        assert run("show", line.split()[0], cwd=filled).code == 0


def test_list_filters_and_limits(run, filled: Path) -> None:
    found = run("list", "-w", "title~tariff", "--json", cwd=filled).json["documents"]
    assert [Path(document["id"]).name for document in found] == ["tariff-2022.md", "tariff-2024.md"]
    assert set(found[0]) == {
        "id", "title", "source", "media_type", "characters", "chunks", "added_at", "modified_at", "metadata",
    }  # fmt: skip
    assert len(run("list", "-k", "3", "--json", cwd=filled).json["documents"]) == 3
    assert len(run("list", "-w", "added_at>=2020-01-01", "--json", cwd=filled).json["documents"]) == 27
    nothing = run("list", "-w", "title=nothing", cwd=filled)
    assert (nothing.code, nothing.out) == (0, "")


def test_a_very_long_id_is_cut_in_the_middle(run, tmp_path: Path) -> None:
    long = "begin" + "x" * 5000 + "end"
    with carrel.open(tmp_path / ".carrel", encoder=HashEncoder()) as library:
        library.add([carrel.Document("The pier.", long), carrel.Document("The quay.", "quay")])
    done = run("list", cwd=tmp_path)
    assert max(map(len, done.out.splitlines())) < 250
    assert "beginx" in done.out and " … " in done.out and "xend" in done.out
    assert run("list", "--json", cwd=tmp_path).json["documents"][0]["id"] == long


def test_show_prints_head_and_text(run, filled: Path) -> None:
    done = run("show", "examples/annual-report-2023.pdf", cwd=filled)
    head, _, text = done.out.partition("\n\n")
    assert "id       examples/annual-report-2023.pdf" in head
    assert "application/pdf" in head
    assert ", 4 pages" in head
    found = run("show", "examples/annual-report-2023.pdf", "--json", cwd=filled).json
    assert found["text"].strip() == text.strip()
    only = run("show", "examples/annual-report-2023.pdf", "--text", cwd=filled)
    assert only.out.removesuffix("\n") == found["text"].removesuffix("\n")


def test_show_finds_the_file_from_another_folder(run, filled: Path) -> None:
    assert run("show", "tide_height.py", "-l", "../.carrel", cwd=filled / "examples").code == 0


def test_doctor_in_order_and_not(run, copied: Path) -> None:
    done = run("doctor", cwd=copied)
    assert done.code == 0
    assert "ok  vectors" in done.out
    import sqlite3

    with sqlite3.connect(copied / ".carrel" / "carrel.db") as connection:
        connection.execute("DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors LIMIT 1)")
    connection.close()
    broken = run("doctor", cwd=copied)
    assert broken.code == 4
    assert "to do: carrel reindex" in broken.out
    found = run("doctor", "--json", cwd=copied)
    assert found.code == 4
    assert found.json["ok"] is False
    assert set(found.json["checks"][0]) == {"name", "ok", "message", "remedy"}
    assert run("doctor", "--repair", cwd=copied).code == 4, "vectors are not repaired by it"


def test_methods(run, tmp_path: Path) -> None:
    done = run("methods", cwd=tmp_path)
    assert done.code == 0
    assert "rank_fused" in done.out
    found = run("methods", "--json", cwd=tmp_path).json["methods"]
    assert {method["kind"] for method in found} >= {"encoder", "retriever", "cutoff"}


@pytest.mark.parametrize("arguments", [("--help",), ("-h",)])
def test_help_names_the_exit_codes(run, tmp_path: Path, arguments) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.code == 0
    assert "130  interrupted" in done.out


@pytest.mark.parametrize(
    "command",
    "add sync ask context search list show remove purge reindex doctor why methods eval eval-kv eval-memory".split(),
)
def test_every_command_has_a_summary_and_examples(run, tmp_path: Path, command: str) -> None:
    done = run(command, "--help", cwd=tmp_path)
    assert done.code == 0
    assert f"Usage: carrel {command}" in done.out
    examples = done.out.split("Examples")[1].strip().splitlines()
    assert 2 <= len(examples) <= 3
    assert all(f"carrel {command}" in example for example in examples)
    assert "--json" in done.out


DATASET = {
    "corpus.jsonl": [
        {"id": "pier", "title": "Pier", "text": "The pier was built in 1887 by Augusta Fenn."},
        {"id": "tide", "title": "Tide", "text": "High water is at noon on the eleventh of March."},
    ],
    "queries.jsonl": [
        {"id": "q1", "question": "When was the pier built?", "answers": ["1887"], "gold": [{"doc": "pier"}]},
        {"id": "q2", "question": "When is high water?", "answers": ["noon"], "gold": [{"doc": "tide"}]},
    ],
}


def _dataset(folder: Path) -> str:
    folder.mkdir()
    for name, lines in DATASET.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder.name


def test_eval_prints_a_table_and_writes_results(run, tmp_path: Path) -> None:
    name = _dataset(tmp_path / "harbour")
    rows = ("--configurations", "default,lexical", "--budgets", "64,200")
    done = run("eval", name, *rows, "-o", "out/results.json", cwd=tmp_path)
    assert done.code == 0
    assert "harbour: 2 questions over 2 documents" in done.out
    assert "lexical" in done.out
    from carrel.evaluation import Evaluation

    kept = Evaluation.from_json((tmp_path / "out" / "results.json").read_text())
    assert kept.configurations == ("first", "default", "lexical")
    assert kept.budgets == (64, 200)


def test_eval_of_several_sets(run, tmp_path: Path) -> None:
    names = [_dataset(tmp_path / "one"), _dataset(tmp_path / "two")]
    common = ("--configurations", "lexical", "--budgets", "64", "--json")
    apart = run("eval", *names, *common, "-o", "results.json", cwd=tmp_path).json["evaluations"]
    assert [found["manifest"]["dataset"] for found in apart] == ["one", "two"]
    assert [found["files"] for found in apart] == [["results-one.json"], ["results-two.json"]]
    assert (tmp_path / "results-two.json").exists()
    whole = run("eval", *names, *common, "--whole", cwd=tmp_path).json["evaluations"]
    assert len(whole) == 1
    assert whole[0]["manifest"]["documents"] == 4
    assert whole[0]["configurations"]["lexical"]["contexts"]["answer"]["64"]["mean"] == 1


def test_eval_measures_what_is_named_twice_once(run, tmp_path: Path) -> None:
    name = _dataset(tmp_path / "one")
    common = ("--configurations", "lexical", "--budgets", "64,64", "--json")
    for whole in ((), ("--whole",)):
        (found,) = run("eval", name, f"./{name}/", *common, *whole, cwd=tmp_path).json["evaluations"]
        assert found["manifest"]["documents"] == 2
        assert list(found["configurations"]["lexical"]["contexts"]["answer"]) == ["64"]
    assert "first" in run("eval", "--help", cwd=tmp_path).out


def test_eval_mistakes(run, tmp_path: Path) -> None:
    assert run("eval", "nothing", cwd=tmp_path).code == 2
    name = _dataset(tmp_path / "one")
    assert run("eval", name, "--configurations", "magic", cwd=tmp_path).code == 2
    assert run("eval", name, "--budgets", "some", cwd=tmp_path).code == 2
    assert run("eval", name, "--plot", "plot.gif", cwd=tmp_path).code == 2


def test_a_missing_extra_is_told_before_the_work(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.app.evaluating.find_spec", lambda name: None)
    done = run("eval", _dataset(tmp_path / "one"), "--plot", "plot.svg", cwd=tmp_path)
    assert done.code == 1
    assert "pip install 'carrel[eval]'" in done.err
