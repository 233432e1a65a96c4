"""vLLM in this process: batches, prefix caching and adapters without a server."""

from __future__ import annotations

import asyncio
import atexit
import copy
import itertools
import threading
import traceback
import weakref
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from carrel.errors import CarrelError, GenerationError, InputError, MissingDependencyError, ModelError
from carrel.generation.chat import ChatGenerator
from carrel.generation.messages import INSTRUCTIONS, Message, Placement, finish_reason
from carrel.generation.model_tokenizer import ModelTokenizer
from carrel.generation.remote.portal import portal, waited
from carrel.generation.replies import ending, reason_of
from carrel.generation.vllm_adapters import Adapter, Adapters, Lending, rank_limit, rank_of
from carrel.tokens import Tokenizer
from carrel.types import Completion, Event, Prompt, TextEvent, Usage

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

_REQUESTS = itertools.count(1)
_SHOWN = 400  # characters of what vLLM says of an error


@dataclass(frozen=True, slots=True)
class Loaded:
    """A running engine, its window in tokens, its tokenizer, and what lends adapters to its requests."""

    engine: AsyncLLM
    window: int
    tokenizer: ModelTokenizer
    lending: Lending


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt as tokens, how its reply is to be made, and with which adapter."""

    ids: list[int]
    sampling: SamplingParams
    adapter: Adapter | None = None


@dataclass
class Said:
    """A reply as it comes, piece by piece."""

    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    logprobs: list[tuple[str, float]] = field(default_factory=list)
    prompt_tokens: int = 0
    cached: int = 0
    reason: str | None = None
    timings: dict[str, float] = field(default_factory=dict)

    def add(self, output: RequestOutput) -> str:
        """The next piece; its text."""
        piece = output.outputs[0]
        self.texts.append(piece.text)
        self.tokens += len(piece.token_ids)
        for token, known in zip(piece.token_ids, piece.logprobs or (), strict=False):
            self.logprobs.append((known[token].decoded_token or "", known[token].logprob))
        self.prompt_tokens = len(output.prompt_token_ids or ())
        self.cached = output.num_cached_tokens or 0
        self.reason = piece.finish_reason or self.reason
        self.timings = _timings(output.metrics) or self.timings
        return str(piece.text)


class VLLMEngine(ChatGenerator):
    """A model that vLLM runs in this process; it is loaded at the first call. Needs ``carrel[vllm]``.

    Calls from several threads or tasks, and ``complete_many``, run as one batch. Prompts that begin alike share the
    keys and values of what they share (prefix caching).

    Parameters
    ----------
    model : a folder, or a name that is in the local cache.
    adapter : a folder with a LoRA adapter for the model, in peft's format, that every request carries.
    adapter_rank : the largest rank of the adapters that ``adapted`` gives single requests; 0 for none.
    kv_cache : "auto" keeps keys and values in the model's own type, "fp8" in 8 bits where the hardware has them.
    max_tokens, temperature, seed, stop, logprobs, placement, instructions : as of OpenAICompatible.
    engine : further arguments of vLLM's engine, such as ``{"max_model_len": 8192}``.

    Raises
    ------
    InputError : an argument is of no use. MissingDependencyError : vLLM is not installed.
    """

    name: ClassVar[str] = "vllm"
    citation: ClassVar[str] = "Kwon et al., Efficient Memory Management for LLM Serving, arXiv 2309.06180"

    def __init__(
        self,
        model: str | Path,
        *,
        adapter: str | Path | None = None,
        adapter_rank: int = 0,
        kv_cache: str = "auto",
        max_tokens: int = 512,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        logprobs: bool = False,
        placement: Placement = "last",
        instructions: str = INSTRUCTIONS,
        engine: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(max_tokens=max_tokens, placement=placement, instructions=instructions)
        if kv_cache not in ("auto", "fp8"):
            raise InputError(f"kv_cache is 'auto' or 'fp8', not {kv_cache!r}")
        self.model = str(model)
        self.adapter = None if adapter is None else str(adapter)
        self._sampling: dict[str, Any] = {"temperature": temperature, "seed": seed, "stop": list(stop)}
        self._logprobs, self._kv_cache = logprobs, kv_cache
        self._arguments = dict(engine or {})
        limit = rank_limit(adapter_rank if adapter is None else max(adapter_rank, rank_of(adapter)), self._arguments)
        self._adapters = Adapters(limit)
        if adapter is not None:
            self._adapters.of(adapter)
        self._whole: VLLMEngine | None = None  # of which this is a view with an adapter
        self._loading: Future[Loaded] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"VLLMEngine({self.model!r})"

    @property
    def adapter_rank(self) -> int:
        """The largest rank of an adapter that a request may carry; 0 where none may."""
        return self._adapters.limit

    # -- the engine -----------------------------------------------------------------------------

    @property
    def loaded(self) -> Loaded:
        """The engine; started when it is first needed, which takes a while."""
        if self._whole is not None:
            return self._whole.loaded
        with self._lock:
            loading = self._loading
            if loading is None or (loading.done() and loading.exception()):  # what failed is begun anew
                loading = self._loading = portal().submit(self._load())
        return waited(loading)

    async def _load(self) -> Loaded:
        """Load on threads: vLLM blocks meanwhile, and other requests go on.

        A thread has no event loop. So vLLM puts off its own tasks to the first request, and to the loop that runs it.
        It keeps the stack that it was imported on, so that is not the one on which an engine stands: what is closed or
        dropped is freed.
        """
        await asyncio.to_thread(_import_vllm)
        return await asyncio.to_thread(self._start)

    def _start(self) -> Loaded:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments: dict[str, Any] = {
            "enable_prefix_caching": True,
            "enable_log_requests": False,
            **({"enable_lora": True, "max_lora_rank": self._adapters.limit} if self._adapters.limit else {}),
            **({"kv_cache_dtype": "fp8"} if self._kv_cache == "fp8" else {}),
            **self._arguments,
        }
        if self._kv_cache == "fp8":
            _check_fp8()
        try:
            engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=self.model, **arguments))
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # they hold what was begun, which must end now
            raise ModelError(f"vLLM cannot load {self.model}: {reason_of(error, _SHOWN)}") from error
        tokenizer = ModelTokenizer(engine.get_tokenizer(), Path(self.model).name)
        try:
            tokenizer.check_chat(self.model)
        except ModelError:
            _shut_down(engine)
            raise
        _close_at_exit(self)
        device = engine.vllm_config.device_config.device_type
        lending = Lending(engine, on_cpu=device == "cpu", version=metadata.version("vllm"))
        return Loaded(engine, engine.model_config.max_model_len, tokenizer, lending)

    @property
    def context_window(self) -> int | None:  # type: ignore[override]
        return self.loaded.window

    @property
    def tokenizer(self) -> Tokenizer:
        return self.loaded.tokenizer

    def chat_tokens(self, messages: Sequence[Message]) -> int:
        return len(self.loaded.tokenizer.chat_ids(messages))

    def adapted(self, adapter: str | Path) -> VLLMEngine:
        """The same engine as a generator whose requests carry this adapter; all of them run as one batch.

        How many adapters one batch has is vLLM's ``max_loras``, 1 by default: ``engine={"max_loras": 4}``. Files that
        change are read again. ``close`` frees the adapter, not the engine.

        Raises
        ------
        InputError : the folder holds no LoRA adapter, or one of a larger rank than the engine was made for.
        """
        self._adapters.of(adapter)
        view = copy.copy(self)
        view.adapter, view._whole = str(adapter), self._whole or self
        return view

    def close(self) -> None:
        """End the engine and free its memory; the next call starts it again."""
        if self._whole is not None:
            self._whole._drop(str(self.adapter))
            return
        with self._lock:
            loading, self._loading = self._loading, None
            if loading is not None and loading.exception() is None:
                _shut_down(loading.result().engine)

    def _drop(self, folder: str) -> None:
        """Free an adapter, where nobody is being answered with one."""
        with self._lock:
            loading = self._loading
        if loading is None or not loading.done() or loading.exception() is not None:
            return
        loaded = loading.result()
        for number in self._adapters.numbers(folder) & loaded.lending.taken:
            if not loaded.engine.output_processor.has_unfinished_requests():
                portal().call(loaded.engine.remove_lora(number))
                loaded.lending.taken.discard(number)

    # -- asking ---------------------------------------------------------------------------------

    def complete(self, prompt: Prompt) -> Completion:
        loaded = self.loaded
        return portal().call(self._completed(self._asked(prompt, loaded), loaded))

    def complete_many(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """The replies to many prompts, in their order, computed as one batch."""
        loaded = self.loaded
        asked = [self._asked(prompt, loaded) for prompt in prompts]

        async def together() -> list[Completion]:
            return list(await asyncio.gather(*(self._completed(one, loaded) for one in asked)))

        return portal().call(together())

    def stream(self, prompt: Prompt) -> Iterator[Event]:
        """Text as it comes, then the (empty) citations, then usage. To stop reading frees the engine."""
        loaded = self.loaded
        asked = self._asked(prompt, loaded)
        yield from portal().iterate(lambda: self._streamed(asked, loaded))

    def _asked(self, prompt: Prompt, loaded: Loaded) -> Asked:
        """What a prompt asks of the engine. Made on the thread of the caller: the loop has other requests to serve.

        Raises
        ------
        ContextOverflowError : the window does not hold it.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        ids = loaded.tokenizer.chat_ids(self.messages(prompt))
        sampling = SamplingParams(
            max_tokens=self.room(prompt, len(ids), loaded.window, self.model),
            logprobs=1 if self._logprobs else None,
            output_kind=RequestOutputKind.DELTA,
            structured_outputs=None if prompt.schema is None else StructuredOutputsParams(json=dict(prompt.schema)),
            **self._sampling,
        )
        return Asked(ids, sampling, None if self.adapter is None else self._adapters.of(self.adapter))

    async def _completed(self, asked: Asked, loaded: Loaded) -> Completion:
        said = Said()
        async with aclosing(self._outputs(asked, loaded)) as outputs:
            async for output in outputs:
                said.add(output)
        return self._completion(said, loaded)

    async def _streamed(self, asked: Asked, loaded: Loaded) -> AsyncGenerator[Event, None]:
        said = Said()
        async with aclosing(self._outputs(asked, loaded)) as outputs:
            async for output in outputs:
                if text := said.add(output):
                    yield TextEvent(text)
        for event in ending(self._completion(said, loaded)):
            yield event

    async def _outputs(self, asked: Asked, loaded: Loaded) -> AsyncGenerator[RequestOutput, None]:
        """The pieces of a reply; closed early, the engine drops the request."""
        try:
            async with loaded.lending.carrying(asked.adapter) as carried:
                replies = loaded.engine.generate(
                    {"prompt_token_ids": asked.ids}, asked.sampling, f"carrel-{next(_REQUESTS)}", lora_request=carried
                )
                async with aclosing(replies) as outputs:
                    async for output in outputs:
                        yield output
        except CarrelError:
            raise
        except Exception as error:
            raise GenerationError(f"{self.model} in vLLM failed: {reason_of(error, _SHOWN)}") from error

    def _completion(self, said: Said, loaded: Loaded) -> Completion:
        usage = Usage(said.prompt_tokens, said.tokens, min(said.cached, said.prompt_tokens), loaded.tokenizer.name)
        text = "".join(said.texts)
        return Completion(
            text,
            usage,
            finish_reason(text, said.reason),
            Path(self.model).name,
            logprobs=tuple(said.logprobs),
            metrics=said.timings,
        )


