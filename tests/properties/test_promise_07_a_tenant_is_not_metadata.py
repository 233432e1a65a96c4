"""Promise 7: tenants share a database and nothing else, whatever ids, metadata and filters they use."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.errors import DocumentNotFoundError, FilterError, InputError
from carrel.types import Document

fixtures = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
KEYS = ["tenant", "collection", "collection_id", "id", "name", "documents.collection_id", "metadata", "chunks"]
VALUES = ["a", "b", "local", 1, 2, True, None]
metadata = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=4)
conditions = st.one_of(
    st.sampled_from(VALUES),
    st.fixed_dictionaries({"!=": st.sampled_from(VALUES)}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"not in": st.lists(st.sampled_from(VALUES), max_size=2)}),
)
wheres = st.recursive(
    st.dictionaries(st.sampled_from(KEYS), conditions, max_size=3),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"any": st.lists(inner, max_size=3)}), st.fixed_dictionaries({"not": inner})
    ),
    max_leaves=4,
)


def everything(library, **options) -> set[str]:
    texts = set()
    for retriever in ("fused", "dense", "lexical", "rank_fused"):
        texts |= {passage.text for passage in library.search("lamp", retriever=retriever, limit=50, **options)}
    texts |= {passage.text for passage in library.context("lamp", budget=1000, **options).passages}
    return texts | {library.document(info.id).text for info in library.documents(**options)}


@fixtures
@given(
    mine=st.dictionaries(st.sampled_from("xyz"), metadata, min_size=1),
    theirs=st.dictionaries(st.sampled_from("xyz"), metadata, min_size=1),
    where=wheres,
)
def test_no_filter_and_no_metadata_reaches_across(make, mine, theirs, where) -> None:
    with make(tenant="a") as a, make(a.path, tenant="b") as b, make(a.path, tenant="a", collection="b") as c:
        for library, documents in ((a, mine), (b, theirs), (c, theirs)):
            name = f"{library.tenant}/{library.collection}"
            library.add(
                [Document(f"The lamp {key} of {name}", id=key, metadata=data) for key, data in documents.items()]
            )
        for library, documents in ((a, mine), (b, theirs), (c, theirs)):
            name = f"{library.tenant}/{library.collection}"
            own = {f"The lamp {key} of {name}" for key in documents}
            assert everything(library) == own
            with suppress(FilterError):  # a filter that is refused leaks nothing
                assert everything(library, where=where) <= own


def test_the_same_ids_are_different_documents(make) -> None:
    with make(tenant="a") as a, make(a.path, tenant="b") as b:
        for library in (a, b):
            library.add([Document(f"The lamp of {library.tenant}", id=key) for key in ("x", "y")])
        a.add_text("The lamp of a, changed", id="x")
        assert b.document("x").text == "The lamp of b"
        a.remove(["x", "y"], purge=True)
        assert everything(a) == set()
        assert everything(b) == {"The lamp of b"}
        assert len(b.documents()) == 2
        assert all(check.ok for check in b.doctor())


def test_what_another_has_is_as_what_no_one_has(make) -> None:
    with make(tenant="a") as a, make(a.path, tenant="b") as b:
        a.add_text("The lamp of a", id="secret")
        messages = []
        for key in ("secret", "nothing"):
            for call in (b.document, b.remove, lambda key: b.why(key, "lamp")):
                with pytest.raises(DocumentNotFoundError) as caught:
                    call(key)
                messages.append(str(caught.value).replace(key, "?"))
        assert len(set(messages)) == 1
        assert a.document("secret").text == "The lamp of a"


def test_a_folder_synced_by_one_is_not_removed_for_another(make, tmp_path) -> None:
    (tmp_path / "files").mkdir()
    for name in ("1.txt", "2.txt"):
        (tmp_path / "files" / name).write_text(f"The lamp of {name}")
    with make(tenant="a") as a, make(a.path, tenant="b") as b:
        for library in (a, b):
            assert len(library.sync(tmp_path / "files").added) == 2
        (tmp_path / "files" / "1.txt").unlink()
        assert len(a.sync(tmp_path / "files").removed) == 1
        assert len(b.documents()) == 2
        assert len(b.sync(tmp_path / "files").removed) == 1


def test_the_numbers_of_one_do_not_move_the_scores_of_another(make, answers) -> None:
    with make(tenant="a") as a, make(a.path, tenant="b") as b:
        a.add([Document(f"The lamp number {n} burns", id=str(n)) for n in range(6)])
        before = answers(a)
        b.add([Document(f"The lamp lamp lamp {n}", id=str(n)) for n in range(40)])
        assert answers(a) == before
        b.remove([str(n) for n in range(0, 40, 2)], purge=True)
        assert answers(a) == before


@pytest.mark.parametrize("name", ["", "  ", None, 3])
@pytest.mark.parametrize("what", ["tenant", "collection"])
def test_a_tenant_must_have_a_name(make, what: str, name: object) -> None:
    with pytest.raises(InputError, match=f"the {what} must be a name"):
        make(**{what: name})


@pytest.mark.parametrize("name", ["'; DROP TABLE chunks; --", "a/b", "é", "%", "A"])
def test_any_name_is_only_a_name(make, name: str) -> None:
    with make(tenant="a") as a, make(a.path, tenant=name, collection=name) as odd:
        a.add_text("The lamp of a", id="x")
        assert everything(odd) == set()
        odd.add_text("The lamp of the odd", id="x")
        assert everything(a) == {"The lamp of a"}
        assert everything(odd) == {"The lamp of the odd"}
