"""A throw-away adapter that learns each finished block of a text that goes on, so that the window may leave it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from carrel.errors import InputError
from carrel.generation.transformers_engine import TransformersGenerator
from carrel.inputs import check_kind, check_text
from carrel.memory.parametric.recipes import TEMP_LORA, Recipe, make_recipe

if TYPE_CHECKING:
    from carrel.generation.kv.contexts import ContextStore
    from carrel.memory.parametric.applying import Layers
    from carrel.memory.parametric.training import Tensors


class TemporaryMemory:
    """Learns a text block by block (Temp-LoRA); what it has learnt is gone with it, and is never written to a disk.

    Parameters
    ----------
    engine : runs the model that writes or reads the text.
    recipe : of the adapter, by name or as it is; a published one is fitted to the size of the model.

    Raises
    ------
    InputError : an argument is of no use.
    """

    name: ClassVar[str] = "temp-lora"
    citation: ClassVar[str] = TEMP_LORA.citation

    def __init__(self, engine: TransformersGenerator, *, recipe: str | Recipe = TEMP_LORA) -> None:
        check_kind("an engine", engine, TransformersGenerator)
        self.engine = engine
        weights = engine.loaded.runner.model.parameters()
        self.recipe = make_recipe(recipe).fitted(sum(weight.numel() for weight in weights))
        self.blocks = 0
        self._tensors: Tensors | None = None
        self._layers: Layers | None = None
        self._store: ContextStore | None = None  # keys and values that were computed with them

    def learn(self, block: str) -> dict[str, float]:
        """Train on a finished block, from where the blocks before it left off; gives the figures of the training.

        Raises
        ------
        InputError : the block has no words.
        """
        from carrel.generation.kv.context_model import lock_of
        from carrel.memory.parametric.applying import Layers
        from carrel.memory.parametric.lessons import told
        from carrel.memory.parametric.training import peft_config, train

        if not check_text("a block", block).strip():
            raise InputError("a block has no words: there is nothing to learn in it")
        model = self.engine.loaded.runner.model
        recipe = replace(self.recipe, seed=self.recipe.seed + self.blocks)
        with lock_of(model):
            trained = train(model, told(block, self.engine, recipe), recipe, start=self._tensors)
        self._tensors, self._store = trained.tensors, None
        self._layers = Layers.of(trained.tensors, peft_config(recipe), self.engine.loaded.runner.device)
        self.blocks += 1
        return trained.figures

    @contextmanager
    def recalled(self) -> Iterator[None]:
        """Inside, the engine speaks with what was learnt; questions of other threads wait."""
        from carrel.memory.parametric.applying import applied

        runner = self.engine.loaded.runner
        if self._layers is None:
            yield
            return
        with runner.changed(self._store) as self._store, applied(runner.model, self._layers):
            yield

    def loss(self, text: str, before: str = "") -> float:
        """Mean loss of the tokens of a text (nats), after what stands before it in the window, with what was learnt."""
        import torch

        tokenizer = self.engine.loaded.tokenizer.inner
        begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        read = [*begin, *tokenizer(before, add_special_tokens=False)["input_ids"]]
        ids = [*read, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        first = max(1, len(read))
        if len(ids) <= first:
            raise InputError("a text has no words: there is no loss of it")
        runner = self.engine.loaded.runner
        with self.recalled(), torch.inference_mode():
            logits = runner.model(input_ids=torch.tensor([ids], device=runner.device), use_cache=False).logits[0]
            wanted = torch.tensor(ids[first:], device=logits.device)
            return float(torch.nn.functional.cross_entropy(logits[first - 1 : -1].float(), wanted))

    def forget(self) -> None:
        """Throw away what was learnt."""
        self._tensors, self._layers, self._store, self.blocks = None, None, None, 0
