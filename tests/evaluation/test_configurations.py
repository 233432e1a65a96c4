from __future__ import annotations

import pytest

from carrel.errors import InputError
from carrel.evaluation.configurations import BASELINE, CONFIGURATIONS, Configuration, select_configurations
from carrel.modes import make_reading
from carrel.options import ContextOptions, SearchOptions


def test_options_are_passed_on_as_given() -> None:
    chosen = Configuration("x", retriever="dense", cutoff=None, order="sides", limit=3, where={"year": 2020})
    assert chosen.context_options == {
        "retriever": "dense",
        "cutoff": None,
        "order": "sides",
        "limit": 3,
        "where": {"year": 2020},
    }
    assert chosen.search_options == {"retriever": "dense", "cutoff": None, "where": {"year": 2020}}
    assert Configuration("default").context_options == {}


def test_what_reads_is_chosen_for_search_and_context_and_the_pruner_for_contexts_only() -> None:
    chosen = Configuration("x", mode="thorough", reranker="none", pruner="reader")
    assert chosen.search_options == {"mode": "thorough", "reranker": "none"}
    assert chosen.context_options == {"mode": "thorough", "reranker": "none", "pruner": "reader"}


def test_objects_are_left_to_the_library_to_judge() -> None:
    method = object()
    assert Configuration("x", retriever=method, cutoff=method).search_options == {
        "retriever": method,
        "cutoff": method,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retriver": "dense"}, r"no option 'retriver'. Options: cutoff, limit, mode, order, pruner, recency,"),
        ({"retriever": "magic"}, r"no retriever 'magic'. Choices: dense, lexical, fused, rank_fused, none"),
        ({"order": "random"}, r"no order 'random'. Choices: relevance, sides, document"),
        ({"mode": "quick"}, r"no mode 'quick'. Choices: fast, balanced, thorough"),
        ({"reranker": "big"}, r"no reranker 'big'. Choices: reader, none"),
        ({"pruner": "big"}, r"no pruner 'big'. Choices: reader, none"),
        ({"retriever": "none", "mode": "fast"}, r"without a retriever, mode has no effect"),
        ({"retriever": "none", "cutoff": "adaptive"}, r"without a retriever, cutoff has no effect"),
    ],
)
def test_unknown_or_senseless_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Configuration("x", **options)


@pytest.mark.parametrize("name", ["", " x", "a|b", "a\nb", "[bold]"])
def test_names_fit_in_a_table(name: str) -> None:
    with pytest.raises(InputError, match="cannot name"):
        Configuration(name)


def test_the_registry_is_keyed_by_name_and_has_a_baseline() -> None:
    assert all(name == configuration.name for name, configuration in CONFIGURATIONS.items())
    assert [configuration for configuration in CONFIGURATIONS.values() if configuration.is_baseline] == [BASELINE]


def test_every_option_of_the_registry_is_one_that_the_library_takes() -> None:
    for configuration in CONFIGURATIONS.values():
        assert set(configuration.context_options) <= set(ContextOptions.__annotations__)
        assert set(configuration.search_options) <= set(SearchOptions.__annotations__)


def test_retrievers_are_measured_alone_and_ablations_leave_one_stage_out() -> None:
    for name in ("dense", "lexical", "fused", "rank_fused"):
        assert CONFIGURATIONS[name].options == {"retriever": name, "mode": "fast"}
    left_out = {name: make_reading("", None, None) for name in ("default",)}
    for name in ("fast", "thorough", "no_rerank", "no_prune"):
        options = CONFIGURATIONS[name].options
        left_out[name] = make_reading(
            str(options.get("mode", "")),
            options.get("reranker"),  # type: ignore[arg-type]
            options.get("pruner"),  # type: ignore[arg-type]
        )
    stages = {name: (reading.reranker is not None, reading.pruner is not None) for name, reading in left_out.items()}
    assert stages == {
        "default": (True, True),
        "fast": (False, False),
        "thorough": (True, True),
        "no_rerank": (False, True),
        "no_prune": (True, False),
    }
    assert left_out["thorough"].depth > left_out["default"].depth


def test_selecting_puts_the_baseline_first_unless_one_is_chosen() -> None:
    mine = Configuration("mine", retriever="lexical")
    assert select_configurations(["dense", mine]) == [BASELINE, CONFIGURATIONS["dense"], mine]
    assert [row.name for row in select_configurations(["dense", "first"])] == ["dense", "first"]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["nonsense"], r"no configuration 'nonsense'. Registered: first, default, fast, thorough, no_rerank, no_prune"),
        ([], "at least one"),
        (["dense", Configuration("dense")], "named dense"),
    ],
)
def test_selecting_says_what_exists(chosen: list[str | Configuration], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select_configurations(chosen)


def test_equality_follows_name_setup_and_options() -> None:
    assert Configuration("a", limit=1) == Configuration("a", limit=1)
    assert hash(Configuration("a", limit=1)) == hash(Configuration("a", limit=1))
    assert Configuration("a", limit=1) != Configuration("a", limit=2)
    assert Configuration("a", setup={"encoder": "x"}) != Configuration("a")
    assert Configuration("a") != "a"
    assert repr(Configuration("a", setup={"e": 1}, limit=2)) == "Configuration('a', setup={'e': 1}, limit=2)"
