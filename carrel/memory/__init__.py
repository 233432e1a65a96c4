"""What was said, kept: conversations that are remembered cheaply and forgotten whole, and documents in adapters."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carrel.memory.base import Memory, Note, Recalled, Recollection, StoredTurn, Utterance
    from carrel.memory.conversation import ConversationMemory
    from carrel.memory.forgetting import Forgotten
    from carrel.memory.opening import open  # noqa: A004
    from carrel.memory.status import MemoryStatus
    from carrel.memory.turns import Session

_HOMES = {
    "ConversationMemory": "carrel.memory.conversation",
    "Forgotten": "carrel.memory.forgetting",
    "Memory": "carrel.memory.base",
    "MemoryStatus": "carrel.memory.status",
    "Note": "carrel.memory.base",
    "Recalled": "carrel.memory.base",
    "Recollection": "carrel.memory.base",
    "Session": "carrel.memory.turns",
    "StoredTurn": "carrel.memory.base",
    "Utterance": "carrel.memory.base",
    "open": "carrel.memory.opening",
}

__all__ = [  # noqa: RUF022 -- sorted without regard to case, as a reader looks names up
    "ConversationMemory",
    "Forgotten",
    "Memory",
    "MemoryStatus",
    "Note",
    "open",
    "Recalled",
    "Recollection",
    "Session",
    "StoredTurn",
    "Utterance",
]


def __getattr__(name: str) -> object:
    """Import a name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'carrel.memory' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
