"""Muon for matrices and AdamW for the rest, to a trainer one optimizer."""

from __future__ import annotations

from typing import Any

import torch


class MuonBesideAdamW(torch.optim.Optimizer):
    """Two optimizers that share the groups and the state of one.

    Args:
        matrices: Groups whose ``part`` is ``matrix``.
        others: Groups of embeddings, norms and biases.
        momentum: Of Muon.
        steps: Newton-Schulz iterations.
        betas: Of AdamW.
    """

    def __init__(
        self,
        matrices: list[dict[str, Any]],
        others: list[dict[str, Any]],
        momentum: float,
        steps: int,
        betas: tuple[float, float],
    ) -> None:
        muon = torch.optim.Muon(matrices, momentum=momentum, ns_steps=steps, adjust_lr_fn="match_rms_adamw")
        self.inner = {"matrix": muon, **({"other": torch.optim.AdamW(others, betas=betas)} if others else {})}
        # The inner ones have filled the groups with what they need.
        super().__init__(matrices + others, {})
        self._share()

    def _share(self) -> None:
        """Let the inner optimizers work on the groups and the state of this one."""
        for kind, one in self.inner.items():
            one.state = self.state
            one.param_groups = [
                group for group in self.param_groups if (group["part"] == "matrix") == (kind == "matrix")
            ]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for one in self.inner.values():
            one.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()
