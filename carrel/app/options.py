"""The options that commands share, and what their texts mean."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrel.errors import FilterError, InputError
from carrel.inputs import library_folder, well_formed

if TYPE_CHECKING:
    from carrel.embeddings.base import ChunkEncoder
    from carrel.generation.base import Generator
    from carrel.library import Library
    from carrel.memory import ConversationMemory
    from carrel.options import ContextOptions, SearchOptions
    from carrel.types import Scalar

LIBRARY = Path(".carrel")
BUDGET = 1000
_LIBRARY, _SELECTION, _GENERATION, _MEMORY = "Library", "Selection", "Generation", "Memory"


class Order(str, Enum):
    """How passages are arranged in a context."""

    relevance = "relevance"
    sides = "sides"
    document = "document"


class ModeName(str, Enum):
    """How much is read before a context is put together."""

    fast = "fast"
    balanced = "balanced"
    thorough = "thorough"


def flag(*names: str, help: str) -> Any:  # noqa: A002
    """An option that is there or not."""
    return typer.Option(*names, metavar="", help=help)


LibraryPath = Annotated[
    Path,
    typer.Option(
        "--library",
        "-l",
        parser=library_folder,  # as it was typed: a Path would make . of nothing, and drop a slash of an address
        metavar="FOLDER",
        envvar="CARREL_LIBRARY",
        help="The library's folder.",
        rich_help_panel=_LIBRARY,
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose documents.", rich_help_panel=_LIBRARY)]
Collection = Annotated[
    str,
    typer.Option("--collection", "-c", metavar="NAME", help="Which set of documents.", rich_help_panel=_LIBRARY),
]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME|FOLDER|URL#MODEL",
        envvar="CARREL_ENCODER",
        help="What turns text into vectors: the folder of a sentence-transformers or ONNX model, or an"
        " OpenAI-compatible server and its model, such as http://localhost:8000/v1#NAME (its key is taken from"
        " CARREL_ENCODER_API_KEY). 'blended': chunks also read in their document, for long ones. The shipped one by"
        " default.",
        rich_help_panel=_LIBRARY,
    ),
]
AsJson = Annotated[bool, flag("--json", help="Print one JSON document on stdout.")]
Question = Annotated[list[str], typer.Argument(metavar="QUESTION", help="Quotes around it are optional.")]
Budget = Annotated[
    int,
    typer.Option("--budget", "-b", metavar="TOKENS", help="Tokens of context at most.", rich_help_panel=_SELECTION),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", "-k", metavar="N", help="Passages at most.", rich_help_panel=_SELECTION),
]
WhereTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        "-w",
        metavar="FILTER",
        help="Only documents whose metadata fit: key=value, also with !=, <, <=, >, >=, key~text (contains), or a"
        " JSON object. Repeat it to narrow further.",
        rich_help_panel=_SELECTION,
    ),
]
RetrieverName = Annotated[
    str | None,
    typer.Option(
        "--retriever",
        metavar="NAME",
        help="fused (the default), dense, lexical or rank_fused.",
        rich_help_panel=_SELECTION,
    ),
]
CutoffText = Annotated[
    str | None,
    typer.Option(
        "--cutoff",
        metavar="adaptive|N",
        help="Where to cut the ranking: at its largest drop, or after N passages.",
        rich_help_panel=_SELECTION,
    ),
]
Mode = Annotated[
    ModeName,
    typer.Option(
        "--mode",
        "-m",
        metavar="|".join(mode.value for mode in ModeName),
        help="How much the reader reads to order and prune what was found: nothing, the best 32 passages, or 100.",
        rich_help_panel=_SELECTION,
    ),
]
Whole = Annotated[
    bool,
    typer.Option(
        "--whole-passages",
        metavar="",
        help="Leave no sentence out of a passage to make room for others.",
        rich_help_panel=_SELECTION,
    ),
]
PassageOrder = Annotated[
    Order,
    typer.Option(
        "--order",
        metavar="|".join(order.value for order in Order),
        help="How the passages are arranged: best first, best at both ends, or as in the documents.",
        rich_help_panel=_SELECTION,
    ),
]
Recency = Annotated[
    float | None,
    typer.Option(
        "--recency",
        metavar="DAYS",
        help="Prefer newer documents: at this many days older than the newest found, a score counts three quarters,"
        " and never less than half.",
        rich_help_panel=_SELECTION,
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="CARREL_SERVER",
        help="An OpenAI-compatible server that writes the answer, such as http://localhost:8000/v1. A key is taken from"
        " CARREL_API_KEY.",
        rich_help_panel=_GENERATION,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        envvar="CARREL_MODEL",
        help="The model there; needless where the server has one only.",
        rich_help_panel=_GENERATION,
    ),
]
MemoryOf = Annotated[
    str | None,
    typer.Option(
        "--user",
        "-u",
        metavar="NAME",
        help="Whose memory is asked first, and keeps the answer (see carrel memory).",
        rich_help_panel=_MEMORY,
    ),
]
MemorySession = Annotated[
    str | None,
    typer.Option(
        "--session",
        "-s",
        metavar="NAME",
        help="Which conversation it is; without --user, of the user CARREL_USER, or me.",
        rich_help_panel=_MEMORY,
    ),
]
Explain = Annotated[bool, flag("--explain", help="Show what every stage did, and why.")]


def memory_of(library: Library, user: str | None, session: str | None) -> ConversationMemory | None:
    """The memory that a question is asked with; None where neither a user nor a conversation is named."""
    if user is None and session is None:
        return None
    return library.memory(user=user or os.environ.get("CARREL_USER") or "me", session=session or "default")


def joined(words: Sequence[str]) -> str:
    """The words of a question, which may come without quotes, and with bytes that are no text."""
    return well_formed(" ".join(words))


def search_options(
    limit: int | None,
    where: Sequence[str] | None,
    retriever: str | None,
    cutoff: str | None,
    recency: float | None,
    mode: ModeName,
) -> SearchOptions:
    """Keywords of ``Library.search``."""
    return {
        "limit": limit,
        "where": parse_where(where or ()),
        "retriever": retriever,
        "cutoff": _cutoff(cutoff),
        "recency": recency,
        "mode": mode.value,
    }


def context_options(search: SearchOptions, budget: int, order: Order, whole: bool) -> ContextOptions:
    """Keywords of ``Library.context``."""
    pruner = "none" if whole else None
    chosen: ContextOptions = {**search, "budget": budget, "order": order.value, "pruner": pruner, "protected": ()}
    return chosen


def make_generator(server: str | None, model: str | None) -> Generator | None:
    """What writes the answer; None for the built-in reader.

    Raises
    ------
    InputError : a model without a server.
    """
    if server is None:
        if model is not None:
            raise InputError(f"the model {model!r} needs the address of its server: --server http://localhost:8000/v1")
        return None
    from carrel.generation.openai_compatible import OpenAICompatible

    return OpenAICompatible(model, server, api_key=os.environ.get("CARREL_API_KEY"))


def make_encoder(spec: str | None) -> ChunkEncoder | None:
    """What turns text into vectors; None for the shipped encoder."""
    if spec is None:
        return None
    from carrel.embeddings.choose import encoder_of

    return encoder_of(spec, api_key=os.environ.get("CARREL_ENCODER_API_KEY"))


def _cutoff(text: str | None) -> str | int | None:
    if text is None or not re.fullmatch(r"-?\d+", text):
        return text
    return int(text)


# -- values -----------------------------------------------------------------------------------

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_CONDITION = re.compile(r"([^=!<>~]+?)\s*(!=|>=|<=|==|=|>|<|~)\s*([^=!<>~].*)?", re.DOTALL)
_DATES = ("added_at", "modified_at")


def parse_value(text: str) -> Scalar:
    """A number, true or false, or a text; quotes make a text of anything."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.fullmatch(text):
        return float(text) if any(mark in text for mark in ".eE") else int(text)
    return text


