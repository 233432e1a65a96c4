"""A stored context comes back exactly or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from carrel.errors import StoredContextError  # noqa: E402
from carrel.generation.kv import context_files  # noqa: E402
from carrel.generation.kv.context_files import ContextRecord, load_context, save_context, sweep  # noqa: E402
from carrel.generation.kv.quantisation import pack_keys, pack_values  # noqa: E402

pytestmark = pytest.mark.extras


def record(*, bits: int = 8, tokens: int = 5, layers: int = 2, dtype: Any = None, seed: int = 0) -> ContextRecord:
    torch.manual_seed(seed)
    shape = (1, 2, tokens, 4)
    pairs = [
        (
            pack_keys(torch.randn(shape).to(dtype or torch.float32), bits),
            pack_values(torch.randn(shape).to(dtype or torch.float32), bits),
        )
        for _ in range(layers)
    ]
    shared = torch.arange(12)
    state = {
        "0.mask": torch.tensor([True, False, True]), "half": torch.randn(3, 2).bfloat16(), "one": torch.tensor(2.5),
        "none": torch.empty(0, 3), "part": shared[2:5], "other part": shared[4:9], "turned": torch.randn(3, 4).t(),
    }  # fmt: skip
    return ContextRecord(
        ids=tuple(range(tokens)), layers=pairs, policy="int8", fingerprint="ab12", state=state,
        prefill_s=0.125 + seed, dense_bytes=4096, hidden=3,
    )  # fmt: skip


PAIR = record(layers=1).layers[0]
PARTS = {
    f"layers.0.{kind}.{name}": tensor
    for kind, packed in zip(("keys", "values"), PAIR, strict=True)
    for name, tensor in packed.tensors().items()
}
ABOUT: dict[str, Any] = {
    "format": "carrel-context/1", "fingerprint": "ab12", "policy": "int8", "prefill_s": 1.0, "dense_bytes": 1,
    "hidden": 0, "layers": [[packed.meta for packed in PAIR]],
}  # fmt: skip


def load(path: Path) -> ContextRecord:
    return load_context(path, fingerprint="ab12", policy="int8")


def assert_equal(found: ContextRecord, expected: ContextRecord) -> None:
    for name in ("ids", "policy", "fingerprint", "prefill_s", "dense_bytes", "hidden", "size_bytes"):
        assert getattr(found, name) == getattr(expected, name), name
    assert len(found.layers) == len(expected.layers)
    for pair, other in zip(found.layers, expected.layers, strict=True):
        for packed, wanted in zip(pair, other, strict=True):
            assert packed.meta == wanted.meta
            assert_same_tensors(packed.tensors(), wanted.tensors())
            assert torch.equal(packed.unpack(), wanted.unpack())
    assert_same_tensors(found.state, expected.state)


def assert_same_tensors(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("tokens", [0, 1, 77])
def test_comes_back_exactly(tmp_path: Path, bits: int, dtype: Any, tokens: int) -> None:
    path = tmp_path / "context.safetensors"
    expected = record(bits=bits, tokens=tokens, dtype=dtype)
    assert save_context(path, expected) == path.stat().st_size
    assert_equal(load(path), expected)
    assert os.listdir(tmp_path) == [path.name]


def test_any_safetensors_reader_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "context.safetensors"
    save_context(path, record())
    with safe_open(path, framework="pt") as file:
        assert {"ids", "layers.1.keys.codes", "layers.0.values.scale", "state.half"} <= set(file.keys())
        about = json.loads(file.metadata()["carrel"])
    assert about["format"] == "carrel-context/1"
    assert (about["policy"], about["fingerprint"], len(about["sha256"])) == ("int8", "ab12", 64)


def test_names_in_any_script(tmp_path: Path) -> None:
    folder = tmp_path / "contexte ·目录"
    folder.mkdir()
    path = folder / "ключ é.safetensors"
    expected = record()
    expected.policy = "кэш:0.25"
    save_context(str(path), expected)
    assert_equal(load_context(str(path), fingerprint="ab12", policy="кэш:0.25"), expected)


def test_a_loaded_context_is_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "context"
    save_context(path, record())
    found = load(path)
    found.state["half"].zero_()
    assert_equal(load(path), record())
    save_context(path, record(seed=1))
    assert torch.equal(found.layers[0][0].codes, record().layers[0][0].codes)
    path.unlink()
    assert torch.equal(found.layers[1][1].unpack(), record().layers[1][1].unpack())


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("stored") / "context"
    save_context(path, record())
    return path, path.read_bytes()


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), header=st.booleans())
def test_a_flipped_bit_is_noticed_or_harmless(stored: tuple[Path, bytes], where: float, bit: int, header: bool) -> None:
    path, whole = stored
    damaged = bytearray(whole)
    head = 8 + int.from_bytes(whole[:8], "little")
    damaged[int(where * head) if header else head + int(where * (len(whole) - head))] ^= 1 << bit
    path.write_bytes(damaged)
    if not header:
        with pytest.raises(StoredContextError, match="damaged"):
            load(path)
        return
    try:
        found = load(path)
    except StoredContextError:
        return
    assert_equal(found, record())


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_shortened_file_is_noticed(stored: tuple[Path, bytes], share: float) -> None:
    path, whole = stored
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StoredContextError, match="cannot be read as a stored context"):
        load(path)


@pytest.mark.parametrize("more", [b"\0", b"x" * 4096])
def test_a_longer_file_is_noticed(stored: tuple[Path, bytes], more: bytes) -> None:
    path, whole = stored
    path.write_bytes(whole + more)
    with pytest.raises(StoredContextError):
        load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04" * 100, b"{}" * 999])
def test_another_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "context").write_bytes(content)
    with pytest.raises(StoredContextError, match="cannot be read as a stored context"):
        load(tmp_path / "context")


def header(entry: dict[str, Any] | None = None, data: bytes = b"", **tensors: Any) -> bytes:
    about = {"__metadata__": {"carrel": json.dumps(entry or ABOUT)}} | tensors
    text = json.dumps(about).encode()
    return len(text).to_bytes(8, "little") + text + data


def described(dtype: str, shape: list[int], *offsets: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "content",
    [
        header(data=b"12"),
        header(ids=described("I8", [2], 0, 2), data=b"1"),
        header(ids=described("I8", [2], 0, 3), data=b"123"),
        header(ids=described("I16", [1], 0, 3), data=b"123"),
        header(ids=described("I8", [3], 2, 5), data=b"12345"),
        header(ids=described("I8", [5], 0, 5), more=described("I8", [2], 1, 3), data=b"12345"),
        header(ids=described("I8", [1], 0, 1), more=described("I8", [2], 3, 5), data=b"12345"),
        header(ids=described("I8", [-1], 3, 0), more=described("I8", [1], 0, 3), data=b"123"),
        header(ids=described("C64", [1], 0, 8), data=b"12345678"),
        header(ids={"dtype": "I8"}, data=b"1"),
        header(ids=3, data=b"1"),
        header(ids=described("I8", [0, 2**70], 0, 0)),
        header(ids=described("I8", [[1]], 0, 1), data=b"1"),  # type: ignore[list-item]
        header(ids=described("I8", [True, 1.0], 0, 1), data=b"1"),  # type: ignore[list-item]
        header(ids=described("I8", [1], 0), data=b"1"),
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x50\xc3\0\0\0\0\0\0" + b"[" * 50_000,
    ],
)
def test_a_header_that_does_not_fit_the_data(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "context").write_bytes(content)
    with pytest.raises(StoredContextError, match="cannot be read as a stored context"):
        load(tmp_path / "context")


def test_tensors_at_odd_places(tmp_path: Path) -> None:
    """Our files are aligned; another writer's need not be."""
    values = torch.tensor([7, -8])
    tensors = {"state.mark": torch.tensor([5], dtype=torch.int8), "ids": values} | PARTS
    names = {dtype: name for name, dtype in context_files._DTYPES.items()}
    about, data = {}, b""
    for name, tensor in tensors.items():
        more = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        about[name] = described(names[tensor.dtype], list(tensor.shape), len(data), len(data) + len(more))
        data += more
    content = header(ABOUT | {"sha256": context_files._checksum(ABOUT, tensors)}, data, **about)
    (tmp_path / "context").write_bytes(content)
    found = load(tmp_path / "context")
    assert (found.ids, found.state["mark"].tolist()) == ((7, -8), [5])
    assert torch.equal(found.layers[0][1].unpack(), PAIR[1].unpack())


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoredContextError, match="No context is stored at"):
        load(tmp_path / "context")
    with pytest.raises(StoredContextError, match="cannot be read"):
        load(tmp_path)


