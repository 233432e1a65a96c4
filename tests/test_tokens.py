"""Counting, offsets and truncation by the shipped tokenizer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.embeddings.minilm import MiniLM
from carrel.errors import ModelError
from carrel.testing import TokenizerConformance, WordTokenizer
from carrel.tokens import FileTokenizer, Tokenizer, model_folder, shipped_tokenizer

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


class TestShippedTokenizer(TokenizerConformance):
    def make(self) -> FileTokenizer:
        return shipped_tokenizer()


class TestWordTokenizer(TokenizerConformance):
    def make(self) -> WordTokenizer:
        return WordTokenizer()


def test_it_is_a_tokenizer_with_the_name_of_its_model() -> None:
    assert isinstance(shipped_tokenizer(), Tokenizer)
    assert shipped_tokenizer().name == "all-MiniLM-L6-v2"


def test_special_tokens_are_not_counted() -> None:
    assert shipped_tokenizer().count("the ferry") == 2
    assert shipped_tokenizer().count("") == 0


def test_nothing_is_cut_or_padded_unseen() -> None:
    assert shipped_tokenizer().count("harbour " * 3000) == 3000


@given(texts, st.integers(0, 60))
def test_a_truncated_text_is_a_prefix_within_the_limit(text: str, limit: int) -> None:
    tokenizer = shipped_tokenizer()
    prefix = tokenizer.truncate(text, limit)
    assert text.startswith(prefix)
    assert tokenizer.count(prefix) <= limit
    longer = [text[:end] for _, end in tokenizer.offsets(text) if end > len(prefix)]
    assert prefix == text or tokenizer.count(longer[0]) > limit


def test_a_character_of_several_tokens_is_not_cut() -> None:
    assert shipped_tokenizer().truncate("븬", 1) == "" and shipped_tokenizer().truncate("a 븬", 2) == "a"
    assert shipped_tokenizer().truncate("00¸", 2) == "00"


def test_a_text_is_cut_by_the_count_of_what_is_left() -> None:
    tokenizer = shipped_tokenizer()
    assert [tokenizer.count(text) for text in ("00", "00¸")] == [1, 3]  # with the mark, a word without a token
    assert tokenizer.truncate("00¸", 1) == "00"


@given(texts)
def test_offsets_are_in_order_and_inside(text: str) -> None:
    offsets = shipped_tokenizer().offsets(text)
    assert len(offsets) == shipped_tokenizer().count(text)
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)


def test_a_custom_name_or_the_folders(tmp_path: Path) -> None:
    assert FileTokenizer(tmp_path / "bert" / "tokenizer.json").name == "bert"
    assert FileTokenizer(tmp_path / "tokenizer.json", name="mine").name == "mine"


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe not json", b'{"version": "1.0"}'])
def test_a_damaged_file_is_an_error_with_a_remedy(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="Reinstall carrel, or name another file"):
        FileTokenizer(path).count("text")


def test_a_missing_model_is_an_error_that_names_it() -> None:
    with pytest.raises(ModelError, match="'nothing' is missing"):
        model_folder("nothing")


def test_threads_count_the_same() -> None:
    tokenizer, found = shipped_tokenizer(), []
    threads = [threading.Thread(target=lambda: found.append(tokenizer.count("the ferry " * 50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [100] * 8


def test_only_those_of_one_file_are_equal(tmp_path: Path) -> None:
    file = model_folder("minilm") / "tokenizer.json"
    copy = tmp_path / "tokenizer.json"
    copy.write_bytes(file.read_bytes())
    assert shipped_tokenizer() == FileTokenizer(file, name="another name") == MiniLM().tokenizer
    assert hash(shipped_tokenizer()) == hash(FileTokenizer(file))
    assert shipped_tokenizer() != FileTokenizer(copy, name=shipped_tokenizer().name)
    assert shipped_tokenizer() != WordTokenizer()
    assert WordTokenizer() == WordTokenizer()


blobs = st.integers(101, 600).flatmap(lambda size: st.text("abcXYZ019", min_size=size, max_size=size))


@given(blobs)
def test_a_long_run_of_letters_is_not_one_token(blob: str) -> None:
    tokenizer = shipped_tokenizer()
    count = tokenizer.count(f"key {blob} end")
    assert len(blob) / 8 <= count <= len(blob) + 2
    assert len(tokenizer.ids_many([f"key {blob} end"])[0]) == count


@pytest.mark.parametrize("text", ["ฉัน" * 400, "ខ្ញុំ" * 30, "𐎠𐎡𐎢" * 3])
def test_writing_without_tokens_counts_by_its_characters(text: str) -> None:
    tokenizer = shipped_tokenizer()
    assert tokenizer.count(text) >= 0.8 * len(text)  # marks that the model strips are no tokens
    assert len(tokenizer.ids_many([text])[0]) < tokenizer.count(text)


@given(st.lists(texts | blobs, max_size=4))
def test_ids_of_many_are_those_of_each_and_never_more_than_the_count(many: list[str]) -> None:
    tokenizer = shipped_tokenizer()
    found = tokenizer.ids_many(many)
    assert found == [tokenizer.ids_many([text])[0] for text in many]
    assert all(len(ids) <= tokenizer.count(text) for ids, text in zip(found, many, strict=True))


@given(texts)
def test_ordinary_text_has_the_ids_of_the_file(text: str) -> None:
    tokenizer = shipped_tokenizer()
    assert tokenizer.ids_many([text[:100]])[0] == tokenizer.rust.encode(text[:100], add_special_tokens=False).ids


ugly = st.text(
    st.sampled_from(" \n\t\r\x0b\x0c\x1c\x1d\x85\xa0\u0301\u0308\u200b\u200d\u2028\u3000\ufeff.,'’-#[]éßΣςİ日本ก𐎠aB7")
    | st.characters(exclude_categories=["Cs"]),
    max_size=60,
)
special = st.lists(ugly | st.sampled_from(["[SEP]", "[MASK]", " [CLS] ", "##ing", "unaffable"]) | blobs, max_size=8)


def as_one(tokenizer: FileTokenizer, text: str) -> int:
    """Tokens of a text that is read as a whole."""
    if tokenizer.rust.token_to_id("[UNK]") in tokenizer.rust.encode(text, add_special_tokens=False).ids:
        return len(tokenizer.offsets(text))
    return len(tokenizer.rust.encode(text, add_special_tokens=False).ids)


@given(special.map("".join) | special.map(" ".join))
def test_words_counted_once_add_up_to_the_text(text: str) -> None:
    tokenizer = shipped_tokenizer()
    assert tokenizer._counts_words
    assert tokenizer.count(text) == as_one(tokenizer, text) == tokenizer.count(text)


def test_a_text_is_counted_whole_where_tokens_look_past_a_space(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models, normalizers, pre_tokenizers

    def saved(name: str, rust: RustTokenizer) -> FileTokenizer:
        rust.save(str(tmp_path / f"{name}.json"))
        return FileTokenizer(tmp_path / f"{name}.json")

    words = {"[UNK]": 0, "new": 1, "york": 2, "new york": 3}
    rust = RustTokenizer(models.WordLevel(words, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert saved("words", rust).count("new york") == 2
    assert saved("words", rust)._counts_words
    rust.add_tokens(["new york"])
    added = saved("added", rust)
    assert (added.count("new york"), added._counts_words) == (1, False)
    rust = RustTokenizer(models.WordLevel({"[UNK]": 0, "newyork": 1}, unk_token="[UNK]"))
    rust.pre_tokenizer, rust.normalizer = pre_tokenizers.BertPreTokenizer(), normalizers.Replace(" ", "")
    replaced = saved("replaced", rust)
    assert (replaced.count("new york"), replaced._counts_words) == (1, False)
    rust = RustTokenizer(models.WordLevel({"[UNK]": 0, "new york": 1}, unk_token="[UNK]"))
    assert saved("whole", rust).count("new york") == 1


def test_no_more_words_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.tokens._MOST_KEPT", 3)
    tokenizer = FileTokenizer(model_folder("minilm") / "tokenizer.json")
    text = "the ferry leaves at nine from the old pier " + "x" * 50
    assert tokenizer.count(text) == as_one(tokenizer, text)
    assert len(tokenizer._known) <= 3
    assert not any(len(word) > 40 for word in tokenizer._known)
