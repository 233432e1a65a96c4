"""The protocol without a server."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import MalformedReplyError, RefusalError
from carrel.generation.messages import Message
from carrel.generation.remote.failures import FailedReplyError
from carrel.generation.remote.replies import SPARED, Reply, Request, adapted, refused_fields

pieces = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=8)


def chunk(text: str | None, reason: str | None = None) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": reason}]})


@given(pieces)
def test_a_stream_says_what_its_pieces_say(texts: list[str]) -> None:
    reply = Reply("tiny")
    said = [reply.feed_line(chunk(text)) for text in texts]
    reply.feed_line(chunk(None, "stop"))
    reply.feed_line('data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}')
    reply.feed_line("data: [DONE]")
    reply.end(streamed=True)
    assert said == texts and reply.text == "".join(texts) and reply.done and reply.finished == "stop"
    assert reply.usage is not None and reply.usage.total_tokens == 5


@given(st.text(max_size=60))
def test_whatever_comes_is_a_reply_or_a_failure(line: str) -> None:
    reply = Reply("tiny")
    for data in (line, f"data: {line}"):
        with suppress(FailedReplyError):
            assert isinstance(reply.feed_line(data), str)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["choices", "delta", "message", "content", "usage", "finish_reason", "logprobs",
                                         "refusal", "model"]), inner, max_size=4), max_leaves=12),
       st.sampled_from(["message", "delta"]))  # fmt: skip
def test_no_json_breaks_it(content: object, part: str) -> None:
    reply = Reply("tiny")
    try:
        assert isinstance(reply.feed(json.dumps(content), part), str)
        reply.end(streamed=part == "delta")
    except FailedReplyError:
        pass


def test_what_is_not_whole_is_said_to_be_broken() -> None:
    reply = Reply("tiny")
    reply.feed_line(chunk("The "))
    with pytest.raises(FailedReplyError) as caught:
        reply.end(streamed=True)
    assert isinstance(caught.value.error, MalformedReplyError) and caught.value.again


def test_a_refusal_in_pieces() -> None:
    reply = Reply("tiny")
    for text in ("I will ", "not."):
        reply.feed_line("data: " + json.dumps({"choices": [{"delta": {"refusal": text}}]}))
    reply.feed_line(chunk(None, "stop"))
    with pytest.raises(FailedReplyError) as caught:
        reply.end(streamed=True)
    assert isinstance(caught.value.error, RefusalError) and "I will not." in str(caught.value.error)


def test_counts_that_are_none_count_as_nothing() -> None:
    reply = Reply("tiny")
    usage = {"prompt_tokens": 4, "completion_tokens": "2", "prompt_tokens_details": {"cached_tokens": 9}}
    reply.feed(json.dumps({"choices": [{"message": {"content": "a"}}], "usage": usage}))
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.cached_tokens) == (4, 0, 4)


def test_a_request_has_what_was_asked_for() -> None:
    request = Request("tiny", 20, temperature=None, stop=("\n",), extra={"model": "other"})
    body = request.body([Message("user", "Why?")], None, stream=True)
    assert body["stream_options"] == {"include_usage": True} and "temperature" not in body and "seed" not in body
    assert body["model"] == "other"  # what a user adds has the last word


def test_what_a_server_refuses_is_left_out() -> None:
    body = {"max_tokens": 5, "seed": 1, "stream_options": {}, "messages": []}
    assert adapted(body, {"max_tokens"}) == {
        "seed": 1, "stream_options": {}, "messages": [], "max_completion_tokens": 5,
    }  # fmt: skip
    assert adapted(body, {"seed", "logprobs"}) == {"max_tokens": 5, "stream_options": {}, "messages": []}
    assert adapted(body, set()) == body
    assert adapted({"seed": 1}, {"seed", "max_tokens"}) == {}


def test_what_a_message_refuses() -> None:
    said = "'max_tokens' is not supported: use 'max_completion_tokens'. Unknown: seed"
    assert refused_fields(said) == {"max_tokens", "seed"}
    assert refused_fields("messages must alternate") == set()
    assert all(refused_fields(f"unknown field {name}") == {name} for name in SPARED)
