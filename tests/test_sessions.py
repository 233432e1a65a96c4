"""Opening the models that ship with Carrel."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from carrel.errors import ModelError
from carrel.sessions import open_session
from carrel.tokens import model_folder

NAMES = ["window_logits", "token_logits"]


def feed(length: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(length).integers(1000, 29_000, (1, length))
    return {
        "input_ids": ids,
        "position_ids": np.arange(length)[None],
        "token_type_ids": np.zeros_like(ids),
        "attention_mask": np.ones(ids.shape, np.int32),
    }


def test_a_session_runs_on_one_core_and_keeps_no_plans() -> None:
    options = open_session(model_folder("reader") / "model.onnx", "the reader").get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert not options.enable_mem_pattern


def test_it_starts_no_threads() -> None:
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("this system does not list threads")
    before = len(list(tasks.iterdir()))
    session = open_session(model_folder("reader") / "model.onnx", "the reader")
    session.run(NAMES, feed(40))
    assert len(list(tasks.iterdir())) <= before


def test_one_session_may_be_run_by_many_threads() -> None:
    session = open_session(model_folder("reader") / "model.onnx", "the reader")
    lengths = [3, 17, 40, 64, 90]
    expected = {length: session.run(NAMES, feed(length)) for length in lengths}
    wrong = []

    def run(shift: int) -> None:
        for length in lengths[shift:] + lengths[:shift]:
            found = session.run(NAMES, feed(length))
            wrong.extend(length for a, b in zip(found, expected[length], strict=True) if not np.array_equal(a, b))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("content", [None, b"", b"\x08\x07noise" * 99])
def test_a_damaged_file_is_an_error_that_names_the_model_and_a_remedy(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot load the thing in .*\. Reinstall carrel\.$"):
        open_session(tmp_path / "model.onnx", "the thing")
