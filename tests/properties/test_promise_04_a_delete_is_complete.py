"""Promise 4: what was removed is returned by nothing and no one; purged, its bytes are in no file."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from carrel.errors import DocumentNotFoundError
from carrel.types import Document

fixtures = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
SECRET = "xylophonesecret"
QUESTIONS = (SECRET, f"the {SECRET} of the lamp", "lamp rope gull")


def secret(number: int, filler: int = 3) -> Document:
    text = f"The {SECRET}{number} {SECRET} burns.\n\n" + "The lamp and the rope. " * filler
    return Document(
        text, id=f"{SECRET}{number}", title=f"{SECRET} {number}", source=f"/x/{SECRET}", metadata={SECRET: SECRET}
    )


def forget_nothing(library) -> None:
    """Some builds of SQLite overwrite what they free; here none may, so that the purge is what erases."""
    event.listen(library._store.engine, "connect", lambda raw, _: raw.execute("PRAGMA secure_delete=OFF"))
    library._store.engine.dispose()


def returned(library) -> list[str]:
    """All that any retriever, context or answer gives, as text."""
    out = []
    for question in QUESTIONS:
        for retriever in ("fused", "dense", "lexical", "rank_fused"):
            out += [repr(passage) for passage in library.search(question, retriever=retriever, limit=50)]
        out.append(library.context(question, budget=500).text)
        out.append(library.ask(question).text)
    return out


@fixtures
@given(
    kept=st.integers(0, 4),
    gone=st.integers(1, 4),
    filler=st.integers(0, 40),
    update=st.booleans(),
    together=st.booleans(),
)
def test_nothing_returns_it_and_no_file_holds_it(
    make, kept: int, gone: int, filler: int, update: bool, together: bool
) -> None:
    with make() as library, make(library.path) as other:
        forget_nothing(library)
        library.add([Document(f"The lamp {n} and the gull. " * (filler + 1), id=f"kept{n}") for n in range(kept)])
        documents = [secret(number, filler) for number in range(gone)]
        library.add(documents)
        if update:
            library.add(Document("The lamp without it.", id=documents[0].id, title="none"))
            library.add(documents[0])
        for each in (library, other):
            assert any(SECRET in text for text in returned(each))
        for ids in [[d.id for d in documents]] if together else [[d.id] for d in documents]:
            library.remove(ids)
        for each in (library, other):
            assert not any(SECRET in text for text in returned(each))
            assert [info.id for info in each.documents()] == [f"kept{n}" for n in range(kept)]
            with pytest.raises(DocumentNotFoundError):
                each.document(documents[0].id)
        with make(library.path) as fresh:
            assert not any(SECRET in text for text in returned(fresh))
        library.purge()
        assert files_with(library.path, SECRET) == []
        assert all(check.ok for check in library.doctor())
        if kept:
            assert library.search("lamp", retriever="lexical")


def files_with(folder: Path, word: str) -> list[str]:
    forms = [word.encode(form) for form in ("utf-8", "utf-16-le", "utf-16-be")]
    forms += [form.upper() for form in forms]
    return [
        path.name
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]


_PLACES = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "default")]


@fixtures
@given(
    history=st.lists(
        st.tuples(st.sampled_from(_PLACES), st.integers(0, 3), st.sampled_from(["add", "replace", "remove"])),
        min_size=1,
        max_size=12,
    ),
    purger=st.sampled_from([*_PLACES, ("nobody", "nothing")]),
)
def test_a_purge_erases_what_any_tenant_removed_whoever_calls_it(make, history, purger: tuple[str, str]) -> None:
    """What each of them still holds stays as it is."""
    with make(tenant=purger[0], collection=purger[1]) as library, contextlib.ExitStack() as stack:
        forget_nothing(library)
        places = {
            place: stack.enter_context(make(library.path, tenant=place[0], collection=place[1])) for place in _PLACES
        }
        held: dict[tuple[str, str], set[str]] = {place: set() for place in _PLACES}
        for each in places.values():
            forget_nothing(each)
        for place, number, step in history:
            key = secret(number).id
            if step == "add":
                places[place].add(secret(number, 20))
                held[place].add(key)
            elif step == "replace":
                places[place].add(Document("The lamp without it.", id=f"kept{number}", title="none"))
            elif key in held[place]:
                places[place].remove(key)
                held[place].remove(key)
        gone = [place for place in _PLACES if held[place]]
        for place in gone[1:]:  # one of them, at most, goes on holding some
            places[place].remove(list(held[place]))
            held[place].clear()
        library.purge()
        still = any(held.values())
        assert bool(files_with(library.path, SECRET)) == still
        for place, each in places.items():
            found = {passage.document_id for passage in each.search(SECRET, retriever="lexical", limit=50)}
            assert found == held[place]
            assert all(check.ok for check in each.doctor())
        if still:
            place = gone[0]
            places[place].remove(list(held[place]))
            library.purge()
            assert files_with(library.path, SECRET) == []


def test_the_bytes_are_there_before_the_purge(make) -> None:
    """Else the test above would prove nothing."""
    with make() as library:
        forget_nothing(library)
        library.add(secret(0, 50))
        library.remove(secret(0).id)
        library._store.engine.dispose()  # the log is written back: what is left is in the database itself
        assert files_with(library.path, SECRET) == ["carrel.db"]


def test_remove_and_purge_in_one(make, tmp_path: Path) -> None:
    path = tmp_path / f"{SECRET}.txt"
    path.write_text(f"The {SECRET} burns.")
    with make() as library:
        library.add_text("The lamp burns.", id="kept")
        (key,) = library.add(path).added
        assert library.remove(key, purge=True) == (key,)
        assert files_with(library.path, SECRET) == []
        assert library.search("lamp")[0].document_id == "kept"


def test_what_was_replaced_is_purged_too(make) -> None:
    with make() as library:
        forget_nothing(library)
        library.add(secret(0, 20))
        library.add(Document("The lamp.", id=secret(0).id, title="t", source="s"))
        library.add(Document("The lamp.", id="other"))
        library.remove(secret(0).id, purge=True)
        assert files_with(library.path, SECRET) == []


def test_vectors_leave_with_their_chunks(make) -> None:
    with make() as library:
        forget_nothing(library)
        library.add([secret(0), Document("The lamp.", id="kept")])
        vector = library.encoder.encode_queries([f"{SECRET} 0\nThe {SECRET}0 {SECRET} burns.\n\n"])[0].tobytes()
        library.remove(secret(0).id, purge=True)
        assert not any(vector in path.read_bytes() for path in library.path.iterdir())
        with library._store.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM vectors").scalar() == 1


_OTHER_PROCESS = """
import sys
from pathlib import Path
from carrel.library import Library
from carrel.testing import HashEncoder
with Library(Path(sys.argv[1]), encoder=HashEncoder(64)) as library:
    for line in sys.stdin:
        found = [library.search(line, retriever=name, limit=50) for name in ("fused", "dense", "lexical")]
        print(*sorted({passage.document_id for passages in found for passage in passages}), flush=True)
