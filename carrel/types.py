"""The values that flow between stages: frozen dataclasses, nothing else.

Offsets are half-open character offsets into ``Document.text``. Token counts name the tokenizer
they were made with. Pages are numbered from 1, in the order of the document.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Scalar = str | int | float | bool | None
Metadata = Mapping[str, Scalar | list[str]]
BlockKind = Literal["heading", "paragraph", "list", "table", "code"]
ScoreKind = Literal["dense", "lexical", "fused", "rank_fused", "relevance"]
Order = Literal["relevance", "sides", "document"]


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Block:
    """A structural piece of a document, as its loader saw it; blocks are in order and do not overlap.

    ``level`` is the depth of a heading (1 is the highest). ``header`` is shown with pieces of the block
    that do not hold it: a table's header row for its later pieces, a method's class line for code. A
    block ``joined`` to the one before is never parted from it (a caption and its table).
    """

    start: int
    end: int
    kind: BlockKind = "paragraph"
    level: int = 0
    header: str = ""
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its origin. ``id`` is unique in a collection: a path for files, a name you choose otherwise.

    ``blocks`` is the structure the loader found (empty: paragraphs are found in the text itself);
    ``pages`` holds the offset at which each page starts. ``extractor`` and its version say what made
    the text, so that an upgrade never shifts a citation unnoticed; it is empty for a text given by hand.
    """

    text: str
    id: str = ""
    title: str = ""
    source: str = ""
    metadata: Metadata = field(default_factory=dict)
    media_type: str = "text/plain"
    extractor: str = ""
    blocks: tuple[Block, ...] = ()
    pages: tuple[int, ...] = ()
    modified_at: float | None = None


