"""Every KV policy and every sparse attention against the kit of its contract."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
from carrel.generation.kv import ClusteredAttention, LambdaAttention, PagedAttention, SparseAttention
from carrel.generation.kv.entropies import SirLLM
from carrel.generation.kv.policies import Composed, KVPolicy, Quantised, RandomEviction, make_policy
from carrel.testing import KVPolicyConformance, SparseAttentionConformance

pytestmark = pytest.mark.extras


class TestRandomEviction(KVPolicyConformance):
    def make(self) -> KVPolicy:
        return RandomEviction(0.25)


class TestSirLLM(KVPolicyConformance):
    def make(self) -> KVPolicy:
        return SirLLM(0.25)


class TestInt8(KVPolicyConformance):
    def make(self) -> KVPolicy:
        return Quantised(8)


class TestInt4(KVPolicyConformance):
    def make(self) -> KVPolicy:
        return Quantised(4)


class TestComposed(KVPolicyConformance):
    def make(self) -> KVPolicy:
        return Composed([RandomEviction(0.5), Quantised(8)])


class TestPressThatFrees(KVPolicyConformance):
    def make(self) -> KVPolicy:
        pytest.importorskip("kvpress")
        return make_policy("snapkv:0.5")


class TestPressThatHides(KVPolicyConformance):
    def make(self) -> KVPolicy:
        pytest.importorskip("kvpress")
        return make_policy("adakv:0.5")


class TestPaged(SparseAttentionConformance):
    def make(self, keys: int) -> SparseAttention:
        return PagedAttention(keys, page=8)


class TestClustered(SparseAttentionConformance):
    def make(self, keys: int) -> SparseAttention:
        return ClusteredAttention(keys)


class TestLambda(SparseAttentionConformance):
    def make(self, keys: int) -> SparseAttention:
        return LambdaAttention(window=keys)
