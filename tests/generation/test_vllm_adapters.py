"""Adapters that requests to vLLM carry, with a stand-in for it; tests/slow/test_parametric_vllm.py has the real one."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from carrel.errors import InputError, ModelError
from carrel.generation.vllm_adapters import RANKS, Adapters, Lending, Turns, check_shapes, rank_limit, rank_of
from carrel.generation.vllm_engine import VLLMEngine
from carrel.types import Prompt
from tests.generation.test_vllm_engine import VLLM, Engine, vllm  # noqa: F401 - a fixture

TIMES = itertools.count(1)  # of writing: a clock may be too coarse for two files in a row


def adapter(folder: Path, rank: int = 4, value: float = 0.0, shapes: dict[str, int] | None = None, **more: Any) -> Path:
    """Of the shapes of the stand-in's model, or others: what each part reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, **more}), encoding="utf-8")
    weights = {
        f"base_model.model.model.layers.{part}.lora_A.weight": np.full((rank, reads), value, np.float32)
        for part, reads in (shapes or {"0.self_attn.q_proj": 8, "1.mlp.down_proj": 16}).items()
    }
    save_file(weights, folder / "adapter_model.safetensors")
    os.utime(folder / "adapter_model.safetensors", ns=(0, next(TIMES)))
    return folder


@given(st.integers(1, 512))
def test_an_engine_reserves_the_least_room_that_holds_the_rank(rank: int) -> None:
    limit = rank_limit(rank, {})
    assert limit >= rank and all(other < rank for other in RANKS if other < limit)


@pytest.mark.parametrize(
    ("wanted", "engine", "limit"),
    [
        (0, {}, 0), (0, {"enable_lora": True}, 16), (0, {"enable_lora": True, "max_lora_rank": 64}, 64),
        (5, {"max_lora_rank": 32}, 32), (40, {"enable_lora": True}, 64),
    ],
)  # fmt: skip
def test_what_is_said_of_the_engine_itself_counts(wanted: int, engine: dict[str, object], limit: int) -> None:
    assert rank_limit(wanted, engine) == limit


@pytest.mark.parametrize("wanted", [-1, 513, True, "8"])
def test_a_rank_that_no_engine_takes(wanted: Any) -> None:
    with pytest.raises(InputError, match="adapter_rank is a whole number|rank 512 at most, not 513"):
        rank_limit(wanted, {})


def test_the_largest_rank_of_an_adapter_counts(tmp_path: Path) -> None:
    assert rank_of(adapter(tmp_path / "a", 4)) == 4
    assert rank_of(adapter(tmp_path / "b", 4, rank_pattern={"q_proj": 24})) == 24


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot be read"), ("[]", "cannot be read"), ('{"peft_type": "LORA"}', "cannot be read: KeyError"),
        ('{"peft_type": "IA3", "r": 4}', "an adapter of the type IA3"), ('{"r": 0}', "a rank is at least 1, not 0"),
        ('{"r": "x"}', "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_adapter(tmp_path: Path, config: str, message: str) -> None:
    (adapter(tmp_path / "a") / "adapter_config.json").write_text(config, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        rank_of(tmp_path / "a")


def test_a_part_of_an_adapter_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="adapter_config.json is missing"):
        rank_of(tmp_path)
    (adapter(tmp_path / "a") / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="adapter_model.safetensors is missing"):
        rank_of(tmp_path / "a")


def test_other_files_in_the_same_folder_are_another_adapter(tmp_path: Path) -> None:
    known = Adapters(16)
    first, same = known.of(adapter(tmp_path / "a")), known.of(str(tmp_path / "a" / "."))
    assert first == same
    second = known.of(adapter(tmp_path / "a", value=1.0))
    assert second.folder == first.folder and second.number != first.number
    assert known.numbers(tmp_path / "a") == {first.number, second.number}
    assert Adapters(16).of(tmp_path / "a").number not in {first.number, second.number}  # of another engine


class Taking(Engine):
    """An engine that takes adapters, and notes who carried which."""

    async def add_lora(self, request: Any) -> bool:
        if "broken" in request.path:
            raise ValueError("shapes \n differ")
        self.__dict__.setdefault("added", []).append(request.number)
        return True

    async def remove_lora(self, number: int) -> bool:
        self.__dict__.setdefault("removed", []).append(number)
        return True

    @property
    def output_processor(self) -> Any:
        return SimpleNamespace(has_unfinished_requests=lambda: False)

    async def generate(self, prompt: Any, sampling: Any, *rest: Any, **options: Any) -> Any:
        carried = options["lora_request"]
        self.__dict__.setdefault("carried", []).append(carried and carried.path)
        async for piece in super().generate(prompt, sampling):
            yield piece


CONFIG = SimpleNamespace(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16)


def test_an_adapter_of_the_models_own_shapes(tmp_path: Path) -> None:
    check_shapes(adapter(tmp_path / "a"), CONFIG)
    check_shapes(adapter(tmp_path / "b", shapes={"0.self_attn.o_proj": 6, "1.mlp.experts": 5}),
                 SimpleNamespace(**{**vars(CONFIG), "head_dim": 3}))  # fmt: skip


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"0.self_attn.q_proj": 7}, "layer 0 has q_proj reading 7 numbers, this model has 2 layers and 8 there"),
        ({"1.mlp.down_proj": 8}, "layer 1 has down_proj reading 8 numbers, this model has 2 layers and 16 there"),
        ({"2.mlp.up_proj": 8}, "layer 2 has up_proj"), ({"0.self_attn.o_proj": 9}, "o_proj reading 9"),
    ],
)  # fmt: skip
def test_an_adapter_of_another_model(tmp_path: Path, shapes: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=f"is for another model: its .*{message}"):
        check_shapes(adapter(tmp_path / "a", shapes=shapes), CONFIG)


