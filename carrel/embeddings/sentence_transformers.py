"""Any model of sentence-transformers, from a folder or the hub's cache (extra ``sentence-transformers``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from carrel.embeddings.base import Vectors, digest
from carrel.embeddings.folder import ModelFolder, checked_pooling
from carrel.embeddings.instructions import Template
from carrel.embeddings.windowed import LoadedTokenizer, Pass, Role, WindowedEncoder, batches
from carrel.errors import InputError, MissingDependencyError, ModelError
from carrel.inputs import check_path

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

Extension = Literal["ntk", "self_extend"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_BATCH_TOKENS_CPU, _BATCH_TOKENS_GPU = 2048, 16_384  # on a CPU larger batches fall out of its caches
_ANY_LENGTH = 1 << 20  # tokens of a text that is no more than the mean of its tokens
_TASK_NAMES = ("task", "task_label")


class SentenceTransformerEncoder(WindowedEncoder):
    """Any model of sentence-transformers, read as it declares: prompts, pooling, layers after it, task adapters.

    Unlike the library's own ``encode``, a text past the window is read in overlapping windows and averaged, never
    cut. Texts of like length are read together. Static embeddings (a vector a token) have no window. Nothing is
    downloaded unless ``download`` says so.

    The numbers are bfloat16 where the CPU multiplies them itself (AVX-512 BF16 or AMX) or the GPU does, which is about
    three times as fast there (benchmarks/encoder_types.py), and float32 elsewhere.
    ``dtype="auto"`` is one encoder whichever it takes: its vectors differ by less than 0.001 of cosine. Name a type
    to have exactly that.

    Reference: Reimers and Gurevych, "Sentence-BERT", arXiv 1908.10084.

    Parameters
    ----------
    path_or_name : a folder, or a name on the Hugging Face hub, which is looked for in the hub's cache only.
    query_prompt, document_prompt : a text before each, or a Template (carrel.embeddings.instructions); the declared
        ones by default, "" for none.
    task : the adapter of models that have several, for both or by "query" and "document".
    pooling : "mean", "cls", "lasttoken", ...; the declared one by default.
    dtype : "auto", "float32", "bfloat16" or "float16".
    device : such as "cuda"; the best there is by default.
    window : tokens of one pass, special ones included; the declared one by default.
    extension : for a ``window`` longer than the declared one, in models with rotary positions: "ntk" stretches the
        rotations, "self_extend" lets far tokens share positions (carrel.embeddings.rope). Passes of the declared
        length stay as they are, longer ones are read one at a time.
    languages : that it knows, for the warning about others; those of the model's card by default, none named: any.
    batch_tokens : tokens read at once, padding included; 2,048 on a CPU and 16,384 on a GPU by default.
    download : whether a model that is not on this machine may be fetched from the hub.
    trust_remote_code : whether code that comes with the model may be run. Read it first.

    Raises
    ------
    MissingDependencyError : sentence-transformers is not installed. ModelError : there is no such model on this
        machine, or it cannot be loaded. InputError : a parameter is of no use to this model.
    """

    name: ClassVar[str] = "sentence_transformers"
    citation: ClassVar[str] = "Reimers and Gurevych, Sentence-BERT, arXiv 1908.10084"

    def __init__(
        self,
        path_or_name: str | Path,
        *,
        query_prompt: str | Template | None = None,
        document_prompt: str | Template | None = None,
        task: str | Mapping[str, str] | None = None,
        pooling: str | None = None,
        dtype: DType = "auto",
        device: str | None = None,
        window: int | None = None,
        extension: Extension | None = None,
        languages: frozenset[str] | None = None,
        batch_tokens: int | None = None,
        download: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        if dtype not in _DTYPES:
            raise InputError(f"dtype is one of {', '.join(_DTYPES)}, not {dtype!r}")
        if batch_tokens is not None and (type(batch_tokens) is not int or batch_tokens < 1):
            raise InputError(f"batch_tokens is a number of tokens, 1 or more, not {batch_tokens!r}")
        if find_spec("sentence_transformers") is None:
            raise MissingDependencyError("sentence-transformers", "sentence-transformers", type(self).__name__)
        self.folder = _found(path_or_name, download)
        self._declared = ModelFolder(self.folder)
        given = Path(path_or_name)
        self.name = f"sentence_transformers {given.resolve().name if given.is_dir() else path_or_name}"  # type: ignore[misc]
        self._static = [kind for kind, _ in self._declared.modules[:1]] == ["StaticEmbedding"]  # a vector a token
        most = _ANY_LENGTH if self._static and window is None else window
        prompts = self._declared.prompts.overridden(query_prompt, document_prompt)
        self._settle(self._declared, prompts, most, languages)
        self.extension, self.trained = extension, self._trained(extension)
        self.pooling, self.task, self.dtype = checked_pooling(pooling), task, dtype
        if not self._declared.modules and self.pooling is None:
            raise InputError(
                f"nothing in {self.folder} says how token states become a vector: give pooling='mean', 'cls' or"
                " 'lasttoken', as the model's card has it"
            )
        self.device, self.batch_tokens = device, batch_tokens
        self._code = trust_remote_code
        self._lock = RLock()

    @cached_property
    def fingerprint(self) -> str:
        """Made of the files' contents and of what was chosen here, without loading the model."""
        files = self._declared.declarations()
        for place in {self.folder / path for _, path in self._declared.modules} | {self.folder}:
            weights = list(place.glob("*.safetensors")) or list(place.glob("*.bin"))
            files += [file for file in weights if file.is_file()]
        extended = () if self.extension is None else (self.extension, str(self.trained))
        settings = (str(self.pooling), self.dtype, str(self.window), repr(self.task), *self.prompts.parts, *extended)
        return digest("sentence_transformers/1", self._declared.fingerprint(files), *settings)

    @cached_property
    def model(self) -> SentenceTransformer:
        """The loaded model, in its number format and with its way of pooling."""
        with self._lock:
            return self._load()

    def _load(self) -> SentenceTransformer:
        try:
            from sentence_transformers import SentenceTransformer

            loaded: SentenceTransformer = SentenceTransformer(
                str(self.folder), device=self.device, local_files_only=True, trust_remote_code=self._code
            )
        except Exception as error:  # transformers raises errors of many kinds for what it cannot find or read
            raise ModelError(_explained(self.folder, error, self._code)) from error
        if self.pooling is not None:
            _pool_by(loaded, self.pooling)
        if self.extension is not None:
            _extend(loaded, self.extension, self.trained, self.window)
        loaded.to(self._torch_dtype(loaded)).eval()  # in place
        return loaded

    def _trained(self, extension: Extension | None) -> int:
        """How long a pass may be without an extension."""
        declared = self._declared.window
        if extension is None:
            return self.window
        if extension not in get_args(Extension):
            raise InputError(f"extension is one of {', '.join(get_args(Extension))}, not {extension!r}")
        if declared is None or self.window <= declared:
            raise InputError(
                f"an extension takes a window longer than the {declared} tokens that are declared in {self.folder}:"
                " give window="
            )
        return declared

    def _torch_dtype(self, loaded: SentenceTransformer) -> torch.dtype:
        import torch

        if self.dtype != "auto":
            found: torch.dtype = getattr(torch, self.dtype)
            return found
        if self._static:  # nothing is multiplied
            return torch.float32
        return torch.bfloat16 if multiplies_bfloat16(str(loaded.device)) else torch.float32

    @cached_property
    def tokenizer(self) -> LoadedTokenizer:
        tokenizer: Any = self.model.tokenizer
        backend = tokenizer if self._static else getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                f"{self.name} has no fast tokenizer, so its tokens have no offsets. Save a tokenizer.json."
            )
        return LoadedTokenizer(backend, self.name)

    @cached_property
    def _special(self) -> tuple[list[int], list[int]]:
        return ([], []) if self._static else super()._special

    # -- one pass -------------------------------------------------------------------------------

    def _vectors(self, passes: Sequence[Pass], role: Role) -> Vectors:
        vectors: dict[int, Vectors] = {}
        for batch in self._batches(passes):
            features = self._forward([passes[index] for index in batch], self.model, role)
            rows = features["sentence_embedding"].float().cpu().numpy()  # (B, D)
            vectors.update(zip(batch, rows, strict=True))
        return np.stack([vectors[index] for index in range(len(passes))])

    def _batches(self, passes: Sequence[Pass]) -> list[list[int]]:
        """What is read together; what is longer than the model was trained for is adapted to its own length, alone."""
        usual = [index for index, read in enumerate(passes) if len(read) <= self.trained]
        found = batches([passes[index] for index in usual], self.batch_tokens or self._usual_batch_tokens)
        longer = [[index] for index, read in enumerate(passes) if len(read) > self.trained]
        return [[usual[place] for place in batch] for batch in found] + longer

    def _states(self, read: Pass) -> Vectors:
        import torch

        if self._static:
            return self._vectors([Pass([token], 0) for token in read.ids], "document")
        first, *rest = self._modules
        with torch.inference_mode():
            states = self._forward([read], first, "document")["token_embeddings"][0]  # (T, D)
            for kind, module in rest:
                if kind == "Dense":
                    states = self._linear(module)({"sentence_embedding": states})["sentence_embedding"]
        found: Vectors = states.float().cpu().numpy()
        return found

    @property
    def _modules(self) -> list[Any]:
        """The transformer, then (kind, module) of what follows it."""
        first, *rest = list(self.model)
        return [first, *((type(module).__name__, module) for module in rest)]

    def _linear(self, module: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """A layer after pooling, which may as well come before it if it is linear."""
        activation = type(module.activation_function).__name__
        if activation != "Identity":
            raise ModelError(
                f"the vectors of {self.name} pass a layer that is not linear ({activation}) after pooling: its token"
                " states cannot be pooled by piece"
            )
        layer: Callable[[dict[str, Any]], dict[str, Any]] = module
        return layer

    def _forward(self, passes: Sequence[Pass], module: Any, role: Role) -> dict[str, Any]:
        """What the model, or its transformer alone, makes of some passes: padded on the right to the longest."""
        import torch

        if self._static:
            flat = torch.tensor([token for read in passes for token in read.ids])  # (tokens of all,)
            starts = torch.tensor([0, *(len(read) for read in passes[:-1])]).cumsum(0)
            with self._lock, torch.inference_mode():
                bags: dict[str, Any] = module(
                    {"input_ids": flat.to(self.model.device), "offsets": starts.to(self.model.device)}
                )
            return bags
        longest = max(map(len, passes))
        ids = torch.zeros(len(passes), longest, dtype=torch.long)  # (B, T)
        mask = torch.zeros_like(ids)
        for row, read in enumerate(passes):
            ids[row, : len(read)] = torch.tensor(read.ids)
            ids[row, len(read) :] = self._padding
            mask[row, : len(read)] = 1
        device = self.model.device
        features: dict[str, Any] = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if not self._declared.pools_prompts:
            features["prompt_length"] = passes[0].before
        with self._lock, torch.inference_mode():
            found: dict[str, Any] = module(features, **self._extra(role))
        return found

    @property
    def _usual_batch_tokens(self) -> int:
        return _BATCH_TOKENS_CPU if self.model.device.type == "cpu" else _BATCH_TOKENS_GPU

    @cached_property
    def _padding(self) -> int:
        found = getattr(self.model.tokenizer, "pad_token_id", None)
        return 0 if found is None else int(found)

    def _extra(self, role: Role) -> dict[str, str]:
        """The adapter, by the name under which the model takes it."""
        taken = self._taken
        if self.task is None:
            routed = any(type(module).__name__ == "Router" for module in self.model)
            return {"task": role} if routed else {}
        name = next((name for name in _TASK_NAMES if name in taken), None)
        if name is None:
            raise InputError(f"{self.name} takes no task; it takes {', '.join(sorted(taken)) or 'nothing'}")
        value = self.task if isinstance(self.task, str) else self.task.get(role)
        if value is None:
            raise InputError(f"task names no adapter for a {role}: give one text, or both 'query' and 'document'")
        return {name: value}

    @cached_property
    def _taken(self) -> set[str]:
        """The keywords that the model's modules take beside the text."""
        found = {name for names in (self.model.module_kwargs or {}).values() for name in names}
        for module in self.model:
            found |= set(getattr(module, "forward_kwargs", ()))
            if type(module).__name__ == "Router":
                found.add("task")
        return found


def multiplies_bfloat16(device: str) -> bool:
    """Whether the machine has instructions for products of bfloat16 numbers: without them float32 is faster."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask is not None and ask() for ask in asked)


def _extend(model: SentenceTransformer, extension: Extension, trained: int, window: int) -> None:
    """Adapt the transformer within, so that it reads ``window`` tokens."""
    from transformers import PreTrainedModel

    from carrel.embeddings.rope import scale_ntk, self_extend

    inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if inner is None:
        raise InputError("the model holds no transformer whose positions could be extended")
    if extension == "ntk":
        scale_ntk(inner, trained=trained)
        return
    neighbours = trained // 4  # enough for what stands together, and few enough for the rest
    self_extend(
        inner, group=math.ceil((window - neighbours) / (trained - neighbours)), neighbours=neighbours, trained=trained
    )


def _pool_by(model: SentenceTransformer, mode: str) -> None:
    """Replace a model's pooling."""
    from sentence_transformers.models import Pooling

    for place, module in enumerate(model):
        if isinstance(module, Pooling):
            width = getattr(module, "embedding_dimension", None) or module.word_embedding_dimension
            model[place] = Pooling(width, pooling_mode=mode, include_prompt=module.include_prompt)
            return
    raise InputError(f"the model has no pooling that {mode!r} could replace")


def _found(path_or_name: str | Path, download: bool) -> Path:
    """The folder of a model: the one that is named, or the hub's snapshot of it."""
    path = check_path("the model", path_or_name)
    if path.is_dir() or isinstance(path_or_name, Path) or str(path_or_name).startswith((".", "/", "~")):
        return path
    from huggingface_hub import snapshot_download

    try:
        unused = ["onnx/*", "openvino/*", "*.h5", "*.msgpack", "*.ot", "*.gguf"]
        found = snapshot_download(str(path_or_name), local_files_only=not download, ignore_patterns=unused)
    except Exception as error:  # the hub's library has many, and a name that is none is a ValueError
        advice = (
            "Check its name and the connection."
            if download
            else ("Name a folder that holds it, or pass download=True to fetch it from the Hugging Face hub.")
        )
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(f"{path_or_name} is no folder, and not in the hub's cache: {reason}. {advice}") from error
    return Path(found)


def _explained(folder: Path, error: Exception, trust_remote_code: bool) -> str:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    if "trust_remote_code" in reason and not trust_remote_code:
        advice = "It comes with code of its own: read it, and if you trust it, pass trust_remote_code=True."
    else:
        advice = "Check its files."
    return f"cannot load the encoder in {folder}: {reason}. {advice}"
