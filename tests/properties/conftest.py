"""What the property tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carrel.library import Library
from carrel.testing import HashEncoder
from carrel.types import Document

_RETRIEVERS = ("fused", "dense", "lexical", "rank_fused")
_QUESTIONS = ("lamp", "the rope and the gull", "harbour at night?")


def answers(library: Library, **options: Any) -> list[tuple[Any, ...]]:
    """Everything that a library answers to some questions, without ids of the store and without times."""
    out: list[tuple[Any, ...]] = []
    for question in _QUESTIONS:
        for retriever in _RETRIEVERS:
            found = library.search(question, retriever=retriever, limit=50, **options)
            out.append((question, retriever, found))
        context = library.context(question, budget=200, **options)
        out.append((question, context.text, context.tokens, context.passages))
    return out


@pytest.fixture(scope="session", name="answers")
def _answers() -> Callable[..., list[tuple[Any, ...]]]:
    return answers


@pytest.fixture(scope="session")
def contents() -> Callable[[Library], dict[str, Document]]:
    """Every document of a library."""

    def read(library: Library) -> dict[str, Document]:
        return {info.id: library.document(info.id) for info in library.documents()}

    return read


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Library]:
    """Open a library with the hashing encoder; in a new folder unless one is named."""

    def opened(folder: Path | None = None, *, seed: int = 0, **options: Any) -> Library:
        return Library(folder or tmp_path_factory.mktemp("library"), encoder=HashEncoder(64, seed=seed), **options)

    return opened
