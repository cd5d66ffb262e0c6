"""DyLoRA: LoRA that is trained for many ranks at once, so that it can be cut to any of them afterwards (Valipour et al.
2023, arXiv:2210.07558).

Before each optimizer step a rank b is drawn, the same for all layers, from the run's seed and the step's number. The
step uses the first b rows of A and the first b columns of B, y = W x + (alpha / b) B[:, :b] A[:b] x, so that what
matters most is learnt in the first ones. An adapter that is cut to its first b rows and columns answers as it was
trained to, without a search for the right rank or a training for each.

Good where one adapter is served on machines of several sizes, or where the rank is not known beforehand. At its full
rank it learns a little less than LoRA of that rank in as many steps. What comes out is a PEFT adapter of the full rank,
``adapter/``; ``served`` says which rank is evaluated, merged and released, and `cut_adapter` makes an adapter of any
other one.

Example: ``method: {name: dylora, rank: 32, ranks: [4, 8, 16, 32], served: 8}`` trains four ranks and releases the one
of rank 8, with alpha 64 as LoRA of rank 32 has it.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json
from tasks.contracts.params import Section
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import FOLDER, merge_adapter
from tasks.training.methods.beside_layers import USUAL
from tasks.training.methods.hooks import RunFacts, StepHooks
from tasks.training.methods.lora import Lora
from tasks.training.methods.method import Can, Rates

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class DyLora(Section):
    """Train low-rank updates that work at many ranks."""

    can: ClassVar[Can] = replace(USUAL, low_rank=True)

    name: Literal["dylora"] = "dylora"
    rank: int = Field(default=32, ge=1, description="largest inner dimension of the updates")
    ranks: Literal["all"] | list[Annotated[int, Field(ge=1)]] = Field(
        default="all", description="ranks that are drawn while it trains, such as [4, 8, 16, 32]; all: 1 to rank"
    )
    served: Literal["largest"] | Annotated[int, Field(ge=1)] = Field(
        default="largest", description="rank that is validated, evaluated and released; one of ranks"
    )
    alpha: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        default="auto", description="scale; updates are multiplied by alpha / the rank in use; auto: twice the largest"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the updates' inputs dropped in training")
    targets: Literal["all-linear"] | list[str] = Field(
        default="all-linear", description="all-linear (all but the output layer) or names such as [q_proj, v_proj]"
    )

    def problems(self, shape: ModelShape) -> list[str]:
        """As LoRA of the largest rank, and ranks above it, or one to serve that is never drawn."""
        problems = self._lora.problems(shape)
        drawn = self._drawn
        if not drawn:
            problems.append("method.ranks: empty; expected all or some ranks such as [4, 8, 16, 32]")
        elif drawn[-1] > self.rank:
            problems.append(f"method.ranks: {drawn[-1]} is more than method.rank ({self.rank}); raise method.rank")
        if self._served not in drawn:
            problems.append(
                f"method.served: {self._served} is a rank that is never trained; expected one of method.ranks "
                f"({_listed(drawn)})"
            )
        return problems

    def unusual(self, shape: ModelShape) -> list[str]:
        return self._lora.unusual(shape)

    def usual_rates(self, shape: ModelShape) -> Rates:
        return self._lora.usual_rates(shape)

    def resolve(self, shape: ModelShape) -> Self:
        """The same with every adapted layer and rank named, and alpha as a number."""
        lora = self._lora.resolve(shape)
        return self.model_copy(
            update={"ranks": self._drawn, "served": self._served, "alpha": lora.alpha, "targets": lora.targets}
        )

    def trainable(self, shape: ModelShape) -> int:
        return self._lora.trainable(shape)

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return self._lora.trained_matrices(shape)

    def own_bytes(self, shape: ModelShape) -> int:
        return self._lora.own_bytes(shape)

    def kept_per_token(self, shape: ModelShape) -> int:
        return self._lora.kept_per_token(shape)

    def describe(self) -> str:
        targets = self.targets if isinstance(self.targets, str) else ", ".join(self.targets)
        return f"DyLoRA (ranks {_listed(self._drawn)}, {self._served} served, alpha {self._alpha:g}; {targets})"

    def adapt(self, model: Any) -> Any:
        from tasks.training.methods.modules.drawn_rank import make_truncatable, use_rank

        adapted = self._lora.adapt(model)
        make_truncatable(adapted)
        use_rank(adapted, self._served, self._alpha)
        return adapted

    def hooks(self, model: Any, run: RunFacts, initial: Path) -> StepHooks:
        return DrawRanks(self._drawn, self._served, self._alpha, run.seed)

    def save(self, model: Any, folder: Path) -> list[Path]:
        return self._lora.save(model, folder)

    def load(self, base: Path, tuned: Path) -> Any:
        """The base model with the updates of the served rank in its linear layers; nothing is merged."""
        return self._open(base, tuned).get_base_model()

    def merge(self, base: Path, tuned: Path) -> Any:
        """The base model with the updates of the served rank added to its weights."""
        return merge_adapter(self._open(base, tuned), tuned)

    def _open(self, base: Path, tuned: Path) -> Any:
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        adapted = self._lora.model_copy(update={"rank": self._served, "alpha": self._alpha}).adapt(load_model(base))
        set_peft_model_state_dict(adapted, _cut(load_file(tuned / FOLDER / WEIGHTS), self._served))
        return adapted.eval()

    @property
    def _lora(self) -> Lora:
        return Lora(rank=self.rank, alpha=self.alpha, dropout=self.dropout, targets=self.targets)

    @property
    def _alpha(self) -> float:
        return 2.0 * self.rank if self.alpha == "auto" else self.alpha

    @property
    def _drawn(self) -> list[int]:
        return list(range(1, self.rank + 1)) if self.ranks == "all" else sorted(set(self.ranks))

    @property
    def _served(self) -> int:
        return max(self._drawn, default=self.rank) if self.served == "largest" else self.served


class DrawRanks(StepHooks):
    """A drawn rank in each step, the served one in between.

    Args:
        ranks: What is drawn from, each as likely as the others.
        served: The rank of validation, and of the model that is left behind.
        alpha: Numerator of the scale.
        seed: Of the run.
    """

    def __init__(self, ranks: list[int], served: int, alpha: float, seed: int) -> None:
        self._ranks, self._served, self._alpha, self._seed = ranks, served, alpha, seed

    def draw(self, step: int) -> int:
        """The rank of a step."""
        return random.Random(f"{self._seed} {step}").choice(self._ranks)

    def before(self, model: Any, step: int) -> None:
        from tasks.training.methods.modules.drawn_rank import use_rank

        use_rank(model, self.draw(step), self._alpha)

    def after(self, model: Any, step: int) -> None:
        from tasks.training.methods.modules.drawn_rank import use_rank

        use_rank(model, self._served, self._alpha)


def cut_adapter(adapter: Path, rank: int, folder: Path) -> None:
    """Write the first ``rank`` rows and columns of an adapter as an adapter of that rank.

    Args:
        adapter: A PEFT adapter that DyLoRA trained.
        rank: At most its own.
        folder: Where to.

    Raises:
        PipelineError: The rank is more than the adapter's.
    """
    from safetensors.torch import load_file, save_file

    config = read_json(adapter / CONFIG)
    if not 1 <= rank <= config["r"]:
        raise PipelineError(f"rank {rank}: {adapter} has rank {config['r']}; expected 1 to {config['r']}")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_cut(load_file(adapter / WEIGHTS), rank), folder / WEIGHTS, metadata={"format": "pt"})
    # PEFT divides alpha by the rank.
    write_json(folder / CONFIG, {**config, "r": rank})


def _cut(weights: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The first rows of every A and the first columns of every B."""
    return {
        name: (matrix[:rank] if ".lora_A." in name else matrix[:, :rank]).contiguous()
        for name, matrix in weights.items()
    }


def _listed(ranks: list[int]) -> str:
    """``1 to 32`` where none is left out, else all."""
    if ranks and ranks == list(range(ranks[0], ranks[-1] + 1)) and len(ranks) > 2:
        return f"{ranks[0]} to {ranks[-1]}"
    return ", ".join(map(str, ranks))
