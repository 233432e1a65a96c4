"""What every loader must hold to."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

from carrel.errors import DocumentError, EmptyDocumentError
from carrel.retrieval.loaders.base import Loader
from carrel.testing.raising import raised
from carrel.types import Document, Skipped


def check_document(document: Document) -> None:
    """Hold a loaded document to what every later stage relies on."""
    text = document.text
    assert text.strip() and "\0" not in text
    text.encode("utf-8")
    assert document.id.startswith(document.source) and document.title and document.extractor
    for block in document.blocks:
        assert 0 <= block.start < block.end <= len(text), block
        assert (block.level > 0) == (block.kind == "heading"), block
    for before, after in pairwise(document.blocks):
        assert before.end <= after.start, (before, after)
    if document.pages:
        assert document.pages[0] == 0 and list(document.pages) == sorted(document.pages)
        assert document.pages[-1] <= len(text)
    for value in document.metadata.values():
        assert value is None or isinstance(value, str | int | float | list), value


class LoaderConformance(ABC):
    """Sound documents from sound bytes; from any others a DocumentError and nothing else."""

    damages: int = 30

    @abstractmethod
    def make(self) -> Loader:
        """Return a loader."""

    @abstractmethod
    def samples(self) -> Sequence[bytes]:
        """Return contents of files that it reads."""

    def path(self) -> str:
        return f"folder/sample{self.make().suffixes[0]}"

    def read(self, data: bytes) -> list[Document | Skipped]:
        return list(self.make().load(data, self.path()))

    def test_what_it_says_of_itself(self) -> None:
        loader = self.make()
        assert loader.name and loader.version >= 1 and loader.media_type
        assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in loader.suffixes)

    def test_its_documents_are_sound(self) -> None:
        loader = self.make()
        assert self.samples()
        for data in self.samples():
            documents = [item for item in self.read(data) if isinstance(item, Document)]
            assert documents
            assert len({document.id for document in documents}) == len(documents)
            for document in documents:
                check_document(document)
                assert document.source == self.path()
                assert document.extractor == f"{loader.name}/{loader.version}"

    def test_the_same_bytes_give_the_same_documents(self) -> None:
        for data in self.samples():
            assert self.read(data) == self.read(data)

    def test_empty_files_are_named_so(self) -> None:
        for data in (b"", b" \n\t "):
            assert self.path() in str(raised(EmptyDocumentError, lambda data=data: self.read(data)))  # type: ignore[misc]

    def test_damaged_files_raise_document_errors_only(self) -> None:
        source = random.Random(0)
        for sample in self.samples():
            for _ in range(self.damages):
                self._read_or_refuse(sample[: source.randrange(len(sample))])
                data = bytearray(sample)
                for _ in range(1 + len(data) // 50):
                    data[source.randrange(len(data))] = source.randrange(256)
                self._read_or_refuse(bytes(data))

    def test_noise_raises_document_errors_only(self) -> None:
        source = random.Random(1)
        for length in (1, 10, 1000):
            self._read_or_refuse(source.randbytes(length))

    def _read_or_refuse(self, data: bytes) -> None:
        try:
            items = self.read(data)
        except DocumentError as error:
            message = str(error)
            assert self.path() in message
            return
        for item in items:
            if isinstance(item, Document):
                check_document(item)
