"""What an unmet document's adapter would do beside this one, imitated while this one learns.

Adapters that are merged run in one model: where one speaks, the others read states that none of them has seen, and
speak too. To have met the others in training helps with those alone. So here nobody else is needed: to what each
layer gives, some rows of a batch get added what this very adapter adds in other rows (another document, speaking), and
as much again in a random direction (a document with other matrices). On its own questions the adapter learns to be
heard all the same; on others' to add nothing, spoken to or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_UNDISTURBED = 0.3  # share of the rows
_OWN_SHARE = 0.3  # of what is said in other rows, where the adapter itself has to speak: the others are nearly silent


class Disturbance:
    """Hooks on the layers of an adapter; they do nothing but while a batch runs (:meth:`during`).

    Parameters
    ----------
    wrapped : the model of peft. adapter : the name of the one that learns.
    strength : 1 for as much as the adapter itself says.
    """

    def __init__(self, wrapped: Any, adapter: str, strength: float, chance: np.random.Generator) -> None:
        self._adapter, self._strength, self._chance = adapter, strength, chance
        layers = [module for module in wrapped.modules() if adapter in getattr(module, "lora_A", {})]
        self._hooks = [layer.register_forward_hook(self._disturb) for layer in layers]
        self._rows: _Rows | None = None
        self._said: list[Tensor] = []

    @contextmanager
    def during(self, own: Tensor, silent: Tensor, mask: Tensor) -> Iterator[Tensor]:
        """Disturb the batch that runs inside; gives which of its rows (B,) are not.

        Parameters
        ----------
        own, silent : rows (B,) where the adapter is to speak, and where not. mask : (B, T) which tokens are text.
        """
        rows = len(own)
        spoken = np.flatnonzero(own.cpu().numpy())
        source = torch.from_numpy(self._chance.choice(spoken, rows)) if len(spoken) else torch.arange(rows)
        calm = torch.from_numpy(self._chance.random(rows) < _UNDISTURBED).to(own.device)
        chance = torch.from_numpy(self._chance.random((2, rows))).float().to(own.device)
        chance = chance * self._strength * ~calm * bool(len(spoken))
        said = chance[0] * torch.where(silent, 1.0, _OWN_SHARE)
        self._rows = _Rows(source.to(own.device), said, chance[1], silent[:, None] & mask.bool())
        self._said = []
        try:
            yield calm if self._strength else torch.ones_like(calm)
        finally:
            self._rows = None

    def loudness(self) -> Tensor:
        """What the adapter added where it was to be silent, to the square, of what its layers give; their mean."""
        return torch.stack(self._said).mean() if self._said else torch.zeros(())

    def remove(self) -> None:
        """Take the hooks out again."""
        for hook in self._hooks:
            hook.remove()

    def _disturb(self, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        rows, name = self._rows, self._adapter
        if rows is None or layer.disable_adapters:
            return None
        down, up = layer.lora_A[name], layer.lora_B[name]
        added = up(down(inputs[0].to(down.weight.dtype))) * layer.scaling[name]  # (B, T, out)
        if bool(rows.silent.any()):
            usual = (output - added).detach().square().sum(-1).mean() + 1e-6
            self._said.append(added[rows.silent].square().sum(-1).mean() / usual)
        if not self._strength:
            return None
        heard = added.detach()[rows.source]
        noise = torch.randn_like(heard)
        noise = noise * (heard.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))
        extra = rows.said[:, None, None] * heard + rows.noise[:, None, None] * noise
        disturbed: Tensor = output + extra.to(output.dtype)
        return disturbed


class _Rows:
    """How each row of a batch is disturbed: by which other row, how much, and by how much noise."""

    def __init__(self, source: Tensor, said: Tensor, noise: Tensor, silent: Tensor) -> None:
        self.source, self.said, self.noise, self.silent = source, said, noise, silent