"""


def test_another_process_sees_it_at_once(make) -> None:
    with make() as library:
        library.add([secret(0), secret(1), Document("The lamp.", id="kept")])
        command = [sys.executable, "-c", _OTHER_PROCESS, str(library.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin and process.stdout

            def seen() -> list[str]:
                process.stdin.write(f"{SECRET} lamp\n")
                process.stdin.flush()
                return process.stdout.readline().split()

            assert seen() == ["kept", f"{SECRET}0", f"{SECRET}1"]
            library.remove(f"{SECRET}0")
            assert seen() == ["kept", f"{SECRET}1"]
            library.remove(f"{SECRET}1", purge=True)
            assert seen() == ["kept"]
            assert files_with(library.path, SECRET) == []


def test_a_purge_beside_a_reader_says_so(make, monkeypatch) -> None:
    """While another reads an old state, its log cannot be emptied: that is an error, not a silent half-purge."""
    from carrel.errors import StoreBusyError
    from carrel.retrieval.store import Store

    with make() as library:
        library.add([secret(0), Document("The lamp.", id="kept")])
        library._store.engine.dispose()
        library._store.busy_timeout_s = 0.2
        reader = Store(library.path)
        with reader.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM documents").scalar() == 2
            library.remove(secret(0).id)
            with pytest.raises(StoreBusyError, match="purge again"):
                library.purge()
        reader.close()
        library.purge()
        assert files_with(library.path, SECRET) == []
