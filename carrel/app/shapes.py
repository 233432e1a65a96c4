"""What ``--json`` prints. The keys are stable: new ones may come, none goes or changes its meaning.

Every command prints one object.

- add, sync: library, added, updated, unchanged, removed, skipped [{id, reason}], warnings, chunks, embedded,
  tokens, tokenizer, seconds, planned
- ask: question, answer, abstained, confidence, answers [{text, start, end, confidence, citation}], citations
  [{number, document_id, title, source, page, start, end, quote}], unsupported [{number, start, end, sentence}],
  passages, tokens, budget, usage {prompt_tokens, completion_tokens, cached_tokens, tokenizer}, ledger
- context: question, text, tokens, budget, tokenizer, passages, ledger
- search: question, passages
- why: document_id, question, fell_out_at, steps [{stage, kept, message}], passages
- list: library, documents [{id, title, source, media_type, characters, chunks, added_at, modified_at, metadata}]
- show: those of a document in list, without chunks and added_at, and extractor, pages, text
- remove: removed, purged; purge: bytes_before, bytes_after; reindex: encoder, chunks, embedded, tokens, seconds
- doctor: library, ok, checks [{name, ok, message, remedy}]
- methods: methods [{kind, name, idea, citation}]
- eval: evaluations [{manifest, budgets, configurations {name: {options, ranking, contexts}}, files}]
- memory observe: turn {id, session, speaker, text, said_at, importance}
- memory recall: query, rewritten, needed, answerable, recent [{role, text, passages}], recalled [{turns, score, note,
  superseded, reason}], stable, text, tokens, budget
- memory list: user, turns; or conversations [{name, turns, first, last}]; or notes [{id, session, kind, text, turns,
  said_at, subject}]
- memory import: user, turns, first, last; memory forget: user, turns, notes, planned, purged
- a failure: error {type, message}

passages are [{number, document_id, title, source, prefix, page, start, end, text, metadata, scores {dense, lexical,
fused, rank_fused, relevance}}]; ledger is {tokenizer, seconds, entries [{stage, items_in, items_out, tokens_in,
tokens_out, seconds, reason, details}]}. Offsets count characters of the document's text; times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import carrel.types as values

if TYPE_CHECKING:
    from carrel.evaluation.results import Evaluation
    from carrel.retrieval.doctor import Check
    from carrel.retrieval.store.documents import DocumentInfo
    from carrel.retrieval.trace import Trace

Object = dict[str, Any]


def report(found: values.IngestReport, library: str) -> Object:
    """What an ingest did."""
    listed = {name: list(getattr(found, name)) for name in ("added", "updated", "unchanged", "removed")}
    return {
        "library": library,
        **listed,
        "skipped": [asdict(skipped) for skipped in found.skipped],
        "warnings": list(found.warnings),
        "chunks": found.chunks,
        "embedded": found.embedded,
        "tokens": found.tokens,
        "tokenizer": found.tokenizer,
        "seconds": round(found.seconds, 3),
        "planned": found.planned,
    }


def passages(found: Iterable[values.Passage]) -> list[Object]:
    """Passages, numbered as they are ranked or arranged."""
    return [
        {
            "number": number,
            "document_id": passage.document_id,
            "title": passage.title,
            "source": passage.source,
            "prefix": passage.prefix,
            "page": passage.page,
            "start": passage.start,
            "end": passage.end,
            "text": " … ".join(passage.pieces),
            "metadata": dict(passage.metadata),
            "scores": asdict(passage.scores),
        }
        for number, passage in enumerate(found, start=1)
    ]


def ledger(found: values.Ledger) -> Object:
    """The account of a call."""
    return {
        "tokenizer": found.tokenizer,
        "seconds": round(found.seconds, 6),
        "entries": [
            {
                "stage": entry.stage,
                "items_in": entry.items_in,
                "items_out": entry.items_out,
                "tokens_in": entry.tokens_in,
                "tokens_out": entry.tokens_out,
                "seconds": round(entry.seconds, 6),
                "reason": entry.reason,
                "details": plain(entry.details),
            }
            for entry in found.entries
        ],
    }


def plain(value: object) -> Any:
    """Details as JSON can hold them."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    return value.item() if hasattr(value, "item") else str(value)  # numpy's numbers


def answer(found: values.Answer) -> Object:
    """An answer with its evidence."""
    return {
        "question": found.question,
        "answer": found.text,
        "abstained": found.abstained,
        "confidence": found.confidence,
        "answers": [asdict(answer) for answer in found.answers],
        "citations": [asdict(citation) for citation in found.citations],
        "unsupported": [asdict(mark) for mark in found.unsupported],
        "passages": passages(found.context.passages),
        "tokens": found.context.tokens,
        "budget": found.context.budget,
        "usage": asdict(found.usage),
        "ledger": ledger(found.ledger),
    }


def context(found: values.Context) -> Object:
    """A context and what it was made of."""
    return {
        "question": found.question,
        "text": found.text,
        "tokens": found.tokens,
        "budget": found.budget,
        "tokenizer": found.tokenizer,
        "passages": passages(found.passages),
        "ledger": ledger(found.ledger),
    }


def trace(found: Trace) -> Object:
    """The way of a document through the stages."""
    return {
        "document_id": found.document_id,
        "question": found.question,
        "fell_out_at": found.fell_out_at,
        "steps": [asdict(step) for step in found.steps],
        "passages": passages(found.passages),
    }


def documents(found: Iterable[DocumentInfo]) -> list[Object]:
    """What a library knows of its documents."""
    return [{**asdict(info), "metadata": dict(info.metadata)} for info in found]


def document(found: values.Document) -> Object:
    """A document with its text."""
    return {
        "id": found.id,
        "title": found.title,
        "source": found.source,
        "media_type": found.media_type,
        "characters": len(found.text),
        "modified_at": found.modified_at,
        "metadata": dict(found.metadata),
        "extractor": found.extractor,
        "pages": list(found.pages),
        "text": found.text,
    }


def checks(found: Iterable[Check], library: str) -> Object:
    """What doctor found."""
    listed = [asdict(check) for check in found]
    return {"library": library, "ok": all(check["ok"] for check in listed), "checks": listed}


def evaluation(found: Evaluation, files: Iterable[str]) -> Object:
    """Means with their intervals; the scores of each question are in the file of ``--output``."""
    return {
        "manifest": asdict(found.manifest),
        "budgets": list(found.budgets),
        "configurations": {
            name: {
                "options": dict(result.options),
                "ranking": {metric: _interval(found, name, metric) for metric in result.ranking},
                "contexts": {
                    metric: {str(budget): _interval(found, name, metric, budget) for budget in found.budgets}
                    for metric in result.contexts
                },
            }
            for name, result in found.results.items()
        },
        "files": list(files),
    }


def _interval(found: Evaluation, name: str, metric: str, budget: int | None = None) -> Object | None:
    interval = found.interval(name, metric, budget)
    return None if interval is None else asdict(interval)
