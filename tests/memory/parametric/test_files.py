"""Adapters lie with their library, whole or not at all, and go with their documents on every path."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import carrel
from carrel.errors import AdapterError, DocumentNotFoundError
from carrel.memory.parametric.files import CONFIG, WEIGHTS, AdapterFiles, StoredAdapter, read_adapter
from carrel.memory.parametric.merging import SERVED_RANKS, delta, merge, modules_of
from carrel.memory.parametric.recipes import PARAMETRIC_RAG
from carrel.retrieval.store.adapters import PROVENANCE
from carrel.testing import HashEncoder

BASE = "f" * 32
CONFIGURATION = {"peft_type": "LORA", "r": 2, "lora_alpha": 4.0, "target_modules": ["up_proj"]}


def trained(seed: int = 0) -> Any:
    chance = np.random.default_rng(seed)
    name = "base_model.model.model.layers.0.mlp.up_proj"
    tensors = {
        f"{name}.lora_A.weight": chance.normal(size=(2, 4)).astype(np.float32),
        f"{name}.lora_B.weight": chance.normal(size=(6, 2)).astype(np.float32),
    }
    return SimpleNamespace(tensors=tensors, config=CONFIGURATION, figures={"steps": 3.0})


def opened(folder: Path, **options: Any) -> carrel.Library:
    return carrel.open(folder, encoder=HashEncoder(), mode="fast", **options)


def kept(library: carrel.Library, document: str, seed: int = 0) -> StoredAdapter:
    files = AdapterFiles(library)
    return files.put(document, files.content(document), BASE, "tiny", PARAMETRIC_RAG, trained(seed))


def left(folder: Path) -> list[Path]:
    """Every file of an adapter that is anywhere in a library."""
    return sorted(path for path in (folder / "adapters").rglob("*") if path.is_file())


@pytest.fixture
def library(tmp_path: Path) -> Any:
    with opened(tmp_path / "library") as made:
        made.add_text("The bridge is of 1931.", id="bridge")
        made.add_text("The tower is of 1889.", id="tower")
        yield made


def test_an_adapter_is_found_as_it_was_kept(library: carrel.Library) -> None:
    stored = kept(library, "bridge")
    found = AdapterFiles(library).find("bridge", BASE, PARAMETRIC_RAG)
    assert found == stored and found.documents == ("bridge",) and found.trained == {"steps": 3.0}
    tensors, config = read_adapter(found, BASE)
    assert config["r"] == 2 and config["base_model_name_or_path"] == "tiny"
    assert all(np.array_equal(tensors[name], value) for name, value in trained().tensors.items())
    assert found.size_bytes == sum(file.stat().st_size for file in found.folder.iterdir())


def test_another_recipe_base_or_document_is_another_adapter(library: carrel.Library) -> None:
    kept(library, "bridge")
    files = AdapterFiles(library)
    assert files.find("bridge", "0" * 32, PARAMETRIC_RAG) is None
    assert files.find("bridge", BASE, replace(PARAMETRIC_RAG, rank=4)) is None
    assert files.find("tower", BASE, PARAMETRIC_RAG) is None
    with pytest.raises(DocumentNotFoundError, match="nobody"):
        files.find("nobody", BASE, PARAMETRIC_RAG)


def test_a_wrong_base_model_is_refused(library: carrel.Library) -> None:
    with pytest.raises(AdapterError, match=r"trained on tiny \(ffff.*this model is another \(0000"):
        read_adapter(kept(library, "bridge"), "0" * 32)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, PROVENANCE])
@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_damaged_files_are_refused(library: carrel.Library, name: str, damage: str) -> None:
    stored = kept(library, "bridge")
    file = stored.folder / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\x00" * len(content))
    with pytest.raises(AdapterError, match="trained anew when it is needed"):
        read_adapter(stored, BASE)
    listed = AdapterFiles(library).all()
    assert len(listed) == 1  # a damaged one can be seen, and removed
    AdapterFiles(library).remove()
    assert not left(library.path)


def test_removing_a_document_removes_its_adapters(library: carrel.Library) -> None:
    kept(library, "bridge")
    tower = kept(library, "tower")
    library.remove("bridge")
    assert AdapterFiles(library).all() == [tower]


def test_a_changed_text_has_no_adapter(library: carrel.Library) -> None:
    kept(library, "bridge")
    library.add_text("The bridge is of 1931.", id="bridge")
    assert AdapterFiles(library).find("bridge", BASE, PARAMETRIC_RAG) is not None
    library.add_text("The bridge is of 1932.", id="bridge")
    assert AdapterFiles(library).find("bridge", BASE, PARAMETRIC_RAG) is None
    assert not left(library.path)


def test_a_folder_that_is_followed_takes_its_adapters_along(tmp_path: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for name in ("a.txt", "b.txt"):
        (source / name).write_text(f"What {name} says.")
    with opened(tmp_path / "library") as library:
        library.sync(source)
        ids = [info.id for info in library.documents()]
        for one in ids:
            kept(library, one)
        (source / "a.txt").unlink()
        (source / "b.txt").write_text("Something else.")
        library.sync(source)
        assert not left(library.path)


def test_removed_by_another_process(library: carrel.Library) -> None:
    kept(library, "bridge")
    code = (
        "import sys, carrel; from carrel.testing import HashEncoder\n"
        "with carrel.open(sys.argv[1], encoder=HashEncoder()) as library: library.remove('bridge')"
    )
    subprocess.run([sys.executable, "-c", code, str(library.path)], check=True)
    assert not left(library.path)
    with pytest.raises(DocumentNotFoundError):
        AdapterFiles(library).find("bridge", BASE, PARAMETRIC_RAG)


def test_what_was_trained_on_an_old_text_is_not_kept(library: carrel.Library) -> None:
    files = AdapterFiles(library)
    content = files.content("bridge")
    library.add_text("The bridge is of 1932.", id="bridge")
    with pytest.raises(DocumentNotFoundError, match="removed or changed"):
        files.put("bridge", content, BASE, "tiny", PARAMETRIC_RAG, trained())
    assert not left(library.path)


def test_tenants_and_collections_are_apart(tmp_path: Path) -> None:
    with opened(tmp_path, tenant="one") as one, opened(tmp_path, tenant="two") as two:
        for library in (one, two):
            library.add_text("The bridge is of 1931.", id="bridge")
        kept(one, "bridge")
        assert AdapterFiles(two).find("bridge", BASE, PARAMETRIC_RAG) is None and not AdapterFiles(two).all()
        two.remove("bridge")
        assert AdapterFiles(one).find("bridge", BASE, PARAMETRIC_RAG) is not None


def test_merged_sets_go_with_any_of_their_documents(library: carrel.Library) -> None:
    members = [kept(library, "bridge", 1), kept(library, "tower", 2)]
    files = AdapterFiles(library)
    pairs = [(trained(seed).tensors, CONFIGURATION) for seed in (1, 2)]
    calls = []

    def merged() -> Any:
        calls.append(1)
        return merge(pairs, ranks=SERVED_RANKS)

    set_ = files.put_merged(members, merged, BASE, "tiny")
    assert files.put_merged(members, merged, BASE, "tiny") == set_ and len(calls) == 1
    assert set_.rank == 8 and set_.documents == ("bridge", "tower")
    tensors, config = read_adapter(set_, BASE)
    for module in modules_of(tensors):
        together = sum(delta(*pair, module) for pair in pairs)
        np.testing.assert_allclose(delta(tensors, config, module), together, rtol=1e-6, atol=1e-6)
    library.remove("tower")
    assert files.all(merged=True) == [members[0]]


def test_purge_sweeps_what_belongs_to_no_document(library: carrel.Library) -> None:
    stored = kept(library, "bridge")
    (stored.folder.parent / f"{'0' * 32}-old-one").mkdir()
    stranger = stored.folder.parent.parent / ("0" * 32) / "x"
    stranger.mkdir(parents=True)
    (stranger / WEIGHTS).write_bytes(b"left")
    (library.path / "adapters" / ".partial" / "x").mkdir(parents=True)
    library.purge()
    assert {path.parent for path in left(library.path)} == {stored.folder}


_WRITES_FOR_EVER = """
import sys, itertools
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from tests.memory.parametric.test_files import kept, opened
with opened(Path(sys.argv[1])) as library:
    for seed in itertools.count():
        kept(library, "bridge", seed)
        print(seed, flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.011])
def test_a_killed_process_leaves_no_half_adapter(library: carrel.Library, delay_s: float) -> None:
    here = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITES_FOR_EVER, str(library.path), str(here)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = AdapterFiles(library).find("bridge", BASE, PARAMETRIC_RAG)
    if found is not None:  # killed between the old one and the new one, there is none
        read_adapter(found, BASE)
    stored = kept(library, "bridge")
    assert {path.parent for path in left(library.path)} == {stored.folder}
    assert json.loads((stored.folder / PROVENANCE).read_text())["documents"] == ["bridge"]
