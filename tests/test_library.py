"""The library: what its users do with it, method by method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import carrel
from carrel.errors import (
    DocumentNotFoundError,
    GenerationError,
    InputError,
    StoreClosedError,
    StoreNotFoundError,
    StoreReadOnlyError,
)
from carrel.generation.base import Generator
from carrel.testing import HashEncoder, WordTokenizer
from carrel.tokens import shipped_tokenizer
from carrel.types import (
    Citation,
    CitationsEvent,
    Completion,
    Document,
    Event,
    Prompt,
    SourcesEvent,
    TextEvent,
    Usage,
    UsageEvent,
)

FERRY = "The ferry leaves the north pier at nine. It comes back at six."
QUESTION = "When does the ferry leave the north pier?"


@pytest.fixture
def library(tmp_path: Path) -> Iterator[carrel.Library]:
    """Three documents, with the shipped encoder."""
    with carrel.open(tmp_path / "library") as library:
        library.add_text(FERRY, id="ferry", title="Ferry", metadata={"year": 1894})
        library.add_text("Lamps burn whale oil all night.", id="lamps")
        library.add_text("The keeper of the tower is called Grey.", id="keeper")
        yield library


class Scripted(Generator):
    """Streams what it is told to."""

    name = "scripted"

    def __init__(self, *events: Event | Exception) -> None:
        self.events = events

    @property
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer()

    def complete(self, prompt: Prompt) -> Completion:
        text = "".join(event.text for event in self.events if isinstance(event, TextEvent))
        citations = next((event.citations for event in self.events if isinstance(event, CitationsEvent)), ())
        usage = next((event for event in self.events if isinstance(event, UsageEvent)), None)
        if usage is None:
            return Completion(text, citations=citations)
        return Completion(text, usage.usage, usage.finish_reason, self.name, citations)

    def stream(self, prompt: Prompt) -> Iterator[Event]:
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield event


# -- adding, looking, removing ------------------------------------------------------------------


def test_a_text_is_added_replaced_and_left_alone(library) -> None:
    assert library.add_text(FERRY, id="ferry", title="Ferry", metadata={"year": 1894}).unchanged == ("ferry",)
    assert library.add_text("The ferry sank.", id="ferry").updated == ("ferry",)
    assert library.document("ferry").text == "The ferry sank."
    assert library.add_text("New.", id="new").added == ("new",)
    assert [info.id for info in library.documents()] == ["ferry", "keeper", "lamps", "new"]


def test_a_document_comes_back_as_it_was(library) -> None:
    document = library.document("ferry")
    assert (document.text, document.title, document.metadata) == (FERRY, "Ferry", {"year": 1894})
    with pytest.raises(DocumentNotFoundError, match="no document has the id 'nothing'"):
        library.document("nothing")


def test_documents_can_be_filtered(library) -> None:
    assert [info.id for info in library.documents(where={"year": {">=": 1890}})] == ["ferry"]


def test_metadata_is_copied(library) -> None:
    facts = {"year": 1}
    library.add_text("Text.", id="x", metadata=facts)
    facts["year"] = 2
    assert library.document("x").metadata == {"year": 1}


def test_removing(library) -> None:
    with pytest.raises(DocumentNotFoundError, match="no document has the id 'nothing'"):
        library.remove(["lamps", "nothing"])
    assert len(library.documents()) == 3
    assert library.remove("lamps") == ("lamps",)
    assert set(library.remove(iter(["ferry", "keeper"]), purge=True)) == {"ferry", "keeper"}
    assert library.documents() == []
    assert library.search(QUESTION) == []
    assert library.remove([]) == ()


def test_files_folders_and_sync(library, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.txt").write_text("The anchor is heavy.")
    (folder / "b.txt").write_text("The buoy is red.")
    planned = library.sync(folder, dry_run=True)
    assert planned.planned and len(planned.added) == 2 and len(library.documents()) == 3
    assert len(library.sync(folder).added) == 2
    (folder / "b.txt").unlink()
    assert library.sync(folder, dry_run=True).removed == (str(folder / "b.txt"),)
    assert len(library.documents()) == 5
    report = library.sync(folder)
    assert report.removed == (str(folder / "b.txt"),) and report.unchanged == (str(folder / "a.txt"),)
    assert library.document("ferry").text == FERRY  # not from the folder: it stays
    with pytest.raises(InputError, match="is not a folder. To add a single file use: carrel add"):
        library.sync(folder / "a.txt")


def test_progress_is_told(library) -> None:
    seen = []
    library.add([Document(f"Text {n}.", id=str(n)) for n in range(3)], progress=seen.append)
    assert seen[-1].documents_done == 3 == seen[-1].documents_total


def test_the_checks_and_reindex(library) -> None:
    assert all(check.ok for check in library.doctor())
    assert all(check.ok for check in library.doctor(repair=True))
    before = library.search(QUESTION)
    library.reindex()
    assert library.search(QUESTION) == before


# -- opening ------------------------------------------------------------------------------------


def test_a_library_is_found_again(tmp_path: Path) -> None:
    with carrel.open(tmp_path) as library:
        library.add_text(FERRY, id="ferry")
    with carrel.open(str(tmp_path)) as library:
        assert library.document("ferry").text == FERRY
        assert library.path == tmp_path
        assert (library.tenant, library.collection) == ("local", "default")
        assert library.tokenizer.name == "all-MiniLM-L6-v2"


def test_tenants_and_collections_are_apart(tmp_path: Path) -> None:
    places = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "default")]
    for tenant, collection in places:
        with carrel.open(tmp_path, tenant=tenant, collection=collection, encoder=HashEncoder()) as library:
            library.add_text(f"The ferry of {tenant} and {collection}.", id="same", metadata={"tenant": "a"})
    for tenant, collection in places:
        with carrel.open(tmp_path, tenant=tenant, collection=collection, encoder=HashEncoder()) as library:
            expected = f"The ferry of {tenant} and {collection}."
            for retriever in ("dense", "lexical", "fused", "rank_fused"):
                found = library.search("ferry", retriever=retriever, limit=50, where={"tenant": "a"})
                assert [passage.text for passage in found] == [expected]
            assert library.document("same").text == expected
    with carrel.open(tmp_path, tenant="a", collection="x", encoder=HashEncoder()) as library:
        library.remove("same")
    with carrel.open(tmp_path, tenant="b", collection="x", encoder=HashEncoder()) as library:
        assert [passage.document_id for passage in library.search("ferry")] == ["same"]


@pytest.mark.parametrize("name", ["tenant", "collection"])
@pytest.mark.parametrize("value", ["", "  ", None, 3])
def test_a_tenant_has_a_name(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"the {name} must be a name, not"):
        carrel.open(tmp_path, **{name: value})


def test_a_missing_library(tmp_path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreNotFoundError, match="there is no library at"):
            carrel.open(tmp_path / "nowhere", **options)
    assert not (tmp_path / "nowhere").exists()


def test_read_only_is_read_only(library, tmp_path: Path) -> None:
    with carrel.open(tmp_path / "library", read_only=True) as reader:
        assert reader.ask(QUESTION).citations
        for change in (lambda: reader.add_text("x", id="x"), lambda: reader.remove("ferry"), reader.purge):
            with pytest.raises(StoreReadOnlyError, match="was opened read-only"):
                change()
    assert len(library.documents()) == 3


def test_a_context_manager_closes_also_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with carrel.open(tmp_path, encoder=HashEncoder()) as library:
            library.add_text("Text.", id="x")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        assert library.document("x").text == "Text."


# -- asking -------------------------------------------------------------------------------------


def test_an_answer_quotes_and_cites(library) -> None:
    answer = library.ask(QUESTION)
    assert not answer.abstained
    assert answer.text.startswith("The ferry leaves the north pier at nine. [1]")
    citation = answer.citations[0]
    assert (citation.document_id, citation.quote) == ("ferry", "The ferry leaves the north pier at nine.")
    assert FERRY[citation.start : citation.end] == citation.quote
    assert answer.question == QUESTION == answer.context.question
    assert answer.usage.tokenizer == "all-MiniLM-L6-v2"
    assert [entry.stage for entry in answer.ledger.entries] == [
        "embed",
        "retrieve",
        "read",
        "rerank",
        "prune",
        "deduplicate",
        "pack",
        "answer",
    ]
    last = answer.ledger.entries[-1]
    assert last.reason.startswith(f"{len(answer.citations)} citation") and last.reason.endswith("verified")
    assert last.details["generator"] == "reader"
    assert [answer.answers[0].text, answer.answers[0].citation] == ["nine", citation]
    assert (last.tokens_in, last.tokens_out) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def test_nonsense_is_not_answered(library) -> None:
    answer = library.ask("Which quasar emits the brightest neutrinos in the Andromeda cluster?")
    assert answer.abstained
    assert answer.citations == ()
    assert answer.text == "The documents do not seem to answer this question."
    assert answer.ledger.entries[-1].reason.startswith("abstained")


def test_a_stream_says_what_ask_says(library) -> None:
    for question in (QUESTION, "Which quasar emits the brightest neutrinos in the Andromeda cluster?"):
        answer, events = library.ask(question), list(library.stream(question))
        kinds = [type(event) for event in events]
        assert kinds[0] is SourcesEvent and kinds[-2:] == [CitationsEvent, UsageEvent]
        assert set(kinds[1:-2]) == {TextEvent}
        assert events[0].context.passages == answer.context.passages
        assert "".join(event.text for event in events if isinstance(event, TextEvent)) == answer.text
        assert events[-2].citations == answer.citations
        assert events[-1].usage == answer.usage
        assert events[-1].confidence == answer.confidence
        assert events[-1].ledger.entries[-1].details == answer.ledger.entries[-1].details
        assert events[-1].finish_reason == ("abstained" if answer.abstained else "stop")
        stages = [[entry.stage for entry in ledger.entries] for ledger in (events[-1].ledger, answer.ledger)]
        assert stages[0] == stages[1]


def test_a_generators_events_are_put_in_order(library) -> None:
    found = library.context(QUESTION).passages[0]
    true = Citation(1, "ferry", 0, 3, "The")
    usage = Usage(7, 2, 0, "words")
    generator = Scripted(
        UsageEvent(usage, library.context(QUESTION).ledger, "length"),
        CitationsEvent((true, Citation(1, "ferry", 0, 3, "Tha"), Citation(9, "ferry", 0, 3, "The"))),
        TextEvent("At "),
        TextEvent("nine."),
    )
    assert found.document_id == "ferry"
    events = list(library.stream(QUESTION, generator=generator))
    assert [type(event) for event in events] == [SourcesEvent, TextEvent, TextEvent, CitationsEvent, UsageEvent]
    assert events[-2].citations == (true,)
    assert (events[-1].usage, events[-1].finish_reason) == (usage, "length")
    answer = library.ask(QUESTION, generator=generator)
    assert (answer.text, answer.citations, answer.usage) == ("At nine.", (true,), usage)


def test_an_abstention_has_no_citations(library) -> None:
    true = Citation(1, "ferry", 0, 3, "The")
    generator = Scripted(
        TextEvent("No."), CitationsEvent((true,)), UsageEvent(Usage(), library.context(QUESTION).ledger, "abstained")
    )
    assert library.ask(QUESTION, generator=generator).citations == ()
    events = list(library.stream(QUESTION, generator=generator))
    assert events[-2] == CitationsEvent(())


def test_a_failing_generator_fails_after_the_sources(library) -> None:
    stream = library.stream(QUESTION, generator=Scripted(TextEvent("At"), GenerationError("the server is gone")))
    assert isinstance(next(stream), SourcesEvent)
    assert next(stream) == TextEvent("At")
    with pytest.raises(GenerationError, match="the server is gone"):
        next(stream)


def test_a_stream_can_be_left_early(library) -> None:
    stream = library.stream(QUESTION)
    next(stream)
    stream.close()
    assert list(stream) == []


def test_the_fast_answerer_needs_a_text_encoder(tmp_path: Path) -> None:
    class Wide(HashEncoder):
        name = "wide"

    from carrel.embeddings.base import ChunkEncoder

    class Late(ChunkEncoder):
        name, dimension, window, max_chunk_tokens = "late", 8, 64, 32
        fingerprint = "late"
        tokenizer = WordTokenizer()

        def encode(self, document, chunks):
            return [Wide(8).encode_texts([chunk.text]) for chunk in chunks]

        def encode_queries(self, questions):
            return Wide(8).encode_texts(questions)

    with carrel.open(tmp_path, encoder=Late()) as library:
        library.add_text(FERRY, id="ferry")
        assert library.context(QUESTION).passages
        assert library.ask(QUESTION).citations[0].quote == "The ferry leaves the north pier at nine."
        with pytest.raises(InputError, match="needs a plain text encoder, not late. Name a generator"):
            library.ask(QUESTION, mode="fast")
        assert library.ask(QUESTION, generator=Scripted(TextEvent("Nine."))).text == "Nine."


def test_why(library) -> None:
    assert library.why("ferry", QUESTION).fell_out_at is None


# -- closed -------------------------------------------------------------------------------------


def test_a_closed_library_does_nothing_more(tmp_path: Path) -> None:
    library = carrel.open(tmp_path / "library", encoder=HashEncoder())
    library.add_text(FERRY, id="ferry")
    library.search(QUESTION)
    stream = library.stream(QUESTION)
    next(stream)
    library.close()
    library.close()
    calls = {
        "add": lambda: library.add([]),
        "add_text": lambda: library.add_text("x", id="x"),
        "sync": lambda: library.sync(tmp_path),
        "remove": lambda: library.remove([]),
        "purge": library.purge,
        "reindex": library.reindex,
        "search": lambda: library.search(QUESTION),
        "context": lambda: library.context(QUESTION),
        "ask": lambda: library.ask(QUESTION),
        "stream": lambda: next(library.stream(QUESTION)),
        "documents": library.documents,
        "document": lambda: library.document("ferry"),
        "why": lambda: library.why("ferry", QUESTION),
        "doctor": library.doctor,
        "with": library.__enter__,
        "the rest of a stream": lambda: list(stream),
    }
    message = rf"the library {tmp_path / 'library'} was closed. Open it again with: carrel.open\("
    for call in calls.values():
        with pytest.raises(StoreClosedError, match=message):
            call()
    with carrel.open(tmp_path / "library", encoder=HashEncoder()) as again:
        assert [info.id for info in again.documents()] == ["ferry"]


# -- what cannot be used ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["postgresql+psycopg://x/y", "sqlite:///x.db", "http://host/library", "file:///x"])
@pytest.mark.parametrize("kind", [str, Path])
def test_an_address_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: type[str] | type[Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is an address, but a library can only be a folder so far"):
        carrel.open(kind(path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, 5, b"x", ["x"], "a\0b"])
def test_the_place_of_a_library_is_a_path(path: object) -> None:
    with pytest.raises(InputError, match="the place of a library"):
        carrel.open(path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "all-mpnet-base-v2"}, "cannot understand the encoder 'all-mpnet-base-v2': it is no"),
        ({"encoder": HashEncoder}, "not the class HashEncoder itself"),
        ({"tokenizer": "words"}, "a tokenizer is an object of carrel.tokens.Tokenizer, not 'words'"),
        ({"durability": "most"}, "durability is one of normal, full, not 'most'"),
        ({"tenant": "\ud800"}, "no valid text"),
    ],
)
def test_what_a_library_cannot_be_opened_with(tmp_path: Path, options, message: str) -> None:
    def use() -> None:
        with carrel.open(tmp_path, **{"encoder": HashEncoder(), **options}) as library:
            library.documents()

    with pytest.raises(InputError, match=message):
        use()


@pytest.mark.parametrize(
    ("method", "arguments", "options", "message"),
    [
        ("add", [None], {}, "cannot add a NoneType: give paths, Documents, or an iterable"),
        ("add", [5], {}, "cannot add a int"),
        ("add", [b"x"], {}, "cannot add a bytes"),
        ("add", [[b"x"]], {}, "cannot add a bytes"),
        ("add", ["a\0b"], {}, "a source cannot hold a NUL"),
        ("add_text", [None], {"id": "x"}, "the text of a document is a text, not None"),
        ("add_text", [b"x"], {"id": "x"}, r"not b'x'. Decode it first: value.decode\(\)"),
        ("add_text", ["x"], {"id": 5}, "its id is a text, not 5"),
        ("add_text", ["x"], {"id": "x", "title": None}, "its title is a text, not None"),
        ("add_text", ["x"], {"id": "x", "metadata": "year"}, "metadata is an object of collections.abc.Mapping"),
        ("sync", [None], {}, "the folder to follow is a path"),
        ("remove", [None], {}, "the ids are texts, not None"),
        ("remove", [[5]], {}, "an id is a text, not 5"),
        ("remove", ["\ud800"], {}, "no valid text"),
        ("document", [5], {}, "an id is a text, not 5"),
        ("document", ["\ud800"], {}, "no valid text"),
        ("why", [None, "lamps"], {}, "an id is a text, not None"),
        ("why", ["\ud800", "lamps"], {}, "no valid text"),
    ],
)
def test_what_cannot_be_used_is_an_input_error(library, method: str, arguments, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        getattr(library, method)(*arguments, **options)
    assert len(library.documents()) == 3


# -- the tokenizer of budgets -------------------------------------------------------------------


def test_budgets_are_counted_by_the_shipped_tokenizer_whatever_embeds(tmp_path: Path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        assert library.tokenizer == shipped_tokenizer()
        library.add([Document(f"Uncharacteristically hyperparameterised lamps, {n}.", str(n)) for n in range(40)])
        for budget in (30, 100, 300):
            for context in (library.context("lamps", budget=budget), library.ask("lamps", budget=budget).context):
                assert context.tokenizer == context.ledger.tokenizer == "all-MiniLM-L6-v2"
                assert context.tokens == shipped_tokenizer().count(context.text) <= budget
        answer = library.ask("lamps")
        assert answer.ledger.tokenizer == answer.usage.tokenizer == "all-MiniLM-L6-v2"


def test_another_tokenizer_can_be_named(tmp_path: Path) -> None:
    words = WordTokenizer()
    with carrel.open(tmp_path, tokenizer=words, encoder=HashEncoder()) as library:
        library.add([Document(f"The ferry of {n} leaves at nine.", str(n)) for n in range(40)])
        for found in (library.context("ferry", budget=100), library.ask("ferry", budget=100).context):
            assert found.tokenizer == "words" and found.tokens == words.count(found.text) <= 100
        assert library.ask("ferry").usage.tokenizer == "words"
