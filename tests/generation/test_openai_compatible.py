"""A generator behind a server: good replies, and a server that misbehaves in every way."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

import carrel
from carrel.errors import (
    AuthenticationError,
    CarrelError,
    ContextOverflowError,
    GenerationError,
    GenerationTimeoutError,
    InputError,
    MalformedReplyError,
    RateLimitError,
    RefusalError,
    ServerConnectionError,
    UnknownModelError,
)
from carrel.generation.extractive import ABSTENTION
from carrel.generation.openai_compatible import OpenAICompatible
from carrel.testing import GeneratorConformance, WordTokenizer
from carrel.testing.chat_server import ChatServer, Exchange, chat_server, endless, hanging, words_as_tokens
from carrel.types import CitationsEvent, Passage, Prompt, TextEvent, Turn, UsageEvent

TEXT = "The pier was built in 1894. [1]"
PROMPT = Prompt("When was the pier built?", (Passage("pier", 0, 27, "The pier was built in 1894."),))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def generator(server: ChatServer, **options: object) -> OpenAICompatible:
    return OpenAICompatible(base_url=server.url, **{"timeout_s": 10.0, **options})  # type: ignore[arg-type]


def waited(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


class TestOpenAICompatible(GeneratorConformance):
    @pytest.fixture(autouse=True)
    def _serve(self, server: ChatServer) -> None:
        self.server = server

    def make(self) -> OpenAICompatible:
        return generator(self.server)


# -- good replies ---------------------------------------------------------------------------------


def test_a_reply_with_its_usage(server: ChatServer) -> None:
    with generator(server) as asked:
        completion = asked.complete(PROMPT)
    assert (completion.text, completion.finish_reason, completion.model) == (TEXT, "stop", "tiny")
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (21, 7, 16)
    assert usage.tokenizer == asked.tokenizer.name
    [body] = server.asked
    assert body["model"] == "tiny" and body["temperature"] == 0 and body["max_tokens"] == 512
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["messages"][1]["content"] == "[1] \nThe pier was built in 1894.\n\nWhen was the pier built?".replace(
        "[1] \n", "[1]\n"
    )


def test_a_stream_comes_piece_by_piece(server: ChatServer) -> None:
    go_on = threading.Event()

    def slowly(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk("The pier ")
        assert go_on.wait(10)
        exchange.chunk("was built.", reason="stop")
        exchange.line("data: [DONE]")

    server.chat = slowly
    events = generator(server).stream(PROMPT)
    assert next(events) == TextEvent("The pier ")
    go_on.set()
    rest = list(events)
    assert [type(event) for event in rest] == [TextEvent, CitationsEvent, UsageEvent]
    assert isinstance(rest[-1], UsageEvent) and rest[-1].model == "tiny"


def test_lines_are_parted_at_line_feeds_alone(server: ChatServer) -> None:
    text = "one\u2028two\x85three\rfour"

    def raw(exchange: Exchange) -> None:
        exchange.begin()
        content = {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}
        exchange.line(": a comment\r\nevent: message\r\ndata:" + json.dumps(content, ensure_ascii=False) + "\r")
        exchange.line("data: [DONE]")

    server.chat = raw
    events = list(generator(server).stream(PROMPT))
    assert events[0] == TextEvent(text)


def test_what_the_model_is_asked_for(server: ChatServer) -> None:
    asked = generator(server, max_tokens=20, temperature=None, seed=7, stop=["\n"], logprobs=True, extra={"top_k": 1})

    def reply(exchange: Exchange) -> None:
        logprobs = {"content": [{"token": "4", "logprob": -0.25}, {"token": "2"}]}
        choice = {"message": {"content": [{"type": "text", "text": "42"}]}, "finish_reason": "length"}
        exchange.json({"choices": [{**choice, "logprobs": logprobs}]})

    server.chat = reply
    completion = asked.complete(PROMPT)
    assert (completion.text, completion.finish_reason, completion.logprobs) == ("42", "length", (("4", -0.25),))
    body = server.asked[0]
    assert (body["seed"], body["stop"], body["logprobs"], body["top_k"]) == (7, ["\n"], True, 1)
    assert "temperature" not in body


def test_a_stream_has_its_logprobs_too(server: ChatServer) -> None:
    def reply(exchange: Exchange) -> None:
        exchange.begin()
        for text in ("4", "2"):
            choice = {"delta": {"content": text}, "logprobs": {"content": [{"token": text, "logprob": -0.25}]}}
            exchange.line("data: " + json.dumps({"choices": [choice]}))
        exchange.line("data: [DONE]")

    server.chat = reply
    *_, end = generator(server, logprobs=True).stream(PROMPT)
    assert isinstance(end, UsageEvent) and end.logprobs == (("4", -0.25), ("2", -0.25))


async def test_to_ask_what_a_server_is_leaves_the_loop_of_a_stream_free(server: ChatServer) -> None:
    go_on, in_time = threading.Event(), []

    def models(exchange: Exchange) -> None:
        in_time.append(go_on.wait(3))
        exchange.json({"data": [{"id": "tiny"}]})

    server.models = models
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    events = [event async for event in generator(server).astream(PROMPT)]
    assert text_of(iter(events)) == TEXT and in_time == [True]


def test_a_schema_is_sent_and_its_reply_is_json(server: ChatServer) -> None:
    server.chat = lambda exchange: exchange.reply('{"year": 1894}')
    schema = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
    prompt = Prompt("When?", schema=schema)
    assert json.loads(generator(server).complete(prompt).text) == {"year": 1894}
    sent = server.asked[0]["response_format"]
    assert sent["type"] == "json_schema" and sent["json_schema"]["schema"] == schema
    server.chat = lambda exchange: exchange.reply("In 1894.")
    with pytest.raises(MalformedReplyError, match="not JSON, though that was asked for: 'In 1894.'"):
        generator(server, retries=0).complete(prompt)


def test_the_sentence_that_says_so_is_an_abstention(server: ChatServer) -> None:
    server.chat = lambda exchange: exchange.reply(ABSTENTION)
    assert generator(server).complete(PROMPT).finish_reason == "abstained"


def test_a_key_is_sent_and_never_shown(server: ChatServer) -> None:
    server.chat = lambda exchange: exchange.json({"error": {"message": "no such key"}}, 401)
    asked = generator(server, api_key="secret-123", headers={"X-Team": "library"})
    with pytest.raises(AuthenticationError, match="refuses the key") as caught:
        asked.complete(PROMPT)
    assert server.headers[0]["authorization"] == "Bearer secret-123" and server.headers[0]["x-team"] == "library"
    assert "secret" not in f"{caught.value!r} {asked!r} {asked.server!r}"


# -- what a server says of itself -------------------------------------------------------------------


def test_model_and_window_are_asked_of_the_server(server: ChatServer) -> None:
    asked = generator(server)
    assert asked.context_window == 1000 and asked.served.model == "tiny"
    assert "25%" in asked.tokenizer.name and "tiny" in asked.tokenizer.name
    for row, window in (({"context_length": 7}, 7), ({"meta": {"n_ctx": 8}}, 8), ({"max_model_len": True}, None)):
        server.models = {"data": [{"id": "tiny", **row}]}
        assert generator(server).context_window == window
    assert generator(server, context_window=50).context_window == 50


def test_the_servers_tokenizer_counts(server: ChatServer) -> None:
    server.tokenize = words_as_tokens
    asked = generator(server)
    assert asked.tokenizer.name == "tiny" and asked.tokenizer.count("one two three") == 3
    assert asked.context_window == 400  # the smaller of the two it names
    assert asked.tokenizer.truncate("one two three", 2).startswith("one two"[:6])


def test_nothing_is_sent_before_it_is_asked(server: ChatServer) -> None:
    touched = threading.Event()

    def models(exchange: Exchange) -> None:
        touched.set()
        exchange.json({"data": []})

    server.models = models
    OpenAICompatible("tiny", server.url, tokenizer=WordTokenizer(), context_window=9)
    assert not touched.wait(0.1)


@pytest.mark.parametrize("models", [{"data": []}, {"data": [{"id": "a"}, {"id": "b"}]}])
def test_a_server_with_no_model_or_many_needs_a_name(server: ChatServer, models: object) -> None:
    server.models = models
    with pytest.raises(UnknownModelError, match=r"has several models, or none: name one. It has: (none|a, b)"):
        generator(server).complete(PROMPT)


def test_an_unknown_model_is_told_those_there_are(server: ChatServer) -> None:
    with pytest.raises(UnknownModelError, match="has no model 'huge'. It has: tiny"):
        generator(server, model="huge").complete(PROMPT)


def test_a_server_without_a_list_of_models_takes_the_name_on_trust(server: ChatServer) -> None:
    server.models = lambda exchange: exchange.json({"detail": "Not Found"}, 404)
    asked = generator(server, model="mine")
    assert asked.complete(PROMPT).text == TEXT and asked.context_window is None
    assert server.asked[0]["model"] == "mine"


def test_a_list_that_is_none(server: ChatServer) -> None:
    server.models = {"models": ["tiny"]}
    with pytest.raises(MalformedReplyError, match="is no list of models"):
        generator(server, retries=0).complete(PROMPT)


# -- the window -------------------------------------------------------------------------------------


def test_a_prompt_that_does_not_fit_is_never_sent(server: ChatServer) -> None:
    server.tokenize = words_as_tokens
    long = Prompt("why " * 500)
    with pytest.raises(ContextOverflowError, match=r"the prompt has 5\d\d tokens, and tiny at .* reads 400"):
        generator(server).complete(long)
    with pytest.raises(ContextOverflowError):
        list(generator(server).stream(long))
    assert server.asked == []


def test_the_reply_has_what_the_window_leaves(server: ChatServer) -> None:
    server.tokenize = words_as_tokens
    generator(server, instructions="").complete(Prompt("why " * 300))
    assert server.asked[0]["max_tokens"] == 400 - 303


@pytest.mark.parametrize("window", [400, None])
def test_the_request_carries_the_smaller_limit(server: ChatServer, window: int | None) -> None:
    server.models = {"data": [{"id": "tiny", "max_model_len": window}]}
    asked = generator(server, max_tokens=20)
    for most in (None, 5, 20, 300):
        asked.complete(replace(PROMPT, max_tokens=most))
        list(asked.stream(replace(PROMPT, max_tokens=most)))
    assert asked.context_window == window
    assert [body["max_tokens"] for body in server.asked] == [20, 20, 5, 5, 20, 20, 20, 20]


@pytest.mark.parametrize("most", [0, -3, True])
def test_a_limit_of_no_use_is_never_sent(server: ChatServer, most: int) -> None:
    asked, prompt = generator(server), replace(PROMPT, max_tokens=most)
    with pytest.raises(InputError, match="max_tokens of a prompt must be above 0"):
        asked.complete(prompt)
    with pytest.raises(InputError, match="max_tokens of a prompt must be above 0"):
        list(asked.stream(prompt))
    assert server.asked == []


def test_a_server_that_lies_about_its_window(server: ChatServer) -> None:
    message = "This model's maximum context length is 512 tokens. However, you requested 700 tokens."
    server.chat = lambda exchange: exchange.json({"error": {"message": message, "code": 400}}, 400)
    with pytest.raises(ContextOverflowError, match="maximum context length is 512"):
        generator(server).complete(PROMPT)
    assert len(server.asked) == 1


# -- failures ---------------------------------------------------------------------------------------


def failing(status: int, times: int, **headers: str) -> Callable[[Exchange], None]:
    """Fails the first times, then replies."""

    def behave(exchange: Exchange) -> None:
        if exchange.number <= times:
            exchange.json({"error": {"message": "later, please"}}, status, **headers)
        else:
            exchange.reply(TEXT)

    return behave


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("streamed", [True, False])
def test_what_may_pass_is_tried_again(server: ChatServer, status: int, streamed: bool) -> None:
    server.chat = failing(status, 2, retry_after="0")
    asked = generator(server)
    text = text_of(asked.stream(PROMPT)) if streamed else asked.complete(PROMPT).text
    assert text == TEXT and len(server.asked) == 3


def text_of(events: Iterator[object]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextEvent))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, {"error": {"message": "slow down"}}, RateLimitError),
        (500, {"error": "broken"}, GenerationError),
        (400, {"error": {"message": "bad request"}}, GenerationError),
        (403, {"detail": "no"}, AuthenticationError),
        (404, {"error": {"message": "The model `tiny` does not exist."}}, UnknownModelError),
        (413, {"detail": "too large"}, ContextOverflowError),
        (400, {"error": {"message": "blocked by content_filter policy"}}, RefusalError),
        (307, {}, ServerConnectionError),
    ],
)
def test_every_failure_has_its_error(server: ChatServer, status: int, body: object, error: type[CarrelError]) -> None:
    server.chat = lambda exchange: exchange.json(body, status, retry_after="0")
    for call in (lambda asked: asked.complete(PROMPT), lambda asked: list(asked.stream(PROMPT))):
        with pytest.raises(error) as caught:
            call(generator(server, retries=1))
        assert type(caught.value) is error and "\n" not in str(caught.value)
    assert len(server.asked) == (4 if status in (429, 500) else 2)


def test_a_wait_that_the_server_names_is_kept_to(server: ChatServer) -> None:
    server.chat = failing(429, 1, retry_after_ms="300")
    started = time.monotonic()
    assert generator(server).complete(PROMPT).text == TEXT
    assert time.monotonic() - started >= 0.3


def test_a_wait_beyond_the_deadline_is_not_waited_for(server: ChatServer) -> None:
    server.chat = failing(429, 9, retry_after="3600")
    started = time.monotonic()
    with pytest.raises(RateLimitError):
        generator(server).complete(PROMPT)
    assert time.monotonic() - started < 5 and len(server.asked) == 1


def test_a_spent_quota_is_not_tried_again(server: ChatServer) -> None:
    server.chat = lambda exchange: exchange.json({"error": {"message": "x", "code": "insufficient_quota"}}, 429)
    with pytest.raises(RateLimitError):
        generator(server).complete(PROMPT)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body",
    [b"<html>Bad gateway</html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [7]}',
     b'{"choices": [{"message": {"content": 7}}]}', b'{"choices": [{"message": "no"}]}'],
)  # fmt: skip
def test_a_reply_that_is_none_is_tried_again_and_then_an_error(server: ChatServer, body: bytes) -> None:
    server.chat = lambda exchange: exchange.raw(body)
    with pytest.raises(MalformedReplyError, match="the reply of tiny at"):
        generator(server, retries=1).complete(PROMPT)
    assert len(server.asked) == 2


def test_a_stream_that_breaks_off_is_an_error_after_what_came(server: ChatServer) -> None:
    def half(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk("The pier ")

    server.chat = half
    events = generator(server).stream(PROMPT)
    assert next(events) == TextEvent("The pier ")
    with pytest.raises(MalformedReplyError, match="broke off before its end"):
        next(events)
    assert len(server.asked) == 1  # what was passed on is not said twice


def test_a_stream_that_breaks_off_before_it_began_is_tried_again(server: ChatServer) -> None:
    def half(exchange: Exchange) -> None:
        if exchange.number == 1:
            exchange.begin()
        else:
            exchange.reply(TEXT)

    server.chat = half
    assert text_of(generator(server).stream(PROMPT)) == TEXT


def test_an_error_inside_a_stream(server: ChatServer) -> None:
    def behave(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk("The ")
        exchange.line('data: {"error": {"message": "the engine died", "code": 500}}')

    server.chat = behave
    with pytest.raises(GenerationError, match="the engine died"):
        list(generator(server).stream(PROMPT))


def test_a_connection_that_is_cut(server: ChatServer) -> None:
    def cut(exchange: Exchange) -> None:
        exchange.handler.close_connection = True
        exchange.handler.connection.shutdown(2)

    server.chat = cut
    with pytest.raises(ServerConnectionError, match="cannot reach"):
        generator(server, retries=1).complete(PROMPT)
    assert len(server.asked) == 2


def test_nobody_listens() -> None:
    with chat_server() as gone:
        url = gone.url
    with pytest.raises(ServerConnectionError, match="Is the server running at this address"):
        OpenAICompatible("tiny", url, retries=1).complete(PROMPT)


@pytest.mark.parametrize("said", [{"refusal": "I will not."}, {}])
def test_a_refusal(server: ChatServer, said: dict[str, str]) -> None:
    choice = {"message": {"content": None, **said}, "finish_reason": "stop" if said else "content_filter"}
    server.chat = lambda exchange: exchange.json({"choices": [choice]})
    with pytest.raises(RefusalError, match="declines to answer"):
        generator(server).complete(PROMPT)


def test_a_field_that_the_server_refuses_is_left_out(server: ChatServer) -> None:
    def picky(exchange: Exchange) -> None:
        if "seed" in exchange.body:
            exchange.json({"error": {"message": "Unsupported parameter: 'seed'"}}, 400)
        elif "max_tokens" in exchange.body:
            exchange.json({"error": {"message": "'max_tokens' is not supported: use 'max_completion_tokens'"}}, 400)
        else:
            exchange.reply(TEXT)

    server.chat = picky
    asked = generator(server, seed=3)
    assert asked.complete(PROMPT).text == TEXT and len(server.asked) == 3
    assert asked.complete(PROMPT).text == TEXT and len(server.asked) == 4  # it has learnt
    assert server.asked[-1]["max_completion_tokens"] == 512


async def test_many_calls_at_once_all_learn_what_is_refused(server: ChatServer) -> None:
    together = threading.Barrier(4)

    def picky(exchange: Exchange) -> None:
        if "seed" in exchange.body:
            together.wait(10)  # all have been sent before any is refused
            exchange.json({"error": {"message": "Unsupported parameter: 'seed'"}}, 400)
        else:
            exchange.reply(TEXT)

    server.chat = picky
    asked = generator(server, seed=3)
    completions = await asyncio.gather(*(asked.acomplete(PROMPT) for _ in range(4)))
    assert [completion.text for completion in completions] == [TEXT] * 4 and len(server.asked) == 8


# -- ending -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
def test_a_server_that_hangs_ends_by_the_deadline(server: ChatServer, streamed: bool) -> None:
    server.chat = hanging
    asked, started = generator(server, timeout_s=0.4), time.monotonic()
    with pytest.raises(GenerationTimeoutError, match="did not answer within 0.4 s"):
        list(asked.stream(PROMPT)) if streamed else asked.complete(PROMPT)
    assert time.monotonic() - started < 3
    assert server.hung_up.wait(5)


def test_a_stream_without_end_ends_by_the_deadline(server: ChatServer) -> None:
    server.chat = endless
    with pytest.raises(GenerationTimeoutError, match="did not finish within 0.5 s"):
        list(generator(server, timeout_s=0.5).stream(PROMPT))
    assert server.hung_up.wait(5)


def test_a_silence_in_the_middle_is_an_error(server: ChatServer) -> None:
    def silent(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk("The ")
        hanging(exchange)

    server.chat = silent
    asked = generator(server)
    asked.server.idle_s = 0.3
    with pytest.raises(GenerationTimeoutError, match="fell silent, and said nothing more within 0.3 s"):
        list(asked.stream(PROMPT))
    assert server.hung_up.wait(5)


def test_to_stop_reading_stops_the_server(server: ChatServer) -> None:
    server.chat = endless
    events = generator(server).stream(PROMPT)
    assert isinstance(next(events), TextEvent)
    events.close()  # type: ignore[attr-defined]
    assert server.hung_up.wait(5) and waited(lambda: server.running == 0)


async def test_a_cancelled_call_really_stops(server: ChatServer) -> None:
    server.chat = hanging
    task = asyncio.create_task(generator(server).acomplete(PROMPT))
    while not server.asked:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.hung_up.wait, 5)


async def test_a_cancelled_stream_really_stops(server: ChatServer) -> None:
    def behave(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk("The ")
        hanging(exchange)

    server.chat = behave
    first = asyncio.Event()

    async def read() -> None:
        async for _ in generator(server).astream(PROMPT):
            first.set()

    task = asyncio.create_task(read())
    await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.hung_up.wait, 5)


async def test_many_at_once(server: ChatServer) -> None:
    asked = generator(server)
    completions = await asyncio.gather(*(asked.acomplete(PROMPT) for _ in range(20)))
    assert {completion.text for completion in completions} == {TEXT}
    texts = [event async for event in asked.astream(PROMPT)]
    assert text_of(iter(texts)) == TEXT


def test_a_closed_generator_opens_again(server: ChatServer) -> None:
    asked = generator(server)
    asked.complete(PROMPT)
    asked.close()
    assert asked.complete(PROMPT).text == TEXT
    del asked
    gc.collect()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "base_url is an address such as"),
        ({"base_url": "ftp://host/v1"}, "base_url is an address"),
        ({"base_url": "http://me:word@host/v1"}, "holds a password"),
        ({"timeout_s": 0}, "timeout_s must be above 0"),
        ({"max_tokens": True}, "max_tokens must be above 0"),
        ({"retries": -1}, "retries is a number of further tries"),
        ({"placement": "first"}, "passages are placed 'append' or 'last'"),
    ],
)
def test_options_of_no_use(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OpenAICompatible(**options)  # type: ignore[arg-type]


def test_history_is_sent_as_turns(server: ChatServer) -> None:
    history = (Turn("user", "Hello?", PROMPT.passages), Turn("assistant", "Hello."))
    generator(server, placement="append").complete(Prompt("When?", history=history))
    messages = server.asked[0]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "The pier was built in 1894." in messages[1]["content"]


def test_a_library_asks_it(server: ChatServer, tmp_path) -> None:
    with carrel.open(tmp_path / "library", mode="fast") as library:
        library.add_text("The pier was built in 1894.", id="pier")
        answer = library.ask("When was the pier built?", generator=generator(server))
    assert answer.text == TEXT and answer.usage.prompt_tokens == 21
