"""The agent: calls as a script makes them, within its steps, its tokens and the window; every way it can end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrel
from carrel.agents import Flow, plan, run, run_many
from carrel.agents.acting import LEFT_OUT, NO_ROOM, REPEATED, _left_out, schema_of
from carrel.agents.agent import Acted, agent
from carrel.agents.fitting import reply_room
from carrel.agents.signatures import Result, Signature, Tool
from carrel.errors import ContextOverflowError, InputError, MalformedReplyError, RefusalError, ReplyFormatError
from carrel.generation.base import Generator
from carrel.generation.extractive import ABSTENTION
from carrel.generation.openai_compatible import OpenAICompatible
from carrel.testing import FakeGenerator, FlowConformance, HashEncoder
from carrel.testing.chat_server import chat_server
from carrel.types import Completion, Document, Passage, Prompt, Usage

EXAMPLES = Path(__file__).parents[2] / "examples" / "library"
QUESTION = "Where is the barometer of the last keeper kept?"
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
REFUSED = Completion("I cannot help with that.", finish_reason="refused")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[carrel.Library]:
    with carrel.open(tmp_path_factory.mktemp("agent") / "library", mode="fast") as library:
        library.add(EXAMPLES)
        yield library


def call(tool: str, **arguments: Any) -> str:
    return json.dumps({"tool": tool, "arguments": arguments})


def answer(text: str) -> str:
    return json.dumps({"answer": text})


def echo(said: Callable[[str], Result | str] = str.upper, name: str = "echo", **options: Any) -> Tool:
    return Tool(name, "Says it again.", TEXT, run=lambda arguments: said(arguments["text"]), **options)


def quoting(text: str) -> Result:
    """A document that the text names, as a passage."""
    return Result(f"[1] {text}", (Passage(text, 0, len(text), text),))


def acted(script: Any, tool: Tool | None = None, window: int | None = None, **options: Any) -> Acted:
    tools = [tool or echo()]
    generator = script if isinstance(script, Generator) else FakeGenerator(script, context_window=window)
    return run(agent("Which?", tools, **options), generator=generator, tools=tools).result


# -- with a library -------------------------------------------------------------------------------


def test_it_searches_reads_and_answers_with_citations(library: carrel.Library) -> None:
    def script(prompt: Prompt) -> str:
        if not prompt.notes:
            return call("search", question="last keeper barometer", budget=300)
        found = next(passage for passage in prompt.passages if "barometer" in passage.text)
        if len(prompt.notes) == 1:
            return call("read", document_id=found.document_id, start=found.start, end=found.end)
        number = prompt.passages.index(found) + 1
        return answer(f"His barometer is kept in the harbour office [{number}].")

    tools = library.as_tools()
    generator = FakeGenerator(script)
    result = run(agent(QUESTION, tools), generator=generator, library=library, tools=tools).result
    assert [action.tool for action in result.actions] == ["search", "read"] and result.ended == "answered"
    assert all(action.called and action.passages for action in result.actions)
    (citation,) = result.answer.citations
    text = library.document(citation.document_id).text
    assert text[citation.start : citation.end] == citation.quote and "barometer" in citation.quote
    assert not result.answer.unsupported and not result.answer.abstained
    assert result.tokens == sum(map(generator.prompt_tokens, generator.prompts)) + sum(
        generator.count_tokens(script(prompt)) for prompt in generator.prompts
    )


def test_the_library_is_its_tools_where_none_are_given(library: carrel.Library) -> None:
    generator = FakeGenerator([call("list"), answer(ABSTENTION)])
    result = run(agent(QUESTION, library.as_tools()), generator=generator, library=library).result
    assert "| - " in generator.prompts[1].notes[0] and "annual-report" in result.actions[0].said
    assert result.answer.abstained and result.answer.citations == ()


def test_tools_can_be_kept_from_it(library: carrel.Library) -> None:
    flow = agent(QUESTION, library.as_tools())
    with pytest.raises(InputError, match="the tool 'list': give the driver tools="):
        run(flow, generator=FakeGenerator(call("list")), library=library, tools=[echo()])
    with pytest.raises(InputError, match="two tools have the name 'echo'"):
        run(flow, generator=FakeGenerator(), tools=[echo(), echo()])
    with pytest.raises(InputError, match="a tool is an object of"):
        run(flow, generator=FakeGenerator(), tools=["echo"])  # type: ignore[list-item]


def test_a_mark_that_nothing_bears_out_is_not_cited() -> None:
    tool = echo(quoting)
    said = acted([call("echo", text="The mole is white."), answer("The ferry leaves at nine o'clock [1].")], tool)
    assert said.answer.citations == () and [mark.number for mark in said.answer.unsupported] == [1]


# -- what is wrong with a call --------------------------------------------------------------------


def test_an_unknown_tool_and_wrong_arguments_are_told() -> None:
    called: list[str] = []
    tool = echo(lambda text: called.append(text) or text)  # type: ignore[func-returns-value]
    result = acted([call("ask"), call("echo", txt="a"), call("echo", text="a\n[1] b"), answer("a")], tool)
    assert [action.said for action in result.actions] == [
        "There is no tool 'ask'. There are: echo.",
        "echo was not called: there is no 'txt'; it takes text. Correct the arguments and call again.",
        "a\n[1] b",
    ]
    assert [action.called for action in result.actions] == [False, False, True] and called == ["a\n[1] b"]


def test_what_a_tool_returns_passes_for_nothing_else() -> None:
    generator = FakeGenerator([call("echo", text="x\n[1] a passage\nCall 2: none"), answer("a")])
    acted(generator, echo(str))
    (note,) = generator.prompts[1].notes
    assert note.splitlines()[1:] == ["| x", "| [1] a passage", "| Call 2: none"]


def test_the_same_call_is_not_made_twice() -> None:
    called: list[str] = []
    tool = echo(lambda text: called.append(text) or text)  # type: ignore[func-returns-value]
    again = '{"arguments": {"text": "a"}, "answer": null, "tool": "echo"}'
    result = acted([call("echo", text="a"), again, call("echo", text="b"), answer("a")], tool)
    assert called == ["a", "b"] and result.actions[1].said == REPEATED and not result.actions[1].called


def test_the_same_call_is_made_twice_where_it_may_say_something_else() -> None:
    tool = echo(repeatable=True)
    result = acted([call("echo", text="a"), call("echo", text="a"), answer("a")], tool)
    assert [action.called for action in result.actions] == [True, True]


# -- replies of the wrong form --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("The ferry leaves at nine.", "it holds no JSON object"), ('{"tool": "echo"', "is not whole"),
        ('{"answer": ""}', "no answer"), ("{}", "no answer"), ('{"answer": 9}', "no answer"),
        ('{"tool": 3}', "no answer"), ('{"tool": "echo", "arguments": [1]}', "arguments are no JSON object"),
        ('{"tool": "echo", "arguments": {}, "answer": "a"}', "both a tool and an answer"),
        ('{"a":' * 9999, "is not whole"),
        (Completion('{"answer": "an', finish_reason="length"), "cut off at its most tokens"),
    ],
)  # fmt: skip
def test_a_reply_of_the_wrong_form_is_repaired_once_then_reported(wrong: Any, why: str) -> None:
    generator = FakeGenerator([wrong, answer("a")])
    result = acted(generator)
    assert result.answer.text == "a" and result.ended == "answered"
    assert why in result.actions[0].said and why in generator.prompts[1].notes[0]
    with pytest.raises(ReplyFormatError, match="twice the model's reply"):
        acted([wrong, wrong, answer("a")])
    once_more = [wrong, call("echo", text="a"), wrong, answer("a")]
    assert [action.tool for action in acted(once_more).actions] == ["", "echo", ""]


@pytest.mark.parametrize("around", ["```json\n%s\n```", "I will answer: %s. Done.", "<think>hm</think>%s"])
def test_what_stands_around_a_reply_is_passed_over(around: str) -> None:
    assert acted(around % answer("a")).answer.text == "a"


def test_halves_of_characters_are_made_whole() -> None:
    assert acted('{"answer": "a\\ud800b"}').answer.text == "a\ufffdb"
    assert acted([call("echo", text="\ud800"), answer("a")]).actions[0].said == "\ufffd"


def test_a_schema_is_asked_for_and_done_without_where_the_engine_cannot() -> None:
    generator = FakeGenerator([MalformedReplyError("no JSON"), call("echo", text="a"), answer("a")])
    assert acted(generator).answer.text == "a"
    first, second, third = (prompt.schema for prompt in generator.prompts)
    assert first == schema_of([echo()]) and second is None and third is None
    with pytest.raises(MalformedReplyError):
        acted(MalformedReplyError("no protocol"))


def test_the_schema_is_one_that_strict_servers_take() -> None:
    """Objects name all their properties, require each, and take no others; the root is an object."""
    optional = Signature("two", "", {"type": "object", "properties": {
        "a": {"type": "integer", "minimum": 1}, "b": {"type": "array", "items": {"type": "string"}}}, "required": ["a"],
    })  # fmt: skip

    def objects(schema: Any) -> Iterator[Mapping[str, Any]]:
        if isinstance(schema, Mapping):
            if schema.get("type") == "object":
                yield schema
            schema = list(schema.values())
        for inner in schema if isinstance(schema, list) else ():
            yield from objects(inner)

    schema = schema_of([echo(), optional])
    found = list(objects(schema))
    assert len(found) == 3 and found[0] is schema
    for each in found:
        assert each["additionalProperties"] is False and each["required"] == list(each["properties"])
    assert "minimum" not in json.dumps(schema) and found[2]["properties"]["b"]["anyOf"][1] == {"type": "null"}


# -- how it ends ----------------------------------------------------------------------------------


def test_after_its_steps_it_must_answer() -> None:
    generator = FakeGenerator([call("echo", text="a"), call("nothing"), call("echo", text="c"), answer("late")])
    result = acted(generator, steps=2)
    assert result.ended == "steps" and result.answer.text == "late"
    assert [action.tool for action in result.actions] == ["echo", "nothing", ""]
    assert "no further tool can be called" in result.actions[2].said
    assert [set(prompt.schema["properties"]) == {"answer"} for prompt in generator.prompts if prompt.schema] == [
        False, False, True, True,
    ]  # fmt: skip
    with pytest.raises(ReplyFormatError, match="no further tool"):
        acted(call("echo", text="a"), steps=2)


def test_once_its_tokens_are_spent_it_must_answer() -> None:
    first = Completion(call("echo", text="a"), Usage(90, 10))
    generator = FakeGenerator([first, Completion(answer("b"), Usage(50, 5))])
    result = acted(generator, tokens=100)
    assert result.ended == "tokens" and result.tokens == 155 and "No further tool" in generator.prompts[1].notes[-1]
    assert acted([first, answer("b")], tokens=101).ended == "answered"


@pytest.mark.parametrize("refusal", [REFUSED, RefusalError("declined")])
def test_a_refusal_on_the_way_leaves_what_was_found(refusal: Any) -> None:
    result = acted([call("echo", text="a"), refusal, answer("b")])
    assert result.ended == "refused" and result.answer.text == "b" and len(result.actions) == 1
    with pytest.raises(RefusalError):
        acted([call("echo", text="a"), refusal, refusal, answer("b")])
    with pytest.raises(RefusalError):
        acted([refusal, answer("b")])


def test_no_answer_is_said_in_json_or_in_words() -> None:
    for said in (answer(ABSTENTION), Completion(ABSTENTION, finish_reason="abstained")):
        result = acted([call("echo", text="a"), said])
        assert result.answer.abstained and result.answer.text == ABSTENTION and result.ended == "answered"


@pytest.mark.parametrize(
    ("tools", "options"),
    [([], {}), ([echo(), echo()], {}), ([echo()], {"steps": 0}), ([echo()], {"tokens": 0})],
)
def test_what_it_cannot_work_with(tools: list[Tool], options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="an agent has one tool or more"):
        run(agent("Which?", tools, **options), generator=FakeGenerator(answer("a")))


# -- the window -----------------------------------------------------------------------------------


def test_the_oldest_results_are_left_out_first() -> None:
    generator = FakeGenerator([*(call("echo", text=letter) for letter in "abcd"), answer("done")], context_window=480)
    acted(generator, echo(lambda text: f"{text} " * 60), reply_tokens=64)
    last = generator.prompts[-1].notes
    assert len(last) == 4 and last[0].endswith(NO_ROOM) and not last[3].endswith(NO_ROOM)
    shown = [not note.endswith(NO_ROOM) for note in last]
    assert shown == sorted(shown) and 1 <= sum(shown) <= 3


def test_a_call_whose_result_is_left_out_may_be_made_again() -> None:
    script = [*(call("echo", text=letter) for letter in "abca"), answer("done")]
    generator = FakeGenerator(script, context_window=360)
    result = acted(generator, echo(lambda text: f"{text} " * 60), reply_tokens=64)
    assert NO_ROOM in "".join(generator.prompts[3].notes) and result.actions[3].called
    assert "| a a a" in generator.prompts[4].notes[-1]


def test_even_the_calls_are_left_out_where_they_do_not_fit() -> None:
    calls = [call("echo", text=f"{number} " * 80) for number in range(6)]
    generator = FakeGenerator([*calls, answer("done")], context_window=640)
    assert len(acted(generator, echo(lambda text: "ok"), reply_tokens=64).actions) == 6
    last = generator.prompts[-1].notes
    assert last[0] == "The first calls are left out for want of room." and last[-1].startswith("Call 6: ")


def test_passages_are_left_out_the_oldest_first_and_the_call_may_be_made_again() -> None:
    def said(text: str) -> Result:
        long = f"{text} stands here. " * 25
        return Result(long, (Passage(text, 0, len(long), long),))

    names = ["one", "two", "three", "one"]
    generator = FakeGenerator([*(call("echo", text=name) for name in names), answer("done")], context_window=520)
    result = acted(generator, echo(said), reply_tokens=64)
    fourth, last = generator.prompts[3], generator.prompts[-1]
    assert LEFT_OUT in fourth.notes and fourth.passages[0].document_id == "three"
    assert "one" not in [passage.document_id for passage in fourth.passages]
    assert result.actions[3].called and last.passages[0].document_id == "one"


def test_a_passage_within_another_is_shown_once() -> None:
    text = "The ferry leaves at nine. It comes back at six."
    passages = [Passage("d", 0, 25, text[:25]), Passage("d", 0, len(text), text), Passage("e", 0, 9, "The ferry")]
    generator = FakeGenerator([*(call("echo", text=f"{number}") for number in range(3)), answer("done")])
    acted(generator, echo(lambda number: Result("", (passages[int(number)],))))
    assert list(generator.prompts[-1].passages) == [passages[2], passages[1]]


def test_a_server_that_counts_otherwise_is_shown_less() -> None:
    full = ContextOverflowError("too long")
    generator = FakeGenerator([call("echo", text="a"), call("echo", text="b"), full, full, answer("done")])
    assert acted(generator).answer.text == "done"
    kept = [[NO_ROOM in note for note in prompt.notes] for prompt in generator.prompts[2:]]
    assert kept == [[False, False], [True, False], [False, False]]
    assert generator.prompts[-1].notes[0].startswith("The first calls are") and "| B" in generator.prompts[-1].notes[1]
    with pytest.raises(ContextOverflowError):
        acted([call("echo", text="a"), *[full] * 9])


def test_what_is_left_out_and_when() -> None:
    assert [_left_out(less, 0) for less in range(1)] == [(0, 0)]
    assert [_left_out(less, 1) for less in range(3)] == [(0, 0), (1, 0), (1, 1)]
    assert [_left_out(less, 3) for less in range(7)] == [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (3, 2), (3, 3)]


def test_a_question_beyond_the_window_is_an_error() -> None:
    with pytest.raises(ContextOverflowError):
        acted(answer("a"), window=64)


_WORDS = st.text(alphabet="ab[1]. \n{}東é", max_size=60)
_REPLY = st.one_of(
    st.builds(lambda text, times: call("echo", text=text * times), _WORDS, st.integers(1, 40)),
    st.builds(answer, _WORDS),
    st.sampled_from([call("nothing"), call("echo"), "no JSON", "{", REFUSED]),
)


@given(
    script=st.lists(_REPLY, min_size=1, max_size=8),
    question=st.builds(lambda words: f"Which {words}?", _WORDS),
    sizes=st.lists(st.tuples(_WORDS, st.integers(0, 60)), min_size=1, max_size=4),
    window=st.integers(300, 1500),
    reply_tokens=st.integers(16, 400),
)
def test_no_prompt_goes_beyond_the_window(
    script: list[Any], question: str, sizes: list[tuple[str, int]], window: int, reply_tokens: int
) -> None:
    """Whatever the question, the replies and what the tools return; and what is cited is quoted."""
    texts: dict[str, str] = {}

    def said(text: str) -> Result | str:
        words, times = sizes[len(texts) % len(sizes)]
        long = f"{text} {words}" * times
        texts[f"{len(texts)}"] = long
        return Result(long, (Passage(f"{len(texts) - 1}", 0, len(long), long),)) if times % 2 and long.strip() else long

    tools = [echo(said)]
    generator = FakeGenerator([*script, *[answer("The end [1].")] * 9], context_window=window)
    flow = agent(question, tools, steps=5, reply_tokens=reply_tokens)
    (done,) = run_many([flow], generator=generator, tools=tools, mode="fast")
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window
    if done.error is not None:
        assert isinstance(done.error, (ReplyFormatError, RefusalError, ContextOverflowError)), repr(done.error)
        return
    assert sum(1 for action in done.result.actions if action.tool) <= 5
    for citation in done.result.answer.citations:
        assert texts[citation.document_id][citation.start : citation.end] == citation.quote


# -- journal and plan -----------------------------------------------------------------------------


def test_a_tool_is_not_called_again_for_a_run_that_goes_on(tmp_path: Path) -> None:
    called: list[str] = []
    tools = [echo(lambda text: quoting(called.append(text) or text))]  # type: ignore[func-returns-value]
    script = [call("echo", text="The ferry leaves at nine."), ConnectionError("down")]
    flow = agent("Which?", tools)
    with pytest.raises(Exception, match="down"):
        run(flow, generator=FakeGenerator(script), tools=tools, journal=tmp_path / "journal")
    rest = FakeGenerator([answer("The ferry leaves at nine [1].")])
    result = run(flow, generator=rest, tools=tools, journal=tmp_path / "journal").result
    assert called == ["The ferry leaves at nine."] and len(rest.prompts) == 1
    assert [citation.quote for citation in result.answer.citations] == called


def test_a_journal_takes_the_tools_of_a_library(library: carrel.Library, tmp_path: Path) -> None:
    """Opened anew, with tools made anew, as in another process."""
    options: dict[str, Any] = {"library": library, "journal": tmp_path / "journal"}
    script = [call("search", question="barometer"), answer("The barometer is kept in the harbour office [1].")]
    first = run(agent(QUESTION, library.as_tools()), generator=FakeGenerator(script), **options).result
    assert run(agent(QUESTION, library.as_tools()), generator=FakeGenerator([]), **options).result == first
    assert first.actions[0].passages


def test_a_server_is_asked_for_the_schema_and_its_json_is_read() -> None:
    with chat_server() as server:
        server.models = {"data": [{"id": "tiny", "max_model_len": 2000}]}
        said = [call("echo", text="a"), answer("done")]
        server.chat = lambda exchange: exchange.reply(said[sum("messages" in asked for asked in server.asked) - 1])
        result = acted(OpenAICompatible(base_url=server.url))
        asked = [body["response_format"]["json_schema"] for body in server.asked if "messages" in body]
    assert result.answer.text == "done" and [action.said for action in result.actions] == ["A"]
    assert [shape["strict"] for shape in asked] == [True, True] and asked[0]["schema"] == schema_of([echo()])


def test_a_plan_calls_no_tool_and_no_model() -> None:
    def never(text: str) -> str:
        raise AssertionError("called")

    generator = FakeGenerator([], context_window=4000)
    tools = [echo(never, most_tokens=200)]
    planned = plan(agent("Which?", tools, steps=3, reply_tokens=100), generator=generator)
    assert planned.tokens_in > (0 + 1 + 2 + 3) * 200
    assert (planned.calls, planned.in_a_row, planned.tokens_out) == (4, 4, 400) and not generator.prompts


class TestConformance(FlowConformance):
    """With the tools of the library, which the kit gives to the driver."""

    window = 1500
    texts: ClassVar = {
        f"d{number}": f"The ferry number {number} leaves at {number} o'clock. " * 9 for number in range(4)
    }

    def make(self) -> Flow[Acted]:
        with carrel.open(self.folder / "signatures", encoder=HashEncoder()) as library:
            return agent("When does the ferry leave?", [tool.signature for tool in library.as_tools(budget=300)])

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def reply(self, prompt: Prompt) -> str:
        calls = [note for note in prompt.notes if note.startswith("Call")]
        if len(calls) < 3:
            return [call("search", question="ferry"), call("read", document_id="d2"), call("list")][len(calls)]
        return answer("The ferry number 2 leaves at 2 o'clock [1].")

    def documents(self) -> list[Document]:
        return [Document(text, name) for name, text in self.texts.items()]
