"""The tools of a library: search, read, list, and notes to remember and recall.

What a tool says is never more than its tokens, as the library's tokenizer counts them, and what it quotes is data:
rendered as in a context, each passage with the id of its document and its characters, so that a model can read on.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carrel.agents.fitting import part
from carrel.agents.signatures import DEFAULT_TOKENS, Result, Signature, Tool
from carrel.errors import BudgetError, DocumentNotFoundError, EmptyQuestionError, InputError
from carrel.inputs import check_kind
from carrel.retrieval.merging import keeping, tight
from carrel.retrieval.packing import SEPARATOR, render
from carrel.retrieval.sentences import split_sentences
from carrel.types import Document, Passage

if TYPE_CHECKING:
    from carrel.library import Library
    from carrel.memory.conversation import ConversationMemory
    from carrel.retrieval.store.documents import DocumentInfo
    from carrel.tokens import Tokenizer

__all__ = ["LEAST_TOKENS", "Notes", "Result", "Signature", "Tool", "library_tools"]

Notes = MutableSequence[str] | Callable[[str], object]
"""Where notes go: a list, from which they are recalled, or a function that is called with each."""

LEAST_TOKENS = 128
_LEAST_SEARCH = 64
_LONGEST_PLACE = 120  # characters of a title or heading
_AROUND = 2000  # characters around a place in which its sentence is looked for
_CLOSE = 100  # characters on each side, where it has no end there
_CHARACTERS_A_TOKEN = 12
_A_PLACE = 24  # tokens that the line of a passage's place may take, about


def library_tools(
    library: Library,
    *,
    budget: int = DEFAULT_TOKENS,
    notes: Notes | None = None,
    memory: ConversationMemory | None = None,
) -> tuple[Tool, ...]:
    """The tools of a library, for any client that calls functions.

    Parameters
    ----------
    budget : the most tokens of what a tool says, counted by the library's tokenizer.
    notes : where ``remember`` keeps notes: a list, by default a new one, or a function; with a function, there is no
        ``recall``.
    memory : of the user who is served: ``remember`` and ``recall`` are then of what they said, and outlive the run.

    Raises
    ------
    BudgetError : fewer than 128 tokens. InputError : notes that are neither a list nor a function, or beside a memory.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < LEAST_TOKENS:
        raise BudgetError(f"what a tool says has room of {LEAST_TOKENS} tokens or more, not {budget!r}")
    if memory is not None:
        from carrel.memory.conversation import ConversationMemory

        check_kind("a memory", memory, ConversationMemory)
        if notes is not None:
            raise InputError("give either notes or a memory: both have remember and recall")
        reading = _Reading(library, budget)
        return (reading.search(), reading.read(), reading.listing(), *memory.as_tools(budget=budget))
    kept: Notes = [] if notes is None else notes
    if not callable(kept) and not isinstance(kept, MutableSequence):
        raise InputError(f"notes are a list that they are kept in, or a function, not {notes!r:.80}")
    desk = _Reading(library, budget)
    tools = (desk.search(), desk.read(), desk.listing(), desk.remember(kept))
    return tools if callable(kept) else (*tools, desk.recall(kept))


