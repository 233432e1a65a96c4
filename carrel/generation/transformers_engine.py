"""A model of the transformers library in this process: a context is read once, and many questions are asked of it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from carrel.errors import (
    CarrelError,
    GenerationError,
    InputError,
    MalformedReplyError,
    MissingDependencyError,
    ModelError,
)
from carrel.generation import replies
from carrel.generation.chat import ChatGenerator
from carrel.generation.messages import INSTRUCTIONS, Message, Placement, finish_reason
from carrel.generation.model_tokenizer import PLACEHOLDERS, ModelTokenizer
from carrel.tokens import Tokenizer
from carrel.types import Completion, Event, Prompt, TextEvent, Usage

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from carrel.generation.kv.base import SparseAttention
    from carrel.generation.kv.context_model import ContextModel, Continuation
    from carrel.generation.kv.contexts import EncodedContext
    from carrel.generation.kv.decoding import Reply
    from carrel.generation.kv.policies import KVPolicy

_TRIMMED = 8  # tokens; what may differ between questions where a chat's stable part ends


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model on its device, its tokenizer, its window in tokens, and the tokens that end a reply."""

    runner: ContextModel
    tokenizer: ModelTokenizer
    window: int
    ends: frozenset[int]


class TransformersGenerator(ChatGenerator):
    """Runs a model in this process, on a GPU or a CPU; it is loaded at the first call. Needs ``carrel[torch]``.

    The standing documents of a prompt are its context. A context is read once; what the model keeps of it serves
    every later question, in memory and, with ``contexts``, after a restart. Without standing documents, what a prompt
    shares with the one before it is not read again.

    Parameters
    ----------
    model : a folder, a name that is in the local cache, or a model that is loaded already (with its ``tokenizer``).
    kv : what is kept of a context's keys and values: ``dense``, ``int8``, ``int4``, ``random:0.25``,
        ``sirllm:0.25``, a press of kvpress with the share that it keeps (``snapkv:0.25``), several with ``+``; or a
        KVPolicy.
    attention : what each new token reads of them: ``paged:1024`` (keys), ``clustered:1024``, ``lambda:1024`` (the
        window); or a SparseAttention. All of them by default.
    contexts : a folder, where contexts are kept as files. Whoever can write there can change answers.
    stored_bits : 16, 8 or 4, of a number in such a file, where ``kv`` does not say it.
    context_bytes : of memory for contexts; the least recently used go first.
    context_window : tokens, prompt and reply together; the model's own by default.
    device : such as ``cuda:1``; a GPU by default where there is one. dtype : of the weights; the files' own by default.
    tokenizer : a folder or an object, where it is not the model's own.
    max_tokens, temperature, seed, stop, logprobs, placement, instructions : as of OpenAICompatible.

    Raises
    ------
    InputError : an argument is of no use. MissingDependencyError : torch, transformers or kvpress is not installed.
    ModelError : the model cannot be loaded; at the first call.
    """

    name: ClassVar[str] = "transformers"

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        *,
        kv: str | KVPolicy | None = None,
        attention: str | SparseAttention | None = None,
        contexts: str | Path | None = None,
        stored_bits: int = 16,
        context_bytes: int = 2**31,
        context_window: int | None = None,
        device: str | None = None,
        dtype: str = "auto",
        tokenizer: Any = None,
        max_tokens: int = 512,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        logprobs: bool = False,
        placement: Placement = "last",
        instructions: str = INSTRUCTIONS,
    ) -> None:
        super().__init__(max_tokens=max_tokens, placement=placement, instructions=instructions)
        _need_torch()
        from carrel.generation.kv.attentions import make_attention
        from carrel.generation.kv.policies import make_policy

        _check_arguments(temperature, seed, stop, stored_bits, context_bytes, context_window, contexts)
        if not isinstance(model, (str, Path)):
            _check_loaded(model, tokenizer, device, dtype)
        self.model = str(model) if isinstance(model, (str, Path)) else type(model).__name__
        self._source, self._tokenizer_source = model, tokenizer
        self._device, self._dtype = device, dtype
        self._kept: dict[str, Any] = {
            "policy": make_policy(kv), "attention": make_attention(attention), "stored_bits": stored_bits,
            "folder": None if contexts is None else Path(contexts), "limit_bytes": context_bytes,
        }  # fmt: skip
        self._window, self._logprobs = context_window, logprobs
        self._temperature, self._seed, self._stop = temperature, seed, tuple(stop)
        self._loaded: LoadedModel | None = None
        self._stable: dict[str, tuple[int, ...]] = {}  # of the system part rendered last
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"TransformersGenerator({self.model!r})"

    @property
    def contexts(self) -> Path | None:
        """The folder where contexts are kept as files."""
        folder: Path | None = self._kept["folder"]
        return folder

    # -- the model ------------------------------------------------------------------------------

    @property
    def loaded(self) -> LoadedModel:
        """The model; loaded when it is first needed, which takes a while."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> LoadedModel:
        from carrel.generation.kv.context_model import ContextModel
        from carrel.generation.kv.decoding import ends_of
        from carrel.generation.kv.loading import load_model

        model: Any = self._source
        tokenizer: Any = self._tokenizer_source
        if isinstance(model, (str, Path)):
            _check_folder(Path(model))
            model, tokenizer = load_model(model, device=self._device, dtype=self._dtype, tokenizer=tokenizer)
        elif isinstance(tokenizer, (str, Path)):
            tokenizer = _tokenizer_of(tokenizer)
        ours = ModelTokenizer(tokenizer, Path(self.model).name)
        ours.check_chat(self.model)
        model.eval()
        window = self._window
        if window is None:
            window = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        if window is None:
            raise ModelError(f"{self.model} does not say how much it reads: give context_window=...")
        return LoadedModel(ContextModel(model, **self._kept), ours, window, ends_of(model, tokenizer))

    @property
    def context_window(self) -> int | None:  # type: ignore[override]
        return self.loaded.window

    @property
    def tokenizer(self) -> Tokenizer:
        return self.loaded.tokenizer

    def chat_tokens(self, messages: Sequence[Message]) -> int:
        return len(_chat_ids(self.loaded.tokenizer, messages))

    def close(self) -> None:
        """Free the model and the contexts in memory; the next call loads it again."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.runner.close()

    # -- asking ---------------------------------------------------------------------------------

    def complete(self, prompt: Prompt) -> Completion:
        return _last(self._replied(prompt))

    def complete_many(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """The replies to many prompts, in their order, one after the other."""
        return [self.complete(prompt) for prompt in prompts]

    def stream(self, prompt: Prompt) -> Iterator[Event]:
        """Text as it comes, then the (empty) citations, then usage. To stop reading stops the model."""
        for piece in self._replied(prompt):
            if isinstance(piece, Completion):
                yield from replies.ending(piece)
            else:
                yield TextEvent(piece)

    def _replied(self, prompt: Prompt) -> Iterator[str | Completion]:
        """The text piece by piece, then all of it."""
        loaded = self.loaded
        try:
            yield from self._generated(prompt, loaded)
        except CarrelError:
            raise
        except Exception as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch has one for each device
                raise GenerationError(f"{self.model} failed: {replies.reason_of(error, 400)}") from error
            raise GenerationError(
                f"{self.model} ran out of memory. Use fewer tokens, kv='int8', a smaller context_bytes"
                f" ({self._kept['limit_bytes']:,} now), or a smaller model."
            ) from error

    def _generated(self, prompt: Prompt, loaded: LoadedModel) -> Iterator[str | Completion]:
        from carrel.generation.kv.decoding import Reply

        reply = Reply()
        ids = _chat_ids(loaded.tokenizer, self.messages(prompt))
        room = self.room(prompt, len(ids), loaded.window, self.model)
        context, was_there = loaded.runner.context(self._context_ids(prompt, ids, loaded.tokenizer))
        text = loaded.runner.begin(context, ids[len(context.ids) :])
        cached = loaded.runner.shared(text) + (len(context.ids) if was_there else 0)
        try:
            yield from self.said(reply, room, lambda: loaded.runner.logits(text), text.rest.append)
        finally:
            loaded.runner.end(text)
        if prompt.schema is not None and reply.reason == "stop":
            _check_json(self.model, reply.text)
        usage = Usage(len(ids), reply.tokens, cached, loaded.tokenizer.name)
        yield self._completion(reply, usage, text, was_there)

    def said(self, reply: Reply, room: int, logits: Callable[[], Tensor], take: Callable[[int], None]) -> Iterator[str]:
        """A reply of this generator's model, with its settings: carrel.generation.kv.decoding.spoken."""
        from carrel.generation.kv.decoding import Sampler, Speech, spoken

        loaded = self.loaded
        speech = Speech(lambda tokens: _decoded(loaded.tokenizer, tokens), self._stop)
        sampler = Sampler(self._temperature, self._seed)
        name = (lambda token: str(loaded.tokenizer.inner.decode([token]))) if self._logprobs else None
        return spoken(reply, room, logits, take, sampler=sampler, speech=speech, ends=loaded.ends, name=name)

    def _completion(self, reply: Reply, usage: Usage, text: Continuation, was_there: bool) -> Completion:
        metrics = reply.metrics
        if text.context.ids:
            metrics |= _measured(text.context, was_there)
        return Completion(
            reply.text, usage, finish_reason(reply.text, reply.reason), Path(self.model).name,
            logprobs=tuple(reply.logprobs), metrics=metrics,
        )  # fmt: skip

    def _context_ids(self, prompt: Prompt, ids: Sequence[int], tokenizer: ModelTokenizer) -> tuple[int, ...]:
        """What of a chat is its context: all up to the first thing that a user says, where documents stand there."""
        from carrel.generation.kv.context_model import common_length

        if not prompt.standing:
            return ()
        bare = replace(prompt, history=(), passages=(), notes=())
        system = self.messages(bare)[0].content
        known = self._stable.get(system)
        if known is None:
            first, second = (_chat_ids(tokenizer, self.messages(replace(bare, question=q))) for q in PLACEHOLDERS)
            known = tuple(first[: common_length(first, second)])
        if tuple(ids[: len(known)]) != known:
            shorter = known[: common_length(known, ids)]
            if len(known) - len(shorter) > _TRIMMED:  # a template that puts the system part behind the history
                return ()
            known = shorter  # this question's first letters make one token with what is before them
        self._stable = {system: known}
        return known

    def forget(self, prompt: Prompt | None = None) -> int:
        """Forget the context of a prompt, or all contexts, in memory and in the folder; how many files went.

        The files hold what the model keeps of the documents, and their text as token ids.
        """
        loaded = self.loaded
        if prompt is None:
            return loaded.runner.forget()
        ids = _chat_ids(loaded.tokenizer, self.messages(prompt))
        return loaded.runner.forget(self._context_ids(prompt, ids, loaded.tokenizer))


def _measured(context: EncodedContext, was_there: bool) -> dict[str, float]:
    """Of a context, for the ledger."""
    loaded = {"context_load_s": context.load_s} if context.load_s else {}
    return loaded | {
        "context_tokens": len(context.ids),
        "context_keys": context.kept,
        "context_bytes": context.kept_bytes,
        "context_dense_bytes": context.dense_bytes,
        "context_saved_s" if was_there else "context_prefill_s": context.prefill_s,
    }


def _chat_ids(tokenizer: ModelTokenizer, messages: Sequence[Message]) -> list[int]:
    """The tokens of a chat; where a template knows no system part, that comes first in what the user says."""
    try:
        return tokenizer.chat_ids(messages)
    except Exception as error:  # a template raises what it likes; where the second try fails, too, that is said
        if messages[0].role != "system" or len(messages) < 2:
            raise ModelError(f"the chat template of {tokenizer.name} fails: {replies.reason_of(error, 400)}") from error
    first = Message("user", f"{messages[0].content}\n\n{messages[1].content}")
    return _chat_ids(tokenizer, [first, *messages[2:]])


def _check_json(model: str, text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        raise MalformedReplyError(
            f"the reply of {model} is not JSON, though that was asked for: {text[:80]!r}. Nothing holds a model in this"
            " process to a schema: ask for JSON in the prompt, or use VLLMEngine."
        ) from None


def _last(pieces: Iterator[str | Completion]) -> Completion:
    *_, completion = pieces
    if not isinstance(completion, Completion):
        raise TypeError("a reply ends with its completion")
    return completion


def _decoded(tokenizer: ModelTokenizer, tokens: list[int]) -> str:
    return str(tokenizer.inner.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _check_arguments(
    temperature: object, seed: object, stop: object, bits: object, size: object, window: object, folder: object
) -> None:
    """Raise InputError for what could not be used later."""
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 <= temperature < math.inf:
        raise InputError(f"temperature is a number, 0 or more, not {temperature!r}")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise InputError(f"seed is a whole number or None, not {seed!r}")
    if isinstance(stop, str) or not isinstance(stop, Sequence) or not all(isinstance(text, str) for text in stop):
        raise InputError(f"stop is a list of texts, not {stop!r}: write [{stop!r}] for a single one")
    if bits not in (16, 8, 4):
        raise InputError(f"stored_bits is 16, 8 or 4, not {bits!r}")
    for name, number in (("context_bytes", size), ("context_window", window)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise InputError(f"{name} is a whole number above 0, not {number!r}")
    if folder == "":
        raise InputError("contexts is a folder, or None to keep contexts in memory alone")


def _check_loaded(model: Any, tokenizer: Any, device: str | None, dtype: str) -> None:
    """Raise InputError where a model that is loaded already is none, or comes with arguments for loading one."""
    if not hasattr(model, "forward"):
        raise InputError(f"model is a folder, a name, or a model of the transformers library, not {model!r:.80}")
    if tokenizer is None:
        raise InputError("A model that is loaded already needs its tokenizer: tokenizer=...")
    if device is not None or dtype != "auto":
        raise InputError("device and dtype are for a model that is loaded here: this one is on its device, in its type")


def _check_folder(path: Path) -> None:
    """Raise ModelError for what looks like a folder and holds no model; a name may be one of the local cache."""
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"transformers cannot load {path}: the folder has no config.json")
    if not path.exists() and (path.is_absolute() or len(path.parts) > 2 or str(path).startswith(".")):
        raise ModelError(f"transformers cannot load {path}: there is no such folder")


def _tokenizer_of(source: str | Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(source), local_files_only=True)
    except Exception as error:
        raise ModelError(f"transformers cannot load the tokenizer {source}: {replies.reason_of(error, 400)}") from error


def _need_torch() -> None:
    for package in ("torch", "transformers"):
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            raise MissingDependencyError(package, "torch", "A model in this process") from error