def forge(path: Path, entry: str | None, tensors: dict[str, Any] | None = None) -> None:
    save_file(tensors or {"ids": torch.arange(3)}, path, metadata=None if entry is None else {"carrel": entry})


@pytest.mark.parametrize("entry", [None, "[]", "3", '"carrel-context/1"'])
def test_a_safetensors_file_of_something_else(tmp_path: Path, entry: str | None) -> None:
    forge(tmp_path / "weights", entry)
    with pytest.raises(StoredContextError, match="no stored context"):
        load(tmp_path / "weights")


def test_metadata_that_are_no_json(tmp_path: Path) -> None:
    forge(tmp_path / "context", "{")
    with pytest.raises(StoredContextError, match="cannot be read"):
        load(tmp_path / "context")


def test_a_later_format(tmp_path: Path) -> None:
    forge(tmp_path / "context", json.dumps({"format": "carrel-context/2"}))
    with pytest.raises(StoredContextError, match=r"'carrel-context/2'; .* reads 'carrel-context/1'"):
        load(tmp_path / "context")


def test_another_model_or_policy(tmp_path: Path) -> None:
    save_context(tmp_path / "context", record())
    with pytest.raises(StoredContextError, match=r"another model.*'ab12', not 'cd34'"):
        load_context(tmp_path / "context", fingerprint="cd34", policy="int8")
    with pytest.raises(StoredContextError, match="policy 'int8', not 'dense'"):
        load_context(tmp_path / "context", fingerprint="ab12", policy="dense")


