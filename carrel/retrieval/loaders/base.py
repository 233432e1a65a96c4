"""The contract of a loader: bytes in, documents out, and no error but those of ``carrel.errors``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import ClassVar

from carrel.errors import CarrelError, DocumentError, EmptyDocumentError
from carrel.types import Block, Document, Metadata, Scalar, Skipped

TOO_LITTLE_MEMORY = "there is not enough memory for it. Split it, or add it on a machine that has more."
_STORED_INTEGER_BITS = 64


class Loader(ABC):
    """Reads one kind of file. A new kind is one file with one method, ``read``, and a line in ``LOADERS``.

    ``version`` goes up whenever the same bytes would give another text or other blocks.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    suffixes: ClassVar[tuple[str, ...]]
    media_type: ClassVar[str]

    @abstractmethod
    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield the documents in ``data``; heavy libraries are imported here. Any exception means: unreadable."""

    def load(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield the documents in ``data``, and a ``Skipped`` for each part that cannot be read.

        Raises DocumentError or one of its subclasses when nothing in it can be read.
        """
        if not data.strip():
            raise EmptyDocumentError(f"{path} is empty. Nothing was added from it.")
        try:
            yield from self.read(data, path)
        except DocumentError:
            raise
        except CarrelError as error:  # such as a MissingDependencyError, which says what to do
            raise DocumentError(f"{path} cannot be read as {self.name}: {error}") from error
        except ImportError as error:
            advice = "Install Carrel again with its dependencies, or leave the file out."
            raise DocumentError(
                f"{path} cannot be read as {self.name}: a library for it is missing or broken ({error}). {advice}"
            ) from error
        except MemoryError as error:
            raise DocumentError(f"{path} cannot be read as {self.name}: {TOO_LITTLE_MEMORY}") from error
        except Exception as error:  # parsers raise whatever they like on damaged input; this is the one boundary
            said = error.args[0] if isinstance(error, KeyError) and error.args else error  # without its quotation marks
            detail = f"{type(error).__name__}: {said}".strip(": ").rstrip(".")
            advice = "The file may be damaged: open it and save it again."
            raise DocumentError(f"{path} cannot be read as {self.name} ({detail}). {advice}") from error

    def document(
        self,
        path: str,
        text: str,
        *,
        key: str = "",
        title: str = "",
        blocks: Sequence[Block] = (),
        pages: Sequence[int] = (),
        metadata: Metadata | None = None,
        media_type: str = "",
    ) -> Document:
        """Build a document; characters that no store or tokenizer can hold become U+FFFD (offsets stay)."""
        if not text or text.isspace():
            raise EmptyDocumentError(f"{path} holds no text. Nothing was added from it.")
        source = path.encode("utf-8", "backslashreplace").decode()
        return Document(
            text=storable(text),
            id=f"{source}#{storable(key)}" if key else source,
            title=storable(title).strip() or PurePath(source).stem,
            source=source,
            metadata={storable(name): _storable_value(value) for name, value in (metadata or {}).items()},
            media_type=media_type or self.media_type,
            extractor=f"{self.name}/{self.version}",
            blocks=tuple(blocks),
            pages=tuple(pages),
        )


def storable(text: str) -> str:
    """Replace NUL and lone surrogates, one character for one."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text.replace("\0", "\ufffd")


def _storable_value(value: Scalar | list[str]) -> Scalar | list[str]:
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, int) and value.bit_length() >= _STORED_INTEGER_BITS:
        return str(value)
    return storable(value) if isinstance(value, str) else value
