"""Which index of vectors a library is opened with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from carrel.embeddings.base import ChunkEncoder
from carrel.errors import InputError
from carrel.retrieval.indexes.dense import DenseIndex
from carrel.retrieval.indexes.quantised import BinaryIndex, FunnelIndex, Int8Index, check_funnel, check_oversampling
from carrel.retrieval.indexes.vector import VectorIndex
from carrel.retrieval.store.store import Scope

_CODES: dict[str, type[Int8Index] | type[BinaryIndex]] = {index.name: index for index in (Int8Index, BinaryIndex)}
PRECISIONS = ("float32", *_CODES)


@dataclass(frozen=True, slots=True)
class VectorSearch:
    """How vectors are held in memory and searched. The store keeps them whole, so that this can change at any time.

    Parameters
    ----------
    precision : "float32" is exact; "int8" and "binary" take a quarter and a thirty-second of the memory.
    oversampling : for int8, binary and a funnel, candidates that are scored again from the store for each hit;
        None is the default of each. ``math.inf`` reads every vector, and is exact.
    funnel : numbers of dimensions, rising to all of them, for an encoder trained so that the first ones say most:
        all but the last stage stay in memory.
    """

    precision: str = "float32"
    oversampling: float | None = None
    funnel: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"vectors are held as one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if self.funnel and self.precision != "float32":
            raise InputError(f"a funnel searches float32 vectors: it goes without {self.precision!r}")
        if self.oversampling is not None:
            check_oversampling(self.oversampling)
            if self.precision == "float32" and not self.funnel:
                raise InputError("float32 vectors are searched exactly: there is nothing to oversample")

    def index(self, scope: Scope, encoder_id: int, dimension: int) -> VectorIndex:
        """Make a new, empty index."""
        more = {} if self.oversampling is None else {"oversampling": self.oversampling}
        if self.funnel:
            return FunnelIndex(scope, encoder_id, dimension, self.funnel, **more)
        if self.precision == "float32":
            return DenseIndex(scope, encoder_id, dimension)
        return _CODES[self.precision](scope, encoder_id, dimension, **more)


def vector_search(vectors: str | VectorSearch, encoder: ChunkEncoder) -> VectorSearch:
    """The VectorSearch that a name or a VectorSearch means; the stages of a funnel are checked against an encoder."""
    if not isinstance(vectors, (str, VectorSearch)):
        raise InputError(f"vectors is one of {', '.join(PRECISIONS)}, or a VectorSearch, not {vectors!r}")
    search = VectorSearch(vectors) if isinstance(vectors, str) else vectors
    if search.funnel:
        return replace(search, funnel=check_funnel(search.funnel, encoder.dimension))
    return search
