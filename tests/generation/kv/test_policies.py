"""What a policy keeps, and policies by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from carrel.errors import InputError, MissingDependencyError  # noqa: E402
from carrel.generation.kv.policies import (  # noqa: E402
    Composed,
    Everything,
    KVPolicy,
    Quantised,
    RandomEviction,
    checked_share,
    make_policy,
)

pytestmark = pytest.mark.extras
SHARES = st.floats(0.001, 1.0)
LENGTHS = st.integers(1, 90)


def numbered(length: int, heads: int = 2) -> tuple[Any, Any]:
    """Keys that are 1000 times their head plus their position, and values that are the same and a half."""
    keys = 1000.0 * torch.arange(heads)[:, None] + torch.arange(length)  # (Hkv, S)
    keys = keys[None, :, :, None].expand(1, heads, length, 3).contiguous()
    return keys, keys + 0.5


def positions(keys: Any) -> Any:
    """Which positions a policy kept of ``numbered`` keys, (Hkv, N)."""
    return keys[0, :, :, 0] - 1000.0 * torch.arange(keys.shape[1])[:, None]


class Recorder(KVPolicy):
    """Keeps every second key, and writes down when it is asked what."""

    name = "recorder"
    citation = ""

    def __init__(self, log: list[str], tag: str, hides: int = 0) -> None:
        self.log, self.tag, self.hides = log, tag, hides

    @property
    def label(self) -> str:
        return self.tag

    def check(self, model: Any) -> None:
        self.log.append(f"check {self.tag}")

    def reading(self, model: Any) -> AbstractContextManager[object]:
        return self._noted("reading")

    def asking(self, model: Any, state: Any) -> AbstractContextManager[object]:
        assert set(state) == {"marks", "1.more"}
        return self._noted("asking")

    def state(self, model: Any) -> dict[str, Any]:
        return {"marks": torch.full((2,), self.hides), "1.more": torch.zeros(1)}

    def hidden(self, state: Any) -> int:
        return int(state["marks"].sum())

    def kept(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
        self.log.append(f"kept {self.tag}")
        return keys[:, :, ::2], values[:, :, ::2]

    @contextmanager
    def _noted(self, what: str) -> Any:
        self.log.append(f"{what} {self.tag}")
        yield
        self.log.append(f"end of {what} {self.tag}")


def test_a_policy_of_nothing_keeps_everything_and_hides_nothing() -> None:
    keys, values = numbered(7)
    policy, model = Everything(), object()
    found = policy.kept(0, keys, values)
    assert found[0] is keys
    assert found[1] is values
    assert policy.state(model) == {}  # type: ignore[arg-type]
    assert policy.hidden({}) == 0
    assert policy.bits is None
    with policy.reading(model), policy.asking(model, {}):  # type: ignore[arg-type]
        policy.check(model)  # type: ignore[arg-type]


@given(keep=SHARES, length=LENGTHS, layer=st.integers(0, 40), heads=st.integers(1, 4))
def test_random_keeps_the_share_in_order_with_the_values_that_belong_to_the_keys(
    keep: float, length: int, layer: int, heads: int
) -> None:
    keys, values = RandomEviction(keep).kept(layer, *numbered(length, heads))
    number = max(1, round(keep * length))
    assert keys.shape == values.shape == (1, heads, number, 3)
    torch.testing.assert_close(values, keys + 0.5, atol=0, rtol=0)
    found = positions(keys)
    assert bool((found.diff(dim=1) > 0).all())
    assert bool((found >= 0).all())
    assert bool((found < length).all())


@given(keep=SHARES, length=LENGTHS, sinks=st.integers(0, 9))
def test_random_keeps_the_sinks_first(keep: float, length: int, sinks: int) -> None:
    keys, _ = RandomEviction(keep, sinks=sinks).kept(0, *numbered(length))
    among = positions(keys) < sinks
    assert among.sum(dim=1).tolist() == [min(sinks, keys.shape[2], length)] * 2 or sinks == 0
    if sinks == 0:
        assert not among.any()


@given(keep=SHARES, length=LENGTHS)
def test_equal_labels_keep_the_same(keep: float, length: int) -> None:
    one, other = RandomEviction(keep), RandomEviction(keep)
    torch.rand(3)  # whatever else draws in between
    assert one.label == other.label
    assert torch.equal(one.kept(5, *numbered(length))[0], other.kept(5, *numbered(length))[0])


@pytest.mark.parametrize(
    ("policy", "label"),
    [
        (RandomEviction(1 / 3), f"random:{1 / 3!r}"), (RandomEviction(0.333333), "random:0.333333"),
        (RandomEviction(0.5, seed=1), "random:0.5,seed=1"), (RandomEviction(0.5, sinks=0), "random:0.5,sinks=0"),
        (RandomEviction(1), "random:1"),
    ],
)  # fmt: skip
def test_policies_that_keep_different_keys_have_different_labels(policy: KVPolicy, label: str) -> None:
    assert policy.label == label


def test_random_draws_other_keys_in_each_head_and_layer_and_for_each_seed() -> None:
    policy = RandomEviction(0.25, sinks=0)
    first = positions(policy.kept(0, *numbered(80))[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, positions(policy.kept(1, *numbered(80))[0]))
    assert not torch.equal(first, positions(RandomEviction(0.25, sinks=0, seed=1).kept(0, *numbered(80))[0]))


def test_random_leaves_no_trace_in_the_numbers_that_others_draw() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    RandomEviction(0.5).kept(0, *numbered(30))
    assert torch.equal(torch.rand(4), expected)


def test_random_drops_all_positions_equally_often() -> None:
    kept = torch.zeros(60)
    for seed in range(400):
        found = positions(RandomEviction(0.5, seed=seed, sinks=4).kept(0, *numbered(60, heads=1))[0])
        kept[found[0].long()] += 1
    assert bool((kept[:4] == 400).all())
    assert float(kept[4:].min()) > 150  # 26 of 56: 186 expected, a standard deviation of 10
    assert float(kept[4:].max()) < 222


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_says_in_how_many_bits_and_leaves_that_to_the_cache(bits: int) -> None:
    policy = Quantised(bits)
    keys, values = numbered(5)
    assert (policy.bits, policy.label) == (bits, f"int{bits}")
    assert policy.kept(0, keys, values) == (keys, values)


@pytest.mark.parametrize("bits", [0, 2, 16])
def test_quantised_refuses_other_bits(bits: int) -> None:
    with pytest.raises(InputError, match=f"8 or 4 bits, not {bits}"):
        Quantised(bits)


def test_a_composition_runs_each_policy_on_what_the_one_before_kept() -> None:
    log: list[str] = []
    policy = Composed([Recorder(log, "a"), RandomEviction(0.5, sinks=2), Recorder(log, "b"), Quantised(8)])
    keys, values = policy.kept(0, *numbered(80))
    assert keys.shape == (1, 2, 10, 3)  # 80, 40, 20, 10
    assert bool((positions(keys) % 2 == 0).all())
    torch.testing.assert_close(values, keys + 0.5, atol=0, rtol=0)
    assert log == ["kept a", "kept b"]
    assert policy.label == "a+random:0.5,sinks=2+b+int8"
    assert policy.bits == 8


def test_a_composition_checks_enters_and_leaves_all_in_turn() -> None:
    log: list[str] = []
    policy = Composed([Recorder(log, "a"), Recorder(log, "b")])
    model: Any = object()
    policy.check(model)
    with policy.reading(model):
        log.append("read")
    with policy.asking(model, policy.state(model)):
        log.append("asked")
    assert log == [
        "check a", "check b", "reading a", "reading b", "read", "end of reading b", "end of reading a",
        "asking a", "asking b", "asked", "end of asking b", "end of asking a",
    ]  # fmt: skip


def test_a_composition_hands_each_policy_its_own_state() -> None:
    log: list[str] = []
    policy = Composed([Everything(), Recorder(log, "a", hides=3), *[Everything()] * 9, Recorder(log, "b", hides=5)])
    state = policy.state(object())  # type: ignore[arg-type]
    assert sorted(state) == ["1.1.more", "1.marks", "11.1.more", "11.marks"]
    assert policy.hidden(state) == 16


def test_a_composition_reads_in_one_pass_where_one_of_its_policies_does() -> None:
    assert not Composed([Everything(), Quantised(8)]).one_pass
    assert Composed([Everything(), Recorder([], "a")]).one_pass
    assert not RandomEviction(0.5).one_pass


@pytest.mark.parametrize(
    "policies",
    [[], [Quantised(8), RandomEviction(0.5)], [Quantised(8), Quantised(8)], [Quantised(4), Everything(), Quantised(8)]],
)
def test_a_composition_quantises_once_and_last(policies: list[KVPolicy]) -> None:
    with pytest.raises(InputError, match="at least one policy|once, and last"):
        Composed(policies)


def test_a_composition_does_not_hide_and_drop() -> None:
    hiding = Recorder([], "hiding", hides=1)
    for policies in ([hiding, RandomEviction(0.5)], [RandomEviction(0.5), Quantised(8)], [hiding, Quantised(8)]):
        if hiding in policies and any(policy.drops for policy in policies):
            with pytest.raises(InputError, match=r"hiding hides keys .* as random:0\.5 does"):
                Composed(policies)
        else:
            made = Composed(policies)
            assert (made.hides, made.drops) == (hiding in policies, hiding not in policies)
    inner = Composed([RandomEviction(0.5), Everything()])
    with pytest.raises(InputError, match=r"random:0\.5\+dense does"):
        Composed([inner, hiding])
    assert not RandomEviction(1).drops


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        (None, "dense"), ("dense", "dense"), ("int8", "int8"), ("int4", "int4"), ("random:0.25", "random:0.25"),
        ("random", "random:0.5"), ("random:1", "random:1"), ("random:0.25+int8", "random:0.25+int8"),
        (" random:0.25 + random:0.5 + int4 ", "random:0.25+random:0.5+int4"),
    ],
)  # fmt: skip
def test_a_policy_by_name(spec: str | None, label: str) -> None:
    assert make_policy(spec).label == label


def test_a_policy_that_is_one_stays() -> None:
    policy = RandomEviction(0.5, seed=9)
    assert make_policy(policy) is policy


@pytest.mark.parametrize("spec", ["random:0", "random:-1", "random:1.5", "random:nan", "random:inf"])
def test_a_share_that_is_none(spec: str) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        make_policy(spec)


@pytest.mark.parametrize("spec", ["random:a", "random:25%", "random:0,25", "random::"])
def test_a_share_that_is_no_number(spec: str) -> None:
    with pytest.raises(InputError, match="write random:0.25"):
        make_policy(spec)


@pytest.mark.parametrize("spec", ["dense:0.5", "int8:0.5", "int4:8"])
def test_a_policy_without_a_share_takes_none(spec: str) -> None:
    with pytest.raises(InputError, match="has no share to keep"):
        make_policy(spec)


@pytest.mark.parametrize("spec", ["", "+", "random:0.5+", "no_such_policy:0.5", "int9"])
def test_an_unknown_policy(spec: str) -> None:
    with pytest.raises(InputError, match="no KV policy"):
        make_policy(spec)


@pytest.mark.parametrize("spec", ["int8+random:0.5", "int8+int4"])
def test_a_composition_by_name_that_is_none(spec: str) -> None:
    with pytest.raises(InputError, match="once, and last"):
        make_policy(spec)


def test_a_press_without_kvpress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kvpress", None)
    with pytest.raises(MissingDependencyError, match=r"kvpress.*carrel\[kv\]"):
        make_policy("snapkv:0.25")


@given(keep=st.floats(allow_nan=True, allow_infinity=True))
def test_a_share_is_checked(keep: float) -> None:
    checks: Callable[[], float] = lambda: checked_share("x", keep)  # noqa: E731
    if 0 < keep <= 1:
        assert checks() == keep
    else:
        with pytest.raises(InputError):
            checks()
