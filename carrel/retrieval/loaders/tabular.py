"""CSV and TSV: one table, a row a line, each value with the name of its column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from carrel.errors import DocumentError
from carrel.retrieval.loaders.base import Loader
from carrel.retrieval.loaders.decoding import decode
from carrel.types import Block, Document, Skipped

_SAMPLE_CHARACTERS = 1 << 16
_DELIMITERS = ",;\t|"


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
        rows = [row for row in _rows(text, delimiter, path) if any(row)]
        columns, records = (rows[0], rows[1:]) if len(rows) > 1 and not _is_data(rows[0]) else ([], rows)
        body = "\n".join(_line(columns, record) for record in records)
        block = Block(0, len(body), "table")  # every row names its columns
        media_type = "text/tab-separated-values" if delimiter == "\t" else self.media_type
        yield self.document(path, body, blocks=(block,), media_type=media_type)


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


def _rows(text: str, delimiter: str, path: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            yield [" ".join(cell.split()) for cell in row]
    except csv.Error as error:
        raise DocumentError(
            f"{path}, line {reader.line_num}: {error}. Look for a quotation mark that is never closed."
        ) from None


def _is_data(row: Sequence[str]) -> bool:
    """Tell whether a first row holds numbers only, so that it is no header."""
    return all(re.fullmatch(r"[-+]?[\d.,]*\d%?", cell) for cell in row if cell)


def _line(columns: Sequence[str], record: Sequence[str]) -> str:
    """Write a row; cells beyond the header are kept without a name, missing ones are left out."""
    pairs = zip_longest(columns, record, fillvalue="")
    return "; ".join(f"{column}: {cell}" if column else cell for column, cell in pairs if cell)