def test_a_damaged_adapter(tmp_path: Path) -> None:
    (adapter(tmp_path / "a") / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="adapter_model.safetensors is damaged"):
        check_shapes(tmp_path / "a", CONFIG)


@pytest.fixture
def lending(vllm: VLLM, monkeypatch: pytest.MonkeyPatch) -> VLLM:  # noqa: F811
    package = ModuleType("vllm.lora.request")
    package.LoRARequest = lambda name, number, path: SimpleNamespace(  # type: ignore[attr-defined]
        name=name, number=number, path=path
    )
    monkeypatch.setitem(sys.modules, "vllm.lora.request", package)
    arguments: list[Any] = []

    def make(given: Any) -> Engine:
        arguments.append(given)
        vllm.engines.append(Taking(vllm.tokenizer))
        return vllm.engines[-1]

    monkeypatch.setattr(vllm, "from_engine_args", make)
    vllm.arguments = arguments  # type: ignore[attr-defined]
    return vllm


def test_requests_of_one_engine_carry_different_adapters(lending: Any, tmp_path: Path) -> None:
    first, second = adapter(tmp_path / "a", 4), adapter(tmp_path / "b", 20)
    with VLLMEngine("tiny", adapter_rank=20, engine={"max_loras": 2}) as engine:
        for one in (engine, engine.adapted(first), engine.adapted(second), engine.adapted(first).adapted(second)):
            assert one.complete(Prompt("When?")).text == "In 1894."
        (made,) = lending.engines
        assert made.carried == [None, str(first), str(second), str(second)]
        assert len(made.added) == 2  # each once
    assert vars(lending.arguments[0])["enable_lora"] is True
    assert vars(lending.arguments[0])["max_lora_rank"] == 32
    assert vars(lending.arguments[0])["max_loras"] == 2
    assert made.shutdowns == 1


def test_an_engine_without_adapters_is_as_it_was(lending: Any) -> None:
    VLLMEngine("tiny").complete(Prompt("When?"))
    assert not {"enable_lora", "max_lora_rank"} & set(vars(lending.arguments[0]))