def test_a_file_whose_parts_do_not_belong_together(tmp_path: Path) -> None:
    about = ABOUT
    ids = {"ids": torch.arange(3)} | PARTS
    keys = PAIR[0].meta
    wrong = [about | {"layers": [[keys, keys]] * 2}, about | {"layers": 3}, about | {"hidden": None}]
    wrong += [about | {"layers": []}, about | {"layers": [[3, keys]]}, about | {"dense_bytes": float("inf")}]
    wrong += [about | {"layers": [[keys | {name: value}, keys]]} for name in keys for value in (2**80, [], "x", -1)]
    for case in [*wrong, {name: value for name, value in about.items() if name != "layers"}]:
        forge(tmp_path / "context", json.dumps(case | {"sha256": context_files._checksum(case, ids)}), ids)
        with pytest.raises(StoredContextError, match="lacks a part"):
            load(tmp_path / "context")
    forge(tmp_path / "context", json.dumps(about | {"sha256": context_files._checksum(about, ids)}), ids)
    assert load(tmp_path / "context").ids == (0, 1, 2)


@pytest.mark.parametrize("step", ["save_file", "_flushed", "os.replace"])
@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_partial_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    path = tmp_path / "context"
    save_context(path, record())

    def fails(*arguments: Any, **options: Any) -> None:
        if step == "save_file":
            Path(arguments[1]).write_bytes(b"half")
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(f"{context_files.__name__}.{step}", fails)
        with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else StoredContextError):
            save_context(path, record(seed=1))
    assert os.listdir(tmp_path) == ["context"]
    assert_equal(load(path), record())
    save_context(path, record(seed=1))
    assert_equal(load(path), record(seed=1))


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(StoredContextError, match="cannot be written"):
        save_context(tmp_path / "missing" / "context", record())
    assert os.listdir(tmp_path) == []


WRITER = """
import os, sys, torch
from carrel.generation.kv import context_files
from carrel.generation.kv.quantisation import pack_keys, pack_values

path, seed, times, killed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "killed"
if killed:
    context_files._flushed = lambda partial: os._exit(9)
state = {"numbers": torch.full((1000 * seed,), seed)}
layers = [(pack_keys(torch.ones(1, 1, 1, 4), 8), pack_values(torch.ones(1, 1, 1, 4), 8))]
for _ in range(times):
    context_files.save_context(path, context_files.ContextRecord((seed,) * 9, layers, "int8", "ab12", state=state))
"""


def writer(path: Path, *, seed: int, times: int, killed: bool = False) -> subprocess.Popen[bytes]:
    end = "killed" if killed else "lives"
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(seed), str(times), end])


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "context"
    save_context(path, record())
    assert writer(path, seed=1, times=1, killed=True).wait() == 9
    assert_equal(load(path), record())
    left = [name for name in os.listdir(tmp_path) if name != "context"]
    assert [name.endswith(context_files.PARTIAL_SUFFIX) for name in left] == [True]
    assert sweep(tmp_path) == 0  # it might be another process's, which goes on
    os.utime(tmp_path / left[0], (time.time() - 3700,) * 2)
    (tmp_path / "mine.partial").write_bytes(b"")
    os.utime(tmp_path / "mine.partial", (1, 1))
    assert sweep(tmp_path, older_than_s=3800) == 0
    assert sweep(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == ["context", "mine.partial"]
    assert sweep(tmp_path / "none") == 0


def test_a_file_replaced_while_it_is_read_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "context"
    save_context(path, record())

    def replaces(*arguments: Any) -> None:  # called between the header and the tensors
        save_context(path, record(seed=1))

    with monkeypatch.context() as patch:
        patch.setattr(context_files, "_check_use", replaces)
        assert_equal(load(path), record())
    assert_equal(load(path), record(seed=1))


def test_two_processes_that_write_and_read_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "context"
    save_context(path, record())
    process = writer(path, seed=7, times=10)
    theirs = 0
    while process.poll() is None:
        found = load(path)
        if len(found.layers) == 2:
            assert_equal(found, record())
            time.sleep(0.02)
            continue
        theirs += 1
        assert found.ids == (7,) * 9
        assert torch.equal(found.state["numbers"], torch.full((7000,), 7))
        save_context(path, record())
    assert process.returncode == 0
    assert theirs
    assert os.listdir(tmp_path) == ["context"]
