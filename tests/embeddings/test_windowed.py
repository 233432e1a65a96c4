"""What encoders with a window share: batches, and a tokenizer that is in memory; test_onnx_folder.py: windows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer

from carrel.embeddings.windowed import LoadedTokenizer, Pass, batches
from carrel.testing import TokenizerConformance
from carrel.tokens import FileTokenizer, model_folder

FILE = model_folder("minilm") / "tokenizer.json"


def loaded() -> LoadedTokenizer:
    return LoadedTokenizer(RustTokenizer.from_file(str(FILE)), "loaded")


class TestLoadedTokenizer(TokenizerConformance):
    def make(self) -> LoadedTokenizer:
        return loaded()


def test_it_counts_as_its_file_does() -> None:
    rust = RustTokenizer.from_file(str(FILE))
    rust.enable_truncation(8)
    rust.enable_padding(length=8)
    text = "The keeper trims the lamps at dusk, and the ferry leaves at nine."
    found = LoadedTokenizer(rust, "loaded")
    assert found.offsets(text) == FileTokenizer(FILE).offsets(text) and found.count("x") == 1
    assert len(rust.encode(text).ids) == 8  # the model's own stays as it was


def test_two_are_equal_by_their_content() -> None:
    other = RustTokenizer.from_file(str(FILE))
    other.add_tokens(["zeppelinry"])
    assert loaded() == loaded() and hash(loaded()) == hash(loaded())
    assert loaded() != LoadedTokenizer(other, "loaded") and loaded() != FileTokenizer(FILE)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120))
def test_batches_hold_every_pass_once_and_no_more_than_allowed(lengths: list[int], most: int) -> None:
    passes = [Pass([0] * length, 0) for length in lengths]
    found = list(batches(passes, most))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= most
