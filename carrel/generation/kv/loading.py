"""A model and its tokenizer from what is on this machine. Fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from carrel.errors import MissingDependencyError, ModelError
from carrel.generation.replies import reason_of

try:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging
except ModuleNotFoundError as error:
    raise MissingDependencyError("transformers", "torch", "A model in this process") from error

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_model(
    source: str | Path, *, device: str | None = None, dtype: str = "auto", tokenizer: Any = None, quiet: bool = False
) -> tuple[PreTrainedModel, Any]:
    """A causal language model, ready to answer on its device, and its tokenizer.

    Parameters
    ----------
    source : a folder, or a name that is in the local cache of the transformers library.
    device : such as ``cuda:1``; a GPU by default where there is one. dtype : of the weights; the files' own by default.
    tokenizer : a folder, a name or an object, where it is not the model's own.
    quiet : without a progress bar.

    Raises
    ------
    ModelError : one of the two is not there or cannot be loaded.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    words = source if tokenizer is None else tokenizer
    try:
        if isinstance(words, (str, Path)):  # first, for it takes no time
            words = AutoTokenizer.from_pretrained(str(words), local_files_only=True)
        with _bar(shown=not quiet):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(source), dtype=dtype, local_files_only=True, output_loading_info=True
            )
        model, found = loaded
        model.to(place)
    except Exception as error:
        raise ModelError(f"transformers cannot load {source}: {reason_of(error, 400)}") from error
    if missing := sorted(found["missing_keys"]):
        shown = ", ".join(missing[:3]) + (" and more" if len(missing) > 3 else "")
        raise ModelError(f"{source} lacks weights, which would be random: {shown}")
    model.eval()
    return model, words


@contextmanager
def _bar(*, shown: bool) -> Iterator[None]:
    speech: Any = logging
    hidden_here = not shown and speech.is_progress_bar_enabled()
    if hidden_here:
        speech.disable_progress_bar()
    try:
        yield
    finally:
        if hidden_here:
            speech.enable_progress_bar()
