"""What callers give: texts, paths and places are checked, half characters made whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.inputs import (
    check_flag,
    check_kind,
    check_path,
    check_progress,
    check_source,
    check_text,
    check_texts,
    library_folder,
    well_formed,
)


@given(st.text())
def test_a_well_formed_text_can_be_encoded_and_has_its_length(text: str) -> None:
    found = well_formed(text)
    assert len(found.encode("utf-8").decode("utf-8")) == len(text)
    assert all(a == b or (b == "\ufffd" and "\ud800" <= a <= "\udfff") for a, b in zip(text, found, strict=True))


def test_texts() -> None:
    assert check_text("it", "a") == "a"
    assert check_texts("they", "it", iter(["a", "b"])) == ["a", "b"]
    for value in (None, 5, b"a", ["a"]):
        with pytest.raises(InputError, match="^it is a text, not"):
            check_text("it", value)
    for values in (None, 5, b"ab"):
        with pytest.raises(InputError, match="^they are texts, not"):
            check_texts("they", "it", values)
    with pytest.raises(InputError, match="^it is a text, not 1"):
        check_texts("they", "it", ["a", 1])


def test_a_long_value_is_not_shown_whole() -> None:
    with pytest.raises(InputError) as caught:
        check_text("it", list(range(10_000)))
    assert len(str(caught.value)) < 150


def test_kinds() -> None:
    check_kind("it", None, int)
    check_kind("it", 5, int)
    for value, found in ((int, "the class int itself"), ("5", "'5'")):
        with pytest.raises(InputError, match=f"^it is an object of builtins.int, not {found}"):
            check_kind("it", value, int)


def test_paths() -> None:
    assert check_path("it", "a/b") == check_path("it", Path("a/b")) == Path("a/b")
    for value in (None, b"a", 5, "a\0"):
        with pytest.raises(InputError, match="^it "):
            check_path("it", value)


def test_an_empty_path_is_not_the_current_folder() -> None:
    for check in (check_path, check_source):
        with pytest.raises(InputError, match="^it is an empty text"):
            check("it", "")
    with pytest.raises(InputError, match="is an empty text"):
        library_folder("")
    assert check_source("it", ".") == Path()


def test_what_is_read_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("https://example.com/x", Path("https://example.com/x"), "s3://a/b"):
        with pytest.raises(InputError, match="is an address"):
            check_source("it", address)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "https:").mkdir()
    (tmp_path / "https:" / "x").touch()
    assert check_source("it", "https://x") == Path("https:/x")  # there is such a file
    assert check_source("it", "C:/a") == Path("C:/a")


def test_flags_and_progress() -> None:
    check_flag("it", True)
    check_progress(None)
    check_progress(print)
    for value in ("no", 1, None):
        with pytest.raises(InputError, match="^it is True or False, not"):
            check_flag("it", value)
    with pytest.raises(InputError, match="^progress is a function"):
        check_progress(3)


@pytest.mark.parametrize("path", ["a", "./a b", "/a/b", "C:/a", "C:\\a", "a:b", "../x", "."])
def test_folders(path: str) -> None:
    assert library_folder(path) == library_folder(Path(path)) == Path(path)


@pytest.mark.parametrize("path", ["postgresql://x/y", "postgresql+psycopg://u:p@h/d", "s3://b", "file:///a", "x/y://z"])
def test_addresses(path: str) -> None:
    with pytest.raises(InputError, match="is an address"):
        library_folder(path)
    if not path.startswith("x/"):
        with pytest.raises(InputError, match="is an address"):
            library_folder(Path(path))
