"""Presses of kvpress, by name, as KV policies. Needs ``carrel[kv]``."""

from __future__ import annotations

import hashlib
import inspect
import json
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from carrel.errors import GenerationError, InputError
from carrel.generation.kv.masking import attention_modules, check_takes_masks, hide_keys
from carrel.generation.kv.policies import KVPolicy, checked_share, spelled
from carrel.generation.kv.press_scopes import (
    INSTALL,
    default_positions,
    explained,
    followed,
    kvpress_package,
    left_clean,
    offline,
    quiet,
    read_with,
    seeded,
    supported_models,
    versions,
)
from carrel.generation.kv.press_table import PressEntry, find_press, presses

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HIDDEN = "hidden."
__all__ = ["HeadPatterns", "Press", "make_press", "presses"]
_HIDING: weakref.WeakSet[Any] = weakref.WeakSet()  # models that a press reads with now, which will hide keys
_CURVE_POINTS = 99  # shares to remove, from 1 % to 99 %


@dataclass(frozen=True, eq=False)
class HeadPatterns:
    """How much of the context each KV head needs, for ``duo_attention``.

    Attributes
    ----------
    scores : (layers, Hkv), higher for heads that look far; ``1 - measure_local_mass(model, ids)`` is one.
    sinks, recent : tokens at the beginning and at the end that the other heads keep to.
    """

    scores: np.ndarray[Any, Any]
    sinks: int = 128
    recent: int = 256

    @classmethod
    def read(cls, folder: str | Path) -> HeadPatterns:
        """From a folder as the DuoAttention project publishes them: ``config.json``, ``full_attention_heads.tsv``."""
        try:
            config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
            scores = np.loadtxt(Path(folder) / "full_attention_heads.tsv", delimiter="\t", ndmin=2)
            return cls(np.clip(scores, 0, 1), int(config["sink_size"]), int(config["recent_size"]))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder} holds no patterns of DuoAttention: {error}") from error


