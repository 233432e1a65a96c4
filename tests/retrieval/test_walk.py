from __future__ import annotations

import os
from pathlib import Path

import pytest

from carrel.errors import InputError
from carrel.retrieval.walk import FoundFile, walk
from carrel.types import Skipped


def plant(root: Path, *names: str, **contents: str) -> None:
    for name in (*names, *contents):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents.get(name, "text"))


def found(root: Path) -> list[str]:
    return [os.path.relpath(item.path, root) for item in walk(root) if isinstance(item, FoundFile)]


def skipped(root: Path) -> dict[str, str]:
    return {os.path.relpath(item.id, root): item.reason for item in walk(root) if isinstance(item, Skipped)}


def test_folders_are_walked_in_sorted_order(tmp_path: Path) -> None:
    plant(tmp_path, "b.txt", "a/z.txt", "a/b/c.md", "c/d.txt", "B.txt", "noext", "odd.xyz")
    assert found(tmp_path) == ["B.txt", "a/b/c.md", "a/z.txt", "b.txt", "c/d.txt", "noext", "odd.xyz"]


def test_size_and_time(tmp_path: Path) -> None:
    plant(tmp_path, **{"a.txt": "12345"})
    os.utime(tmp_path / "a.txt", (1_700_000_000, 1_700_000_000.5))
    assert list(walk(tmp_path / "a.txt")) == [FoundFile(str(tmp_path / "a.txt"), 5, 1_700_000_000.5)]


def test_what_is_passed_over(tmp_path: Path) -> None:
    plant(
        tmp_path, "a.txt", ".hidden", ".git/config", ".venv/x.py", "node_modules/p/readme.md", "__pycache__/x.txt",
        "env/pyvenv.cfg", "env/lib/x.py", "sub/.cache/y.txt", "sub/b.txt",
    )  # fmt: skip
    assert found(tmp_path) == ["a.txt", "sub/b.txt"]
    assert skipped(tmp_path) == {}


