"""What surrounds a press of kvpress: the package without its noise, and a model as it was before.

kvpress replaces the attention functions of transformers by its own, for the whole process, as soon as it is imported.
They do what they did, except for modules on which it has left keys to mask; here none are left after a context was
read.
"""

from __future__ import annotations

import importlib
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import torch

from carrel.errors import GenerationError, InputError, MissingDependencyError
from carrel.generation.kv.masking import attention_modules

INSTALL = "Install 0.5.5 or later, with the transformers that it pins: pip install 'carrel[kv]'"


def kvpress_package() -> Any:
    """The package, imported without a sound."""
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            return importlib.import_module("kvpress")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or "kvpress", "kv", "A press of kvpress") from error
    except ImportError as error:
        raise GenerationError(f"{versions()} cannot be imported: {error}. {INSTALL}") from error


def supported_models() -> tuple[type, ...]:
    """The classes of transformers that kvpress knows; with others it would only log a warning."""
    kvpress_package()
    found: tuple[type, ...] = importlib.import_module("kvpress.presses.base_press").SUPPORTED_MODELS
    return found


def versions() -> str:
    """What is installed, for errors."""
    found = []
    for package in ("kvpress", "transformers"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"{package} of an unknown version")
    return " with ".join(found)


@contextmanager
def quiet() -> Iterator[None]:
    """Without kvpress' warnings, about cost for the most part; the table of presses says what there is to know."""
    logger = logging.getLogger("kvpress")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def offline() -> Iterator[None]:
    """Hugging Face's libraries read their cache and fetch nothing."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def seeded(model: Any) -> Iterator[None]:
    """The same random numbers each time, and the caller's as they were: some scorers draw a sketch.

    Those of the CPU and of the model's GPUs; other GPUs of the process are not touched.
    """
    devices = sorted({weights.device.index for weights in model.parameters() if weights.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would begin anew on every GPU
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(0)
        yield


@contextmanager
def read_with(model: Any, wanted: str) -> Iterator[None]:
    """The attention that a press needs: the weights of eager attention, or just not that one."""
    config = model.config
    before = config._attn_implementation
    if wanted == "eager" or (wanted == "sdpa" and before == "eager"):
        config._attn_implementation = wanted
    try:
        yield
    finally:
        config._attn_implementation = before


@contextmanager
def left_clean(model: Any) -> Iterator[None]:
    """Nothing stays on the model's modules that was not there: kvpress leaves its masks, a module and a method."""
    modules, inner = attention_modules(model), model.model
    before = [{name: vars(m)[name] for name in ("masked_key_indices",) if name in vars(m)} for m in modules]
    rotary = ["rotary_emb" in module._modules for module in modules]
    replaced = "forward" in vars(inner)
    try:
        yield
    finally:
        for module, found, had_rotary in zip(modules, before, rotary, strict=True):
            vars(module).pop("masked_key_indices", None)
            vars(module).update(found)
            if not had_rotary:
                module._modules.pop("rotary_emb", None)
        if not replaced:
            vars(inner).pop("forward", None)


@contextmanager
def followed(model: Any) -> Iterator[list[tuple[int, Any]]]:
    """How many tokens the model reads at its first call, and the cache that they go to."""
    seen: list[tuple[int, Any]] = []

    def follow(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not seen:
            seen.append((int(kwargs["hidden_states"].shape[1]), kwargs["past_key_values"]))

    hook = attention_modules(model)[0].register_forward_pre_hook(follow, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def default_positions(model: Any) -> Iterator[None]:
    """A context begins at 0, which is what the model takes by default; what a press reads after it would else, too."""

    def drop(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return args, {name: value for name, value in kwargs.items() if name != "position_ids"}

    hook = model.model.register_forward_pre_hook(drop, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def explained(label: str) -> Iterator[None]:
    """What kvpress cannot do, in words; errors of others pass."""
    try:
        yield
    except KeyError as error:
        if error.args != ("cache_position",):
            raise
        raise GenerationError(
            f"{versions()}: this transformers no longer tells kvpress where in the cache it writes"
            f" (KeyError: 'cache_position'). {INSTALL}"
        ) from error
    except (AssertionError, ValueError, AttributeError, NotImplementedError) as error:
        if not _from_kvpress(error):
            raise
        reason = str(error) or type(error).__name__
        raise InputError(f"The KV policy {label} is nothing for this model or this context: {reason}") from error


def _from_kvpress(error: BaseException) -> bool:
    """Whether a press was at work. Those of its functions that only call the model do not count."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(
        frame.f_globals.get("__name__", "").startswith("kvpress.presses")
        and frame.f_code.co_name not in ("__call__", "wrapped_forward")
        for frame, _ in frames
    )
