"""ask, context, search and why, as a user sees them and as a script reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

import carrel

WIND = "At what wind speed does the quay crane stop lifting today?"
NOWHERE = "Who composed the opera Falstaff?"


def test_an_answer_is_printed_with_its_citations(run, filled: Path) -> None:
    done = run("ask", WIND, cwd=filled)
    assert done.code == 0
    assert done.err == ""
    assert "24 knots" in done.out.splitlines()[0]
    assert "\n[1] Notice 7 of 2024: lower wind limits for cranes\n" in done.out
    assert "    examples/notices/2024-07-wind-limits.md, characters 198–317\n" in done.out


def test_a_page_is_named(run, filled: Path) -> None:
    done = run("ask", "How many passengers did the ferry Maren Tyde carry in 2023?", cwd=filled)
    assert "annual-report-2023.pdf, page 2, characters" in done.out


def test_the_words_of_a_question_need_no_quotes(run, filled: Path) -> None:
    assert run("ask", *WIND.split(), cwd=filled).out == run("ask", WIND, cwd=filled).out


def test_json_quotes_are_the_documents_own(run, filled: Path) -> None:
    found = run("ask", "--json", WIND, cwd=filled).json
    assert set(found) == {
        "question", "answer", "abstained", "confidence", "answers", "citations", "passages", "tokens", "budget",
        "unsupported", "usage", "ledger",
    }  # fmt: skip
    assert found["abstained"] is False
    assert found["tokens"] <= found["budget"] == 1000
    assert found["answers"][0]["citation"] in found["citations"]
    assert found["answers"][0]["text"] in found["answers"][0]["citation"]["quote"]
    with carrel.open(filled / ".carrel", read_only=True) as library:
        for citation in found["citations"]:
            text = library.document(citation["document_id"]).text
            assert text[citation["start"] : citation["end"]] == citation["quote"]


def test_an_abstention_exits_with_3(run, filled: Path) -> None:
    done = run("ask", NOWHERE, cwd=filled)
    assert done.code == 3
    assert done.out == "The documents do not seem to answer this question.\n"
    asked = run("ask", NOWHERE, "--json", cwd=filled)
    assert asked.code == 3
    assert asked.json["abstained"] is True
    assert asked.json["citations"] == []


def test_explain_prints_the_ledger(run, filled: Path) -> None:
    done = run("ask", WIND, "--explain", cwd=filled)
    head = next(line for line in done.out.splitlines() if line.startswith("stage"))
    assert head.split() == ["stage", "in", "out", "tokens", "ms", "reason"]
    for stage in ("embed", "retrieve", "pack", "answer", "total"):
        assert f"\n{stage}" in done.out
    assert "Tokens counted with all-MiniLM-L6-v2." in done.out


def test_a_citation_names_the_page_that_it_stands_on(run, filled: Path) -> None:
    question = "How many passengers did the Maren Tyde carry in 2023?"
    asked = run("ask", question, "--json", cwd=filled).json
    (citation,) = (found for found in asked["citations"] if "88,310 passengers" in found["quote"])
    assert citation["document_id"].endswith("annual-report-2023.pdf")
    assert asked["passages"][citation["number"] - 1]["page"] == 1 < citation["page"] == 2
    assert asked["usage"]["prompt_tokens"] > asked["tokens"]
    assert "page 2, characters" in run("ask", question, cwd=filled).out


def test_the_help_says_what_recency_does(run, filled: Path) -> None:
    words = " ".join(run("context", "--help", cwd=filled).out.replace("│", " ").split())
    assert "a score counts three quarters, and never less than half" in words


def test_context_is_printed_exactly_and_alone(run, filled: Path) -> None:
    done = run("context", WIND, "-b", "120", "--explain", cwd=filled)
    with carrel.open(filled / ".carrel", read_only=True) as library:
        expected = library.context(WIND, budget=120)
    assert done.out == expected.text + "\n"
    assert "pack" in done.err
    found = run("context", WIND, "-b", "120", "--json", cwd=filled).json
    assert found["text"] == expected.text
    assert found["tokens"] == expected.tokens <= 120


def test_search_lists_passages_with_scores(run, filled: Path) -> None:
    done = run("search", "crane", "wind", "-k", "2", "--explain", cwd=filled)
    assert done.code == 0
    assert done.out.startswith("1. ")
    assert "\n2. " in done.out
    assert "\n3. " not in done.out
    assert "dense 0." in done.out
    found = run("search", "crane wind", "-k", "2", "--json", cwd=filled).json
    assert [passage["number"] for passage in found["passages"]] == [1, 2]
    assert found["passages"][0]["scores"]["fused"] > found["passages"][1]["scores"]["fused"]


def test_a_search_that_finds_nothing_exits_with_3(run, filled: Path) -> None:
    done = run("search", "crane", "-w", "title=nothing", cwd=filled)
    assert (done.code, done.out) == (3, "")
    assert "Nothing was found." in done.err
    assert run("search", "crane", "-w", "title=nothing", "--json", cwd=filled).json["passages"] == []


@pytest.mark.parametrize(
    "more",
    [
        ("--retriever", "lexical"),
        ("--cutoff", "adaptive"),
        ("--cutoff", "2"),
        ("--order", "sides"),
        ("--recency", "30"),
        ("-k", "3"),
        ("-w", "title~Notice"),
        ("-w", '{"title": {"contains": "Notice"}}'),
    ],
)
def test_options_reach_the_library(run, filled: Path, more: tuple[str, ...]) -> None:
    found = run("context", WIND, *more, "--json", cwd=filled)
    assert found.code == 0
    if more[0] == "-w":
        assert {passage["title"] for passage in found.json["passages"]} == {
            "Notice 7 of 2024: lower wind limits for cranes"
        }
    if more == ("-k", "3"):
        assert len(found.json["passages"]) <= 3


def test_why_tells_where_a_document_fell_out(run, filled: Path) -> None:
    document = "examples/annual-report-2023.pdf"
    kept = run("why", "examples/notices/2024-07-wind-limits.md", WIND, cwd=filled)
    assert kept.code == 0
    assert "In the context with" in kept.out
    lost = run("why", document, WIND, "-b", "100", cwd=filled)
    assert "out" in lost.out
    assert "Not in the context: it fell out at" in lost.out
    found = run("why", document, WIND, "-b", "100", "--json", cwd=filled).json
    assert set(found) == {"document_id", "question", "fell_out_at", "steps", "passages"}
    assert found["document_id"] == str(filled / document)
    assert found["steps"][-1]["kept"] is False


def test_why_of_a_file_with_many_documents_names_one(run, filled: Path) -> None:
    done = run("why", "examples/incidents.jsonl", WIND, cwd=filled)
    assert done.code == 2
    assert "holds 12 documents" in done.err
    assert run("why", "examples/incidents.jsonl#2024-01", WIND, cwd=filled).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("ask", ""), 2, "EmptyQuestionError"),
        (("ask", "hi", "-b", "0"), 2, "BudgetError"),
        (("ask", "hi", "-b", "many"), 2, "UsageError"),
        (("ask", "hi", "-k", "0"), 2, "InputError"),
        (("ask", "hi", "-w", "no condition"), 2, "FilterError"),
        (("ask", "hi", "--retriever", "magic"), 2, "InputError"),
        (("ask", "hi", "--cutoff", "magic"), 2, "InputError"),
        (("ask", "hi", "--order", "magic"), 2, "UsageError"),
        (("ask", "hi", "--recency", "-1"), 2, "InputError"),
        (("ask",), 2, "UsageError"),
        (("why", "nobody", "hi"), 2, "DocumentNotFoundError"),
        (("ask", "hi", "-l", "nowhere"), 4, "StoreNotFoundError"),
        (("nothing",), 2, "UsageError"),
    ],
)
def test_mistakes_are_one_message_and_a_code(run, filled: Path, arguments, code: int, kind: str) -> None:
    done = run(*arguments, cwd=filled)
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    asked = run(*arguments, "--json", cwd=filled)
    assert asked.code == code
    assert set(asked.json["error"]) == {"type", "message"}
    assert asked.json["error"]["type"] == kind


def test_asking_makes_no_library(run, tmp_path: Path) -> None:
    commands = "ask hi,context hi,search hi,list,show x,why x hi,doctor,remove x,purge,reindex".split(",")
    for command in commands:
        done = run(*command.split(), cwd=tmp_path)
        assert done.code == 4
        assert "Make one with: carrel add FOLDER" in done.err
    assert list(tmp_path.iterdir()) == []


def test_asking_writes_nothing_into_the_library(run, filled: Path) -> None:
    database = filled / ".carrel" / "carrel.db"
    before = database.read_bytes()
    assert run("ask", WIND, "-c", "mistyped", cwd=filled).code == 3
    assert run("ask", WIND, cwd=filled).code == 0
    assert run("doctor", cwd=filled).code == 0
    assert database.read_bytes() == before


def test_an_empty_collection_is_told(run, filled: Path) -> None:
    done = run("ask", WIND, "-c", "mistyped", cwd=filled)
    assert "holds no documents in the collection 'mistyped'" in done.err


def test_the_environment_names_the_library(spawn, filled: Path, tmp_path: Path) -> None:
    done = spawn("list", "--json", cwd=tmp_path, CARREL_LIBRARY=str(filled / ".carrel"))
    assert len(done.json["documents"]) == 27


def test_bytes_that_are_no_text_are_replaced(run, filled: Path) -> None:
    """A shell passes on what was typed, and Python makes a lone surrogate of each byte that is no UTF-8."""
    for command in ("ask", "context", "search"):
        done = run(command, "--json", "at what wind \udcff speed does the quay crane stop", cwd=filled)
        assert done.code == 0
        assert "\ufffd" in done.json["question"]
    assert run("why", "examples/notices/2024-07-wind-limits.md", "wind \udcff speed", cwd=filled).code == 0


def test_an_address_is_no_library(run, filled: Path, tmp_path: Path) -> None:
    for command in (["ask", WIND], ["add", str(filled / "examples")], ["list"]):
        done = run(*command, "--library", "postgresql+psycopg://x/y", cwd=tmp_path)
        assert done.code == 2
        assert "is an address, but a library can only be a folder so far" in " ".join(done.err.split())
    assert list(tmp_path.iterdir()) == []
