"""The table of presses against kvpress itself."""

from __future__ import annotations

import importlib.util

import pytest

pytest.importorskip("torch")
from carrel.errors import InputError
from carrel.generation.kv.press_table import find_press, presses, wanting

pytestmark = pytest.mark.extras
NOT_PRESSES = {"BasePress", "ScorerPress", "KVPressTextGenerationPipeline"}


@pytest.mark.skipif(importlib.util.find_spec("kvpress") is None, reason="kvpress is not installed")
def test_every_press_of_kvpress_is_in_the_table() -> None:
    from carrel.generation.kv.press_scopes import kvpress_package

    assert {entry.kvpress for entry in presses()} == set(kvpress_package().__all__) - NOT_PRESSES


def test_a_name_stands_for_one_press() -> None:
    names = [entry.name for entry in presses()]
    pairs = [f"{entry.name}_{scorer}" for entry in presses() for scorer in entry.over]
    assert len(names + pairs) == len(set(names + pairs))
    assert all(name == name.lower() and name.replace("_", "").isalnum() for name in names)


def test_what_cannot_be_used_says_why_and_what_can_be_used_has_its_paper() -> None:
    for entry in presses():
        assert entry.status == "tested" or entry.reason
        assert entry.status == "refused" or entry.citation
        assert not (entry.frees and entry.hides)
        assert not (entry.query_aware and entry.status != "refused")  # the question comes later here


def test_scorers_of_wrappers_free_what_they_drop_and_were_tested_themselves() -> None:
    by_name = {entry.name: entry for entry in presses()}
    for entry in presses():
        for scorer in entry.over:
            assert by_name[scorer].frees
            assert by_name[scorer].status == "tested"
            assert not by_name[scorer].over


def test_find_takes_a_wrapper_with_its_scorer() -> None:
    entry, scorer = find_press("critical_adakv_non_causal_attention")
    assert (entry.name, scorer.name if scorer else "") == ("critical_adakv", "non_causal_attention")
    entry, scorer = find_press("adakv")
    assert (entry.name, scorer.name if scorer else "") == ("adakv", "snapkv")
    assert find_press("expected_attention")[1] is None


@pytest.mark.parametrize(
    ("name", "close"),
    [("snap_kv", "'snapkv'"), ("adakv_kvnorm", "'adakv_knorm'"), ("in8", "'int8'"), ("chunk_snapkv", "'chunk")],
)
def test_an_unknown_name_lists_the_known_ones_with_a_close_one(name: str, close: str) -> None:
    with pytest.raises(InputError, match=f"no KV policy '{name}'. Did you mean {close}.*streaming_llm.*kvzip"):
        find_press(name)


def test_nothing_close_is_no_guess() -> None:
    with pytest.raises(InputError) as caught:
        find_press("zzzzzz")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("finch", "reads the question"),
        ("simlayerkv", "a threshold"),
        ("decoding", "while it is written"),
        ("key_rerotation", "new positions"),
        ("composed", "snapkv:0.5"),
        ("random", "random:0.25"),
    ],
)
def test_a_refused_press_says_why(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        find_press(name)


def test_what_a_press_takes_besides_its_name() -> None:
    told = {entry.name: wanting(entry) for entry in presses() if wanting(entry)}
    assert sorted(told) == ["duo_attention", "lukv"]
    assert "make_press('duo_attention', keep, patterns=...)" in told["duo_attention"]
    assert "make_press('lukv', keep, curves=...)" in told["lukv"]
