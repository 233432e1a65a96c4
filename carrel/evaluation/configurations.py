"""The systems under comparison: any combination of stages is one line.

``Configuration("dense", retriever="dense", mode="fast")`` is a row of the result tables. What a configuration
leaves out takes the library's default, so ``Configuration("default")`` measures what a user gets without choosing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import get_args

from carrel.errors import InputError
from carrel.modes import MODES, NONE, READER
from carrel.types import Order

NO_RETRIEVER = "none"
"""The retriever of the do-nothing baseline: the first documents, whatever the question."""

SEARCH_OPTIONS = frozenset({"retriever", "cutoff", "where", "recency", "mode", "reranker"})
"""Options of both ``Library.search`` and ``Library.context``."""

CONTEXT_OPTIONS = frozenset({"order", "limit", "pruner"})
"""Options of ``Library.context`` only."""

OPTION_VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "retriever": ("dense", "lexical", "fused", "rank_fused", NO_RETRIEVER),
        "order": get_args(Order),
        "mode": tuple(MODES),
        "reranker": (READER, NONE),
        "pruner": (READER, NONE),
    }
)
"""The names an option can take, where they are a closed list; the library judges everything else."""

_NAME = re.compile(r"[\w.+@-]+( [\w.+@-]+)*")


class Configuration:
    """A named choice of stages.

    Parameters
    ----------
    name
        The row's name: letters, digits, ``. + @ - _`` and single spaces.
    setup
        Keyword arguments of ``carrel.open``, such as another encoder. Configurations of equal set-ups share
        one library.
    options
        Keyword arguments of ``Library.search`` and ``Library.context``; those left out take the library's
        default.

    Raises
    ------
    InputError
        The name cannot be used, an option or its value does not exist, or the baseline is given options it
        would ignore.
    """

    __slots__ = ("name", "options", "setup")

    def __init__(self, name: str, *, setup: Mapping[str, object] | None = None, **options: object) -> None:
        self.name = name
        self.setup: Mapping[str, object] = MappingProxyType(dict(setup or {}))
        self.options: Mapping[str, object] = MappingProxyType(dict(options))
        _validate(self)

    def __repr__(self) -> str:
        setup = {"setup": dict(self.setup)} if self.setup else {}
        parts = [repr(self.name), *(f"{key}={value!r}" for key, value in {**setup, **self.options}.items())]
        return f"Configuration({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Configuration):
            return NotImplemented
        return (self.name, self.setup, self.options) == (other.name, other.setup, other.options)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def is_baseline(self) -> bool:
        """Whether this row looks at no question: the floor that every method must clear."""
        return self.options.get("retriever") == NO_RETRIEVER

    @property
    def search_options(self) -> dict[str, object]:
        """Keyword arguments for ``Library.search``."""
        return {key: value for key, value in self.options.items() if key in SEARCH_OPTIONS}

    @property
    def context_options(self) -> dict[str, object]:
        """Keyword arguments for ``Library.context``."""
        return dict(self.options)


def _validate(configuration: Configuration) -> None:
    if not _NAME.fullmatch(configuration.name):
        raise InputError(
            f"{configuration.name!r} cannot name a configuration: use letters, digits, . + @ - _ and single spaces."
        )
    where = f"Configuration {configuration.name!r}"
    known = SEARCH_OPTIONS | CONTEXT_OPTIONS
    for option, value in configuration.options.items():
        if option not in known:
            raise InputError(f"{where}: there is no option {option!r}. Options: {_listed(known)}.")
        values = OPTION_VALUES.get(option)
        if values is not None and isinstance(value, str) and value not in values:
            raise InputError(f"{where}: there is no {option} {value!r}. Choices: {_listed(values, in_order=True)}.")
    if configuration.is_baseline and len(configuration.options) > 1:
        ignored = sorted(set(configuration.options) - {"retriever"})
        raise InputError(f"{where}: without a retriever, {_listed(ignored)} has no effect. Leave it out.")


BASELINE = Configuration("first", retriever=NO_RETRIEVER)
"""The documents' beginnings in stored order, without looking at the question."""

CONFIGURATIONS: Mapping[str, Configuration] = MappingProxyType(
    {
        configuration.name: configuration
        for configuration in (
            BASELINE,
            Configuration("default"),
            Configuration("fast", mode="fast"),
            Configuration("thorough", mode="thorough"),
            Configuration("no_rerank", reranker=NONE),
            Configuration("no_prune", pruner=NONE),
            Configuration("adaptive", cutoff="adaptive"),
            Configuration("fixed_3", cutoff=3),
            Configuration("fixed_10", cutoff=10),
            Configuration("dense", retriever="dense", mode="fast"),
            Configuration("lexical", retriever="lexical", mode="fast"),
            Configuration("fused", retriever="fused", mode="fast"),
            Configuration("rank_fused", retriever="rank_fused", mode="fast"),
            Configuration("sides", order="sides"),
            Configuration("document", order="document"),
        )
    }
)
"""The registry: a new row of the tables is a new line here. Retrievers are measured alone, without the reader."""


def select_configurations(chosen: Iterable[str | Configuration]) -> list[Configuration]:
    """Look up names in the registry; the do-nothing baseline comes first when none is among them.

    Raises
    ------
    InputError
        Nothing is chosen, a name is not in the registry (the message lists what is), or two rows share a name.
    """
    found = [_look_up(item) if isinstance(item, str) else item for item in chosen]
    if not found:
        raise InputError(f"Choose at least one configuration. Registered: {_listed(CONFIGURATIONS, in_order=True)}.")
    if not any(configuration.is_baseline for configuration in found):
        found.insert(0, BASELINE)
    names = [configuration.name for configuration in found]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise InputError(f"More than one configuration is named {_listed(repeated)}; names must differ.")
    return found


def _look_up(name: str) -> Configuration:
    if name not in CONFIGURATIONS:
        listed = _listed(CONFIGURATIONS, in_order=True)
        raise InputError(f"There is no configuration {name!r}. Registered: {listed}.")
    return CONFIGURATIONS[name]


def _listed(names: Iterable[str], *, in_order: bool = False) -> str:
    return ", ".join(names if in_order else sorted(names))
