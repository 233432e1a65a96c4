"""Sparse attention by name."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
from carrel.errors import InputError
from carrel.generation.kv import ClusteredAttention, LambdaAttention, PagedAttention
from carrel.generation.kv.attentions import METHODS, make_attention

pytestmark = pytest.mark.extras


def test_each_name_with_its_number_of_keys() -> None:
    paged, clustered, local = (make_attention(f"{name}:256") for name in METHODS)
    assert isinstance(paged, PagedAttention) and paged.budget == 256
    assert isinstance(clustered, ClusteredAttention) and clustered.budget == 256
    assert isinstance(local, LambdaAttention) and local.window == 256
    assert paged.sparse_queries == clustered.sparse_queries == 64  # a short question is read sparsely, too


def test_none_and_objects_pass() -> None:
    method = PagedAttention(64)
    assert make_attention(method) is method
    assert make_attention(None) is None and make_attention("dense") is None


@pytest.mark.parametrize("spec", ["quest:64", "paged", "paged:", "paged:-4", "paged:many", "paged:0", "", "dense:4"])
def test_what_names_no_method_is_an_error(spec: str) -> None:
    with pytest.raises(InputError):
        make_attention(spec)
