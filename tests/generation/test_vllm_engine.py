"""What is around vLLM in this process, with a stand-in for it; tests/slow/test_vllm_engine.py has the real one."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from carrel.errors import ContextOverflowError, InputError, MissingDependencyError, ModelError
from carrel.generation.remote.portal import portal
from carrel.generation.vllm_engine import VLLMEngine, _close_all
from carrel.types import Prompt, TextEvent, UsageEvent


class Words:
    """A tokenizer of the transformers library, as far as it is called: words."""

    chat_template: str | None = "messages"

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(range(len(text.split())))}

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> list[int]:
        return [index for message in messages for index, _ in enumerate(message["content"].split())]


@dataclass
class Engine:
    """vLLM's AsyncLLM, as far as it is called."""

    tokenizer: Words
    model_config: Any = field(
        default_factory=lambda: SimpleNamespace(
            max_model_len=100,
            hf_text_config=SimpleNamespace(
                hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16
            ),
        )
    )
    shutdowns: int = 0
    limits: list[int] = field(default_factory=list)  # of the replies that were asked for
    vllm_config: Any = field(
        default_factory=lambda: SimpleNamespace(device_config=SimpleNamespace(device_type="cuda"))
    )

    def get_tokenizer(self) -> Words:
        return self.tokenizer

    def shutdown(self) -> None:
        self.shutdowns += 1

    async def generate(
        self, prompt: dict[str, list[int]], sampling: Any, *_: Any, **__: Any
    ) -> AsyncGenerator[Any, None]:
        self.limits.append(sampling.max_tokens)
        for text, reason in (("In ", None), ("1894.", "stop")):
            piece = SimpleNamespace(text=text, token_ids=[1], logprobs=None, finish_reason=reason)
            timings = SimpleNamespace(
                queued_ts=0.0, scheduled_ts=1.0, first_token_ts=3.0, last_token_ts=6.0, first_token_latency=3.0
            )
            yield SimpleNamespace(
                outputs=[piece], prompt_token_ids=prompt["prompt_token_ids"], num_cached_tokens=0, metrics=timings
            )


class VLLM:
    """The package: the engines that it made, and how it makes the next."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.tokenizer, self.wait, self.error = Words(), threading.Event(), None
        self.had_a_loop: list[bool] = []
        self.wait.set()

    def from_engine_args(self, _: object) -> Engine:
        self.had_a_loop.append(asyncio._get_running_loop() is not None)
        assert self.wait.wait(5)
        if self.error is not None:
            raise self.error
        self.engines.append(Engine(self.tokenizer))
        return self.engines[-1]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> VLLM:
    package = VLLM()
    names = {
        "vllm": {"AsyncEngineArgs": SimpleNamespace, "SamplingParams": SimpleNamespace},
        "vllm.v1.engine.async_llm": {"AsyncLLM": package},
        "vllm.lora.request": {"LoRARequest": SimpleNamespace},
        "vllm.sampling_params": {
            "RequestOutputKind": SimpleNamespace(DELTA=1), "StructuredOutputsParams": SimpleNamespace
        },
        "vllm.v1": {}, "vllm.v1.engine": {}, "vllm.lora": {},
    }  # fmt: skip
    for name, content in names.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.32.0" if name == "vllm" else version(name))
    return package


def test_it_loads_on_a_thread_without_a_loop_and_once_for_all(vllm: VLLM) -> None:
    engine = VLLMEngine("tiny")
    vllm.wait.clear()
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(lambda: engine.loaded) for _ in range(4)]
        assert portal().submit(asyncio.sleep(0, "free")).result(3) == "free"  # though it loads
        vllm.wait.set()
        assert len({id(found.result()) for found in waiting}) == 1
    assert (len(vllm.engines), vllm.had_a_loop) == (1, [False])


async def test_a_call_on_the_thread_of_a_loop_loads_away_from_it(vllm: VLLM) -> None:
    assert VLLMEngine("tiny").complete(Prompt("When?")).text == "In 1894."
    assert vllm.had_a_loop == [False]


def test_a_load_that_failed_is_begun_anew(vllm: VLLM) -> None:
    engine, vllm.error = VLLMEngine("tiny"), RuntimeError("no \n memory")
    with pytest.raises(ModelError, match="^vLLM cannot load tiny: RuntimeError: no memory$"):
        engine.complete(Prompt("When?"))
    engine.close()
    with pytest.raises(ModelError):
        engine.complete(Prompt("When?"))
    vllm.error = None
    assert engine.complete(Prompt("When?")).text == "In 1894."


def test_what_is_closed_is_shut_down_once_and_loads_again(vllm: VLLM) -> None:
    with VLLMEngine("tiny") as engine:
        first = engine.loaded.engine
    engine.close()
    first.shutdown()  # as vLLM's destructor does
    assert vllm.engines[0].shutdowns == 1
    assert engine.loaded.engine is vllm.engines[1] is not first


def test_what_nobody_closed_is_closed_at_the_end(vllm: VLLM) -> None:
    engines = [VLLMEngine(name) for name in ("a", "b")]
    for engine in engines:
        assert engine.loaded
    _close_all()
    assert [engine.shutdowns for engine in vllm.engines] == [1, 1]


def test_a_model_that_was_not_made_for_chats_is_ended(vllm: VLLM) -> None:
    vllm.tokenizer.chat_template = None
    with pytest.raises(ModelError, match="^a/tiny has no chat template"):
        VLLMEngine("a/tiny").complete(Prompt("When?"))
    assert vllm.engines[0].shutdowns == 1


def test_a_stream_ends_with_what_the_engine_measured(vllm: VLLM) -> None:
    engine = VLLMEngine("tiny")
    *pieces, _, end = engine.stream(Prompt("When?"))
    assert pieces == [TextEvent("In "), TextEvent("1894.")]
    assert isinstance(end, UsageEvent) and end.model == "tiny"
    assert end.metrics == {"queued_s": 1.0, "prefill_s": 2.0, "decode_s": 3.0, "first_token_s": 3.0}
    assert end.metrics == engine.complete(Prompt("When?")).metrics


def test_a_prompt_that_does_not_fit_is_not_sent(vllm: VLLM) -> None:
    engine = VLLMEngine("tiny", instructions="")
    message = "the prompt has 95 tokens, and tiny reads 100, prompt and reply together"
    with pytest.raises(ContextOverflowError, match=message):
        engine.complete_many([Prompt("When?"), Prompt("why " * 95)])
    assert engine.fixed_tokens(Prompt("why " * 95)) == 95


def test_a_reply_is_limited_by_the_engine_the_prompt_and_the_window(vllm: VLLM) -> None:
    engine = VLLMEngine("tiny", instructions="", max_tokens=40)
    engine.complete_many([Prompt("When?", max_tokens=most) for most in (None, 5, 60)])
    list(engine.stream(Prompt("why " * 70, max_tokens=35)))
    assert vllm.engines[0].limits == [40, 5, 40, 30]
    for most in (0, -1, True):
        with pytest.raises(InputError, match="max_tokens of a prompt must be above 0"):
            engine.complete(Prompt("When?", max_tokens=most))
    assert len(vllm.engines[0].limits) == 4


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingDependencyError, match=r"carrel\[vllm\]"):
        VLLMEngine("tiny").complete(Prompt("When?"))
