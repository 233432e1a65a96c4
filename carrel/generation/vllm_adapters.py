"""LoRA adapters in vLLM: which folders it takes, and how requests name them."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrel.errors import InputError, ModelError
from carrel.generation.replies import reason_of

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM reserves room for; an adapter of any rank up to that fits."""
_CONFIG, _WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
_USUAL_RANK = 16  # vLLM's own limit where none is given
_SHOWN = 400  # characters of what vLLM says of an error
_MODULE = re.compile(r"\.layers\.(?P<layer>\d+)\..*?(?P<module>\w+)\.lora_A\.weight$")
_NUMBERS = itertools.count(1)  # of all engines: a request names an adapter by one


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter as it is in its folder now: another number once the files are others."""

    folder: str
    rank: int
    number: int

    def request(self) -> LoRARequest:
        from vllm.lora.request import LoRARequest

        return LoRARequest(f"{Path(self.folder).name}-{self.number}", self.number, self.folder)


class Adapters:
    """The adapters of one engine.

    Parameters
    ----------
    limit : the largest rank that the engine takes; 0 for no adapters.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._numbers: dict[tuple[str, int, int], int] = {}
        self._lock = threading.Lock()

    def of(self, folder: str | Path) -> Adapter:
        """The adapter in a folder.

        Raises
        ------
        InputError : there is none, it is damaged, or its rank is beyond the limit.
        """
        rank, weights = rank_of(folder), _weights(Path(folder))
        if rank > self.limit:
            takes = f"takes ranks up to {self.limit}" if self.limit else "was made for no adapters"
            raise InputError(
                f"The adapter {folder} has rank {rank}, and this engine {takes}: give adapter_rank={rank} when you"
                " make the engine, or merge it to a smaller rank."
            )
        about = weights.stat()
        key = (str(Path(folder).resolve()), about.st_mtime_ns, about.st_size)
        with self._lock:
            number = self._numbers.get(key) or self._numbers.setdefault(key, next(_NUMBERS))
        return Adapter(key[0], rank, number)

    def numbers(self, folder: str | Path) -> set[int]:
        """All numbers that the adapters of a folder have had."""
        path = str(Path(folder).resolve())
        with self._lock:
            return {number for key, number in self._numbers.items() if key[0] == path}


class Lending:
    """Gives requests to one running engine their adapters, and keeps apart what it would mix up.

    vLLM's CPU backend computes a request without an adapter with somebody else's where both are in one batch (0.32;
    vllm-project/vllm#48421): there, those with and those without take turns. Up to some version after 0.22 (#47724), an
    adapter that is taken while others are in use may get into their answers: before 0.32, it is taken alone.

    Parameters
    ----------
    on_cpu : whether it is that backend. version : of vLLM.
    """

    def __init__(self, engine: AsyncLLM, *, on_cpu: bool, version: str) -> None:
        self.engine, self.on_cpu = engine, on_cpu
        self.taken: set[int] = set()
        self._takes_alone = _numbers(version) < (0, 32)
        self._turns = Turns()

    @asynccontextmanager
    async def carrying(self, adapter: Adapter | None) -> AsyncIterator[LoRARequest | None]:
        """While a request runs, with its adapter or None.

        Raises
        ------
        ModelError : the adapter is not for this model, or of a kind that vLLM does not take.
        """
        if adapter is not None and adapter.number not in self.taken:
            async with self._turns.of(object() if self._takes_alone else self._kind(adapter)):
                await self._take(adapter)
        async with self._turns.of(self._kind(adapter)):
            yield None if adapter is None else adapter.request()

    def _kind(self, adapter: Adapter | None) -> object:
        return self.on_cpu and adapter is not None

    async def _take(self, adapter: Adapter) -> None:
        """Have the engine try it at once: found out in the middle of a batch, what it cannot take would end it."""
        check_shapes(adapter.folder, self.engine.model_config.hf_text_config)
        try:
            await self.engine.add_lora(adapter.request())
        except Exception as error:
            raise ModelError(f"vLLM cannot take the adapter {adapter.folder}: {reason_of(error, _SHOWN)}") from error
        self.taken.add(adapter.number)


def check_shapes(folder: str | Path, config: Any) -> None:
    """Raise ModelError where an adapter is for a model of another size: vLLM would add what there is of it, and go on.

    Parameters
    ----------
    config : of the text model, as the transformers library has it.
    """
    path = _weights(Path(folder))
    if path.suffix != ".safetensors":
        return
    from safetensors import SafetensorError, safe_open

    heads, hidden = int(config.num_attention_heads), int(config.hidden_size)
    attended = heads * int(getattr(config, "head_dim", None) or hidden // heads)
    reads = dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), hidden)
    reads |= {"o_proj": attended, "down_proj": int(getattr(config, "intermediate_size", 0) or 0)}
    try:
        with safe_open(str(path), framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no dictionary
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the adapter {path} is damaged: {error}") from error
    for name, shape in shapes.items():
        found = _MODULE.search(name)
        if found is None or found["module"] not in reads:
            continue
        layer, wanted = int(found["layer"]), reads[found["module"]]
        if layer >= config.num_hidden_layers or (wanted and shape[-1] != wanted):
            raise ModelError(
                f"the adapter {folder} is for another model: its layer {layer} has {found['module']} reading"
                f" {shape[-1]} numbers, this model has {config.num_hidden_layers} layers and {wanted} there."
            )


class Turns:
    """Lets one kind in at a time, as many of it as come; first come, first served. For one event loop."""

    def __init__(self) -> None:
        self._kind: object = None
        self._inside = 0
        self._waiting: deque[tuple[object, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, kind: object) -> AsyncIterator[None]:
        """Wait for this kind's turn, and have it as long as the block runs."""
        place = (kind, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        self._admit()
        try:
            await place[1]
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
                self._admit()
            else:
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (not self._inside or self._waiting[0][0] == self._kind):
            self._kind, let_in = self._waiting.popleft()
            self._inside += 1
            if not let_in.done():
                let_in.set_result(None)


def rank_of(folder: str | Path) -> int:
    """The largest rank in a folder of peft's format.

    Raises
    ------
    InputError : there is no LoRA adapter, or its description is damaged.
    """
    path = Path(folder) / _CONFIG
    if not path.is_file():
        raise InputError(f"{folder} holds no LoRA adapter: {_CONFIG} is missing")
    _weights(Path(folder))
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        ranks = [content["r"], *(content.get("rank_pattern") or {}).values()]
        if content.get("peft_type", "LORA") != "LORA":
            raise InputError(f"{folder} holds an adapter of the type {content['peft_type']}, and vLLM takes LoRA alone")
        rank = max(int(one) for one in ranks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    if rank < 1:
        raise InputError(f"{path} is damaged: a rank is at least 1, not {rank}")
    return rank


def rank_limit(wanted: int, engine: Mapping[str, object]) -> int:
    """The rank that an engine reserves room for: the smallest of ``RANKS`` that holds what is wanted; 0 for none.

    Raises
    ------
    InputError : none holds it.
    """
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
        raise InputError(f"adapter_rank is a whole number, 0 for no adapters, not {wanted!r}")
    given = engine.get("max_lora_rank", _USUAL_RANK if engine.get("enable_lora") else 0)
    if "max_lora_rank" in engine or wanted == 0:
        return int(str(given))
    for rank in RANKS:
        if rank >= max(wanted, int(str(given))):
            return rank
    raise InputError(f"vLLM takes adapters of rank {RANKS[-1]} at most, not {wanted}: merge them to a smaller rank.")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _weights(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} holds no LoRA adapter: {_WEIGHTS[0]} is missing")
