"""One context in one file: its keys and values as packed, with a checksum and what they are good for.

A safetensors file: one entry of the metadata is a JSON text with the format, the model's fingerprint, the policy, how
the tensors were packed, and a SHA-256 over all of that and the tensors with their names, shapes and types.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from carrel.errors import InputError, MissingDependencyError, StoredContextError
from carrel.generation.kv.quantisation import Packed

try:
    from safetensors import SafetensorError
    from safetensors.torch import save_file
except ModuleNotFoundError as error:
    raise MissingDependencyError("safetensors", "torch", "A context on disk") from error

FORMAT = "carrel-context/1"
PARTIAL_SUFFIX = ".partial"  # of files that a process is writing, or left when it was killed
_ENTRY = "carrel"
_ANEW = "Delete it; the context is read anew."
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError)  # numbers, shapes, types
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "F32": torch.float32,
    "I64": torch.int64,
    "F64": torch.float64,
}


@dataclass
class ContextRecord:
    """What is kept of a context.

    Attributes
    ----------
    ids : the tokens that were read.
    layers : the keys and the values of each layer.
    policy : the label of the policy that chose them.
    fingerprint : of the model.
    state : what the policy needs besides.
    prefill_s : seconds that reading took.
    dense_bytes : memory of all keys and values as the model has them.
    hidden : keys, of all layers and heads together, that take memory though no question sees them.
    """

    ids: tuple[int, ...]
    layers: list[tuple[Packed, Packed]]
    policy: str
    fingerprint: str
    state: dict[str, Tensor] = field(default_factory=dict)
    prefill_s: float = 0.0
    dense_bytes: int = 0
    hidden: int = 0

    @property
    def size_bytes(self) -> int:
        """Memory of the keys, the values and the state."""
        packed: int = sum(keys.size_bytes + values.size_bytes for keys, values in self.layers)
        return packed + sum(int(tensor.nbytes) for tensor in self.state.values())


def save_context(path: str | os.PathLike[str], record: ContextRecord) -> int:
    """Write a context whole or not at all, in place of what was there; the bytes written.

    Processes that write the same file at once do not disturb each other: the last one's stays.

    Raises
    ------
    StoredContextError : it cannot be written there. What was there stays.
    """
    path = Path(path)
    tensors = _alone(_named(record))
    about: dict[str, Any] = {
        "format": FORMAT,
        "fingerprint": record.fingerprint,
        "policy": record.policy,
        "prefill_s": record.prefill_s,
        "dense_bytes": record.dense_bytes,
        "hidden": record.hidden,
        "layers": [[keys.meta, values.meta] for keys, values in record.layers],
    }
    entry = json.dumps({"sha256": _checksum(about, tensors), **about})
    partial = path.with_name(f".{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    try:
        save_file(tensors, partial, metadata={_ENTRY: entry})
        size = _flushed(partial)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise StoredContextError(f"The context cannot be written to {path}: {error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return size


def load_context(
    path: str | os.PathLike[str], *, fingerprint: str, policy: str, device: torch.device | str = "cpu"
) -> ContextRecord:
    """Read what ``save_context`` wrote, if it is whole and of this model and policy.

    All tensors share one piece of memory.

    Raises
    ------
    StoredContextError : no such file, a damaged one, or one of another format, model or policy.
    """
    path = Path(path)
    try:
        with path.open("rb", buffering=0) as file:
            header, length = _header(file)
            about = _understood(path, header.pop("__metadata__", {}).get(_ENTRY))
            _check_use(path, about, fingerprint, policy)
            numbers = _read(file, length)
        tensors = _sliced(header, numbers)
    except FileNotFoundError as error:
        raise StoredContextError(f"No context is stored at {path}.") from error
    except (OSError, *_MALFORMED) as error:
        raise StoredContextError(f"{path} cannot be read as a stored context ({error}). {_ANEW}") from error
    if about.pop("sha256", None) != _checksum(about, tensors):
        raise StoredContextError(f"{path} is damaged: its contents do not have the checksum it names. {_ANEW}")
    if torch.device(device).type != "cpu":
        tensors = _sliced(header, numbers.to(device))
    return _record(path, about, tensors)


def sweep(folder: str | os.PathLike[str], older_than_s: float = 3600.0) -> int:
    """Remove what killed processes left half written in a folder; how many files.

    Younger files may be another process's, which is still writing.
    """
    removed = 0
    before = time.time() - older_than_s
    for partial in Path(folder).glob(f".*{PARTIAL_SUFFIX}"):
        with suppress(OSError):
            if partial.stat().st_mtime < before:
                partial.unlink()
                removed += 1
    return removed


def _named(record: ContextRecord) -> dict[str, Tensor]:
    """All tensors of a record by their names in the file."""
    named = {"ids": torch.tensor(record.ids, dtype=torch.int64)}
    for number, pair in enumerate(record.layers):
        for kind, packed in zip(("keys", "values"), pair, strict=True):
            named |= {f"layers.{number}.{kind}.{name}": tensor for name, tensor in packed.tensors().items()}
    return named | {f"state.{name}": tensor for name, tensor in record.state.items()}


def _alone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each whole and in memory of its own, as safetensors wants them."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.nbytes() != plain.nbytes or storage.data_ptr() in seen:
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        found[name] = plain
    return found


def _checksum(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the settings, then over the bytes of the tensors, by name."""
    names = sorted(tensors)
    table = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in names]
    digest = hashlib.sha256(json.dumps([about, table], sort_keys=True).encode())
    for name in names:
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flushed(path: Path) -> int:
    """Wait until a file is on the disk; its size."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and the number of bytes after it.

    Not read through the library: it opens the path a second time for the tensors, when another process may have put a
    new file there.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= size - 8:
        raise ValueError("it is no safetensors file, or cut short")
    header = json.loads(_read(file, length).numpy().tobytes())
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    return header, size - 8 - length


def _read(file: BinaryIO, length: int) -> Tensor:
    """The next bytes of a file, (length,), uint8."""
    numbers = torch.empty(length, dtype=torch.uint8)
    view = numbers.numpy().data
    done = 0
    while done < length:  # one call reads at most 2 GiB
        read = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not read:
            raise ValueError("it ends too early")
        done += read
    return numbers


def _sliced(header: Mapping[str, Any], numbers: Tensor) -> dict[str, Tensor]:
    """The tensors that a header describes, as views of the bytes after it; ValueError unless they are just these."""
    edge = 0
    tensors = {}
    for name, about in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        start, end = about["data_offsets"]
        dtype, shape = _DTYPES[about["dtype"]], about["shape"]
        size = math.prod(shape) * dtype.itemsize
        if start != edge or not end == start + size <= numbers.numel() or min(shape, default=0) < 0:
            raise ValueError("its header does not fit what follows")
        piece = numbers[start:end]
        if start % dtype.itemsize:
            piece = piece.clone()
        tensors[name] = piece.view(dtype).view(shape)
        edge = end
    if edge != numbers.numel():
        raise ValueError("its header does not fit what follows")
    return tensors


def _understood(path: Path, entry: str | None) -> dict[str, Any]:
    """The settings of a file whose format is ours."""
    about = json.loads(entry) if entry is not None else None
    if not isinstance(about, dict):
        raise StoredContextError(f"{path} is a safetensors file, but no stored context.")
    if about.get("format") != FORMAT:
        raise StoredContextError(
            f"{path} has the format {about.get('format')!r}; this version of Carrel reads {FORMAT!r}. {_ANEW}"
        )
    return about


def _check_use(path: Path, about: Mapping[str, Any], fingerprint: str, policy: str) -> None:
    if about.get("fingerprint") != fingerprint:
        raise StoredContextError(
            f"{path} was made by another model, or by this one with other weights, adapters, type or settings: "
            f"fingerprint {about.get('fingerprint')!r}, not {fingerprint!r}."
        )
    if about.get("policy") != policy:
        raise StoredContextError(f"{path} was made with the KV policy {about.get('policy')!r}, not {policy!r}.")


def _record(path: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ContextRecord:
    try:
        if not about["layers"]:
            raise ValueError("it has no layers")
        layers = []
        for number, (keys, values) in enumerate(about["layers"]):
            start = f"layers.{number}."
            layers.append(
                (
                    Packed.restored(keys, _below(f"{start}keys.", tensors)),
                    Packed.restored(values, _below(f"{start}values.", tensors)),
                )
            )
        return ContextRecord(
            ids=tuple(tensors["ids"].tolist()),
            layers=layers,
            policy=str(about["policy"]),
            fingerprint=str(about["fingerprint"]),
            state=_below("state.", tensors),
            prefill_s=float(about["prefill_s"]),
            dense_bytes=int(about["dense_bytes"]),
            hidden=int(about["hidden"]),
        )
    except (InputError, *_MALFORMED) as error:
        raise StoredContextError(f"{path} lacks a part of a stored context ({error}). {_ANEW}") from error


def _below(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
