"""vLLM in this process, on the CPU. Runs in an environment that has it (make test-vllm)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import carrel
from carrel.errors import ContextOverflowError, InputError, ModelError
from carrel.generation import VLLMEngine
from carrel.generation.remote.portal import portal
from carrel.testing import GeneratorConformance, TokenizerConformance
from carrel.tokens import FileTokenizer
from carrel.types import Prompt, TextEvent, UsageEvent
from tests.slow.tiny_llama import make, make_adapter

pytest.importorskip("vllm", reason="runs in vLLM's own environment: make test-vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
ROOT = Path(__file__).resolve().parents[2]
WINDOW = 1024
ENGINE = {"dtype": "float32", "enforce_eager": True, "max_model_len": WINDOW, "generation_config": "vllm"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model") / "tiny", WINDOW)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[VLLMEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_NO_USAGE_STATS", "1")
        from vllm.config import StructuredOutputsConfig

        # without this, a model that babbles may fill its JSON with white space to the last token
        compact = StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True)
        arguments = {**ENGINE, "structured_outputs_config": compact}
        with VLLMEngine(folder, max_tokens=24, engine=arguments, logprobs=True) as made:
            yield made


class TestVLLMEngine(GeneratorConformance):
    @pytest.fixture(autouse=True)
    def _running(self, engine: VLLMEngine) -> None:
        self.engine = engine

    def make(self) -> VLLMEngine:
        return self.engine

    def test_the_same_prompt_gives_the_same_completion(self) -> None:
        """But for the time it takes, and what the cache had of it."""
        first, second = (self.engine.complete(self.prompt()) for _ in range(2))
        assert (first.text, first.finish_reason) == (second.text, second.finish_reason)

    def test_the_stream_says_what_the_completion_says(self) -> None:
        """But for what the cache had of it, and the time it took."""
        completion, events = self.engine.complete(self.prompt()), list(self.engine.stream(self.prompt()))
        assert "".join(event.text for event in events if isinstance(event, TextEvent)) == completion.text
        end = events[-1]
        assert isinstance(end, UsageEvent) and end.finish_reason == completion.finish_reason
        assert [token for token, _ in end.logprobs] == [token for token, _ in completion.logprobs]
        assert end.metrics and set(end.metrics) == set(completion.metrics)


class TestModelTokenizer(TokenizerConformance):
    @pytest.fixture(autouse=True)
    def _running(self, engine: VLLMEngine) -> None:
        self.tokenizer = engine.tokenizer

    def make(self):  # noqa: ANN201
        return self.tokenizer

    def test_it_counts_as_the_models_file_does(self, folder: Path) -> None:
        file = FileTokenizer(folder / "tokenizer.json")
        assert [self.tokenizer.count(text) for text in self.texts] == [file.count(text) for text in self.texts]


def test_what_an_engine_measures_is_in_the_ledger(engine: VLLMEngine, tmp_path: Path) -> None:
    with carrel.open(tmp_path / "library", mode="fast") as library:
        library.add_text("The pier was built in 1894.", id="pier")
        answer = library.ask("When was the pier built?", generator=engine)
        *_, end = library.stream("When was the pier built?", generator=engine)
    for ledger in (answer.ledger, end.ledger):
        details = ledger.entries[-1].details
        assert details["first_token_s"] > 0 and details["decode_s"] >= 0
    assert answer.usage.prompt_tokens > answer.context.tokens


def test_logprobs_of_every_token(engine: VLLMEngine) -> None:
    completion = engine.complete(Prompt("Why?"))
    assert len(completion.logprobs) == completion.usage.completion_tokens > 0
    assert all(value <= 0 for _, value in completion.logprobs)


def test_many_prompts_are_one_batch(engine: VLLMEngine) -> None:
    prompts = [Prompt(f"What is number {number}?") for number in range(12)]
    together = engine.complete_many(prompts)
    assert [reply.text for reply in together] == [engine.complete(prompt).text for prompt in prompts]


def test_what_prompts_share_is_read_once(engine: VLLMEngine) -> None:
    long = "harbour " * 150
    first = engine.complete(Prompt("And now?", task=long)).usage
    second = engine.complete(Prompt("And then?", task=long)).usage
    assert first.cached_tokens < 0.5 * first.prompt_tokens
    assert second.cached_tokens > 0.5 * second.prompt_tokens


def test_a_prompt_that_does_not_fit(engine: VLLMEngine) -> None:
    with pytest.raises(ContextOverflowError, match=r"the prompt has 3,\d\d\d tokens, .* reads 1,024"):
        engine.complete(Prompt("harbour " * 3000))
    assert engine.complete(Prompt("harbour")).usage.prompt_tokens < WINDOW  # and goes on


def test_a_schema_makes_json(engine: VLLMEngine, folder: Path) -> None:
    schema = {"type": "object", "properties": {"old": {"type": "boolean"}}, "required": ["old"],
              "additionalProperties": False}  # fmt: skip
    said = json.loads(engine.complete(Prompt("Is the pier old?", schema=schema)).text)
    assert set(said) == {"old"} and isinstance(said["old"], bool)


def test_a_stream_that_is_closed_frees_the_engine(engine: VLLMEngine) -> None:
    events = engine.stream(Prompt("Count."))
    assert isinstance(next(events), TextEvent)
    events.close()  # type: ignore[attr-defined]
    assert not engine.loaded.engine.output_processor.has_unfinished_requests()
    assert isinstance(list(engine.stream(Prompt("And again?")))[-1], UsageEvent)


async def test_a_cancelled_call_frees_the_engine(engine: VLLMEngine) -> None:
    task = asyncio.create_task(engine.acomplete(Prompt("Count.")))
    while not engine.loaded.engine.output_processor.has_unfinished_requests():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.3)
    assert not engine.loaded.engine.output_processor.has_unfinished_requests()


def test_an_adapter_changes_the_model(folder: Path, tmp_path: Path, engine: VLLMEngine) -> None:
    plain = engine.complete(Prompt("Why?")).text
    engine.close()
    with VLLMEngine(folder, max_tokens=24, engine=ENGINE, adapter=make_adapter(tmp_path / "adapter")) as adapted:
        assert adapted.complete(Prompt("Why?")).text != plain


def test_other_requests_go_on_while_it_loads(folder: Path, engine: VLLMEngine) -> None:
    engine.close()  # it is loaded again when it is next asked for
    gaps, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            started = time.monotonic()
            portal().call(asyncio.sleep(0))
            gaps.append(time.monotonic() - started)
            time.sleep(0.01)

    watching = threading.Thread(target=watch)
    watching.start()
    started = time.monotonic()
    first, second = ThreadPoolExecutor(2).map(lambda _: engine.loaded, range(2))
    seconds = time.monotonic() - started
    done.set()
    watching.join()
    assert first is second  # whoever comes while it loads waits for the same engine
    assert max(gaps) < 0.5 * seconds, f"the loop stood still for {max(gaps):.1f} of {seconds:.1f} s"


_LEFT_OPEN = """
import sys
from carrel.generation import VLLMEngine
from carrel.types import Prompt
engine = VLLMEngine(sys.argv[1], max_tokens=4, engine=%r)
print(len(engine.complete(Prompt("Why?")).text) > 0)
"""


def test_an_engine_that_nobody_closed_ends_with_the_interpreter(folder: Path, engine: VLLMEngine) -> None:
    engine.close()
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, "-c", _LEFT_OPEN % ENGINE, str(folder)]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stdout.strip().splitlines()[-1:]) == (0, ["True"]), ended.stderr
    for noise in ("Traceback", "Exception ignored", "was destroyed but it is pending", "never awaited"):
        assert noise not in ended.stderr


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="vLLM cannot load"):
        VLLMEngine(tmp_path, engine=ENGINE).complete(Prompt("Why?"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be above 0"),
        ({"kv_cache": "int4"}, "kv_cache is 'auto' or 'fp8'"),
        ({"adapter": "/nowhere"}, "holds no LoRA adapter"),
        ({"placement": "first"}, "passages are placed"),
    ],
)
def test_options_of_no_use(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VLLMEngine(folder, **options)  # type: ignore[arg-type]


def test_eight_bit_floats_need_the_hardware(folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine may have them")
    with pytest.raises(InputError, match="needs a GPU with 8-bit floats"):
        VLLMEngine(folder, kv_cache="fp8", engine=ENGINE).complete(Prompt("Why?"))
