"""Opening a memory by itself, without a library of documents."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from carrel.embeddings.base import ChunkEncoder
from carrel.inputs import check_kind, library_folder
from carrel.tokens import Tokenizer, shipped_tokenizer

if TYPE_CHECKING:
    from carrel.generation.base import Generator
    from carrel.memory.conversation import ConversationMemory
    from carrel.retrieval.store.store import Durability


def open(  # noqa: A001 -- carrel.memory.open reads as it should
    path: str | Path = ".carrel",
    *,
    user: str,
    session: str = "default",
    tenant: str = "local",
    encoder: ChunkEncoder | str | None = None,
    tokenizer: Tokenizer | None = None,
    generator: Generator | None = None,
    zone: str | tzinfo | None = None,
    read_only: bool = False,
    create: bool = True,
    durability: Durability = "normal",
) -> ConversationMemory:
    """Open the memory of a user in a library's folder, which is made where there is none. Close it when done.

    Parameters
    ----------
    path : the folder; documents may be in it or not.
    user, session, tenant : whose memory, and which conversation. Nothing reaches across users.
    generator : rewrites follow-up questions and writes notes in the background; needless.
    zone : the user's time zone, such as "Europe/Zurich"; that of this machine by default.
    encoder, tokenizer, read_only, create, durability : as of ``carrel.open``.

    Raises
    ------
    StoreError, InputError : as of ``carrel.open``.
    """
    from carrel.embeddings.choose import encoder_of
    from carrel.memory.conversation import ConversationMemory
    from carrel.memory.store import stream_of
    from carrel.retrieval.store.store import Store

    encoder = encoder_of(encoder) if isinstance(encoder, str) else encoder
    check_kind("an encoder", encoder, ChunkEncoder)
    check_kind("a tokenizer", tokenizer, Tokenizer)
    store = Store(library_folder(path), create=create, read_only=read_only, durability=durability)
    try:
        return ConversationMemory(
            stream_of(store, encoder or encoder_of("shipped")),
            tokenizer or shipped_tokenizer(),
            tenant=tenant,
            user=user,
            session=session,
            generator=generator,
            zone=zone,
            on_close=store.close,
        )
    except BaseException:  # nobody will hold the store to close it
        store.close()
        raise
