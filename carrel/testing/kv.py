"""Kits for what is kept of a KV cache and for what a query reads of it. They need ``carrel[torch]`` when they run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from carrel.generation.kv.base import SparseAttention
    from carrel.generation.kv.policies import KVPolicy


def tiny_model(seed: int = 0) -> PreTrainedModel:
    """A Llama of random weights: 2 layers, 4 query heads, 2 KV heads of 8 dimensions, 64 words, 512 positions."""
    import torch
    import transformers

    library: Any = transformers
    config = library.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = library.LlamaForCausalLM(config).eval()
    return model


class KVPolicyConformance(ABC):
    """A policy keeps as many keys in every layer, the same ones each time, and every question is answered from them."""

    length = 160  # tokens of the context

    @abstractmethod
    def make(self) -> KVPolicy:
        """Return a policy that works for a Llama."""

    def context(self, seed: int) -> list[int]:
        import torch

        generator = torch.Generator().manual_seed(seed)
        return [int(token) for token in torch.randint(0, 64, (self.length,), generator=generator)]

    def test_what_it_says_of_itself(self) -> None:
        policy = self.make()
        assert policy.name and policy.label
        assert policy.label == self.make().label
        assert policy.bits in (None, 4, 8)

    def test_it_keeps_no_more_than_there_was(self) -> None:
        from carrel.generation.kv.context_model import ContextModel

        context, _ = ContextModel(tiny_model(), policy=self.make()).context(self.context(0))
        assert 0 < context.kept <= self.length
        assert 0 <= context.hidden < context.kept * 2 * 2  # of 2 layers and 2 KV heads

    def test_equal_labels_keep_the_same(self) -> None:
        import torch

        one, other = self._logits(self.context(0)), self._logits(self.context(0))
        assert torch.equal(one, other)

    def test_a_context_leaves_nothing_behind(self) -> None:
        import torch

        expected = self._logits(self.context(0))
        assert torch.equal(self._logits(self.context(1), self.context(0)), expected)

    def test_the_model_is_as_before(self) -> None:
        import torch

        from carrel.generation.kv.context_model import ContextModel

        model, tokens = tiny_model(), torch.tensor([self.context(0)])
        with torch.inference_mode():
            before = model(input_ids=tokens).logits
        runner = ContextModel(model, policy=self.make())
        context, _ = runner.context(self.context(0))
        runner.logits(runner.begin(context, [1, 2, 3]))
        runner.close()
        with torch.inference_mode():
            assert torch.equal(model(input_ids=tokens).logits, before)

    def _logits(self, *contexts: list[int]) -> Tensor:
        """Of a question about the last of these contexts, which one model read one after the other."""
        import torch

        from carrel.generation.kv.context_model import ContextModel

        runner = ContextModel(tiny_model(), policy=self.make())
        for ids in contexts:
            context, _ = runner.context(ids)
            logits = runner.logits(runner.begin(context, [1, 2, 3]))
        assert torch.isfinite(logits).all()
        return logits


class SparseAttentionConformance(ABC):
    """With a budget of everything it is dense attention, however the keys come; with less it is still finite."""

    @abstractmethod
    def make(self, keys: int) -> SparseAttention:
        """Return a method that reads about so many keys."""

    def test_what_it_says_of_itself(self) -> None:
        method = self.make(64)
        assert method.name and method.citation
        assert method.prefill_label == self.make(64).prefill_label

    def test_the_label_says_whether_a_context_is_read_densely(self) -> None:
        import torch

        from carrel.generation.kv.base import dense_attention

        generator = torch.Generator().manual_seed(0)
        query, key, value = (torch.randn(1, heads, 150, 8, generator=generator) for heads in (4, 2, 2))
        method = self.make(32)
        found = method.attend(0, query, key, value)
        assert torch.allclose(found, dense_attention(query, key, value, 8**-0.5), atol=1e-5) != bool(
            method.prefill_label
        )

    def test_a_text_without_a_context_is_answered(self) -> None:
        import torch

        from carrel.generation.kv.context_model import ContextModel

        runner = ContextModel(tiny_model(), attention=self.make(32))
        context, _ = runner.context([])
        text = runner.begin(context, list(range(60)))
        for token in (2, 3, 4):
            assert torch.isfinite(runner.logits(text)).all()
            text.rest.append(token)
        runner.close()

    def test_everything_is_dense(self) -> None:
        import torch

        assert torch.allclose(self._steps(self.make(512)), self._steps(None), atol=1e-4)

    def test_less_is_finite_and_something_else(self) -> None:
        import torch

        found = self._steps(self.make(32))
        assert torch.isfinite(found).all()
        assert not torch.allclose(found, self._steps(None), atol=1e-4)

    def test_a_second_question_is_not_told_of_the_first(self) -> None:
        import torch

        assert torch.equal(self._steps(self.make(32), again=True), self._steps(self.make(32)))

    def _steps(self, method: SparseAttention | None, again: bool = False) -> Tensor:
        """Logits of a few tokens after a context of 150, one after the other, (steps, V)."""
        import torch

        from carrel.generation.kv.context_model import ContextModel

        generator = torch.Generator().manual_seed(0)
        ids = [int(token) for token in torch.randint(0, 64, (150,), generator=generator)]
        runner = ContextModel(tiny_model(), attention=method)
        context, _ = runner.context(ids)
        if again:
            runner.logits(runner.begin(context, [9, 8, 7]))
        text, rows = runner.begin(context, [1]), []
        for token in (2, 3, 4):
            rows.append(runner.logits(text))
            text.rest.append(token)
        runner.close()
        return torch.stack(rows)
