"""CSV and TSV: one table, a row a line, each value with the name of its column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest

from carrel.errors import DocumentError
from carrel.retrieval.loaders.base import Loader
from carrel.retrieval.loaders.decoding import decode
from carrel.types import Block, Document, Skipped

_SAMPLE_CHARACTERS = 1 << 16
_DELIMITERS = ",;\t|"
_LARGEST_LIMIT = 2**31 - 1  # of the csv module, on some systems


class CsvLoader(Loader):
    """Tables with a header row; the delimiter is recognised."""

    name = "csv"
    suffixes = (".csv", ".tsv", ".tab")
    media_type = "text/csv"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield one document, a line for every row: ``column: value; column: value``."""
        text = decode(data, path)
        tabs = path.lower().endswith((".tsv", ".tab"))
        delimiter = "\t" if tabs and "\t" in text[:_SAMPLE_CHARACTERS] else _delimiter(text)
        table = _Table(text, delimiter)
        try:
            body = "\n".join(_lines(row for row in table.rows() if any(row)))
        except csv.Error as error:
            raise DocumentError(f"{path}, line {table.line}: {error}. Correct it, or save the table again.") from None
        block = Block(0, len(body), "table")  # every row names its columns
        media_type = "text/tab-separated-values" if delimiter == "\t" else self.media_type
        yield self.document(path, body, blocks=(block,), media_type=media_type)
        if table.unclosed_at:
            reason = "a quotation mark is never closed, so what comes after it was read as one cell: close it"
            yield Skipped(f"{path}:{table.unclosed_at}", reason)


def _delimiter(text: str) -> str:
    """Return the delimiter: what the csv module makes of the first lines, or the commonest in the header."""
    sample = text[:_SAMPLE_CHARACTERS]
    first_line = sample.split("\n", 1)[0]
    try:
        # The sniffer's patterns take quadratic time on long lines, and need only some lines.
        lines = [line for line in sample.split("\n")[:20] if len(line) < 2_000]
        sniffed = csv.Sniffer().sniff("\n".join(lines), _DELIMITERS).delimiter
    except csv.Error:
        sniffed = ""
    if sniffed and sniffed in _DELIMITERS and sniffed in first_line:
        return sniffed
    return max(_DELIMITERS, key=first_line.count)  # ties go to the comma


class _Table:
    """The rows of a CSV text. ``unclosed_at`` is the line of a row whose quotation mark is never closed, else 0."""

    def __init__(self, text: str, delimiter: str) -> None:
        # The csv module has one limit for the whole process; no field is longer than its file.
        csv.field_size_limit(max(csv.field_size_limit(), min(len(text), _LARGEST_LIMIT)))
        self.line = 0
        self.unclosed_at = 0
        self._text, self._delimiter = text, delimiter
        self._begun = 1  # the line of the row that is being read
        self._at_end = False

    def rows(self) -> Iterator[list[str]]:
        for row in csv.reader(self._source(), delimiter=self._delimiter, skipinitialspace=True):
            if self._at_end:  # the row was not complete with the last line: the reader asked for more
                self.unclosed_at = self._begun
            self._begun = self.line + 1
            yield [" ".join(cell.split()) for cell in row]

    def _source(self) -> Iterator[str]:
        for line in io.StringIO(self._text):
            self.line += 1
            yield line
        self._at_end = True


def _lines(rows: Iterator[list[str]]) -> Iterator[str]:
    """Yield a line for every row under the header; where there is none, or nothing else, for every row."""
    first = next(rows, [])
    second = next(rows, None)
    columns = [] if second is None or _is_data(first) else first
    if not columns:
        yield _line([], first)
    if second is not None:
        yield from (_line(columns, record) for record in chain([second], rows))


def _is_data(row: Sequence[str]) -> bool:
    """Tell whether a first row holds numbers only, so that it is no header."""
    return all(re.fullmatch(r"[-+]?[\d.,]*\d%?", cell) for cell in row if cell)


def _line(columns: Sequence[str], record: Sequence[str]) -> str:
    """Write a row; cells beyond the header are kept without a name, missing ones are left out."""
    pairs = zip_longest(columns, record, fillvalue="")
    return "; ".join(f"{column}: {cell}" if column else cell for column, cell in pairs if cell)