class _Reading:
    """What the tools of one library share: its tokenizer and how much they may say."""

    def __init__(self, library: Library, budget: int) -> None:
        self.library, self.budget = library, budget
        self.tokenizer: Tokenizer = library.tokenizer
        self._lock = threading.Lock()

    def _tool(self, name: str, description: str, properties: Mapping[str, Any], required: Sequence[str],
              run: Callable[[Mapping[str, Any]], Result | str], *, repeatable: bool = False) -> Tool:  # fmt: skip
        schema = {
            "type": "object", "properties": dict(properties), "required": list(required), "additionalProperties": False,
        }  # fmt: skip

        def shorten(text: str) -> str:
            return self.tokenizer.truncate(text, self.budget)

        def said(arguments: Mapping[str, Any]) -> Result | str:
            return run(arguments)

        return Tool(name, description, schema, self.budget, repeatable, said, shorten)  # functions: journals take them

    def _count(self, text: str) -> int:
        return self.tokenizer.count(text)

    # -- search -------------------------------------------------------------------------------

    def search(self) -> Tool:
        return self._tool(
            "search",
            "Search the documents. Gives the passages that fit best, each under its number and title, with the id of"
            " its document and its characters there: to read what stands around one, call read with these.",
            {
                "question": {"type": "string", "minLength": 1, "description": "a question, or words to look for"},
                "budget": {
                    "type": "integer", "minimum": _LEAST_SEARCH, "maximum": self.budget,
                    "description": f"the most tokens of passages, {self.budget:,} where it is not given",
                },
            },
            ["question"],
            self._search,
        )  # fmt: skip

    def _search(self, arguments: Mapping[str, Any]) -> Result:
        question, budget = arguments["question"], arguments.get("budget", self.budget)
        room = budget - max(_A_PLACE, budget // 8)  # the places of passages are not counted in a context
        try:
            context = self.library.context(question, budget=room)
        except EmptyQuestionError:
            raise InputError("the question has no words to look for. Call search again with some.") from None
        if not context.passages:
            return Result("Nothing was found. Try other words, or see what there is with list.")
        passages = list(context.passages)
        while passages:
            placed = tuple(map(_placed, passages))
            text = render(placed)
            if self._count(text) <= budget:
                return Result(text, placed)
            last = passages.pop()
            shorter = _shorter(last)
            passages += [] if shorter is None else [shorter]
        raise InputError(
            f"{budget} tokens cannot hold one sentence with its source. Ask for more, or read it directly."
        )

    # -- read ---------------------------------------------------------------------------------

    def read(self) -> Tool:
        place = {"type": "integer", "minimum": 0}
        return self._tool(
            "read",
            "Read a part of a document, from one character to another, and to the ends of the sentences there. What is"
            " too long is cut; it is said where to go on.",
            {
                "document_id": {"type": "string", "description": "the id, as search and list give it"},
                "start": {**place, "description": "the first character, 0 where it is not given"},
                "end": {**place, "description": "the character after the last; all there is room for, if not given"},
            },
            ["document_id"],
            self._read,
        )  # fmt: skip

    def _read(self, arguments: Mapping[str, Any]) -> Result:
        try:
            document = self.library.document(arguments["document_id"])
        except DocumentNotFoundError:
            raise InputError(
                f"there is no document with the id {json.dumps(arguments['document_id'])[:60]}. Use an id as search and"
                " list give it."
            ) from None
        start, end = arguments.get("start", 0), arguments.get("end")
        if not document.text.strip():
            return Result("The document is empty.")
        if start >= len(document.text):
            raise InputError(
                f"the document has {len(document.text):,} characters; there is none at {shown_number(start)}"
            )
        if end is not None and end <= start:
            raise InputError("the end is a character after the start")
        return self._span(document, start, min(end or len(document.text), len(document.text)), end is None)

    def _span(self, document: Document, start: int, end: int, is_open: bool) -> Result:
        """The sentences of a span, with one more on each side where there is room; or as much as fits."""
        text = document.text
        first, last = _sentence_at(text, start), _sentence_at(text, max(start, end - 1))
        before = _sentence_at(text, max(0, first[0] - 1))[0]
        after = last[1] if is_open else _sentence_at(text, min(len(text) - 1, last[1]))[1]
        for begin, stop in ((before, after), (first[0], last[1]), (start, last[1])):
            if stop - begin > self.budget * _CHARACTERS_A_TOKEN:
                continue
            result = _cut_out(document, begin, stop)
            if self._count(result.text) <= self.budget:
                return result
        return self._cut(document, start, end)

    def _cut(self, document: Document, start: int, end: int) -> Result:
        """As much of a span, from its start, as there is room for."""
        room = self.budget
        while room:
            head = self.tokenizer.truncate(document.text[start : min(end, start + room * _CHARACTERS_A_TOKEN)], room)
            if not head:
                break
            stop = start + len(head)
            ends = [span.end for span in split_sentences(document.text, start, min(end, stop + 40)) if span.end <= stop]
            result = _cut_out(document, start, ends[-1] if ends else stop)
            over = self._count(result.text) - self.budget
            if over <= 0:
                return result
            room -= min(room, over)
        raise InputError("not one word of the document fits beside its title and id")

    # -- list ---------------------------------------------------------------------------------

    def listing(self) -> Tool:
        return self._tool(
            "list",
            "List the documents: the id, title and length of each, page by page.",
            {
                "filter": {"type": "string", "description": "only those whose id, title or source has this in it"},
                "offset": {"type": "integer", "minimum": 0, "description": "how many to leave out, for the next page"},
            },
            [],
            self._list,
        )

    def _list(self, arguments: Mapping[str, Any]) -> str:
        wanted, offset = arguments.get("filter", "").casefold(), arguments.get("offset", 0)
        found = [
            info for info in self.library.documents()
            if any(wanted in said.casefold() for said in (info.id, info.title, info.source))
        ]  # fmt: skip
        if not found:
            return "No document has that in its id, title or source." if wanted else "There are no documents."
        if offset >= len(found):
            return f"There are {len(found):,} documents; none is left after {shown_number(offset)}."
        lines: list[str] = []
        room = self.budget
        for info in found[offset:]:
            lines.append(_line(info))
            room -= self._count(lines[-1])
            if room <= 0:
                break
        while len(lines) > 1 and self._count(_page(lines, offset, len(found))) > self.budget:
            lines.pop()
        if self._count(_page(lines, offset, len(found))) > self.budget:
            lines = ["- a document whose id is too long to be listed"]
        return _page(lines, offset, len(found))

    # -- notes --------------------------------------------------------------------------------

    def remember(self, notes: Notes) -> Tool:
        keep = notes if callable(notes) else notes.append
        most = self.budget // 2

        def run(arguments: Mapping[str, Any]) -> str:
            note = " ".join(arguments["note"].split())
            if not note:
                raise InputError("the note is empty")
            if self._count(note) > most:
                raise InputError(f"the note has more than {most} tokens. Keep a shorter one, or several.")
            with self._lock:
                keep(note)
            return "The note is kept."

        note = {"type": "string", "minLength": 1, "description": "one finding, with the id of its document"}
        return self._tool(
            "remember", "Keep a note for later, such as a finding and where it stands.", {"note": note}, ["note"], run
        )

    def recall(self, notes: MutableSequence[str]) -> Tool:
        def run(arguments: Mapping[str, Any]) -> str:
            with self._lock:
                kept = list(dict.fromkeys(reversed(notes)))
            query = set(_words(arguments.get("question", "")))
            scored = [(len(query.intersection(_words(note))), note) for note in kept]
            found = [note for score, note in sorted(scored, key=lambda pair: -pair[0]) if score or not query]
            return self._recalled(found) if found else "No note was kept that has these words." if query else "No note."

        query = {"type": "string", "description": "words that the notes have; all notes where it is not given"}
        return self._tool(
            "recall", "Recall the notes that were kept, the closest to a query and the newest first.",
            {"question": query}, [], run, repeatable=True,
        )  # fmt: skip

    def _recalled(self, found: Sequence[str]) -> str:
        lines: list[str] = []
        for note in found:
            line = f"- {note}"
            if self._count(_noted([*lines, line], len(found), len(found))) > self.budget:
                break
            lines.append(line)
        return _noted(lines, len(found) - len(lines), len(found))


def _placed(passage: Passage) -> Passage:
    """A passage with the line that says where it stands under its title: ``prefix`` is what a context shows of it."""
    place, _, rest = passage.prefix.partition("\n")
    title = " ".join((place or passage.title).split())[:_LONGEST_PLACE]
    shown = f"document {_quoted(passage.document_id)}, characters {passage.start} to {passage.end}"
    return replace(passage, prefix="\n".join(filter(None, (title or "Untitled", shown, rest))))


def _quoted(text: str) -> str:
    """An id on one line, to be repeated as it is."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def shown_number(number: int) -> str:
    """A number that a model gave; one that no text is as long as is not repeated."""
    return f"{number:,}" if number < 10**12 else "so high a number"


def _shorter(passage: Passage) -> Passage | None:
    """A passage without its last sentence; None where it has only one."""
    if passage.kept is not None:
        return keeping(passage, passage.kept[:-1]) if len(passage.kept) > 1 else None
    starts = [span.start for span in split_sentences(passage.text) if passage.text[: span.start].strip()]
    return tight(part(passage, 0, starts[-1])) if starts else None


def _sentence_at(text: str, place: int) -> tuple[int, int]:
    """Where the sentence begins and ends that holds a character; of a very long one, what is close to it."""
    low, high = max(0, place - _AROUND), min(len(text), place + _AROUND)
    span = next((span for span in split_sentences(text, low, high) if span.start <= place < span.end), None)
    if span is None:
        return place, min(place + 1, len(text))
    start = place - _CLOSE if span.start == low > 0 else span.start
    return start, place + _CLOSE if span.end == high < len(text) else span.end


def _cut_out(document: Document, start: int, end: int) -> Result:
    """A part of a document as a passage, and where to read on."""
    passage = Passage(
        document.id, start, end, document.text[start:end], document.title, document.source,
        pages=document.pages, metadata=document.metadata,
    )  # fmt: skip
    placed = _placed(passage)
    length, remarks = len(document.text), []
    if document.text[:start].strip():
        remarks.append(f"There is more before: {start} characters, up to character {start}.")
    if document.text[end:].strip():
        remarks.append(f"There is more after: {length - end} characters, from start={end} on.")
    remark = " ".join(remarks) or "This is the whole document."
    return Result(SEPARATOR.join((render([placed]), remark)), (placed,), remark)


def _line(info: DocumentInfo) -> str:
    title = " ".join(info.title.split())[:_LONGEST_PLACE] or "Untitled"
    return f"- {_quoted(info.id)}: {title} ({info.characters} characters)"


def _page(lines: Sequence[str], offset: int, count: int) -> str:
    after = offset + len(lines)
    more = f"; the next with offset={after}" if after < count else ""
    return "\n".join((f"Documents {offset + 1} to {after} of {count}{more}:", *lines))


def _noted(lines: Sequence[str], left: int, count: int) -> str:
    more = f"({left} more notes of {count} have no room here: ask with a query)"
    return "\n".join([*lines, more] if left else lines)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
