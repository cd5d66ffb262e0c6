"""AdaLoRA: LoRA whose ranks go where they matter while it trains (Zhang et al. 2023, arXiv:2303.10512).

The update of a layer is (alpha / start_rank) B diag(e) A, a singular value decomposition that is learned: a term of the
loss keeps A and B near orthogonal matrices. Every layer begins with ``start_rank``. After each step the importance of
every singular value is averaged, how much the loss would change without it and its two vectors, and between
``begin_share`` and 1 - ``end_share`` of the run the least important of all layers are set to zero, until ``rank`` a
layer is left on average. What is left at the end is the adapter; the page of stage 4 shows how it is spread.

Good where few weights are to be spent well: the layers that need more get more. The importance is of whole gradients,
so that processes may not share them out.

Example: ``method: {name: adalora, rank: 8}`` begins with rank 12 in each layer. A layer of 320 x 320 trains 12 x 641 =
7,692 weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.hooks import RunFacts, StepHooks
from tasks.training.methods.method import Can


class AdaLora(Adapter):
    """Train low-rank updates whose ranks are moved to where they matter."""

    can: ClassVar[Can] = replace(USUAL, reads_gradients=True)
    peft_type: ClassVar[str] = "ADALORA"
    title: ClassVar[str] = "AdaLoRA"

    name: Literal["adalora"] = "adalora"
    rank: int = Field(default=8, ge=1, description="mean rank of the layers that is left at the end")
    start_rank: int | Literal["auto"] = Field(
        default="auto", description="rank that every layer begins with; auto: one and a half times the rank"
    )
    alpha: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        default="auto", description="scale; updates are multiplied by alpha / start_rank; auto: twice the start_rank"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the updates' inputs dropped in training")
    begin_share: float = Field(default=0.1, ge=0, lt=1, description="share of the run before ranks are taken away")
    end_share: float = Field(default=0.3, ge=0, lt=1, description="share of the run in which the ranks stay")
    every_steps: int = Field(default=1, ge=1, description="optimizer steps between two rounds of taking away")
    orthogonality: float = Field(default=0.5, ge=0, description="weight of the term that keeps A and B orthogonal")
    sensitivity_memory: float = Field(default=0.85, gt=0, lt=1, description="of the moving average of importance")
    uncertainty_memory: float = Field(default=0.85, gt=0, lt=1, description="of the moving average of its spread")

    def problems(self, shape: ModelShape) -> list[str]:
        problems = super().problems(shape)
        if self._start <= self.rank:
            problems.append(
                f"method.start_rank: {self._start} is no more than rank ({self.rank}), so there is nothing to move; "
                f"set start_rank: {self.rank + max(1, self.rank // 2)}"
            )
        if self.begin_share + self.end_share >= 1:
            problems.append(
                f"method.begin_share: with end_share {self.begin_share + self.end_share:g} of the run, which leaves no "
                "step to move ranks in; set both lower"
            )
        return problems

    def _rank_problems(self, shape: ModelShape) -> list[str]:
        sides = [(min(out, inner), name) for name, out, inner in self.layers(shape)]
        if not sides or self._start <= min(sides)[0]:
            return []
        smallest, name = min(sides)
        return [
            f"method.start_rank: {self._start} is more than the smaller side of {name} ({smallest}); set at most that"
        ]

    def resolve(self, shape: ModelShape) -> Self:
        return super().resolve(shape).model_copy(update={"start_rank": self._start, "alpha": self._alpha})

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self._start, inner), (self._start, 1), (out, self._start)]

    def held_bytes(self, shape: ModelShape) -> int:
        """A frozen number beside each layer: the rank it began with."""
        return 4 * len(self.layers(shape))

    def kept_per_token(self, shape: ModelShape) -> int:
        return self._start * len(self.layers(shape))

    def kept_per_pass(self, shape: ModelShape) -> int:
        """A times the singular values."""
        return self._start * sum(inner for _, _, inner in self.layers(shape))

    def details(self) -> str:
        return f"mean rank {self.rank} of {self._start}, alpha {self._alpha:g}"

    def settings(self) -> dict[str, Any]:
        return {
            "target_r": self.rank,
            "init_r": self._start,
            "lora_alpha": self._alpha,
            "lora_dropout": self.dropout,
            "deltaT": self.every_steps,
            "beta1": self.sensitivity_memory,
            "beta2": self.uncertainty_memory,
            "orth_reg_weight": self.orthogonality,
            "total_step": 1,  # until the run is known
        }

    def adapt(self, model: Any) -> Any:
        adapted = super().adapt(model)
        for name, weights in adapted.named_parameters():
            if ".ranknum." in name:
                weights.requires_grad_(False)  # PEFT forgets it over a base in 16 bits
        return adapted

    def hooks(self, model: Any, run: RunFacts, initial: Path) -> StepHooks:
        """Moves ranks after each step.

        Raises:
            PipelineError: The run is too short for it.
        """
        begin, end = int(self.begin_share * run.steps), int(self.end_share * run.steps)
        if run.steps - end < max(2, begin + 1):
            raise PipelineError(
                f"method adalora moves ranks between steps {begin} and {run.steps - end} of {run.steps}, which are too "
                "few; raise epochs, or take method: {name: lora}"
            )
        config = model.peft_config["default"]
        config.tinit, config.tfinal, config.total_step = begin, end, run.steps
        return MoveRanks(self.orthogonality)

    def save(self, model: Any, folder: Path) -> list[Path]:
        """The singular values that are not zero, with their vectors."""
        model.peft_config["default"].rank_pattern = {
            name: (values.detach() != 0).view(-1).tolist() for name, values in _singular_values(model).items()
        }
        return super().save(model, folder)

    def outcome(self, model: Any) -> dict[str, str]:
        """The ranks that are left, by the layers' names."""
        left: dict[str, list[int]] = {}
        for name, values in _singular_values(model).items():
            left.setdefault(name.split(".lora_E")[0].rpartition(".")[2], []).append(int((values != 0).sum()))
        every = [rank for ranks in left.values() for rank in ranks]
        told = {f"ranks of {name}, block by block": ", ".join(map(str, ranks)) for name, ranks in sorted(left.items())}
        return {"mean rank of all layers": f"{sum(every) / max(len(every), 1):.3g}", **told}

    @property
    def _start(self) -> int:
        return self.rank + max(1, self.rank // 2) if self.start_rank == "auto" else self.start_rank

    @property
    def _alpha(self) -> float:
        return 2.0 * self._start if self.alpha == "auto" else self.alpha


class MoveRanks(StepHooks):
    """Averages importances, takes singular values away, and keeps the vectors orthogonal.

    Args:
        orthogonality: Weight of that term.
    """

    keeps_state: ClassVar[bool] = True

    def __init__(self, orthogonality: float) -> None:
        self.orthogonality = orthogonality

    def after(self, model: Any, step: int) -> None:
        config = model.peft_config["default"]
        moving = step < config.total_step - config.tfinal
        # A step that was skipped has no gradients to learn from.
        if not moving or all(weights.grad is not None for weights in _vectors(model)):
            model.base_model.update_and_allocate(step)

    def extra_loss(self, model: Any, step: int) -> Any:
        """The mean over A and B of how far their rows or columns are from orthogonal (Zhang et al., equation 4)."""
        import torch

        if not self.orthogonality:
            return None
        found = []
        for name, weights in model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                products = weights @ weights.T if ".lora_A." in name else weights.T @ weights
                found.append(torch.linalg.norm(products - torch.eye(len(products), device=products.device)))
        return self.orthogonality * torch.stack(found).mean()

    def state(self, model: Any) -> dict[str, Any]:
        """The moving averages, and which singular values were kept last."""
        import torch

        allocator = model.base_model.rankallocator
        averages = {"ipt": allocator.ipt, "mean": allocator.exp_avg_ipt, "spread": allocator.exp_avg_unc}
        state = {f"{kind} {name}": one for kind, found in averages.items() for name, one in found.items()}
        pattern = model.peft_config["default"].rank_pattern or {}
        return state | {f"kept {name}": torch.tensor(kept) for name, kept in pattern.items()}

    def load_state(self, model: Any, state: Mapping[str, Any]) -> None:
        allocator = model.base_model.rankallocator
        device = model.device
        kinds = {"ipt": allocator.ipt, "mean": allocator.exp_avg_ipt, "spread": allocator.exp_avg_unc}
        pattern = {}
        for key, found in state.items():
            kind, _, name = key.partition(" ")
            if kind == "kept":
                pattern[name] = found.tolist()
            else:
                kinds[kind][name] = found.to(device)
        model.peft_config["default"].rank_pattern = pattern or None


def _singular_values(model: Any) -> dict[str, Any]:
    """By name, as PEFT keeps the ranks."""
    named = model.get_base_model().named_parameters()
    return {name: weights for name, weights in named if ".lora_E." in name}


def _vectors(model: Any) -> list[Any]:
    return [weights for weights in model.parameters() if weights.requires_grad]
