"""An encoder from a text, as the command line and ``carrel.open(encoder=...)`` take it."""

from __future__ import annotations

from pathlib import Path

from carrel.embeddings.base import ChunkEncoder
from carrel.errors import InputError
from carrel.inputs import check_path

SHIPPED = ("shipped", "all-MiniLM-L6-v2")
FORMS = (
    "a folder with a sentence-transformers or ONNX model, http://HOST:PORT/v1#MODEL for a server,"
    " sentence-transformers:NAME for a model in the hub's cache, 'shipped', or 'blended' or 'late' for chunks that are"
    " read in their document"
)
_GRAPHS = ("model.onnx", "onnx/model.onnx")
_ONNX, _SENTENCE_TRANSFORMERS = "onnx:", "sentence-transformers:"
_IN_THEIR_DOCUMENT = ("blended", "late")
_MARKS = ("modules.json", "config.json", "sentence_bert_config.json")


def encoder_of(spec: str, *, api_key: str | None = None) -> ChunkEncoder:
    """The encoder that a text names.

    * ``shipped``: all-MiniLM-L6-v2.
    * a folder: its ONNX graph, which needs no extra; where it has none, a model of sentence-transformers. A prefix,
      ``onnx:`` or ``sentence-transformers:``, says which of the two is meant.
    * ``sentence-transformers:NAME``: a model of the Hugging Face hub, from the cache of this machine.
    * ``http://HOST:PORT/v1#MODEL``: a server; the model may be left out where it has one only.
    * ``late``, ``blended``: late chunking by the shipped model, and its blend with chunks alone; ``late:`` and
      ``blended:`` before a folder or a name: by that model.

    Parameters
    ----------
    api_key : for a server.

    Raises
    ------
    InputError : the text is none of these. ModelError, MissingDependencyError : what it names cannot be used.
    """
    if not isinstance(spec, str) or not spec.strip():
        raise InputError(f"an encoder is named by a text, not {spec!r:.100}: {FORMS}")
    if spec in SHIPPED:
        from carrel.embeddings.minilm import MiniLM

        return MiniLM()
    kind, _, model = spec.partition(":")
    if kind in _IN_THEIR_DOCUMENT:
        return _in_their_document(kind, encoder_of(model) if model else None)
    if spec.lower().startswith(("http://", "https://")):
        from carrel.embeddings.openai_compatible import OpenAIEmbeddings

        address, _, model = spec.partition("#")
        return OpenAIEmbeddings(address, model or None, api_key=api_key)
    if spec.startswith(_SENTENCE_TRANSFORMERS):
        return _sentence_transformers(spec.removeprefix(_SENTENCE_TRANSFORMERS))
    if spec.startswith(_ONNX):
        return _onnx(check_path("the folder of an encoder", spec.removeprefix(_ONNX)))
    return _from_folder(spec)


def _in_their_document(kind: str, model: ChunkEncoder | None) -> ChunkEncoder:
    from carrel.embeddings.blending import Blended
    from carrel.embeddings.late import LateChunking
    from carrel.embeddings.parents import ParentChunks
    from carrel.embeddings.token_states import TokenModel

    if model is None:
        return Blended() if kind == "blended" else LateChunking(window=256, overlap=32, spread=0.5)
    if not isinstance(model, TokenModel):
        raise InputError(
            f"{model.name} does not show the states of its tokens, which {kind}: needs; take a local model"
        )
    late = LateChunking(model, spread=0.5)
    return Blended((model, ParentChunks(model), late)) if kind == "blended" else late


def _from_folder(spec: str) -> ChunkEncoder:
    folder = check_path("the folder of an encoder", spec).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is no folder"
        raise InputError(f"cannot understand the encoder {spec!r}: it {what}. Name {FORMS}.")
    if any((folder / name).is_file() for name in _GRAPHS):
        return _onnx(folder)
    if any((folder / name).is_file() for name in _MARKS):
        return _sentence_transformers(folder)
    raise InputError(
        f"the folder {folder} holds no encoder: neither {' nor '.join(_GRAPHS)}, nor the {_MARKS[0]} or {_MARKS[1]} of"
        " a sentence-transformers model"
    )


def _onnx(folder: Path) -> ChunkEncoder:
    from carrel.embeddings.onnx_folder import OnnxEncoder

    return OnnxEncoder(folder)


def _sentence_transformers(path_or_name: str | Path) -> ChunkEncoder:
    from carrel.embeddings.sentence_transformers import SentenceTransformerEncoder

    return SentenceTransformerEncoder(path_or_name)
