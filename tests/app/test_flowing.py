"""carrel flow: what runs offline, its plan, its journal, and how it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from carrel.agents.codec import plain
from carrel.app.flowing import READS_DOCUMENTS, FlowName, make_flow, written
from carrel.types import Document

MINUTES = "examples/minutes-2024-05-22.docx"
SOLAR = "When will the board decide on the solar panels?"


@pytest.mark.parametrize("name", sorted(name.value for name in READS_DOCUMENTS))
def test_flows_that_read_a_document(run, filled: Path, name: str) -> None:
    done = run("flow", name, SOLAR, "--document", MINUTES, cwd=filled)
    assert done.code in (0, 3), done.err
    if name == "chain_of_agents":
        assert "18 September 2024" in done.out and "[1]" in done.out and MINUTES in done.out


@pytest.mark.parametrize("name", ["iterative", "router", "clustered", "retrieve_then_reason"])
def test_flows_that_search(run, filled: Path, name: str) -> None:
    done = run("flow", name, "Who was the last keeper of Greyhorn Light?", "--explain", cwd=filled)
    assert done.code in (0, 3), done.err
    assert "retrieve" in done.out and "ask" in done.out
    if name == "iterative":
        assert "Anselm Dray" in done.out and done.code == 0


def test_json_has_result_usage_and_trace(run, filled: Path) -> None:
    found = run("flow", "chain_of_agents", SOLAR, "-d", MINUTES, "--json", cwd=filled).json
    assert set(found) == {"flow", "result", "usage", "trace"}
    assert "18 September" in found["result"]["answer"]["text"] and found["trace"]["children"]


def test_a_plan_asks_nothing(run, filled: Path) -> None:
    done = run("flow", "map_reduce", "What was decided?", "-d", MINUTES, "--plan", cwd=filled)
    assert done.code == 0 and done.out.startswith("about 2 calls (2 in a row)")
    planned = run("flow", "map_reduce", "What was decided?", "-d", MINUTES, "--plan", "--json", cwd=filled).json
    assert planned["calls"] == 2 and "trace" not in planned


def test_a_journal_is_gone_on_with(run, filled: Path, tmp_path: Path) -> None:
    journal = str(tmp_path / "solar.journal")
    command = ("flow", "chain_of_agents", SOLAR, "-d", MINUTES, "--journal", journal)
    stopped = run(*command, "--max-calls", "1", cwd=filled)
    assert stopped.code == 1 and "the budget of 1 calls is spent" in stopped.err
    done = run(*command, "--json", cwd=filled).json
    asks = [step for step in done["trace"]["children"] if step["kind"] == "ask"]
    assert [step.get("replayed", False) for step in asks] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("chain_of_agents", "What?"), "chain_of_agents reads whole documents: name them with --document"),
        (("iterative", "What?", "-d", MINUTES), "iterative searches the whole library, and takes no --document"),
        (("chain_of_agents", "What?", "-d", "nowhere.md"), "no document has the id 'nowhere.md'"),
        (("chain_of_agents", "?", "-d", MINUTES), "the question is empty"),
        (("iterative", "What?", "--max-calls", "0"), "a budget's calls is a number above 0"),
        (("nothing", "What?"), "nothing"),
    ],
)
def test_what_is_wrong_is_said(run, filled: Path, arguments: tuple[str, ...], says: str) -> None:
    done = run("flow", *arguments, cwd=filled)
    assert done.code == 2 and says in done.err


def test_the_reader_does_not_write(run, filled: Path) -> None:
    done = run("flow", "literature_review", "tides", cwd=filled)
    assert done.code == 1 and "the embedded reader quotes, it does not write" in done.err


def test_no_answer_is_an_exit_code(run, filled: Path) -> None:
    assert run("flow", "iterative", "Who composed the opera Falstaff?", cwd=filled).code == 3


@pytest.mark.parametrize("name", list(FlowName))
def test_every_name_makes_its_flow(name: FlowName) -> None:
    made = make_flow(name, "What of it?", [Document("A text.", "d")] if name in READS_DOCUMENTS else [])
    assert made.name == name.value and plain(dict(made.arguments))


def test_a_result_without_a_text_is_noticed() -> None:
    with pytest.raises(TypeError, match="str has no text"):
        written("text")
