"""What is kept of a context's keys and values: the contract, the policies of our own, and policies by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from carrel.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KeysValues = tuple[Tensor, Tensor]
"""The keys and the values of one layer, each (1, Hkv, S, D)."""


class KVPolicy(ABC):
    """Makes the keys and values of a context smaller, once, before any question about it is known.

    The generator reads the context inside ``reading``, hands every layer to ``kept``, and asks questions inside
    ``asking``. What a policy drops in ``kept`` is freed. What it only hides from the questions, through the state that
    ``state`` gives, takes as much memory as before. Keys are rotated already; positions stay those of the whole
    context.
    """

    name: ClassVar[str]
    citation: ClassVar[str]
    bits: int | None = None  # of a key's or value's number while questions are asked; None: as the model has them
    one_pass: bool = True  # the model has to read the whole context at once, and not in pieces
    hides: bool = False  # questions need a mask, so that they cannot read sparsely besides
    needs_all: bool = False  # it goes by the tokens of the whole context, so that none may be dropped before it
    drops: bool = False  # keys leave the cache, and a mask would no longer fit those that stay

    @property
    @abstractmethod
    def label(self) -> str:
        """Name and knobs, such as ``random:0.25``: equal labels keep the same of the same context."""

    def check(self, model: PreTrainedModel) -> None:  # noqa: B027 - most policies take any model
        """Raise InputError where the model is not one that the policy works for."""

    def reading(self, model: PreTrainedModel) -> AbstractContextManager[object]:
        """In force while the model reads the whole context in one pass."""
        return nullcontext()

    def kept(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        """What stays of one layer, (1, Hkv, S, D) each; as many keys in every layer, filled up with hidden ones."""
        return keys, values

    def state(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """What the questions need besides keys and values; asked for right after ``reading``."""
        return {}

    def hidden(self, state: Mapping[str, Tensor]) -> int:
        """How many keys, of all layers and KV heads together, no question sees though they take memory."""
        return 0

    def asking(self, model: PreTrainedModel, state: Mapping[str, Tensor]) -> AbstractContextManager[object]:
        """In force while a question about the context is read and answered."""
        return nullcontext()


class Everything(KVPolicy):
    """Keeps every key and value as the model has them."""

    name: ClassVar[str] = "dense"
    citation: ClassVar[str] = ""
    one_pass = False

    @property
    def label(self) -> str:
        return self.name


class RandomEviction(KVPolicy):
    """Keeps keys drawn at random, other ones in each head: the floor that a policy has to beat.

    Parameters
    ----------
    keep : the share that stays, above 0 and at most 1. seed : of the draw.
    sinks : tokens at the start that always stay, without which a model breaks down (arXiv 2309.17453).
    """

    name: ClassVar[str] = "random"
    citation: ClassVar[str] = ""
    one_pass = False

    def __init__(self, keep: float, *, seed: int = 0, sinks: int = 4) -> None:
        self.keep, self.seed, self.sinks = checked_share(self.name, keep), seed, sinks
        self.drops = keep < 1

    @property
    def label(self) -> str:
        knobs = {"seed": (self.seed, 0), "sinks": (self.sinks, 4)}
        others = "".join(f",{name}={value}" for name, (value, usual) in knobs.items() if value != usual)
        return f"{self.name}:{spelled(self.keep)}{others}"

    def kept(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        heads, length = keys.shape[1], keys.shape[2]
        number = max(1, round(self.keep * length))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + layer)
        order = torch.rand(heads, length, generator=generator)
        order[:, : self.sinks] = 2.0  # the first to be taken
        index = order.topk(number, dim=1).indices.sort(dim=1).values.to(keys.device)  # (Hkv, N)
        places = index[None, :, :, None]  # (1, Hkv, N, 1)
        return (
            keys.gather(2, places.expand(1, -1, -1, keys.shape[3])),
            values.gather(2, places.expand(1, -1, -1, values.shape[3])),
        )


class Quantised(KVPolicy):
    """Keeps every key and value in 8 or 4 bits; a layer is as the model has it only while that layer computes.

    Keys are scaled by channel, values by token, both in groups.

    Reference: Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", arXiv 2402.02750.
    """

    name: ClassVar[str] = "int"
    citation: ClassVar[str] = "KIVI, arXiv 2402.02750"
    one_pass = False

    def __init__(self, bits: int) -> None:
        if bits not in (4, 8):
            raise InputError(f"Keys and values are kept in 8 or 4 bits, not {bits}.")
        self.bits = bits

    @property
    def label(self) -> str:
        return f"{self.name}{self.bits}"


class Composed(KVPolicy):
    """Several policies, one after the other: ``snapkv:0.25+int8`` keeps a quarter of the keys, in 8 bits."""

    name: ClassVar[str] = "composed"
    citation: ClassVar[str] = ""

    def __init__(self, policies: Sequence[KVPolicy]) -> None:
        if not policies:
            raise InputError("A composition needs at least one policy.")
        quantised = [policy for policy in policies if policy.bits is not None]
        if len(quantised) > 1 or (quantised and policies[-1] is not quantised[0]):
            raise InputError("Keys are quantised once, and last: write snapkv:0.25+int8.")
        hiding = [policy.label for policy in policies if policy.hides]
        dropping = [policy.label for policy in policies if policy.drops]
        if hiding and dropping:
            raise InputError(
                f"{hiding[0]} hides keys of the whole context: it goes with no policy that drops some, as {dropping[0]}"
                " does."
            )
        first = next((number for number, policy in enumerate(policies) if policy.drops), len(policies))
        late = [policy.label for policy in policies[first + 1 :] if policy.needs_all]
        if late:
            raise InputError(f"{late[0]} goes by all tokens of a context: write it before {dropping[0]}.")
        self.policies = tuple(policies)
        self.bits = policies[-1].bits
        self.one_pass = any(policy.one_pass for policy in policies)
        self.needs_all = any(policy.needs_all for policy in policies)
        self.hides = bool(hiding)
        self.drops = bool(dropping)

    @property
    def label(self) -> str:
        return "+".join(policy.label for policy in self.policies)

    def check(self, model: PreTrainedModel) -> None:
        for policy in self.policies:
            policy.check(model)

    @contextmanager
    def reading(self, model: PreTrainedModel) -> Iterator[None]:
        with ExitStack() as stack:
            for policy in self.policies:
                stack.enter_context(policy.reading(model))
            yield

    def kept(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        for policy in self.policies:
            keys, values = policy.kept(layer, keys, values)
        return keys, values

    def state(self, model: PreTrainedModel) -> dict[str, Tensor]:
        return {
            f"{number}.{name}": tensor
            for number, policy in enumerate(self.policies)
            for name, tensor in policy.state(model).items()
        }

    def hidden(self, state: Mapping[str, Tensor]) -> int:
        return sum(policy.hidden(_of(number, state)) for number, policy in enumerate(self.policies))

    @contextmanager
    def asking(self, model: PreTrainedModel, state: Mapping[str, Tensor]) -> Iterator[None]:
        with ExitStack() as stack:
            for number, policy in enumerate(self.policies):
                stack.enter_context(policy.asking(model, _of(number, state)))
            yield


def make_policy(spec: str | KVPolicy | None) -> KVPolicy:
    """The policy that a text names: ``dense``, ``random:0.25``, ``int8``, ``int4``, a press of kvpress with the share
    of the keys that stays (``snapkv:0.25``), ``sirllm:0.25``, or several joined by ``+``.

    Raises
    ------
    InputError : no such policy, a share that is none, or a policy that needs the question first.
    MissingDependencyError : a press is named and kvpress is not installed.
    """
    if spec is None:
        return Everything()
    if isinstance(spec, KVPolicy):
        return spec
    if not isinstance(spec, str):
        raise InputError(f"kv is a text such as 'int8' or 'snapkv:0.25', or a KVPolicy, not {spec!r:.80}")
    policies = [_one(part.strip()) for part in spec.split("+")]
    return policies[0] if len(policies) == 1 else Composed(policies)


def _one(spec: str) -> KVPolicy:
    name, _, knob = spec.partition(":")
    plain: dict[str, KVPolicy] = {"dense": Everything(), "int8": Quantised(8), "int4": Quantised(4)}
    if name in plain:
        if knob:
            raise InputError(f"The KV policy {name!r} has no share to keep: write {name!r} alone.")
        return plain[name]
    if name in ("paged", "clustered", "lambda"):
        raise InputError(f"{name} chooses what is read, not what is kept: write attention={spec!r}.")
    keep = _share(name, knob)
    if name == RandomEviction.name:
        return RandomEviction(keep)
    if name == "sirllm":
        from carrel.generation.kv.entropies import SirLLM

        return SirLLM(keep)
    from carrel.generation.kv.presses import make_press

    return make_press(name, keep)


def _share(name: str, knob: str) -> float:
    try:
        return checked_share(name, float(knob or "0.5"))
    except ValueError:
        raise InputError(f"{knob!r} is no share of the keys to keep: write {name}:0.25 for a quarter.") from None


def checked_share(name: str, keep: float) -> float:
    """The share, above 0 and at most 1; else InputError."""
    if not 0 < keep <= 1:
        raise InputError(f"{name} keeps a share of the keys above 0 and at most 1, not {keep}.")
    return keep


def spelled(share: float) -> str:
    """A share in a label: short, and never the same for two shares."""
    short = f"{share:g}"
    return short if float(short) == share else repr(share)


def _of(number: int, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{number}."
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
