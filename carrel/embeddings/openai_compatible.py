"""Any server that speaks OpenAI's embeddings protocol: vLLM, llama.cpp, TEI, Ollama, LM Studio, OpenAI and others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from carrel.embeddings.base import TextEncoder, Vectors, digest, unit
from carrel.embeddings.embedding_reply import vectors_of
from carrel.errors import ContextOverflowError, InputError, MalformedReplyError
from carrel.generation.openai_compatible import OpenAICompatible
from carrel.generation.remote.failures import FailedReplyError
from carrel.generation.remote.portal import portal
from carrel.generation.remote.tries import Tries
from carrel.inputs import check_text, well_formed
from carrel.tokens import Tokenizer

Encoding = Literal["base64", "float"]
_OPENAI_WINDOW = 8191  # of all its embedders; its list of models has no windows
_UNKNOWN_WINDOW = 512  # every embedder in use reads as much
_RESERVED = 4  # tokens of a window for a model's special tokens
_CHUNK_TOKENS = 256
_NOTHING = " "  # in place of an empty text, which servers refuse


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text or a part of one: whose it is, and its tokens (an upper bound, where they were not counted)."""

    text: str
    owner: int
    tokens: int


class OpenAIEmbeddings(TextEncoder):
    """Vectors from a server's ``/v1/embeddings``; nothing is sent before the first call.

    Model, window and tokenizer are asked of the server as for a generator (``/v1/models``, vLLM's ``/tokenize``). A
    server that does not say its window is taken to read 512 tokens. A longer text is sent in overlapping parts, whose
    vectors are averaged by their lengths: nothing is left for a server to cut. Every reply is checked: one finite
    vector for each text, in order, all of one dimension; they are brought to unit length.

    Reference: the protocol, OpenAI API reference, "Create embeddings".

    Parameters
    ----------
    base_url : the address with the version, such as ``http://localhost:8000/v1``.
    model : its name there; may be left out where a server has one only.
    api_key : sent as a bearer token.
    dimensions : asked of models that can shorten their vectors; the model's own by default.
    query_prefix, document_prefix : written before each text, as the model's card has it.
    window : tokens of one text, special ones included; the server's own by default.
    tokenizer : counts texts; by default the server's, or one with a margin.
    encoding : how vectors come: "base64" is a third of the bytes; a server that refuses it is asked for "float".
    batch_texts, batch_tokens : texts, and about how many tokens, of one request.
    concurrency : requests at once.
    timeout_s : the longest that one request takes, all tries and waits together.
    retries : further tries after a failure that may pass.
    headers, extra : further HTTP headers, and fields of every request; ``query_extra`` and ``document_extra`` are
        fields of one kind only, such as ``{"input_type": "query"}``.
    languages : that the model knows; none named: any.

    Raises
    ------
    InputError : an argument is of no use. GenerationError : the server cannot be reached, refuses or misbehaves.
    """

    name: ClassVar[str] = "openai_embeddings"

    def __init__(
        self,
        base_url: str = "http://localhost:8000/v1",
        model: str | None = None,
        *,
        api_key: str | None = None,
        dimensions: int | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
        window: int | None = None,
        tokenizer: Tokenizer | None = None,
        encoding: Encoding = "base64",
        batch_texts: int = 64,
        batch_tokens: int = 16_384,
        concurrency: int = 4,
        timeout_s: float = 120.0,
        retries: int = 3,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
        query_extra: Mapping[str, object] | None = None,
        document_extra: Mapping[str, object] | None = None,
        languages: frozenset[str] = frozenset(),
    ) -> None:
        counts = {"batch_texts": batch_texts, "batch_tokens": batch_tokens, "concurrency": concurrency}
        for name, value in {**counts, "dimensions": dimensions, "window": window}.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name} is a number, 1 or more, not {value!r}")
        if encoding not in ("base64", "float"):
            raise InputError(f"encoding is 'base64' or 'float', not {encoding!r}")
        self._asked = OpenAICompatible(
            model, base_url, api_key=api_key, context_window=window, tokenizer=tokenizer, timeout_s=timeout_s,
            retries=retries, headers=headers,
        )  # fmt: skip
        self.prefixes = (check_text("query_prefix", query_prefix), check_text("document_prefix", document_prefix))
        self.dimensions, self.encoding = dimensions, encoding
        self.batch_texts, self.batch_tokens, self.concurrency = batch_texts, batch_tokens, concurrency
        self.timeout_s, self.retries = timeout_s, retries
        self.languages = frozenset(languages)
        common = dict(extra or {})
        self._extras = ({**common, **(query_extra or {})}, {**common, **(document_extra or {})})
        self._refused: set[str] = set()
        self._dimension: int | None = None

    def __repr__(self) -> str:
        return f"OpenAIEmbeddings({self._asked.server.base_url!r}, {self._asked.model!r})"

    # -- what it is -----------------------------------------------------------------------------

    @property
    def model(self) -> str:
        """The model's name; asked of the server where it was not given."""
        return self._asked.model or self._asked.served.model

    @property
    def window(self) -> int:  # type: ignore[override]
        known = self._asked.context_window
        if known is not None:
            return known
        return _OPENAI_WINDOW if self._asked.server.host.endswith("api.openai.com") else _UNKNOWN_WINDOW

    @property
    def max_chunk_tokens(self) -> int:  # type: ignore[override]
        return min(_CHUNK_TOKENS, self.window)

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """That of the first reply; a short text is sent where there was none yet."""
        if self._dimension is None:
            self._encode(["dimension"], query=False)
        assert self._dimension is not None
        return self._dimension

    @property
    def fingerprint(self) -> str:
        """Made of the model's name and of how texts are sent: what a server has under that name cannot be seen."""
        extras = json.dumps(self._extras, sort_keys=True, default=repr)
        settings = (str(self.dimensions), str(self.window), extras, *self.prefixes)
        return digest("openai_embeddings/1", self.model, *settings)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._asked.tokenizer

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._asked.close()

    # -- encoding -------------------------------------------------------------------------------

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """(texts, dimension), unit length, in the order given."""
        return self._encode(texts, query=False)

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        return self._encode(questions, query=True)

    def _encode(self, texts: Sequence[str], *, query: bool) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        prefix, extra = (self.prefixes[0 if query else 1], self._extras[0 if query else 1])
        pieces = [piece for owner, text in enumerate(texts) for piece in self._pieces(well_formed(text), owner, prefix)]
        request = {"model": self.model, **({"dimensions": self.dimensions} if self.dimensions else {}), **extra}
        batches = list(self._batches(pieces))
        found = portal().call(self._all([[piece.text for piece in batch] for batch in batches], prefix, request))
        vectors = np.stack([row for rows in found for row in rows])  # (pieces, D)
        if len(pieces) == len(texts):
            return unit(vectors)
        total = np.zeros((len(texts), vectors.shape[1]), np.float32)
        for batch, rows in zip(batches, found, strict=True):
            for piece, row in zip(batch, rows, strict=True):
                total[piece.owner] += max(1, piece.tokens) * row
        return unit(total)

    def _pieces(self, text: str, owner: int, prefix: str) -> Iterator[_Piece]:
        """A text, or where it does not fit the window its parts; neighbours share half of what they hold."""
        count = self.tokenizer.count
        size_bytes = len(prefix.encode()) + len(text.encode())
        if size_bytes <= self.window - _RESERVED:  # no token is less than a byte
            yield _Piece(text, owner, max(1, size_bytes // 3))
            return
        room = self.window - _RESERVED - (count(prefix) if prefix else 0)
        if room < 1:
            raise InputError(f"a window of {self.window} tokens has no room for a text after the prefix {prefix!r:.60}")
        yield from self._parts(text, owner, room)

    def _parts(self, text: str, owner: int, room: int) -> Iterator[_Piece]:
        tokens = self.tokenizer.count(text)
        if tokens <= room or len(text) < 2:
            yield _Piece(text, owner, tokens)
            return
        offsets = self.tokenizer.offsets(text)
        step = max(1, room // 2)
        for start in range(0, max(1, len(offsets) - room // 2), step):
            last = min(start + room, len(offsets)) - 1
            begin = 0 if start == 0 else offsets[start][0]
            end = len(text) if last == len(offsets) - 1 else max(offsets[last][1], begin + 1)
            part = text[begin:end]
            if len(part) < len(text):  # a part may have more tokens alone than it had in the text
                yield from self._parts(part, owner, room)
            else:
                half = len(text) // 2
                yield from self._parts(text[:half], owner, room)
                yield from self._parts(text[half:], owner, room)
                return

    def _batches(self, pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
        """Pieces in order, no more of them and of their tokens than a request should have, one at least."""
        batch: list[_Piece] = []
        tokens = 0
        for piece in pieces:
            if batch and (len(batch) >= self.batch_texts or tokens + piece.tokens > self.batch_tokens):
                yield batch
                batch, tokens = [], 0
            batch.append(piece)
            tokens += piece.tokens
        if batch:
            yield batch

    # -- asking ---------------------------------------------------------------------------------

    async def _all(self, batches: Sequence[Sequence[str]], prefix: str, request: Mapping[str, object]) -> list[Vectors]:
        """The vectors of each batch, some requests at a time; the first failure ends them all."""
        gate = asyncio.Semaphore(self.concurrency)

        async def one(texts: Sequence[str]) -> Vectors:
            async with gate:
                return await self._batch(texts, prefix, request)

        tasks = [asyncio.ensure_future(one(texts)) for texts in batches]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _batch(self, texts: Sequence[str], prefix: str, request: Mapping[str, object]) -> Vectors:
        """The vectors of some texts. What the server finds too long is halved: its tokens were not known exactly."""
        try:
            return await self._tried(
                [f"{prefix}{text}" if text.strip() else prefix or _NOTHING for text in texts], request
            )
        except ContextOverflowError:
            half = len(texts) // 2
            if half:
                return np.concatenate(
                    [await self._batch(part, prefix, request) for part in (texts[:half], texts[half:])]
                )
            text = texts[0]
            if len(text) < 2:
                raise
            parts = (text[: len(text) // 2], text[len(text) // 2 :])
            rows = [len(part) * unit(await self._batch([part], prefix, request)) for part in parts]
            return unit(np.asarray(rows[0] + rows[1], np.float32))

    async def _tried(self, texts: Sequence[str], request: Mapping[str, object]) -> Vectors:
        """The vectors of one request, made again while its failures may pass and time is left."""
        server = self._asked.server
        tries = Tries(self.timeout_s, self.retries, self._refused)
        while True:
            encoding: Encoding = "float" if "encoding_format" in self._refused else self.encoding
            body = {**request, "input": list(texts), "encoding_format": encoding}
            try:
                content = await server.post(f"{server.base_url}/embeddings", body, tries.deadline)
                found = vectors_of(content, len(texts), f"{request['model']} at {server.base_url}")
                return self._checked(found)
            except FailedReplyError as failed:
                if encoding == "base64" and "encoding_format" in str(failed.error):
                    self._refused.add("encoding_format")
                    continue
                await tries.wait(failed)

    def _checked(self, vectors: Vectors) -> Vectors:
        """The vectors, if they have the dimension that was asked for, and that all others had."""
        width, where = vectors.shape[1], f"{self.model} at {self._asked.server.base_url}"
        if self.dimensions is not None and width != self.dimensions:
            said = f"{where} was asked for {self.dimensions} dimensions and gives {width}. Leave out dimensions=."
            raise FailedReplyError(MalformedReplyError(said))
        if self._dimension not in (None, width):
            said = f"{where} gave vectors of {self._dimension} dimensions, and now of {width}: is it the same model?"
            raise FailedReplyError(MalformedReplyError(said))
        self._dimension = width
        return vectors
