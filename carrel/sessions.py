"""Opening the ONNX models that ship with Carrel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carrel.errors import ModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_session(path: Path, what: str, model: bytes | None = None) -> InferenceSession:
    """A session that runs one input on one core: work is spread over inputs instead.

    It may be run from several threads at once, and after a fork: it has no threads of its own. Plans of
    memory are not kept for every length of input that it has seen; they cost more than they save.
    ``model`` is opened in place of the file where the graph was changed in memory.

    Raises
    ------
    ModelError : the file is missing or damaged; ``what`` names the model in the message.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model or str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no public base class for its errors
        reason = " ".join(str(error).split()).rstrip(".")
        raise ModelError(f"cannot load {what} in {path.parent}: {reason}. Reinstall carrel.") from error