def test_an_adapter_of_the_engine_makes_its_own_room(lending: Any, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", 40)
    assert VLLMEngine("tiny", adapter=folder).complete(Prompt("When?")).text == "In 1894."
    assert vars(lending.arguments[0])["max_lora_rank"] == 64
    assert lending.engines[0].carried == [str(folder)]


def test_closing_a_view_frees_its_adapter_and_not_the_engine(lending: Any, tmp_path: Path) -> None:
    with VLLMEngine("tiny", adapter_rank=8) as engine:
        engine.adapted(adapter(tmp_path / "never"))  # is closed before anything was asked
        engine.adapted(tmp_path / "never").close()
        with engine.adapted(adapter(tmp_path / "a")) as adapted:
            adapted.complete(Prompt("When?"))
        (made,) = lending.engines
        assert made.removed == made.added and made.shutdowns == 0
        adapted.complete(Prompt("When?"))  # taken again
        assert len(made.added) == 2


def test_a_folder_that_is_trained_again_is_read_again(lending: Any, tmp_path: Path) -> None:
    with VLLMEngine("tiny", adapter_rank=8) as engine:
        adapted = engine.adapted(adapter(tmp_path / "a"))
        adapted.complete(Prompt("When?"))
        adapter(tmp_path / "a", value=1.0)
        adapted.complete(Prompt("When?"))
        assert len(set(lending.engines[0].added)) == 2


def test_adapters_that_the_engine_cannot_take(lending: Any, tmp_path: Path) -> None:
    with VLLMEngine("tiny") as engine, pytest.raises(InputError, match="made for no adapters: give adapter_rank=4"):
        engine.adapted(adapter(tmp_path / "a"))
    with VLLMEngine("tiny", adapter_rank=8) as engine:
        with pytest.raises(InputError, match="has rank 9, and this engine takes ranks up to 8: give adapter_rank=9"):
            engine.adapted(adapter(tmp_path / "b", 9))
        with pytest.raises(ModelError, match=r"vLLM cannot take the adapter .*broken: ValueError: shapes differ"):
            engine.adapted(adapter(tmp_path / "broken")).complete(Prompt("When?"))
        assert engine.complete(Prompt("When?")).text == "In 1894."


async def test_kinds_take_turns_and_none_waits_for_ever() -> None:
    turns, inside, seen = Turns(), list[str](), list[str]()

    async def visit(kind: str) -> None:
        async with turns.of(kind):
            inside.append(kind)
            seen.append("".join(sorted(inside)))
            await asyncio.sleep(0.01)
            inside.remove(kind)

    await asyncio.gather(*(visit(kind) for kind in "aabbaab"))
    assert seen == ["a", "aa", "b", "bb", "a", "aa", "b"]  # the later a do not overtake the first b


async def test_who_stops_waiting_holds_nobody_up() -> None:
    turns = Turns()
    held = turns.of("a")
    await held.__aenter__()

    async def visit(kind: str) -> str:
        async with turns.of(kind):
            return kind

    first, second = asyncio.create_task(visit("b")), asyncio.create_task(visit("a"))
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"  # though a is still inside: nobody else waits before it
    third = asyncio.create_task(visit("b"))
    await asyncio.sleep(0)
    await held.__aexit__(None, None, None)
    third.cancel()  # let in, and gone before it knew
    assert await asyncio.wait_for(visit("c"), 1) == "c"


@pytest.mark.parametrize(
    ("on_cpu", "version", "together"),
    [(False, "0.32.0", {"adapted", "plain", "taken"}), (True, "0.32.0+cpu", {"adapted", "taken"}),
     (False, "0.22.1", {"adapted", "plain"}), (True, "0.11.0", {"adapted"})],
)  # fmt: skip
async def test_what_vllm_would_mix_up_is_kept_apart(
    tmp_path: Path, lending: Any, on_cpu: bool, version: str, together: set[str]
) -> None:
    """Who gets in while a request with an adapter runs: another with it, one without, one whose adapter is new."""
    made = Lending(Taking(lending.tokenizer), on_cpu=on_cpu, version=version)  # type: ignore[arg-type]
    known = Adapters(8)
    old, new = known.of(adapter(tmp_path / "old")), known.of(adapter(tmp_path / "new"))
    seen: set[str] = set()

    async def ask(name: str, carried: Any) -> None:
        async with made.carrying(carried) as request:
            assert (request is None) == (carried is None)
            seen.add(name)

    async with made.carrying(old):
        for name, carried in (("adapted", old), ("plain", None), ("taken", new)):
            task = asyncio.create_task(ask(name, carried))
            await asyncio.sleep(0.01)
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        assert seen == together
    waiting = [ask("adapted", old), ask("plain", None), ask("taken", new)]
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert seen == {"adapted", "plain", "taken"}
