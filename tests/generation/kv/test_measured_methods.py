"""Which methods eval-kv measures, and what it says of the others."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
from carrel.errors import InputError
from carrel.generation.kv.measured_methods import all_methods, chosen_methods
from carrel.generation.kv.press_table import presses

pytestmark = pytest.mark.extras
UNTESTED = {"qfilter", "expected_attention_stats", "kvzap", "fastkvzip"}


def test_all_says_what_it_leaves_out() -> None:
    chosen, left_out = chosen_methods(["all"])
    assert chosen == list(all_methods())
    assert set(left_out) == {"duo_attention", "lukv", *UNTESTED}
    assert all(left_out[name].startswith("Untested: needs weights") for name in UNTESTED)
    assert "curves=..." in left_out["lukv"]
    usable = {entry.name for entry in presses() if entry.status != "refused"}
    assert usable <= {*chosen, *left_out}  # nothing goes without a word


def test_what_is_named_is_tried() -> None:
    chosen, left_out = chosen_methods(["all", "qfilter", "snapkv:0.3", "magic"])
    assert chosen == [*all_methods(), "qfilter", "snapkv:0.3", "magic"]  # others say what is wrong with them
    assert set(left_out) == {"duo_attention", "lukv", *UNTESTED} - {"qfilter"}


@pytest.mark.parametrize("name", ["duo_attention", "lukv", "lukv+int8", "duo_attention + snapkv"])
def test_a_press_that_takes_more_is_left_out(name: str) -> None:
    chosen, left_out = chosen_methods(["int8", name])
    assert chosen == ["int8"]
    assert list(left_out) == [name]
    assert left_out[name].startswith("Needs")
    with pytest.raises(InputError, match="None of these methods can be measured.*make_press"):
        chosen_methods([name])


def test_names_of_no_use() -> None:
    with pytest.raises(InputError, match="No methods are named"):
        chosen_methods([])
    with pytest.raises(InputError, match="no KV policy 'magic'"):
        chosen_methods(["int8", "duo_attention+magic"])
    with pytest.raises(InputError, match="'finch' cannot be used here"):
        chosen_methods(["int8", "finch+lukv"])
