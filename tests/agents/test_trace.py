"""The trace of a run: what happened, in the order of its steps, for eyes, for files and for OpenTelemetry."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import rich.console

from carrel.agents import Ask, Bind, Call, Embed, Fit, Pack, Run, Score, Steps, Trace, flow, run, run_many
from carrel.agents.machine import Machine
from carrel.agents.trace import export, in_short
from carrel.errors import ContextOverflowError
from carrel.testing import FakeGenerator
from carrel.types import Passage, Prompt


def _inner(word: str) -> Steps[None]:
    yield Ask(Prompt(word, kind="notes"))
    if word == "bad":
        raise ValueError("went wrong")


@flow()
def _outer() -> Steps[str]:
    yield [_inner("good"), _beside()]
    try:
        yield _inner("bad")
    except ValueError:
        yield Fit(Prompt("q"), (Passage("d", 0, 1, "x"),))
    return "done"


@flow()
def _beside() -> Steps[None]:
    yield Ask(Prompt("beside"))


@flow()
def _nested(depth: int) -> Steps[None]:
    if depth:
        yield _nested(depth - 1)
    else:
        yield Ask(Prompt("bottom"))


def _done(**more: Any) -> Run[str]:
    return run(_outer(), generator=FakeGenerator("two words"), **more)


EXPECTED = [
    ("flow", "_outer", ""),
    ("flow", "_inner", "0.0"),
    ("ask", "", "0.0/0"),
    ("flow", "_beside", "0.1"),
    ("ask", "", "0.1/0"),
    ("flow", "_inner", "1"),
    ("ask", "", "1/0"),
    ("fit", "", "2"),
]


def test_it_has_every_step_in_the_order_of_the_run() -> None:
    done = _done()
    assert [(node.kind, node.name, node.path) for node in done.trace.walk()] == EXPECTED
    assert [node.path for node in done.trace.asks] == ["0.0/0", "0.1/0", "1/0"]
    assert [node.error for node in done.trace.walk()] == ["", "", "", "", "", "ValueError: went wrong", "", ""]
    assert all((node.tokens_in, node.tokens_out) == (1, 2) for node in done.trace.asks)
    for node in done.trace.walk():
        assert node.ended is not None and node.seconds == node.ended - node.began >= 0
        for child in node.children:
            assert child.ended is not None and node.began <= child.began <= child.ended <= node.ended


def test_a_step_that_has_not_ended_has_no_length() -> None:
    assert Trace("ask", "", "0", 5.0).seconds == 0.0


def test_as_json_it_is_plain_and_starts_at_nothing() -> None:
    trace = _done().trace
    said = json.loads(json.dumps(trace.as_json()))
    assert (said["kind"], said["name"], said["began_s"], said["path"]) == ("flow", "_outer", 0.0, "")
    assert said["seconds"] == pytest.approx(trace.seconds, abs=1e-5)
    bad = said["children"][2]
    assert bad["error"] == "ValueError: went wrong"
    assert bad["children"][0]["tokens_in"] == 1 and bad["children"][0]["note"] == "notes: bad"
    assert "children" not in bad["children"][0] and "replayed" not in bad["children"][0]
    assert [child["path"] for child in said["children"]] == ["0.0", "0.1", "1", "2"]
    assert "began_s" in bad and bad["began_s"] >= said["children"][0]["began_s"]


def test_replies_of_a_journal_are_marked(tmp_path: Path) -> None:
    _done(journal=tmp_path / "j")
    trace = _done(journal=tmp_path / "j").trace
    assert [node.replayed for node in trace.asks] == [True] * 3
    assert trace.as_json()["children"][2]["children"][0]["replayed"] is True
    assert "from the journal" in str(trace.asks[0])


def test_as_a_tree_it_can_be_printed() -> None:
    out = io.StringIO()
    rich.console.Console(file=out, width=100).print(_done().trace.tree())
    lines = out.getvalue().splitlines()
    assert [re.sub(r"^[│├└─ ]+", "", line).split("  ")[0] for line in lines] == [
        "_outer", "_inner", "ask", "_beside", "ask", "_inner", "ask", "fit",
    ]  # fmt: skip
    assert "notes: good  1 -> 2 tokens" in lines[2] and "ValueError: went wrong" in lines[5]
    assert lines[2].index("ask") > lines[1].index("_inner") > lines[0].index("_outer")


def test_brackets_of_a_note_are_no_markup() -> None:
    trace = Trace("ask", "", "0", 0.0, 1.0, note="[red]what?[/red]")
    out = io.StringIO()
    rich.console.Console(file=out, width=100).print(trace.tree())
    assert "[red]what?[/red]" in out.getvalue()


def test_a_run_may_be_nested_deeper_than_the_stack() -> None:
    machine = Machine(_nested(3000))
    machine.give(machine.due()[0], "x")
    assert len(list(machine.trace.walk())) == 3002
    said, depth = machine.trace.as_json(), 0
    while "children" in said:
        said, depth = said["children"][0], depth + 1
    assert depth == 3001
    machine.trace.tree()


@flow()
def _probing() -> Steps[str]:
    try:
        yield Fit(Prompt("word " * 50), (Passage("d", 0, 1, "x"),))
    except ContextOverflowError:
        yield Fit(Prompt("q"), (Passage("d", 0, 1, "x"),))
    return "done"


def test_to_find_no_room_is_no_failure() -> None:
    """A flow fits in order to learn whether there is room."""
    trace = run(_probing(), generator=FakeGenerator(context_window=60)).trace
    assert [(node.note, node.error) for node in trace.children] == [("1 passage: no room", ""), ("1 passage", "")]
    (failed,) = run_many([_careless()], generator=FakeGenerator(context_window=60))
    assert "ContextOverflowError" in failed.trace.error and "leaves 0 of them" in str(failed.trace)


@flow()
def _careless() -> Steps[None]:
    yield Fit(Prompt("word " * 50), (Passage("d", 0, 1, "x"),))


def test_every_request_has_a_few_words() -> None:
    one, two = Passage("d", 0, 1, "x"), Passage("d", 1, 2, "y")
    said = [
        in_short(request)
        for request in (
            Pack("q", (one, two), 1000), Score("q", (one,)), Embed(("a", "b")), Embed(("a", "b"), queries=True),
            Bind("t", (one, two)), Call("search", {"question": "q"}), Fit(Prompt("q"), ()),
        )
    ]  # fmt: skip
    assert said == [
        "2 passages, 1,000 tokens", "1 passage", "2 texts", "2 queries", "marks to 2 passages", "search", "0 passages",
    ]  # fmt: skip


def test_a_long_error_is_cut_to_a_line_for_eyes_alone() -> None:
    error = "GenerationError: first\nsecond " + "word " * 100
    trace = Trace("ask", "", "0", 0.0, 1.0, error=error)
    assert "\n" not in str(trace) and "first second" in str(trace) and len(str(trace)) < 300
    assert trace.as_json()["error"] == error


# -- OpenTelemetry ---------------------------------------------------------------------------------


def _spans(trace: Trace, offset: float, parent: bool = False) -> list[Any]:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    if parent:
        with tracer.start_as_current_span("mine"):
            export(trace, tracer, offset)
    else:
        export(trace, tracer, offset)
    return list(exporter.get_finished_spans())


def test_spans_have_the_parents_of_the_tree() -> None:
    done = _done()
    spans = {span.attributes["carrel.path"]: span for span in _spans(done.trace, done.wall_clock_offset_s)}
    assert sorted(spans) == sorted(path for _, _, path in EXPECTED)
    assert {path: span.name for path, span in spans.items()} == {
        path: f"{kind} {name}".strip() for kind, name, path in EXPECTED
    }
    assert spans[""].parent is None
    for path, parent in [("0.0", ""), ("0.0/0", "0.0"), ("0.1/0", "0.1"), ("1", ""), ("1/0", "1"), ("2", "")]:
        assert spans[path].parent.span_id == spans[parent].context.span_id, path
    assert len({span.context.trace_id for span in spans.values()}) == 1


def test_spans_have_the_times_when_it_ran() -> None:
    before = time.time()
    done = _done()
    after = time.time()
    for span in _spans(done.trace, done.wall_clock_offset_s):
        assert (before - 0.5) * 1e9 <= span.start_time <= span.end_time <= (after + 0.5) * 1e9
    by_path = {node.path: node for node in done.trace.walk()}
    for span in _spans(done.trace, 100.0):
        node = by_path[span.attributes["carrel.path"]]
        assert span.start_time == int((node.began + 100.0) * 1e9) and span.end_time == int((node.ended + 100.0) * 1e9)  # type: ignore[operator]


def test_spans_have_tokens_notes_and_errors(tmp_path: Path) -> None:
    from opentelemetry.trace import StatusCode

    _done(journal=tmp_path / "j")
    done = _done(journal=tmp_path / "j")
    spans = {span.attributes["carrel.path"]: span for span in _spans(done.trace, 0.0)}
    assert dict(spans["1/0"].attributes) == {
        "carrel.path": "1/0", "gen_ai.usage.input_tokens": 1, "gen_ai.usage.output_tokens": 2, "carrel.replayed": True,
        "carrel.note": "notes: bad",
    }  # fmt: skip
    assert dict(spans["0.1"].attributes) == {"carrel.path": "0.1"}
    assert (spans["1"].status.status_code, spans["1"].status.description) == (
        StatusCode.ERROR, "ValueError: went wrong",
    )  # fmt: skip
    assert spans[""].status.status_code is StatusCode.UNSET


def test_spans_go_under_the_span_of_the_caller() -> None:
    *_, mine = spans = _spans(_done().trace, 0.0, parent=True)
    (root,) = [span for span in spans if span.attributes.get("carrel.path") == ""]
    assert mine.name == "mine" and root.parent.span_id == mine.context.span_id


def test_an_unfinished_step_is_a_span_of_no_length_and_depth_does_not_matter() -> None:
    (failed,) = run_many([_nested(2000)], generator=FakeGenerator(ValueError("no")))
    spans = _spans(failed.trace, 0.0)
    assert len(spans) == 2002
    (span,) = _spans(Trace("flow", "f", "", 3.0), 0.0)
    assert span.start_time == span.end_time == 3_000_000_000
