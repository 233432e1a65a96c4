"""Memories with the hashing encoder, in folders of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carrel.memory import ConversationMemory
from carrel.memory import open as open_memory
from carrel.testing import HashEncoder


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ConversationMemory]:
    """Open a memory; in a new folder unless one is named."""

    def opened(folder: Path | None = None, *, user: str = "ann", seed: int = 0, **options: Any) -> ConversationMemory:
        options.setdefault("encoder", HashEncoder(32, seed=seed))
        return open_memory(folder or tmp_path_factory.mktemp("memory"), user=user, **options)

    return opened