def test_the_librarys_own_folder_is_reported(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", "library/carrel.db", "library/segment.txt")
    assert found(tmp_path) == ["a.txt"]
    assert "Carrel library" in skipped(tmp_path)["library"]


def test_plainly_binary_files_are_reported(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", "photo.JPG", "x.zip", "film.mp4", "model.onnx")
    assert found(tmp_path) == ["a.txt"]
    assert skipped(tmp_path)["photo.JPG"].startswith("an image")
    assert sorted(skipped(tmp_path)) == ["film.mp4", "model.onnx", "photo.JPG", "x.zip"]


def test_drawings_are_pictures(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", "chart.svg", "logo.EPS")
    assert found(tmp_path) == ["a.txt"]
    assert skipped(tmp_path) == dict.fromkeys(("chart.svg", "logo.EPS"), "an image, which no loader reads")


def test_files_know_whether_they_were_named(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", "b/c.txt")
    items = [item for item in walk([tmp_path / "a.txt", tmp_path / "b"]) if isinstance(item, FoundFile)]
    assert [item.named for item in items] == [True, False]


def test_ignore_files(tmp_path: Path) -> None:
    plant(
        tmp_path, "a.log", "keep.log", "b.txt", "build/x.txt", "sub/a.log", "sub/build/y.txt", "sub/c.txt",
        "sub/root.txt", "root.txt", "drafts/one.md", "drafts/two.md", "deep/a/b/c.tmp",
        **{
            ".gitignore": "*.log\n!keep.log\n/root.txt\nbuild/\n# b.txt\n\n**/b/*.tmp\n",
            "sub/.gitignore": "!a.log\nc.txt\n",
            "drafts/.carrelignore": "*\n!two.md\n",
        },
    )  # fmt: skip
    assert found(tmp_path) == ["b.txt", "drafts/two.md", "keep.log", "sub/a.log", "sub/root.txt"]
    assert skipped(tmp_path) == {}


def test_a_later_kind_of_ignore_file_overrides_an_earlier_one(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", "b.txt", "c.txt",
          **{".gitignore": "*.txt\n", ".ignore": "!b.txt\n!c.txt\n", ".carrelignore": "c.txt\n"})  # fmt: skip
    assert found(tmp_path) == ["b.txt"]


def test_nothing_inside_an_ignored_folder_comes_back(tmp_path: Path) -> None:
    plant(tmp_path, "build/keep.txt", **{".gitignore": "build/\n!build/keep.txt\n"})
    assert found(tmp_path) == []


def test_an_ignore_file_that_is_not_utf_8(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", "b.txt")
    (tmp_path / ".gitignore").write_bytes(b"caf\xe9\nb.txt\n")
    assert found(tmp_path) == ["a.txt"]


def test_a_rule_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", "b.txt", **{".ignore": "b.txt\n"})
    (tmp_path / ".gitignore").mkdir()
    assert found(tmp_path) == ["a.txt"]
    assert "rules cannot be read" in skipped(tmp_path)[".gitignore"]


def test_named_files_are_always_taken(tmp_path: Path) -> None:
    plant(tmp_path, ".hidden", "x.png", "a.log", **{".gitignore": "*.log\n"})
    names = [tmp_path / name for name in (".hidden", "x.png", "a.log")]
    assert [item.path for item in walk(names) if isinstance(item, FoundFile)] == [str(name) for name in names]


def test_a_named_hidden_folder_is_walked(tmp_path: Path) -> None:
    plant(tmp_path, ".notes/a.txt")
    assert found(tmp_path / ".notes") == ["a.txt"]


def test_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "sub/a.txt", "sub/x.png")
    monkeypatch.chdir(tmp_path)
    items = list(walk(["sub", "sub/a.txt", str(tmp_path), "./sub"]))
    assert [item.path for item in items if isinstance(item, FoundFile)] == ["sub/a.txt"]
    assert len(items) == 2


def test_links(tmp_path: Path) -> None:
    plant(tmp_path, "real/a.txt", "other/b.txt")
    (tmp_path / "real" / "link.txt").symlink_to(tmp_path / "other" / "b.txt")
    (tmp_path / "real" / "folder").symlink_to(tmp_path / "other")
    (tmp_path / "real" / "broken.txt").symlink_to(tmp_path / "nowhere")
    root = tmp_path / "real"
    assert found(root) == ["a.txt"]
    assert set(skipped(root)) == {"broken.txt", "folder", "link.txt"}
    assert skipped(root)["broken.txt"] == "a broken link"
    assert skipped(root)["folder"].endswith("name the link itself")
    assert found(root / "folder") == ["b.txt"]
    assert [item.path for item in walk(root / "link.txt") if isinstance(item, FoundFile)] == [str(root / "link.txt")]


def test_loops_of_links_end(tmp_path: Path) -> None:
    plant(tmp_path, "a/b/c.txt")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to("self")
    assert found(tmp_path) == ["a/b/c.txt"]
    assert "a/self" in skipped(tmp_path)
    assert found(tmp_path / "a" / "b" / "up") == ["b/c.txt"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    plant(
        tmp_path, "repo/docs/a.txt", "repo/docs/secret.txt", "repo/docs/build/b.txt", "repo/docs/deep/down/c.log",
        "repo/docs/deep/down/keep.log", "repo/build/d.txt", "repo/build/e.log",
        **{"repo/.gitignore": "build/\nsecret.txt\n*.log\n", "repo/docs/deep/.ignore": "!keep.log\n"},
    )  # fmt: skip
    plant(tmp_path, **{".gitignore": "*.txt\n"})  # above the repository: none of its business
    (tmp_path / "repo" / ".git").mkdir()
    return tmp_path / "repo"


def test_ignore_files_above_count_inside_a_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(repository) == ["docs/a.txt", "docs/deep/down/keep.log"]
    assert found(repository / "docs") == ["a.txt", "deep/down/keep.log"]
    assert found(repository / "docs" / "deep" / "down") == ["keep.log"]
    monkeypatch.chdir(repository / "docs")
    assert [item.path for item in walk(".") if isinstance(item, FoundFile)] == ["./a.txt", "./deep/down/keep.log"]
    monkeypatch.chdir("deep")
    assert found(Path("..")) == ["a.txt", "deep/down/keep.log"]


def test_ignore_files_above_do_not_count_elsewhere(repository: Path) -> None:
    (repository / ".git").rmdir()
    assert found(repository / "docs") == ["a.txt", "build/b.txt", "deep/down/c.log", "deep/down/keep.log", "secret.txt"]


def test_the_root_of_a_worktree_is_a_file(repository: Path) -> None:
    (repository / ".git").rmdir()
    (repository / ".git").write_text("gitdir: elsewhere")
    assert found(repository / "docs") == ["a.txt", "deep/down/keep.log"]


def test_a_named_folder_that_is_ignored_is_taken(repository: Path) -> None:
    assert found(repository / "build") == ["d.txt", "e.log"]
    assert found(repository / "docs" / "build") == ["b.txt"]


def test_rules_above_that_cannot_be_read_are_reported(repository: Path) -> None:
    (repository / ".ignore").mkdir()
    assert "rules cannot be read" in skipped(repository / "docs")["../.ignore"]
    assert found(repository / "docs") == ["a.txt", "deep/down/keep.log"]


def test_an_unreadable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a.txt", "locked/b.txt")
    scandir = os.scandir

    def refuse(path: str) -> object:  # permissions do not stop root, who runs some test machines
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found(tmp_path) == ["a.txt"]
    assert skipped(tmp_path) == {"locked": "the folder cannot be read: Permission denied"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert skipped(tmp_path) == {"pipe": "neither a file nor a folder"}
    assert list(walk(tmp_path / "pipe")) == [Skipped(str(tmp_path / "pipe"), "neither a file nor a folder")]


@pytest.mark.parametrize("name", ["missing", "a.txt/below", "nul\0"])
def test_a_missing_path_is_an_error_with_its_name(tmp_path: Path, name: str) -> None:
    plant(tmp_path, "a.txt")
    with pytest.raises(InputError) as caught:
        list(walk([tmp_path, tmp_path / name]))
    assert name in str(caught.value)


def test_a_very_deep_folder(tmp_path: Path) -> None:
    plant(tmp_path, "/".join(["d"] * 300) + "/a.txt")
    assert len(found(tmp_path)) == 1


def test_an_empty_folder(tmp_path: Path) -> None:
    assert list(walk(tmp_path)) == []
