"""vLLM in this process: batches, prefix caching and adapters without a server."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from carrel.errors import (
    CarrelError,
    ContextOverflowError,
    GenerationError,
    InputError,
    MissingDependencyError,
    ModelError,
)
from carrel.generation.base import Generator
from carrel.generation.messages import INSTRUCTIONS, Placement, finish_reason, render_messages
from carrel.generation.remote.portal import portal
from carrel.tokens import Tokenizer, truncated
from carrel.types import CitationsEvent, Completion, Event, Ledger, Prompt, TextEvent, Usage, UsageEvent

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

_ADAPTERS = itertools.count(1)
_LEAST_REPLY = 16


class ModelTokenizer:
    """A tokenizer of the transformers library (a fast one) as Carrel's."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.inner, self.name = tokenizer, name

    def count(self, text: str) -> int:
        return len(self.inner(text, add_special_tokens=False)["input_ids"])

    def offsets(self, text: str) -> list[tuple[int, int]]:
        found = self.inner(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return [(int(start), int(end)) for start, end in found]

    def truncate(self, text: str, limit: int) -> str:
        return truncated(self, text, limit)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A running engine, its window in tokens and its tokenizer."""

    engine: AsyncLLM
    window: int
    tokenizer: ModelTokenizer


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


class VLLMEngine(Generator):
    """A model that vLLM runs in this process; it is loaded at the first call. Needs ``carrel[vllm]``.

    Calls from several threads or tasks, and ``complete_many``, run as one batch. Prompts that begin alike share the
    keys and values of what they share (prefix caching).

    Parameters
    ----------
    model : a folder, or a name that is in the local cache.
    adapter : a folder with a LoRA adapter for the model.
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
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise InputError(f"max_tokens must be above 0, not {max_tokens!r}")
        if kv_cache not in ("auto", "fp8"):
            raise InputError(f"kv_cache is 'auto' or 'fp8', not {kv_cache!r}")
        if adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
            raise InputError(f"{adapter} holds no LoRA adapter: adapter_config.json is missing")
        render_messages(Prompt("?"), placement)
        self.model, self.placement, self.instructions = str(model), placement, instructions
        self.adapter = None if adapter is None else str(adapter)
        self._sampling: dict[str, Any] = {"temperature": temperature, "seed": seed, "stop": list(stop)}
        self._max_tokens, self._logprobs, self._kv_cache = max_tokens, logprobs, kv_cache
        self._arguments = dict(engine or {})
        self._adapter_id = next(_ADAPTERS)
        self._requests = itertools.count()
        self._loaded: Loaded | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"VLLMEngine({self.model!r})"

    # -- the engine -----------------------------------------------------------------------------

    @property
    def loaded(self) -> Loaded:
        """The engine; started when it is first needed, which takes a while."""
        with self._lock:
            if self._loaded is None:
                self._loaded = portal().call(self._load())
            return self._loaded

    async def _load(self) -> Loaded:
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise MissingDependencyError("vllm", "vllm", "A model that vLLM runs in this process") from error
        arguments: dict[str, Any] = {
            "enable_prefix_caching": True,
            "enable_log_requests": False,
            **({"enable_lora": True} if self.adapter else {}),
            **({"kv_cache_dtype": "fp8"} if self._kv_cache == "fp8" else {}),
            **self._arguments,
        }
        if self._kv_cache == "fp8":
            _check_fp8()
        try:
            engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=self.model, **arguments))
        except Exception as error:
            said = " ".join(str(error).split())[:400]
            raise ModelError(f"vLLM cannot load {self.model}: {type(error).__name__}: {said}") from error
        tokenizer = engine.get_tokenizer()
        if not getattr(tokenizer, "chat_template", None):
            engine.shutdown()
            raise ModelError(f"{self.model} has no chat template: take a model that was made for chats")
        return Loaded(engine, engine.model_config.max_model_len, ModelTokenizer(tokenizer, Path(self.model).name))

    @property
    def context_window(self) -> int | None:  # type: ignore[override]
        return self.loaded.window

    @property
    def tokenizer(self) -> Tokenizer:
        return self.loaded.tokenizer

    def fixed_tokens(self, prompt: Prompt) -> int:
        return len(self._ids(replace(prompt, passages=()), self.loaded))

    def close(self) -> None:
        """End the engine and free its memory; the next call starts it again."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.engine.shutdown()

    def __enter__(self) -> VLLMEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- asking ---------------------------------------------------------------------------------

    def complete(self, prompt: Prompt) -> Completion:
        loaded = self.loaded
        return portal().call(self._completed(prompt, loaded))

    def complete_many(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """The replies to many prompts, in their order, computed as one batch."""
        from asyncio import gather

        loaded = self.loaded

        async def together() -> list[Completion]:
            return list(await gather(*(self._completed(prompt, loaded) for prompt in prompts)))

        return portal().call(together())

    def stream(self, prompt: Prompt) -> Iterator[Event]:
        """Text as it comes, then the (empty) citations, then usage. To stop reading frees the engine."""
        loaded = self.loaded
        return portal().iterate(lambda: self._streamed(prompt, loaded))

    async def _completed(self, prompt: Prompt, loaded: Loaded) -> Completion:
        said = Said()
        async with aclosing(self._outputs(prompt, loaded)) as outputs:
            async for output in outputs:
                said.add(output)
        return self._completion(said, loaded)

    async def _streamed(self, prompt: Prompt, loaded: Loaded) -> AsyncGenerator[Event, None]:
        said = Said()
        async with aclosing(self._outputs(prompt, loaded)) as outputs:
            async for output in outputs:
                if text := said.add(output):
                    yield TextEvent(text)
        completion = self._completion(said, loaded)
        yield CitationsEvent(())
        yield UsageEvent(completion.usage, Ledger(completion.usage.tokenizer), completion.finish_reason)

    async def _outputs(self, prompt: Prompt, loaded: Loaded) -> AsyncGenerator[RequestOutput, None]:
        """The pieces of a reply; closed early, the engine drops the request."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        ids = self._ids(prompt, loaded)
        room = loaded.window - len(ids)
        if room < min(_LEAST_REPLY, self._max_tokens):
            raise ContextOverflowError(
                f"the prompt has {len(ids):,} tokens, and {self.model} reads {loaded.window:,}, prompt and reply"
                " together. Use a smaller budget, fewer turns of history, or a model with a larger window."
            )
        sampling = SamplingParams(
            max_tokens=min(self._max_tokens, room),
            logprobs=1 if self._logprobs else None,
            output_kind=RequestOutputKind.DELTA,
            structured_outputs=None if prompt.schema is None else StructuredOutputsParams(json=dict(prompt.schema)),
            **self._sampling,
        )
        adapter = LoRARequest(self.adapter, self._adapter_id, self.adapter) if self.adapter else None
        request = f"carrel-{self._adapter_id}-{next(self._requests)}"
        try:
            replies = loaded.engine.generate({"prompt_token_ids": ids}, sampling, request, lora_request=adapter)
            async with aclosing(replies) as outputs:
                async for output in outputs:
                    yield output
        except CarrelError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:400]
            raise GenerationError(f"{self.model} in vLLM failed: {type(error).__name__}: {said}") from error

    def _ids(self, prompt: Prompt, loaded: Loaded) -> list[int]:
        messages = [message.as_dict() for message in render_messages(prompt, self.placement, self.instructions)]
        ids: list[int] = loaded.tokenizer.inner.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return ids

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
