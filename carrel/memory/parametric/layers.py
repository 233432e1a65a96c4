"""What a model must be like to take an adapter: linear layers of the recipe's names, and no adapter of its own."""

from __future__ import annotations

from typing import Any

from torch.nn import Linear

from carrel.errors import ModelError
from carrel.memory.parametric.recipes import Recipe


def check_bare(model: Any) -> None:
    """Raise ModelError for a model that has adapters already: ours would be taken out together with them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if hasattr(model, "peft_config") or any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise ModelError(
            f"this {type(model).__name__} has an adapter of its own, and another cannot be trained beside it: merge it"
            " into the weights first, with merge_and_unload()"
        )


def check_layers(model: Any, recipe: Recipe) -> None:
    """Raise ModelError, before anything is changed, where a layer of the recipe is not there or is not a linear one."""
    found: set[str] = set()
    for name, module in model.named_modules():
        named = {target for target in recipe.targets if name == target or name.endswith(f".{target}")}
        found |= named
        if named and not (hasattr(module, "in_features") and hasattr(module, "out_features")):
            raise ModelError(f"{name} of the type {type(module).__name__} is no linear layer. {layers_of(model)}")
    if missing := [target for target in recipe.targets if target not in found]:
        raise ModelError(f"{type(model).__name__} has no layers named {', '.join(missing)}. {layers_of(model)}")


def layers_of(model: Any) -> str:
    """What to put into a recipe instead."""
    linear = [name.removesuffix(".base_layer") for name, module in model.named_modules() if isinstance(module, Linear)]
    names = sorted({name.rsplit(".", 1)[-1] for name in linear if ".lora_" not in name})
    return (
        f"Its linear layers are {', '.join(names) or 'none'}: name them in a recipe, with replace(recipe, targets=...)"
    )