def parse_metadata(pairs: Sequence[str]) -> dict[str, Scalar]:
    """``key=value`` texts as metadata.

    Raises
    ------
    InputError : a text is no pair.
    """
    found: dict[str, Scalar] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--meta takes key=value, not {pair!r}")
        found[key.strip()] = parse_value(value.strip())
    return found


def parse_where(texts: Sequence[str]) -> dict[str, object] | None:
    """The filter that all of these texts mean together; None without any.

    Raises
    ------
    FilterError : a text is neither a condition nor a JSON object.
    """
    merged: dict[str, Any] = {}
    conflicting = False
    parts = [_condition(text) for text in texts]
    for part in parts:
        for key, condition in part.items():
            before = merged.get(key)
            if before is None:
                merged[key] = condition
            elif isinstance(before, dict) and isinstance(condition, dict) and not before.keys() & condition.keys():
                merged[key] = {**before, **condition}
            else:
                conflicting = True
    if conflicting:  # all of them at once: not any of their opposites
        return {"not": {"any": [{"not": part} for part in parts]}}
    return merged or None


def _condition(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise FilterError(f"the filter {text!r} is no JSON: {error}") from error
        return dict(parsed)
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise FilterError(f"cannot understand the filter {text!r}. Write key=value, key!=value, key>=value or key~text")
    key, operator, value = match.group(1).strip(), match.group(2), match.group(3) or ""
    if operator == "~":
        parsed = parse_value(value)
        return {key: {"contains": parsed if isinstance(parsed, str) else value}}  # a text, numbers too
    return {key: {"==" if operator == "=" else operator: _date(value) if key in _DATES else parse_value(value)}}


def _date(text: str) -> Scalar:
    """Seconds since 1970 from a date such as 2024-05-31, local time; other values as they are."""
    value = parse_value(text)
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else value
    except ValueError:
        return value