def page_at(pages: tuple[int, ...], offset: int) -> int | None:
    """The page that holds the character at an offset, where pages start at ``pages``; None without pages."""
    return max(1, bisect_right(pages, offset)) if pages else None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a document: a span of it, and a prefix that is not source (its heading path).

    ``tokens`` counts the text with the encoder's tokenizer. The chunks of a document tile it: joined
    in order they are its text.
    """

    ordinal: int
    start: int
    end: int
    text: str
    prefix: str = ""
    tokens: int = 0
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Every score a passage was given; None where a stage did not score it.

    dense: cosine similarity, -1 to 1. lexical: BM25, 0 and up. fused: convex mix of the two, each
    normalised per query. rank_fused: reciprocal ranks (tells order, not relevance). relevance: a
    reranker's calibrated probability.
    """

    dense: float | None = None
    lexical: float | None = None
    fused: float | None = None
    rank_fused: float | None = None
    relevance: float | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved piece of a document: ``text == document.text[start:end]``, always.

    ``kept`` lists the spans a pruner kept (document offsets, in order); None keeps all of it.
    ``chunks`` are the ordinals of the chunks it was made from. ``pages`` are those of its document, so
    that ``page`` is that of ``start`` however the passage was merged or cut.
    """

    document_id: str
    start: int
    end: int
    text: str
    title: str = ""
    source: str = ""
    prefix: str = ""
    pages: tuple[int, ...] = field(default=(), repr=False)
    chunks: tuple[int, ...] = ()
    metadata: Metadata = field(default_factory=dict)
    scores: Scores = field(default_factory=Scores)
    kept: tuple[Span, ...] | None = None

    @property
    def page(self) -> int | None:
        """The page that it starts on; None where its document has no pages."""
        return page_at(self.pages, self.start)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The kept texts, each an exact quotation of the document."""
        if self.kept is None:
            return (self.text,)
        return tuple(self.text[span.start - self.start : span.end - self.start] for span in self.kept)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What one stage took in, gave out, and why."""

    stage: str
    items_in: int
    items_out: int
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float = 0.0
    reason: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of one call, stage by stage; ``tokenizer`` names what its tokens were counted with."""

    tokenizer: str
    entries: tuple[LedgerEntry, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(entry.seconds for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Context:
    """The passages chosen for one question, arranged and rendered inside a budget.

    ``tokens`` counts ``text`` as rendered, headers and separators included, with ``tokenizer``; it is
    never above ``budget``.
    """

    question: str
    passages: tuple[Passage, ...]
    text: str
    tokens: int
    budget: int
    ledger: Ledger

    @property
    def tokenizer(self) -> str:
        return self.ledger.tokenizer


@dataclass(frozen=True, slots=True)
class Citation:
    """A verified quotation: ``quote == document.text[start:end]``. ``number`` is the mark in the answer's text."""

    number: int
    document_id: str
    start: int
    end: int
    quote: str
    title: str = ""
    source: str = ""
    page: int | None = None


@dataclass(frozen=True, slots=True)
class ShortAnswer:
    """A few words of a passage that answer by themselves: ``text == document.text[start:end]``.

    ``citation`` is the sentence they stand in; ``confidence`` the calibrated probability that they are right.
    """

    text: str
    start: int
    end: int
    confidence: float
    citation: Citation


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, and the tokenizer that counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    tokenizer: str = ""

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; ``passages`` are those that a question was asked with."""

    role: Literal["user", "assistant"]
    text: str
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a generator is given, in parts. A chat server renders it; an extractive reader takes it apart.

    Rendered (carrel.generation.rendering) in this order, the most stable first: system, task, standing documents,
    history, passages, notes, question. Not rendered: ``schema``, a JSON schema that a written reply must follow;
    ``max_tokens``: at most this many tokens of reply (None: the generator's own limit); ``kind``: what kind of reply
    is wanted (carrel.agents.tasks); generators that write go by the task's words, the embedded reader by this.
    """

    question: str
    passages: tuple[Passage, ...] = ()
    task: str = ""
    system: str = ""
    standing: tuple[Document, ...] = ()
    history: tuple[Turn, ...] = ()
    notes: tuple[str, ...] = ()
    schema: Mapping[str, object] | None = None
    max_tokens: int | None = None
    kind: str = "answer"


FinishReason = Literal["stop", "length", "abstained", "refused", "cancelled"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a generator returned. ``citations`` are those it verified itself (an extractive reader);
    ``confidence`` is its calibrated probability of being right, None when it has none; ``answers`` are short
    answers, the surest first, from a generator that finds them; ``logprobs`` are its tokens with the logarithms of
    their probabilities, from a generator that was asked for them; ``metrics`` what an engine measured,
    with the units in their names; they do not count when completions are compared."""

    text: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = "stop"
    model: str = ""
    citations: tuple[Citation, ...] = ()
    confidence: float | None = None
    answers: tuple[ShortAnswer, ...] = ()
    logprobs: tuple[tuple[str, float], ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class UnsupportedMark:
    """A citation mark of an answer whose passage does not support its sentence, at ``start`` to ``end`` of the text."""

    number: int
    start: int
    end: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its evidence. When ``abstained``, ``text`` says so and there are no citations.

    ``answers`` are short answers, the surest first: the first is the one that ``text`` quotes in its sentence.
    Generators that write prose give none. ``unsupported`` are marks in such prose that their passages do not bear out.
    """

    question: str
    text: str
    citations: tuple[Citation, ...]
    context: Context
    abstained: bool = False
    confidence: float | None = None
    usage: Usage = field(default_factory=Usage)
    ledger: Ledger = field(default_factory=lambda: Ledger(tokenizer=""))
    answers: tuple[ShortAnswer, ...] = ()
    unsupported: tuple[UnsupportedMark, ...] = ()

    @property
    def turns(self) -> tuple[Turn, Turn]:
        """Question and answer as the next turns of a conversation's history."""
        return Turn("user", self.question, self.context.passages), Turn("assistant", self.text)


@dataclass(frozen=True, slots=True)
class SourcesEvent:
    """First in every stream: the passages the answer will rest on."""

    context: Context


@dataclass(frozen=True, slots=True)
class TextEvent:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class MarksEvent:
    """Between pieces of the text: what the marks of a sentence lead to that was just finished, at ``start`` to ``end``.

    The last sentence has none, and a later event for the same place replaces an earlier one. The CitationsEvent at
    the end has all, and is what counts.
    """

    start: int
    end: int
    citations: tuple[Citation, ...]
    unsupported: tuple[UnsupportedMark, ...] = ()


@dataclass(frozen=True, slots=True)
class CitationsEvent:
    """After the text: the verified citations, and short answers where the generator finds them."""

    citations: tuple[Citation, ...]
    answers: tuple[ShortAnswer, ...] = ()
    unsupported: tuple[UnsupportedMark, ...] = ()


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """Last in every stream: the tokens used and the ledger; what follows ``ledger`` is as of a Completion."""

    usage: Usage
    ledger: Ledger
    finish_reason: FinishReason = "stop"
    logprobs: tuple[tuple[str, float], ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    confidence: float | None = None


Event = SourcesEvent | TextEvent | MarksEvent | CitationsEvent | UsageEvent


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or document that was not added, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did. Ids are listed; ``planned`` is true for a dry run, when nothing was written.

    ``warnings`` hold what a reader of the results should know: text beyond the encoder's window, a
    language the model does not know.
    """

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    chunks: int = 0
    embedded: int = 0
    tokens: int = 0
    tokenizer: str = ""
    seconds: float = 0.0
    planned: bool = False