def _import_vllm() -> None:
    try:
        from vllm import AsyncEngineArgs  # noqa: F401
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("vllm", "vllm", "A model that vLLM runs in this process") from error


_running: weakref.WeakSet[VLLMEngine] = weakref.WeakSet()


def _close_at_exit(engine: VLLMEngine) -> None:
    """Have an engine closed when the interpreter ends, if nobody closes it before.

    That must come before multiprocessing waits for vLLM's processes. What is registered last runs first, so each
    engine that has been loaded registers it anew.
    """
    _running.add(engine)
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def _close_all() -> None:
    for engine in list(_running):
        engine.close()


def _shut_down(engine: AsyncLLM) -> None:
    """End an engine once. What vLLM keeps of its loading may keep the engine, too, until its module is taken apart."""
    handler = getattr(engine, "output_handler", None)
    if handler is not None and not engine.get_num_unfinished_requests():
        portal().call(_cancelled(handler))  # or it reports that the engine has died; requests in flight have to hear so
    engine.shutdown()
    engine.shutdown = lambda timeout=None: None  # its destructor calls this


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task of this loop and wait for its end."""
    task.cancel()
    await asyncio.wait([task])


def _timings(metrics: Any) -> dict[str, float]:
    """Seconds that a request waited, read its prompt, and wrote."""
    if metrics is None:
        return {}
    return {
        "queued_s": metrics.scheduled_ts - metrics.queued_ts,
        "prefill_s": metrics.first_token_ts - metrics.scheduled_ts,
        "decode_s": metrics.last_token_ts - metrics.first_token_ts,
        "first_token_s": metrics.first_token_latency,
    }


def _check_fp8() -> None:
    """Raise InputError where the hardware has no 8-bit floats."""
    import torch

    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9):
        raise InputError('kv_cache="fp8" needs a GPU with 8-bit floats (compute capability 8.9 or more). Use "auto".')
