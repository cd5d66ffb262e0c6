"""Identity preference optimisation (Azar et al. 2023, arXiv:2310.12036): have the two answers' log-ratios to the
reference a fixed distance apart, and no more.

``(r_w - r_l - 1 / (2 tau))^2``, r being the log-ratio by token, as its authors trained it.

Good where pairs contradict each other or are few: DPO's loss falls without end as the ratios grow, so it overfits pairs
that it is sure of; this one has its least at a finite distance.

Example: ``objective: {name: ipo, tau: 0.1}``. With ratios of 0.5 and 0.1 nats a token the loss is
(0.4 - 5)^2 = 21.16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.training.objectives.objective import Batch, ObjectiveLoss, Reference, Scorer
from tasks.training.objectives.preferences.dpo import Dpo
from tasks.training.objectives.preferences.pair_objective import PairObjective

if TYPE_CHECKING:
    import torch


class Ipo(PairObjective):
    """Log-ratios a fixed distance apart; `Dpo` with its loss ``ipo``, under the name and the param of the paper."""

    name: Literal["ipo"] = "ipo"
    tau: float = Field(default=0.1, gt=0, description="the larger, the smaller the distance: 1 / (2 tau) nats a token")

    @property
    def loss_in(self) -> str:
        return f"per {self.unit}"

    @property
    def reference(self) -> Reference:
        return "precomputed"

    def describe(self) -> str:
        return f"identity preference optimisation, tau {self.tau:g}"

    def measure_reference(self, scorer: Scorer, inputs: Batch) -> Mapping[str, torch.Tensor]:
        return self._as_dpo.measure_reference(scorer, inputs)

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self._as_dpo.loss(scorer, inputs)

    @property
    def _as_dpo(self) -> Dpo:
        return Dpo(losses=("ipo",), beta=self.tau)
