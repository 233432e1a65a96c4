"""Text that nobody wrote is left out of folders."""

from __future__ import annotations

import pytest

from carrel.retrieval.unwanted import unwanted_content, unwanted_name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("package-lock.json", "a lock file"),
        ("poetry.lock", "a lock file"),
        ("uv.lock", "a lock file"),
        ("Cargo.lock", "a lock file"),
        ("jquery.min.js", "minified code"),
        ("Site.MIN.CSS", "minified code"),
        ("app.js.map", "a source map"),
    ],
)
def test_names(name: str, kind: str) -> None:
    assert unwanted_name(name) == f"{kind}, left out of folders; to take it, name the file itself"


@pytest.mark.parametrize("name", ["package.json", "lock.md", "canal.lock", "min.js", "admin.js", "site.map", "a.txt"])
def test_names_of_documents(name: str) -> None:
    assert unwanted_name(name) == ""


LINES = b"function add(a, b) {\n  return a + b;\n}\n"


@pytest.mark.parametrize("suffix", [".js", ".mjs", ".CJS", ".css"])
def test_code_without_line_ends(suffix: str) -> None:
    minified = b"/*! licence */\n" * 5 + LINES.replace(b"\n", b"") * 300
    assert unwanted_content(f"a/lib{suffix}", minified).startswith("minified code (its lines have more than 500 char")
    assert unwanted_content(f"a/lib{suffix}", LINES * 300) == ""
    assert unwanted_content(f"a/lib{suffix}", (LINES * 300).replace(b"\n", b"\r")) == ""
    assert unwanted_content(f"a/lib{suffix}", b"x" * 1_000) == ""


def test_only_code_is_minified() -> None:
    for name in ("a.txt", "a.md", "a.json", "a.html", "dump.sql", "noext"):
        assert unwanted_content(name, b"word " * 10_000) == ""
