"""Is the library in order? Each check says what it found and what to do."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from carrel.embeddings.base import ChunkEncoder
from carrel.embeddings.minilm import MiniLM
from carrel.errors import CarrelError, EncoderMismatchError
from carrel.retrieval.retrievers import Searcher
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store import schema
from carrel.types import Chunk, Document

_LOW_SPACE_BYTES = 500_000_000
_PROBE = "The keeper trims the lamps at dusk, and the ferry leaves the pier at nine. "
_CHUNK_TOKENS, _PROBE_CHUNKS, _PROBE_S = 256, 8, 0.3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``remedy`` is empty when all is well."""

    name: str
    ok: bool
    message: str
    remedy: str = ""


def examine(searcher: Searcher, *, repair: bool = False) -> list[Check]:
    """Look at the database, the model files, the encoder and the indexes.

    Parameters
    ----------
    repair : rebuild the lexical index from the store first; nothing else needs repair by hand.
    """
    if repair and searcher.scope.id:
        with searcher.store.write() as connection:
            searcher.lexical.rebuild(connection)
    encoder = _measured(searcher.encoder)
    with searcher.store.read() as connection:
        checks = [_database(connection)]
        if checks[0].ok:
            checks += [_version(connection), _encoder(connection, searcher, encoder), *_contents(connection, searcher)]
    return [*checks, *_model(searcher), _space(searcher)]


def _database(connection: Connection) -> Check:
    try:
        found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(5)")]
    except DatabaseError as error:
        found = [str(error.orig)]
    if found == ["ok"]:
        return Check("database", True, "every page is readable")
    return Check(
        "database", False, "; ".join(found), "restore a copy, or remove the folder and add the documents again"
    )


def _version(connection: Connection) -> Check:
    row = connection.execute(schema.meta.select().where(schema.meta.c.key == "schema_version")).first()
    return Check("schema", True, f"version {row.value if row else '?'}; this Carrel writes {schema.SCHEMA_VERSION}")


def _encoder(connection: Connection, searcher: Searcher, facts: Check) -> Check:
    if not facts.ok:
        return facts
    try:
        known = stored.check_encoder(connection, searcher.scope, searcher.encoder)
    except EncoderMismatchError as error:
        return Check("encoder", False, str(error), "carrel reindex")
    return facts if known else replace(facts, message=f"{facts.message}; with nothing embedded yet")


def _measured(encoder: ChunkEncoder) -> Check:
    """What an encoder is, and the tokens a second that it embeds, of a document in chunks of a common length."""
    try:
        rate, length = _tokens_a_second(encoder)
        facts = (
            encoder.name,
            f"{encoder.dimension:,} dimensions",
            f"window {encoder.window:,} tokens",
            " and ".join(sorted(encoder.languages)) or "any language",
            f"about {float(f'{rate:.2g}'):,.0f} tokens/s in chunks of {length}",
            f"fingerprint {encoder.fingerprint[:12]}",
        )
    except CarrelError as error:
        return Check("encoder", False, str(error), "mend it, or name another encoder")
    return Check("encoder", True, ", ".join(facts))


def _tokens_a_second(encoder: ChunkEncoder) -> tuple[float, int]:
    """(tokens a second, tokens of a chunk)."""
    length = min(_CHUNK_TOKENS, encoder.max_chunk_tokens)
    piece = encoder.tokenizer.truncate(_PROBE * length, length)
    text = piece * _PROBE_CHUNKS
    places = range(0, len(text), len(piece))
    chunks = [Chunk(number, start, start + len(piece), piece) for number, start in enumerate(places)]
    encoder.encode(Document(piece, id="warm"), [chunks[0]])  # loads what is loaded when first used
    begun, passes = perf_counter(), 0
    while not passes or perf_counter() - begun < _PROBE_S:
        passes += 1
        encoder.encode(Document(f"{text}\n{passes}", id="probe"), chunks)
    counted = encoder.tokenizer.count(piece)
    return passes * len(chunks) * counted / (perf_counter() - begun), counted


def _contents(connection: Connection, searcher: Searcher) -> Iterator[Check]:
    counts = stored.counts(connection, searcher.scope)
    documents, chunks, vectors = counts["documents"], counts["chunks"], counts["vectors"]
    yield Check("documents", True, f"{documents:,} documents, {chunks:,} chunks")
    missing = chunks - vectors
    yield Check(
        "vectors",
        not missing,
        f"{missing:,} chunks have no vector" if missing else "every chunk has its vector",
        "carrel reindex" if missing else "",
    )
    lexical, lag = 0, searcher.lexical.lag(connection)
    if searcher.lexical.exists(connection):
        lexical = connection.exec_driver_sql(f"SELECT count(*) FROM {searcher.lexical.table}").scalar_one()
    whole = lexical == chunks and not lag
    message = "follows the store" if whole else f"holds {lexical:,} of {chunks:,} chunks and is {lag:,} changes behind"
    yield Check("lexical index", whole, message, "" if whole else "carrel doctor --repair")


def _model(searcher: Searcher) -> Iterator[Check]:
    """The shipped model's files against their recorded hashes."""
    if not isinstance(searcher.encoder, MiniLM):
        return
    folder = searcher.encoder.folder
    try:
        known = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["files_sha256"]
        wrong = [
            name for name, value in known.items() if hashlib.sha256((folder / name).read_bytes()).hexdigest() != value
        ]
        vector = searcher.encoder.encode_queries(["is the model sound?"])[0]
    except (OSError, KeyError, ValueError, CarrelError) as error:
        yield Check("model", False, f"{folder}: {error}", "reinstall carrel")
        return
    sound = not wrong and abs(float(vector @ vector) - 1) < 1e-3
    message = (
        f"{searcher.encoder.name}, files as shipped" if sound else f"changed files in {folder}: {', '.join(wrong)}"
    )
    yield Check("model", sound, message, "" if sound else "reinstall carrel")


def _space(searcher: Searcher) -> Check:
    free = shutil.disk_usage(searcher.store.folder).free
    ok = free > _LOW_SPACE_BYTES
    return Check(
        "disk", ok, f"{free / 1e9:.1f} GB free", "" if ok else "free some space: a commit that finds none is undone"
    )
