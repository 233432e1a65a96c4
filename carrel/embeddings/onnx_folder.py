"""Any encoder that was exported to ONNX, from its folder: optimum's, sentence-transformers' and others' exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import Vectors, digest
from carrel.embeddings.folder import ModelFolder, checked_pooling
from carrel.embeddings.instructions import Template
from carrel.embeddings.minilm import available_cores
from carrel.embeddings.pooling import Dense, layers_of, pool
from carrel.embeddings.windowed import Pass, Role, WindowedEncoder
from carrel.errors import InputError, ModelError
from carrel.inputs import check_path
from carrel.sessions import open_session
from carrel.tokens import FileTokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_GRAPHS = ("model.onnx", "onnx/model.onnx")
_STATES = ("token_embeddings", "last_hidden_state")
_VECTOR = "sentence_embedding"
_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32, "tensor(bool)": np.bool_}


class OnnxEncoder(WindowedEncoder):
    """Any ONNX encoder from a folder, on the CPU and without torch.

    Pooling, layers after it, prompts and the window are those that the folder declares (modules.json, 1_Pooling,
    config_sentence_transformers.json, config.json). Texts run one by one in as many threads as there are cores, so
    nothing is padded and a vector does not depend on what else is embedded. Longer texts are read in windows.

    Reference: Reimers and Gurevych, "Sentence-BERT", arXiv 1908.10084.

    Parameters
    ----------
    folder : holds ``model.onnx`` or ``onnx/model.onnx``, and ``tokenizer.json``.
    file : another graph of the folder, such as ``onnx/model_quantized.onnx``.
    pooling : "mean", "cls", "lasttoken", "max", ...; the declared one, or the graph's own vector, by default.
    query_prompt, document_prompt : a text before each, or a Template; the declared ones by default, "" for none.
    task : for a graph with a ``task_id`` (jina-embeddings-v3): the name of its adapter, for both or by "query" and
        "document".
    window : tokens of one pass, special ones included; the declared one by default.
    languages : that it knows, for the warning about others; those of the model's card by default, none named: any.
    threads : texts read at once; the number of cores by default.

    Raises
    ------
    ModelError : the folder lacks a file, or the graph is no encoder. InputError : a parameter is of no use, or must
        be given because the folder does not say it.
    """

    name: ClassVar[str] = "onnx"
    citation: ClassVar[str] = "Reimers and Gurevych, Sentence-BERT, arXiv 1908.10084"

    def __init__(
        self,
        folder: str | Path,
        *,
        file: str | None = None,
        pooling: str | None = None,
        query_prompt: str | Template | None = None,
        document_prompt: str | Template | None = None,
        task: str | Mapping[str, str] | None = None,
        window: int | None = None,
        languages: frozenset[str] | None = None,
        threads: int | None = None,
    ) -> None:
        self.folder = check_path("the folder of an encoder", folder)
        self._declared = ModelFolder(self.folder)
        self.name = f"onnx {self.folder.resolve().name}"  # type: ignore[misc]
        self.graph = self._graph(file)
        self.threads = threads or available_cores()
        self._settle(
            self._declared, self._declared.prompts.overridden(query_prompt, document_prompt), window, languages
        )
        chosen = checked_pooling(pooling)
        self.pooling: tuple[str, ...] = (chosen,) if chosen else self._declared.pooling
        self._pooled_here = chosen is not None
        self.task = task
        self._tokenizer_file = self._tokenizer()

    def _graph(self, file: str | None) -> Path:
        for name in (file,) if file else _GRAPHS:
            if (self.folder / name).is_file():
                return self.folder / name
        raise ModelError(
            f"there is no {file or ' or '.join(_GRAPHS)} in {self.folder}. Export the model to ONNX first."
        )

    def _tokenizer(self) -> Path:
        for place in (self.folder / self._declared.transformer, self.graph.parent, self.folder):
            if (place / "tokenizer.json").is_file():
                return place / "tokenizer.json"
        raise ModelError(f"there is no tokenizer.json in {self.folder}. Save the model's fast tokenizer there.")

    @cached_property
    def fingerprint(self) -> str:
        """Made of the files' contents and of what was chosen here."""
        weights = [path for path in self.graph.parent.glob(f"{self.graph.name}*") if path.is_file()]  # external data
        files = [*self._declared.declarations(), *weights, self._tokenizer_file]
        files += [self.folder / path / "model.safetensors" for kind, path in self._declared.modules if kind == "Dense"]
        settings = (*self.pooling, str(self._pooled_here), str(self.window), repr(self.task), *self.prompts.parts)
        return digest("onnx/1", self._declared.fingerprint(files), *settings)

    @cached_property
    def tokenizer(self) -> FileTokenizer:
        return FileTokenizer(self._tokenizer_file, name=self.name)

    @cached_property
    def _session(self) -> InferenceSession:
        try:
            return open_session(self.graph, "the encoder")
        except ModelError as error:
            reason = str(error).removesuffix(" Reinstall carrel.")
            raise ModelError(f"{reason} Export the model anew, or get its files anew.") from error

    @cached_property
    def _layers(self) -> list[Dense]:
        return layers_of(self._declared)

    @cached_property
    def _outputs(self) -> tuple[str | None, str | None]:
        """The names of the token states and of the vector among what the graph gives; None for what it lacks."""
        found = {output.name: output.shape for output in self._session.get_outputs()}
        states = next((name for name in _STATES if name in found), None)
        if states is None:
            states = next((name for name, shape in found.items() if len(shape) == 3), None)
        vector = _VECTOR if _VECTOR in found and not self._pooled_here else None
        if states is None and vector is None:
            raise ModelError(f"{self.graph} is no encoder: it gives {', '.join(found)}, and no token states")
        if vector is None and not self.pooling:
            raise InputError(
                f"nothing in {self.folder} says how token states become a vector: give pooling='mean', 'cls' or"
                " 'lasttoken', as the model's card has it"
            )
        return states, vector

    # -- one pass -------------------------------------------------------------------------------

    def _vectors(self, passes: Sequence[Pass], role: Role) -> Vectors:
        _, vector = self._outputs
        _ = self._feeds, self._layers  # read once, before the threads ask for them
        run = self._given if vector else self._pooled
        if len(passes) == 1:
            return run(passes[0], role)[None, :]
        longest_first = sorted(range(len(passes)), key=lambda index: -len(passes[index]))
        with ThreadPoolExecutor(self.threads) as pool_:
            found = pool_.map(lambda index: run(passes[index], role), longest_first)
            rows = dict(zip(longest_first, found, strict=True))
        return np.stack([rows[index] for index in range(len(passes))])

    def _given(self, read: Pass, role: Role) -> Vectors:
        """The graph's own vector, (D,)."""
        return np.asarray(self._run(_VECTOR, read, role)[0], np.float32)

    def _pooled(self, read: Pass, role: Role) -> Vectors:
        states = self._token_states(read, role)  # (T, D)
        vector = pool(states, self.pooling, 0 if self._declared.pools_prompts else read.before)
        for layer in self._layers:
            vector = layer(vector)
        return vector

    def _states(self, read: Pass) -> Vectors:
        states = self._token_states(read, "document")
        if self._outputs[1]:  # layers are inside the graph, after the states that it shows
            return states
        for layer in self._layers:
            if not layer.is_linear:
                raise ModelError(
                    f"the vectors of {self.name} pass a layer that is not linear ({layer.activation}) after pooling:"
                    " its token states cannot be pooled by piece"
                )
            states = layer(states)
        return states

    def _token_states(self, read: Pass, role: Role) -> Vectors:
        name = self._outputs[0]
        if name is None:
            raise ModelError(f"{self.graph} gives a vector only: export it with its token states (last_hidden_state)")
        return np.asarray(self._run(name, read, role)[0], np.float32)

    def _run(self, output: str, read: Pass, role: Role) -> NDArray[np.generic]:
        feed = {name: make(read, role) for name, make in self._feeds.items()}
        found: NDArray[np.generic] = self._session.run([output], feed)[0]
        return found

    @cached_property
    def _feeds(self) -> dict[str, Callable[[Pass, Role], NDArray[np.generic]]]:
        """What makes each input of the graph from a pass."""
        makers: dict[str, Callable[[Pass, Role], Any]] = {
            "input_ids": lambda read, _: [read.ids],
            "attention_mask": lambda read, _: [[1] * len(read)],
            "token_type_ids": lambda read, _: [[0] * len(read)],
            "position_ids": lambda read, _: [range(len(read))],
            "task_id": self._task_id,
        }
        feeds = {}
        for wanted in self._session.get_inputs():
            if wanted.name not in makers or wanted.type not in _TYPES:
                raise ModelError(f"{self.graph} wants an input {wanted.name!r} ({wanted.type}): it is no text encoder")
            feeds[wanted.name] = _typed(makers[wanted.name], _TYPES[wanted.type], len(wanted.shape))
        if self.task is not None and "task_id" not in feeds:
            raise InputError(f"{self.name} takes no task: its graph has no task_id")
        return feeds

    def _task_id(self, read: Pass, role: Role) -> int:
        adapters = list(self._declared.json("config.json").get("lora_adaptations") or ())
        name = self.task if isinstance(self.task, str) or self.task is None else self.task.get(role)
        if name not in adapters:
            known = ", ".join(map(str, adapters)) or "none"
            raise InputError(
                f"{self.name} has no adapter for the task {name!r} of a {role}. It has: {known}. Give task="
            )
        return adapters.index(name)


def _typed(
    make: Callable[[Pass, Role], Any], kind: type[np.generic], rank: int
) -> Callable[[Pass, Role], NDArray[np.generic]]:
    """The same as an array of the kind and rank that the graph declares."""

    def typed(read: Pass, role: Role) -> NDArray[np.generic]:
        made = np.asarray(make(read, role), kind)
        return made.reshape((1,) * rank) if made.ndim == 0 else made

    return typed
