from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import DocumentError, EmptyDocumentError, EncodingError, UnsupportedFormatError
from carrel.retrieval.loaders.decoding import decode, is_binary, normalise_newlines

CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy. Dnes ráno přijela do města nová lékařka.\n" * 5
FRENCH = "Le garçon a mangé une crêpe près de la forêt où l'été dernier il avait égaré sa clé.\n" * 5
RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. Утром пришло письмо.\n" * 5
JAPANESE = "港の灯台は百年前に建てられました。今日は海がとても静かです。\n" * 5


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_unicode_encodings(mark: bytes, encoding: str) -> None:
    assert decode(mark + "Größe 😀".encode(encoding), "a.txt") == "Größe 😀"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(FRENCH, "cp1252"), (CZECH, "cp1250"), (RUSSIAN, "cp1251"), (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp")],
)
def test_older_encodings_are_recognised(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding), "a.txt") == text


def test_an_encoding_is_recognised_far_into_a_large_file() -> None:
    plain = b"Nothing but plain English on these lines.\n" * 20_000
    text = decode(plain + RUSSIAN.encode("cp1251"), "a.txt")
    assert text.endswith(RUSSIAN)


def test_an_encoding_is_recognised_from_few_lines_among_many() -> None:
    text = ("Nothing but plain English on these lines, and a lot of it.\n" * 200 + "Сегодня утром пришло письмо.\n") * 3
    for encoding in ("cp1251", "koi8_r"):
        assert decode(text.encode(encoding), "a.txt") == text


def test_a_declared_encoding_is_used_where_utf_8_does_not_fit() -> None:
    assert decode("é".encode("cp1252") + b" x", "a.html", "windows-1252") == "é x"
    assert decode("é".encode(), "a.html", "windows-1252") == "é"


@pytest.mark.parametrize("declared", ["no-such-encoding", "utf-8", "hex", "idna", "\0"])
def test_a_wrong_declaration_does_no_harm(declared: str) -> None:
    assert decode(FRENCH.encode("cp1252"), "a.html", declared) == FRENCH


def test_one_damaged_byte_costs_one_character() -> None:
    data = bytearray(("Žluťoučký kůň. " * 20).encode())
    data[0] = 0xFF
    text = decode(bytes(data), "a.txt")
    assert text.count("\ufffd") <= 2
    assert text.endswith("Žluťoučký kůň. " * 19)


def test_stray_bytes_in_plain_text_cost_no_more_than_themselves() -> None:
    text = decode(b"A line of a log.\n" * 50 + b"\x81\x8d\x90\x9d\n" + b"The end.\n", "a.log")
    assert text.startswith("A line of a log.\n")
    assert text.endswith("The end.\n")


def test_bytes_in_no_encoding() -> None:
    with pytest.raises(EncodingError, match=r"^a\.txt is in no text encoding.*Save it as UTF-8"):
        decode(bytes(range(128, 256)) * 3 + b"\xff\x81", "a.txt")


def test_newlines_become_one_kind() -> None:
    assert decode(b"a\r\nb\rc\nd\r\n", "a.txt") == "a\nb\nc\nd\n"


@given(st.text(alphabet="ab\r\n"))
def test_newlines_are_those_of_python(text: str) -> None:
    assert normalise_newlines(text) == "\n".join(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    assert len(normalise_newlines(text).split("\n")) == len((text + "x").splitlines())


@pytest.mark.parametrize("data", [b"abc\0def", bytes(range(256)) * 4, b"\x01\x02\x03text"])
def test_binary_is_refused(data: bytes) -> None:
    assert is_binary(data)
    with pytest.raises(UnsupportedFormatError, match=r"^dir/x\.txt holds binary data.*Convert"):
        decode(data, "dir/x.txt")


@pytest.mark.parametrize("data", [b"plain", b"colour \x1b[31m" + b"x" * 50, "naïve".encode("utf-16"), b"a\fb\tc\r\n"])
def test_text_is_not_binary(data: bytes) -> None:
    assert not is_binary(data)


@pytest.mark.parametrize(
    "data", [codecs.BOM_UTF16_LE + b"abc", codecs.BOM_UTF8 + b"\xff", codecs.BOM_UTF16_LE + b"a\0\0\0"]
)
def test_a_mark_that_lies(data: bytes) -> None:
    with pytest.raises(EncodingError, match=r"^x\.txt .* Save it as UTF-8"):
        decode(data, "x.txt")


@pytest.mark.parametrize("data", [b" \n\t ", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, "\u00a0\u2003".encode()])
def test_nothing_but_space(data: bytes) -> None:
    with pytest.raises(EmptyDocumentError, match="holds no text"):
        decode(data, "x.txt")


@given(st.binary(max_size=400))
def test_any_bytes_give_text_or_a_document_error(data: bytes) -> None:
    try:
        text = decode(data, "x")
    except DocumentError:
        return
    assert text.strip()
    assert "\r" not in text
    assert "\0" not in text


@given(st.text(min_size=1))
def test_utf_8_always_comes_back(text: str) -> None:
    kept = normalise_newlines(text)
    try:
        assert decode(text.encode(), "x") == kept.removeprefix("\ufeff")
    except (EmptyDocumentError, UnsupportedFormatError):
        assert not kept.removeprefix("\ufeff").strip() or is_binary(text.encode())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["The crane stops.\n", "Größe – naïve, " * 900])
def test_utf16_without_a_mark_is_recognised(text: str, encoding: str) -> None:
    data = text.encode(encoding)
    assert not is_binary(data)
    assert decode(data, "x.txt") == text


@pytest.mark.parametrize(
    "data", [bytes(range(256)) * 4, b"\1\0\2\0\3\0\4\0" * 9, b"a\0b\0c\0d\0e", b"\0" * 64, b"ab\0c"]
)
def test_other_bytes_with_nuls_are_binary(data: bytes) -> None:
    assert is_binary(data)


def test_utf16_without_a_mark_that_breaks_off() -> None:
    with pytest.raises(EncodingError, match="looks like UTF-16 without a mark"):
        decode("The crane stops. ".encode("utf-16-le") * 400 + b"\0\xd8", "x.txt")