class Press(KVPolicy):
    """One press of kvpress with the share of the keys that stays. ``make_press`` makes it.

    What a press drops while the context is read has left the cache, where ``entry.frees``. Else keys are hidden from
    the questions by masks, which ``state`` hands out. Some presses keep more in one layer than in another: each layer
    is filled up to the longest, with keys that are hidden, too.
    """

    name: ClassVar[str] = "press"
    citation: ClassVar[str] = "kvpress, arXiv 2510.00636"

    def __init__(
        self, entry: PressEntry, keep: float, scorer: PressEntry | None, options: Mapping[str, object]
    ) -> None:
        self.entry, self.keep, self.hides = entry, keep, entry.hides
        self.drops = entry.frees and keep < 1
        named = entry.name if scorer is None or scorer.name == entry.over[0] else f"{entry.name}_{scorer.name}"
        knobs = "".join(f",{name}={_digest(options[name])}" for name in sorted(options))
        self._label = f"{named}:{spelled(keep)}{knobs}"
        self._press = _made(entry, keep, scorer, dict(options))
        self._masks: dict[str, Tensor] = {}

    @property
    def label(self) -> str:
        return self._label

    def check(self, model: PreTrainedModel) -> None:
        supported: Any = supported_models()
        if not isinstance(model, supported):
            raise InputError(
                f"kvpress does not know {type(model).__name__}. The KV policy {self.label} works with:"
                f" {', '.join(kind.__name__ for kind in supported)}."
            )
        if self.hides:
            check_takes_masks(model)
        config: Any = model.config
        layers, heads = len(attention_modules(model)), config.get_text_config().num_key_value_heads
        if self.entry.needs == "curves":
            _check_shape(self.label, self._press._budget_curves, (_CURVE_POINTS, layers, heads))
        elif self.entry.needs == "patterns":
            _check_shape(self.label, self._press.load_attention_pattern(model)[2], (layers, heads))

    @contextmanager
    def reading(self, model: PreTrainedModel) -> Iterator[None]:
        """In force while the model reads the whole context in one pass, as one sequence.

        Raises
        ------
        InputError : the model, or a context of this length, is nothing for this press, or its weights are not there.
        GenerationError : kvpress does not fit the installed transformers.
        """
        self.check(model)
        self._masks = {}
        scopes = [
            self._alone(model), left_clean(model), explained(self.label), read_with(model, self.entry.attention),
            default_positions(model), seeded(model), quiet(),
        ]  # fmt: skip
        with ExitStack() as around:
            for scope in scopes:
                around.enter_context(scope)
            with ExitStack() as stack:
                self._enter(stack, model)
                first_call = stack.enter_context(followed(model))
                yield
                if first_call and self.entry.hides:
                    self._check_whole(*first_call[0])
            # some presses have done their work only now
            if first_call:
                cache = first_call[0][1]
                self._masks = _masks(model, cache) if self.entry.hides else _filled_up(cache)

    def state(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """The hidden keys of each layer, (Hkv, S), bool; none where all that are dropped are freed."""
        return dict(self._masks)

    def hidden(self, state: Mapping[str, Tensor]) -> int:
        return sum(int(marks.sum()) for name, marks in state.items() if name.startswith(_HIDDEN))

    def asking(self, model: PreTrainedModel, state: Mapping[str, Tensor]) -> AbstractContextManager[object]:
        """In force while a question is asked: the keys of ``state`` are hidden, by any number of tokens at once."""
        marks = {
            int(name.removeprefix(_HIDDEN)): marks for name, marks in state.items() if name.startswith(_HIDDEN)
        }  # fmt: skip
        return hide_keys(model, marks)

    def _enter(self, stack: ExitStack, model: PreTrainedModel) -> None:
        """Begin the press; what it loads comes from this machine."""
        try:
            with offline():
                stack.enter_context(self._press(model))
        except torch.OutOfMemoryError:
            raise
        except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
            if self.entry.needs not in ("weights", "tokenizer"):
                raise
            place = getattr(model.config, "name_or_path", "")
            what = "the model's tokenizer" if self.entry.needs == "tokenizer" else "weights made for the model"
            raise InputError(
                f"The KV policy {self.label} needs {what}, and nothing of the kind is on this machine for {place!r}."
                f" Carrel downloads nothing by itself. kvpress says: {error}"
            ) from error

    @contextmanager
    def _alone(self, model: PreTrainedModel) -> Iterator[None]:
        """Kvpress has one place for the masks of a layer: a second press would write over those of the first."""
        if not self.entry.hides:
            yield
        elif model in _HIDING:
            raise InputError(f"{self.label} hides keys, and so does another policy: only one of them can.")
        else:
            _HIDING.add(model)
            try:
                yield
            finally:
                _HIDING.discard(model)

    def _check_whole(self, read: int, cache: Any) -> None:
        """A mask counts keys from the beginning of the context: none may have gone."""
        if any(cache.get_seq_length(layer) != read for layer in range(len(cache.layers))):
            raise InputError(
                f"{self.label} hides keys of the whole context: it goes with no policy that drops some while reading."
            )


def make_press(name: str, keep: float, **options: object) -> Press:
    """A press by its name, such as ``snapkv``, or ``adakv_knorm`` for a wrapper over a scorer.

    Parameters
    ----------
    keep : the share that stays, above 0 and at most 1. kvpress counts the share that goes.
    options : of the class in kvpress, such as ``window_size=32``; for ``duo_attention`` ``patterns``, a HeadPatterns
        or its folder; for ``lukv`` ``curves``, (99, layers, Hkv), the share that each head loses at 1 % to 99 %.

    Raises
    ------
    InputError : no such press, one that cannot be used here, no such share or option.
    MissingDependencyError : kvpress is not installed. GenerationError : it cannot be imported.
    """
    entry, scorer = find_press(name)
    return Press(entry, checked_share(name, keep), scorer, options)


def _made(entry: PressEntry, keep: float, scorer: PressEntry | None, options: dict[str, Any]) -> Any:
    """The object of kvpress. What a wrapper does not know of the options is for its scorer."""
    kind = getattr(kvpress_package(), entry.kvpress, None)
    if kind is None:
        raise GenerationError(f"{versions()} has no {entry.kvpress}. {INSTALL}")
    local = options.pop(entry.needs, None) if entry.needs in ("patterns", "curves") else None
    arguments: dict[str, Any] = {entry.ratio: 1.0 - keep, **dict(entry.fixed)}
    known = {name for name in inspect.signature(kind).parameters if not name.startswith("_")} - arguments.keys()
    if scorer is not None:
        del arguments[entry.ratio]  # a wrapper removes what its scorer does
        inner = {name: options.pop(name) for name in sorted(options.keys() - known)}
        fixed = {option: value for name, option, value in entry.scorer_fixed if name == scorer.name}
        arguments["press"] = _made(scorer, keep, None, {**fixed, **inner})
    if unknown := sorted(options.keys() - known):
        raise InputError(f"{entry.name} has no {', '.join(unknown)}. It has: {', '.join(sorted(known)) or 'nothing'}.")
    try:
        with quiet():
            press = kind(**arguments, **options)
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(f"{entry.name} does not take {options}: {error}") from error
    if entry.needs == "patterns":
        patterns = _patterns(local)
        found = (patterns.sinks, patterns.recent, np.asarray(patterns.scores, dtype=float))
        press.load_attention_pattern = lambda model: found  # its own fetches them
    elif entry.needs == "curves":
        press._budget_curves = _curves(local)  # without them it fetches some
    return press


def _patterns(given: object) -> HeadPatterns:
    if isinstance(given, HeadPatterns):
        return given
    if isinstance(given, (str, Path)):
        return HeadPatterns.read(given)
    raise InputError(
        "duo_attention needs to know which heads look far, and Carrel downloads nothing by itself:"
        " make_press('duo_attention', 0.5, patterns=HeadPatterns.read(folder))."
    )


def _curves(given: object) -> np.ndarray[Any, Any]:
    if isinstance(given, (str, Path)):
        try:
            given = np.load(given, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{given} holds no budget curves of LU-KV: {error}") from error
    if isinstance(given, np.ndarray):
        return given
    raise InputError(
        "lukv needs the budget of each head, and Carrel downloads nothing by itself:"
        " make_press('lukv', 0.25, curves='curves.npy'), of shape (99, layers, KV heads)."
    )


def _check_shape(label: str, given: np.ndarray[Any, Any], wanted: tuple[int, ...]) -> None:
    if given.shape != wanted:
        raise InputError(f"{label} is made for another model: its numbers are {given.shape}, this one needs {wanted}.")


def _digest(option: object) -> str:
    """An option in a label: short, and another one for other contents."""
    if isinstance(option, HeadPatterns):
        return f"{_digest(option.scores)}/{option.sinks}/{option.recent}"
    if isinstance(option, np.ndarray):
        return hashlib.sha256(repr(option.shape).encode() + np.ascontiguousarray(option).tobytes()).hexdigest()[:12]
    if isinstance(option, Path) or (isinstance(option, str) and Path(option).exists()):
        path = Path(option)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return hashlib.sha256(b"\n".join(file.read_bytes() for file in files if file.is_file())).hexdigest()[:12]
    return repr(option)


def _masks(model: Any, cache: Any) -> dict[str, Tensor]:
    """What kvpress has left on the modules, (batch, head, key) of each masked key, as (Hkv, S) for each layer."""
    masks = {}
    for layer, module in enumerate(attention_modules(model)):
        indices = getattr(module, "masked_key_indices", None)
        if indices is not None and len(indices[0]):
            keys = cache.layers[layer].keys  # (1, Hkv, S, D)
            marks = torch.zeros(keys.shape[1:3], dtype=torch.bool, device=keys.device)
            marks[indices[1].to(keys.device), indices[2].to(keys.device)] = True
            masks[f"{_HIDDEN}{layer}"] = marks
    return masks


def _filled_up(cache: Any) -> dict[str, Tensor]:
    """Layers of different lengths, each filled up to the longest; what is to be hidden of them, as ``_masks``."""
    lengths = [int(layer.keys.shape[2]) for layer in cache.layers]
    masks = {}
    for number, (layer, length) in enumerate(zip(cache.layers, lengths, strict=True)):
        if missing := max(lengths) - length:
            layer.keys, layer.values = (pad(states, (0, 0, 0, missing)) for states in (layer.keys, layer.values))
            marks = torch.zeros(layer.keys.shape[1:3], dtype=torch.bool, device=layer.keys.device)  # (Hkv, S)
            marks[:, length:] = True
            masks[f"{_HIDDEN}{number}"] = marks
    return masks
