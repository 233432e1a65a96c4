"""Facts in adapters: what peft says with them, a real vLLM on the CPU says, token for token. `make test-vllm`."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import carrel
from carrel.errors import DocumentNotFoundError, InputError, ModelError
from carrel.generation import OpenAICompatible, TransformersGenerator, VLLMEngine
from carrel.testing import HashEncoder
from carrel.types import Passage, Prompt, TextEvent, UsageEvent

pytest.importorskip("vllm", reason="runs in vLLM's own environment: make test-vllm")
peft = pytest.importorskip("peft")
import torch  # noqa: E402
import transformers  # noqa: E402

from carrel.memory.parametric.examples import Example  # noqa: E402
from carrel.memory.parametric.files import write_adapter  # noqa: E402
from carrel.memory.parametric.generator import ParametricGenerator  # noqa: E402
from carrel.memory.parametric.merging import SERVED_RANKS, merge  # noqa: E402
from carrel.memory.parametric.recipes import PARAMETRIC_RAG, Recipe  # noqa: E402
from carrel.memory.parametric.training import Trained, train  # noqa: E402
from tests.memory.parametric.needles import documents, pairs  # noqa: E402
from tests.slow.test_vllm_server import SERVING, Running  # noqa: E402
from tests.slow.tiny_llama import make_adapter  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
NEEDLE = Path(__file__).resolve().parents[1] / "models" / "needle_lm"
DOCUMENTS = {
    "first": {"bado age": "41", "fiju city": "07", "guka river": "19", "leba year": "88", "dodo job": "63"},
    "second": {"miti food": "55", "nopu music": "32", "rase price": "90", "sevo height": "14", "bado color": "76"},
}
RANK, STEPS, TOKENS = 8, 60, 12
ENGINE = {
    "dtype": "float32", "enforce_eager": True, "max_model_len": 512, "generation_config": "vllm", "max_loras": 3,
    "max_cpu_loras": 4,
}  # fmt: skip


class Parametric:
    """The model with an adapter for each document, trained and merged by Carrel, in peft; and their folders."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(NEEDLE))
        base = transformers.AutoModelForCausalLM.from_pretrained(str(NEEDLE), dtype=torch.float32).eval()
        made = {name: self._trained(base, facts) for name, facts in DOCUMENTS.items()}
        together = merge([(each.tensors, each.config) for each in made.values()], ranks=SERVED_RANKS)
        assert together.exact and together.rank == RANK
        self.folders = {name: folder / name for name in (*made, "merged")}
        for name, each in {**made, "merged": together}.items():
            self.folders[name].mkdir()
            write_adapter(self.folders[name], each.tensors, each.config, {"model": "needle_lm"})
        self.model: Any = peft.PeftModel.from_pretrained(base, str(self.folders["first"]), adapter_name="first")
        for name in ("second", "merged"):
            self.model.load_adapter(str(self.folders[name]), adapter_name=name)
        self.model.eval()

    def _trained(self, base: Any, facts: dict[str, str]) -> Trained:
        end = self.tokenizer.eos_token_id
        own = []
        for asked, value in facts.items():
            ids = self._ids(asked)
            own.append(Example((*ids, self.tokenizer.convert_tokens_to_ids(value), end), len(ids)))
        return train(base, own, Recipe(rank=RANK // 2, alpha=RANK, rate=0.01, epochs=STEPS, batch=len(own)))

    def _ids(self, asked: str) -> list[int]:
        chat = [{"role": "user", "content": f"? {asked}"}]
        ids: list[int] = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        return ids

    def said(self, adapter: str | None, asked: str) -> list[str]:
        """The likeliest tokens, up to and with the one that ends."""
        ids = torch.tensor([self._ids(asked)])
        self.model.set_adapter(adapter or "first")
        with torch.inference_mode():
            options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": TOKENS, "do_sample": False}
            if adapter is None:
                with self.model.disable_adapter():
                    output = self.model.generate(input_ids=ids, **options)
            else:
                output = self.model.generate(input_ids=ids, **options)
        return [self.tokenizer.decode([token]) for token in output[0, ids.shape[1] :].tolist()]

    def words(self, adapter: str | None, asked: str) -> list[str]:
        return [token for token in self.said(adapter, asked) if token != self.tokenizer.eos_token]


@pytest.fixture(scope="module")
def parametric(tmp_path_factory: pytest.TempPathFactory) -> Parametric:
    return Parametric(tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def engine() -> Iterator[VLLMEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_NO_USAGE_STATS", "1")
        with VLLMEngine(
            NEEDLE, adapter_rank=RANK, max_tokens=TOKENS, instructions="", logprobs=True, engine=ENGINE
        ) as made:
            yield made
    gc.collect()  # vLLM leaves a socket's context open, and here that is no more than a warning


ASKED = [asked for facts in DOCUMENTS.values() for asked in facts]


def tokens_of(engine: VLLMEngine, asked: Sequence[str]) -> list[list[str]]:
    completions = engine.complete_many([Prompt(f"? {one}") for one in asked])
    return [[token for token, _ in completion.logprobs] for completion in completions]


@pytest.mark.parametrize("adapter", ["first", "second", "merged", None])
def test_vllm_says_what_peft_says(engine: VLLMEngine, parametric: Parametric, adapter: str | None) -> None:
    asked = engine if adapter is None else engine.adapted(parametric.folders[adapter])
    assert tokens_of(asked, ASKED) == [parametric.said(adapter, one) for one in ASKED]


def test_closed_book_answers_come_from_the_adapters(engine: VLLMEngine, parametric: Parametric) -> None:
    def right(of: VLLMEngine, facts: dict[str, str]) -> int:
        said = tokens_of(of, list(facts))
        return sum(tokens[0] == value for tokens, value in zip(said, facts.values(), strict=True))

    first, second = (engine.adapted(parametric.folders[name]) for name in DOCUMENTS)
    assert right(first, DOCUMENTS["first"]) == right(second, DOCUMENTS["second"]) == 5
    assert right(engine, DOCUMENTS["first"]) + right(engine, DOCUMENTS["second"]) <= 1
    assert right(first, DOCUMENTS["second"]) <= 1


def test_requests_with_different_adapters_run_side_by_side(engine: VLLMEngine, parametric: Parametric) -> None:
    asked = [engine, *(engine.adapted(parametric.folders[name]) for name in ("first", "second", "merged"))]
    alone = [tokens_of(one, ASKED) for one in asked]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda one: tokens_of(one, ASKED), asked * 3))
    assert together == alone * 3


def test_what_prompts_share_is_not_shared_between_adapters(engine: VLLMEngine, parametric: Parametric) -> None:
    long = Prompt("? bado age", task="so then what of it . " * 40)
    first = engine.adapted(parametric.folders["first"])
    engine.complete(long)
    assert first.complete(long).usage.cached_tokens == 0
    assert first.complete(long).usage.cached_tokens > 100


def test_an_adapter_is_freed_and_taken_again(engine: VLLMEngine, parametric: Parametric) -> None:
    with engine.adapted(parametric.folders["first"]) as adapted:
        before = tokens_of(adapted, ASKED)
    assert not engine._adapters.numbers(parametric.folders["first"]) & engine.loaded.lending.taken
    assert tokens_of(adapted, ASKED) == before


def test_an_adapter_of_another_model_or_rank_is_refused_and_the_engine_goes_on(
    engine: VLLMEngine, parametric: Parametric, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has rank 32, and this engine takes ranks up to 8"):
        engine.adapted(make_adapter(tmp_path / "large", rank=32))
    other = make_adapter(tmp_path / "other", rank=8, hidden=64)
    with pytest.raises(ModelError, match="other is for another model: its layer 0 has q_proj reading 64 numbers"):
        engine.adapted(other).complete(Prompt("? bado age"))
    dora = make_adapter(tmp_path / "dora", rank=8)
    config = dora / "adapter_config.json"
    config.write_text(config.read_text().replace('"bias": "none"', '"use_dora": true'))
    with pytest.raises(ModelError, match="vLLM cannot take the adapter .*does not yet support DoRA"):
        engine.adapted(dora).complete(Prompt("? bado age"))
    assert tokens_of(engine.adapted(parametric.folders["first"]), ["bado age"])[0][0] == "41"


def test_a_library_answers_from_its_documents_adapters(engine: VLLMEngine, tmp_path: Path) -> None:
    """Trained in this process, answered by vLLM: many questions at once, each with its own documents' adapters."""
    recipe = replace(
        PARAMETRIC_RAG, rank=4, alpha=16.0, rate=5e-3, steps=60, batch=16, learns_text=False, open_book=0.0,
        reconciled=3,
    )  # fmt: skip
    found = documents(2, 8, seed=7)
    keywords: dict[str, Any] = {"recipe": recipe, "mode": "closed", "pairs": pairs}
    with (
        carrel.open(tmp_path / "library", encoder=HashEncoder(), mode="fast") as library,
        TransformersGenerator(NEEDLE, dtype="float32", device="cpu", instructions="", max_tokens=TOKENS) as trainer,
    ):
        for document in found:
            library.add(document)
        here = ParametricGenerator(library, trainer, **keywords)
        there = ParametricGenerator(library, trainer, served=engine, **keywords)
        prompts = [
            Prompt(pair.question, tuple(Passage(one.id, 0, len(one.text), one.text) for one in read))
            for read in (found[:1], found[1:], found)
            for document in read
            for pair in pairs(document)
        ]
        said = there.complete_many(prompts)
        assert [one.text.strip() for one in said] == [here.complete(prompt).text.strip() for prompt in prompts]
        answers = [pair.answer for read in (found[:1], found[1:], found) for one in read for pair in pairs(one)]
        assert sum(one.text.strip() == answer for one, answer in zip(said, answers, strict=True)) >= 30
        assert said[-1].metrics["adapters"] == 2 and said[-1].metrics["adapters_rank"] == 8
        events = list(there.stream(prompts[-1]))
        assert "".join(event.text for event in events if isinstance(event, TextEvent)) == said[-1].text
        assert isinstance(events[-1], UsageEvent) and events[-1].metrics["adapters"] == 2
        library.remove(found[1].id)
        assert not list((tmp_path / "library").rglob("*merged*/*/*.safetensors"))
        assert there.complete(prompts[-1]).metrics["adapters_missing"] == 1
        with pytest.raises(DocumentNotFoundError):  # of nothing that it was trained on
            there.complete(prompts[len(pairs(found[0]))])
        assert there.complete(prompts[0]).text == said[0].text


def test_behind_a_server_the_models_name_chooses_the_adapter(parametric: Parametric, tmp_path: Path) -> None:
    modules = [f"{name}={folder}" for name, folder in parametric.folders.items()]
    lora = ("--enable-lora", "--max-lora-rank", "8", "--max-loras", "3", "--lora-modules", *modules)
    server = Running(tmp_path, serving=(*SERVING, *lora), model=NEEDLE)
    try:
        server.wait()
        for model, adapter in (("tiny", None), ("first", "first"), ("second", "second"), ("merged", "merged")):
            with OpenAICompatible(model, server.url, max_tokens=TOKENS, timeout_s=120, instructions="") as generator:
                said = [generator.complete(Prompt(f"? {asked}")).text.split() for asked in ASKED]
            assert said == [parametric.words(adapter, asked) for asked in ASKED]
    finally:
        server.stop()
