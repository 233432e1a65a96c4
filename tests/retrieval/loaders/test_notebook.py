from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from carrel.errors import DocumentError, EmptyDocumentError
from carrel.retrieval.loaders.notebook import NotebookLoader
from carrel.types import Document

Load = Callable[..., Document]
Kinds = Callable[[Document], list[tuple[str, str]]]


def notebook(*cells: dict[str, object], **more: object) -> str:
    return json.dumps({"nbformat": 4, "cells": cells, **more})


def cell(kind: str, source: object, **more: object) -> dict[str, object]:
    return {"cell_type": kind, "source": source, **more}


def test_cells_without_outputs(load: Load, kinds: Kinds) -> None:
    picture = {"data": {"image/png": "iVBORw0KGgo" * 1000}, "output_type": "display_data"}
    cells = [
        cell("markdown", ["# The *tide*\n", "\n", "Read daily:\n", "- high\n", "- low\n"]),
        cell("code", "height = 4.5\n\nprint(height)\n", outputs=[{"text": ["4.5"]}, picture], execution_count=3),
        cell("code", []),
        cell("raw", "As it is."),
        cell("markdown", "Closing words."),
    ]
    document = load(NotebookLoader(), notebook(*cells, metadata={"kernelspec": {"language": "python"}}), "a/tide.ipynb")
    assert kinds(document) == [
        ("heading", "# The *tide*"),
        ("paragraph", "Read daily:"),
        ("list", "- high\n- low"),
        ("code", "height = 4.5\n\nprint(height)"),
        ("paragraph", "As it is."),
        ("paragraph", "Closing words."),
    ]
    assert (document.title, document.metadata) == ("The tide", {"language": "python"})


def test_the_old_format(load: Load, kinds: Kinds) -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Tide"]},
        {"cell_type": "code", "input": ["x = 1\n", "y = 2"], "outputs": [{"text": "no"}]},
    ]
    document = load(NotebookLoader(), json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}), "a.ipynb")
    assert kinds(document) == [("heading", "## Tide"), ("code", "x = 1\ny = 2")]
    assert document.title == "a"


@pytest.mark.parametrize(
    "content",
    [
        {"cells": None, "metadata": []},
        {"cells": [None, 1, {"cell_type": 7, "source": {"a": 1}}, {"source": [1, None]}]},
        {"worksheets": [None, {"cells": 4}], "metadata": {"kernelspec": {"language": 3}}},
    ],
)
def test_odd_notebooks_hold_no_text(content: object) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^a\.ipynb holds no text"):
        list(NotebookLoader().load(json.dumps(content).encode(), "a.ipynb"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"cells": [\n}', r"line 2: not a valid notebook"),
        (b"[1]", "has no cells, so it is no notebook"),
        (b'{"a": 1}', "has no cells, so it is no notebook"),
        (b"[" * 100_000, "nests too deeply"),
    ],
)
def test_what_is_no_notebook(data: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=rf"^a\.ipynb.*{message}.*\."):
        list(NotebookLoader().load(data, "a.ipynb"))
