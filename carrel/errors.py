"""Every error Carrel raises on purpose. The text is written to be shown to a user: what, where, what to do.

CarrelError
├── InputError                 what was asked or given cannot be used as it is
│   ├── EmptyQuestionError
│   ├── BudgetError            the budget cannot hold even one sentence
│   ├── FilterError            a metadata filter that cannot be understood
│   ├── DocumentError          one document cannot be read; an ingest skips it and goes on
│   │   ├── EmptyDocumentError
│   │   ├── EncryptedDocumentError
│   │   ├── EncodingError      no text encoding fits the bytes
│   │   └── UnsupportedFormatError
│   └── DocumentNotFoundError
├── StoreError                 the library on disk
│   ├── StoreNotFoundError
│   ├── StoreClosedError
│   ├── StoreVersionError      written by a newer Carrel
│   ├── StoreReadOnlyError
│   ├── StoreBusyError         another process is writing
│   ├── StoreCorruptError
│   ├── AdapterError           an adapter that cannot be used: damaged, or of another base model
│   └── EncoderMismatchError   indexed with another embedding model
├── ScoreKindError             a stage was given scores it cannot read
├── GenerationError            a generator failed
│   ├── ContextOverflowError   the prompt is longer than the generator's window
│   ├── RateLimitError         the server wants fewer requests, even after waiting
│   ├── GenerationTimeoutError no whole reply within the time allowed
│   ├── RefusalError           the model or its server declines to answer
│   ├── MalformedReplyError    a reply that is not what the protocol says
│   ├── ServerConnectionError  the server cannot be reached, or hung up
│   ├── AuthenticationError    the server wants another key
│   ├── UnknownModelError      the server has no model of this name
│   └── StoredContextError     keys and values on disk that cannot be used: damaged, or of another model or policy
├── FlowError                  a flow of agents cannot go on
│   ├── BudgetSpentError       its tokens, calls or seconds are spent
│   ├── JournalError           its journal is damaged, in use, or of a run that went another way
│   └── ReplyFormatError       a reply of the wrong form, asked for twice
├── MissingDependencyError     an extra is not installed
└── ModelError                 model files are missing or damaged
"""

from __future__ import annotations


class CarrelError(Exception):
    """Base of all errors raised on purpose."""


class InputError(CarrelError):
    """What was asked or given cannot be used as it is."""


class EmptyQuestionError(InputError):
    """The question has no words."""


class BudgetError(InputError):
    """The token budget cannot hold even one sentence."""


class FilterError(InputError):
    """A metadata filter that cannot be understood."""


class DocumentError(InputError):
    """One document cannot be read."""


class EmptyDocumentError(DocumentError):
    """The document holds no text."""


class EncryptedDocumentError(DocumentError):
    """The document needs a password."""


class EncodingError(DocumentError):
    """The bytes are no text in any encoding that was tried."""


class UnsupportedFormatError(DocumentError):
    """No loader reads this kind of file."""


class DocumentNotFoundError(InputError):
    """No document has this id."""


class StoreError(CarrelError):
    """Something is wrong with the library on disk."""


class StoreNotFoundError(StoreError):
    """There is no library at this place."""


class StoreClosedError(StoreError):
    """The library was closed."""


class StoreVersionError(StoreError):
    """The library was written by a newer version of Carrel."""


class StoreReadOnlyError(StoreError):
    """The library cannot be written to."""


class StoreBusyError(StoreError):
    """Another process is writing to the library."""


class StoreCorruptError(StoreError):
    """The library's files are damaged."""


class AdapterError(StoreError):
    """An adapter on disk that cannot be used: it is damaged, or was trained on another base model."""


class EncoderMismatchError(StoreError):
    """The library was indexed with another embedding model."""


class ScoreKindError(CarrelError):
    """A stage was given scores of a kind it cannot read."""


class GenerationError(CarrelError):
    """A generator failed."""


class ContextOverflowError(GenerationError):
    """The prompt does not fit the generator's window."""


class RateLimitError(GenerationError):
    """The server wants fewer requests."""


class GenerationTimeoutError(GenerationError):
    """No whole reply came within the time allowed."""


class RefusalError(GenerationError):
    """The model, or a filter before it, declines to answer."""


class MalformedReplyError(GenerationError):
    """The reply is not what the protocol says."""


class ServerConnectionError(GenerationError):
    """The server cannot be reached, or hung up before it had answered."""


class AuthenticationError(GenerationError):
    """The server wants another key."""


class UnknownModelError(GenerationError):
    """The server has no model of this name."""


class StoredContextError(GenerationError):
    """A context on disk cannot be written or used; the generator reads the text anew."""


class FlowError(CarrelError):
    """A flow of agents cannot go on."""


class BudgetSpentError(FlowError):
    """The tokens, calls or seconds of a run are spent."""


class JournalError(FlowError):
    """A journal cannot be used: damaged, in use, or of a run that went another way."""


class ReplyFormatError(FlowError):
    """A reply was not of the form that was asked for, and neither was the second."""


class MissingDependencyError(CarrelError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}. Install it with: pip install 'carrel[{extra}]'")


class ModelError(CarrelError):
    """Model files are missing or damaged."""
