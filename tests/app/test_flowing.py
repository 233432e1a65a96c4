"""carrel flow: what runs offline, its plan, its journal, and how it fails."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from carrel.agents import Happened
from carrel.agents.codec import plain
from carrel.agents.replying import Written
from carrel.agents.trace import Trace
from carrel.app import flowing
from carrel.app.flowing import READS_DOCUMENTS, FlowName, make_flow, written
from carrel.testing.chat_server import Exchange, chat_server
from carrel.types import Document, TextEvent

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
    assert stopped.code == 1 and "call is spent" in stopped.err and "What was replied is kept in" in stopped.err
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
        (("chain_of_agents", "What?", "-d", "examples/handbook"), "examples/handbook is a folder: name its documents"),
        (("chain_of_agents", "What?", "-d", "new.md"), "new.md is not in the library. Add it first, with: carrel add"),
        (("iterative", "What?", "--max-calls", "0"), "--max-calls is a number above 0, not 0"),
        (("iterative", "What?", "--max-seconds", "nan"), "--max-seconds is a number above 0, not nan"),
        (("iterative",), "a question is missing. Ask something, such as: carrel flow iterative"),
        (("iterative", " "), "the question is empty. Ask something, such as: carrel flow iterative"),
        (("nothing", "What?"), "there is no flow 'nothing'. Choose from: router, iterative"),
        (("iteratve", "What?"), "Is iterative meant?"),
        (("long_writer", "What?"), "long_writer runs from Python only, as carrel.agents.long_writer"),
        (("literature_review", "tides"), "which the embedded reader does not: name a server with --server"),
    ],
)
def test_what_is_wrong_is_said(
    run, filled: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.setattr(flowing.os.path, "isfile", lambda name: name == "new.md")
    done = run("flow", *arguments, cwd=filled)
    assert done.code == 2 and says in done.err


def test_names_may_have_hyphens(run, filled: Path) -> None:
    assert "reads whole documents" in run("flow", "Chain-of-Agents", "What?", cwd=filled).err


def test_a_summary_needs_no_question(run, filled: Path) -> None:
    done = run("flow", "tree_summary", "-d", MINUTES, cwd=filled)
    assert done.code == 0 and "[1]" in done.out and MINUTES in done.out


def test_a_document_named_twice_is_read_once(run, filled: Path) -> None:
    once = run("flow", "refine", SOLAR, "-d", MINUTES, "--json", cwd=filled).json
    twice = run("flow", "refine", SOLAR, "-d", MINUTES, "-d", str(filled / MINUTES), "--json", cwd=filled).json
    assert once["usage"] == twice["usage"]


def test_a_plan_of_what_writes_needs_no_server(run, filled: Path) -> None:
    done = run("flow", "literature_review", "tides", "--plan", cwd=filled)
    assert done.code == 0 and done.out.startswith("about ")


def test_an_empty_library_is_named(run, tmp_path: Path, copied: Path) -> None:
    shutil.copytree(copied / ".carrel", tmp_path / "empty")
    done = run("flow", "iterative", "What?", "-l", "empty", "-c", "other", cwd=tmp_path)
    assert done.code == 3 and "holds no documents in the collection 'other'" in done.err


def test_a_spent_budget_says_how_to_go_on(run, filled: Path) -> None:
    done = run("flow", "iterative", "What?", "--max-tokens", "5", cwd=filled)
    assert done.code == 1 and "With --journal FILE, what was replied is kept" in done.err


def test_what_the_flow_reports_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    result = SimpleNamespace(skipped=("a page",), reports=("a guess",), hallucinated=("a name",))
    ended = SimpleNamespace(result=result, trace=Trace("flow", "f", "", 0.0))
    flowing._show(ended, Written("Yes."), "q", explain=False)  # type: ignore[arg-type]
    assert capsys.readouterr().err.splitlines() == ["skipped: a page", "report: a guess", "hallucinated: a name"]


def heard() -> None:
    """Ctrl-C, which is ignored in what a shell runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("journal", [True, False])
def test_ctrl_c_says_how_to_go_on(filled: Path, tmp_path: Path, environment: dict[str, str], journal: bool) -> None:
    """Stopped at its second call; with a journal, the first is not made again."""

    def chat(exchange: Exchange) -> None:
        if exchange.number == 2:
            time.sleep(5)
        exchange.reply("The board will decide on 18 September 2024. [1]")

    with chat_server() as server:
        server.chat = chat
        kept = ["--journal", str(tmp_path / "x.journal")] if journal else []
        command = ["flow", "map_reduce", SOLAR, "-d", MINUTES, "--server", server.url, *kept]
        process = subprocess.Popen(
            [sys.executable, "-m", "carrel", *command], cwd=filled, env=environment, stderr=subprocess.PIPE, text=True,
            preexec_fn=heard,
        )  # fmt: skip
        while len(server.asked) < 2:
            assert process.poll() is None and not time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
        assert process.returncode == 130 and said.endswith("error: interrupted\n")
        assert ("What was replied is kept in" if journal else "Nothing is kept. With --journal FILE") in said
        if journal:
            assert (
                subprocess.run([sys.executable, "-m", "carrel", *command], cwd=filled, env=environment).returncode == 0
            )
            assert len(server.asked) == 3


def test_a_server_that_fails_says_how_to_go_on(run, filled: Path, tmp_path: Path) -> None:
    command = ("flow", "map_reduce", SOLAR, "-d", MINUTES, "--server", "http://127.0.0.1:1/v1", "--model", "m")
    done = run(*command, "--journal", str(tmp_path / "x.journal"), cwd=filled)
    assert done.code == 1 and "cannot reach" in done.err and "the same command goes on from there" in done.err


def test_progress_has_no_words_of_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question or a document with brackets must not be read as markup, nor steer the terminal."""
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        flowing, "shown_progress", lambda quiet: nullcontext(lambda done, at, of, figures: told.append((done, figures)))
    )
    ask = Trace("ask", "", "0", 0.0, 1.0, 1000, 20, note="answer: [/b] \x1b[31m who?")
    with flowing._watched(False) as watch:
        watch(Happened(0, Trace("retrieve", "", "0", 0.0, 1.0, note="[/b] \x1b[31m who?")))
        watch(Happened(0, ask, TextEvent("[/b]")))
        watch(Happened(0, ask))
    assert [done for done, _ in told] == ["working", "searched", "writing", "got a reply"]
    assert told[-1][1] == "1 call, 1,020 tokens, 0 s" and told[1][1].startswith("0 calls, 0 tokens")


def test_no_answer_is_an_exit_code(run, filled: Path) -> None:
    assert run("flow", "iterative", "Who composed the opera Falstaff?", cwd=filled).code == 3


@pytest.mark.parametrize("name", list(FlowName))
def test_every_name_makes_its_flow(name: FlowName) -> None:
    made = make_flow(name, "What of it?", [Document("A text.", "d")] if name in READS_DOCUMENTS else [])
    assert made.name == name.value and plain(dict(made.arguments))


def test_a_result_without_a_text_is_noticed() -> None:
    with pytest.raises(TypeError, match="str has no text"):
        written("text")
