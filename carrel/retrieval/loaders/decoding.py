"""Bytes to text: UTF-8 first, byte order marks obeyed, other encodings recognised, binary refused."""

from __future__ import annotations

import codecs
import re

from carrel.errors import EmptyDocumentError, EncodingError, UnsupportedFormatError

_MARKS = (  # the UTF-32 mark begins with the UTF-16 one, so it comes first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\b\t\n\v\f\r\x1b")) + b"\x7f"
_NOT_ASCII = bytes(range(128, 256))
_STRAY_SHARE = 0.01
_CONTROL_SHARE = 0.01  # text has none; a stray one in a log is forgiven
_UTF16_SAMPLE_BYTES = 4096
_LEAST_UTF16_BYTES = 8
_NUL_SHARE = 0.8
_WESTERN = "cp1252"
_ENCODINGS = [  # those in wide use: with the rare ones in the race, French is taken for Latvian
    *(_WESTERN, "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874", "koi8_r"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949", "cp437", "cp866"),
]
_COHERENCE_SLACK = 0.1
_CONTEXT_BYTES = 1000
_SAMPLE_BYTES = 1 << 17
_DAMAGED_SHARE = 0.05  # broken sequences among those that are not ASCII: above it, the text is not UTF-8


def decode(data: bytes, path: str, declared: str = "") -> str:
    r"""Return the text of ``data`` with ``\r\n`` and ``\r`` as ``\n``.

    ``declared`` is an encoding that the file itself names; it counts for less than a byte order mark or valid UTF-8.
    Raises EmptyDocumentError, EncodingError, or UnsupportedFormatError for binary data.
    """
    text = _decode(data, path, declared)
    if not text or text.isspace():
        raise EmptyDocumentError(f"{path} holds no text. Nothing was added from it.")
    return normalise_newlines(text)


def normalise_newlines(text: str) -> str:
    r"""Write every line end as ``\n``."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def is_binary(data: bytes) -> bool:
    """Tell whether ``data`` holds bytes that text does not have. A byte order mark decides for text."""
    if any(data.startswith(mark) for mark, _ in _MARKS):
        return False
    if b"\0" in data:
        return not _unmarked_utf16(data)
    return _holds_controls(data)


def _holds_controls(data: bytes) -> bool:
    return len(data) - len(data.translate(None, _CONTROLS)) > _CONTROL_SHARE * len(data)


def _unmarked_utf16(data: bytes) -> str:
    """Which UTF-16 text without a mark is in: every other byte of it is NUL, and the ones between are text."""
    sample = data[:_UTF16_SAMPLE_BYTES]
    if len(data) % 2 or len(sample) < _LEAST_UTF16_BYTES:
        return ""
    for encoding, low, high in (("utf-16-le", sample[::2], sample[1::2]), ("utf-16-be", sample[1::2], sample[::2])):
        latin = bytes(byte for byte, page in zip(low, high, strict=True) if not page)
        if len(latin) > _NUL_SHARE * len(high) and 0 not in latin and not _holds_controls(latin):
            return encoding
    return ""


def _decode(data: bytes, path: str, declared: str) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                text = data[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                where = f"{error.reason} at byte {error.start}"
                raise EncodingError(f"{path} is marked as {encoding} but is not: {where}. Save it as UTF-8.") from None
            if "\0" in text:
                raise EncodingError(f"{path} holds NUL characters, so it is no text. Save it as UTF-8 text.")
            return text
    if b"\0" in data and (encoding := _unmarked_utf16(data)):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            text = "\0"
        if "\0" not in text:
            return text
        raise EncodingError(f"{path} looks like UTF-16 without a mark but is not all of it. Save it as UTF-8.")
    if is_binary(data):
        raise UnsupportedFormatError(
            f"{path} holds binary data, not text. Convert it to a text, PDF, DOCX or HTML file first."
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _decode_other(data, path, declared, error.start)


def _decode_other(data: bytes, path: str, declared: str, first_bad: int) -> str:
    lenient = data.decode("utf-8", "replace")
    damaged = lenient.count("\ufffd")
    if damaged <= _DAMAGED_SHARE * len(re.findall(r"[^\x00-\x7f]", lenient)):
        return lenient
    if declared:
        try:
            return data.decode(declared)
        except (LookupError, UnicodeError, ValueError):
            pass  # the file names an encoding it does not have: recognise it from the bytes
    # Recognised from lines that are not ASCII: the others say nothing. All before the first bad byte is ASCII or UTF-8.
    start = max(data.rfind(b"\n", 0, first_bad) + 1, first_bad - _CONTEXT_BYTES)
    lines = data[start : start + _SAMPLE_BYTES].split(b"\n")
    if encoding := _recognise(b"\n".join(line for line in lines if not line.isascii())):
        try:
            return data.decode(encoding)
        except (LookupError, UnicodeError):
            pass  # the sample fits an encoding that the rest does not
    if len(data) - len(data.translate(None, _NOT_ASCII)) <= _STRAY_SHARE * len(data):
        return lenient  # a few stray bytes in plain text: they show as U+FFFD
    raise EncodingError(f"{path} is in no text encoding that Carrel recognises (byte {first_bad}). Save it as UTF-8.")


def _recognise(sample: bytes) -> str:
    """Return the likeliest encoding among those in wide use; of two that fit as well, the Western one."""
    from charset_normalizer import from_bytes

    matches = from_bytes(sample, cp_isolation=_ENCODINGS)
    best = matches.best()
    if best is None:
        return ""
    for match in matches:
        fits_as_well = match.chaos <= best.chaos and match.coherence >= best.coherence - _COHERENCE_SLACK
        if match.encoding == _WESTERN and fits_as_well:
            return _WESTERN
    return best.encoding
