"""Carrel puts the right pages in front of a model.

import carrel

library = carrel.open("my-library")
library.add("documents/")
print(library.ask("When does the ferry leave?").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carrel.errors import CarrelError
    from carrel.generation.verification import verify
    from carrel.library import Library, open  # noqa: A004
    from carrel.retrieval.cutoff import AdaptiveK, FixedK, Threshold
    from carrel.types import Answer, Citation, Context, Document, Ledger, Passage, Prompt

__version__ = "0.1.0"

_HOMES = {
    "AdaptiveK": "carrel.retrieval.cutoff",
    "Answer": "carrel.types",
    "CarrelError": "carrel.errors",
    "Citation": "carrel.types",
    "Context": "carrel.types",
    "Document": "carrel.types",
    "FixedK": "carrel.retrieval.cutoff",
    "Ledger": "carrel.types",
    "Library": "carrel.library",
    "Passage": "carrel.types",
    "Prompt": "carrel.types",
    "Threshold": "carrel.retrieval.cutoff",
    "open": "carrel.library",
    "verify": "carrel.generation.verification",
}

__all__ = [  # noqa: RUF022 -- sorted without regard to case, as a reader looks names up
    "AdaptiveK",
    "Answer",
    "CarrelError",
    "Citation",
    "Context",
    "Document",
    "FixedK",
    "Ledger",
    "Library",
    "open",
    "Passage",
    "Prompt",
    "Threshold",
    "verify",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use: ``import carrel`` itself loads nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'carrel' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
