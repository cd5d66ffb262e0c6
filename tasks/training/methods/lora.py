"""LoRA: frozen weights, and beside each chosen linear layer a product of two thin matrices (Hu et al. 2021,
arXiv:2106.09685).

A layer y = W x becomes y = W x + (alpha / rank) B A x, with A of rank x in drawn at random and B of out x rank zero, so
that training begins at the base's own answers. ``rslora`` divides by the square root of the rank instead, which keeps
the size of the update as the rank grows (Kalajdzievski 2023, arXiv:2312.03732). ``dora`` trains the norm of each row
of the weights too, apart from its direction, which is what A and B turn (Liu et al. 2024, arXiv:2402.09353): closer to
full fine-tuning at small ranks, for about twice the time.

Good for fine-tuning on little memory and for many variants of one base. All linear layers of the blocks, not only those
of attention, reach full fine-tuning's quality (Schulman et al. 2025, "LoRA Without Regret"). What comes out is a
PEFT adapter, ``adapter/``, a small fraction of the base's size, that merges into the base.

Example: ``method: {name: lora, rank: 32, targets: all-linear}``, whose alpha is 64, twice the rank. A layer of 320 x
320 gets 32 x (320 + 320) = 20,480 trainable weights beside its 102,400 frozen ones, and its update is multiplied by 2.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json
from tasks.contracts.params import Section
from tasks.language_models.model_folder import load_model
from tasks.language_models.shape import ModelShape
from tasks.training.methods.method import Can

FOLDER = "adapter"


class Lora(Section):
    """Train low-rank updates of frozen linear layers."""

    can: ClassVar[Can] = Can(frozen_base=True, packing=True, merging=True, low_rank=True)

    name: Literal["lora"] = "lora"
    rank: int = Field(default=32, ge=1, description="inner dimension of the updates")
    alpha: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        default="auto", description="scale; updates are multiplied by alpha / rank; auto: twice the rank"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the updates' inputs dropped in training")
    targets: Literal["all-linear"] | list[str] = Field(
        default="all-linear", description="all-linear (all but the output layer) or names such as [q_proj, v_proj]"
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(rank), for ranks of 64 and more")
    dora: bool = Field(default=False, description="train the norms of the weights' rows too: better at small ranks")

    def problems(self, shape: ModelShape) -> list[str]:
        """Targets that do not exist or cannot be adapted, and a rank that no layer can hold."""
        if not shape.linear:
            return ["method.targets: the model has no linear layer to adapt; use method: {name: full}"]
        targets, problems = self._targets(shape), []
        if not targets:
            problems.append("method.targets: empty; expected all-linear or some of " + _listed(shape))
        unknown = sorted(set(targets) - set(shape.linear))
        if shape.head in unknown:
            unknown.remove(shape.head)
            problems.append(
                f"method.targets: {shape.head} is the output layer, which LoRA cannot adapt here; leave it out or "
                "use method: {name: full}"
            )
        if unknown:
            problems.append(
                f"method.targets: the model has no linear module {', '.join(unknown)}; expected all-linear or some of "
                + _listed(shape)
            )
        sides = [(min(out, inner), name) for name in targets for out, inner in shape.linear.get(name, ())]
        if sides and self.rank > min(sides)[0]:
            smallest, name = min(sides)
            problems.append(
                f"method.rank: {self.rank} is more than the smaller side of {name} ({smallest}); a full update has "
                f"rank {smallest}; set at most that, or use method: {{name: full}}"
            )
        return problems

    def unusual(self, learning_rate: float, shape: ModelShape) -> list[str]:
        if 1e-5 <= learning_rate <= 1e-2:
            return []
        return [f"learning_rate {learning_rate:g} is unusual for LoRA; 1.0e-4 to 5.0e-3 is usual"]

    def resolve(self, shape: ModelShape) -> Self:
        """The same with every adapted layer named, and alpha as a number."""
        return self.model_copy(update={"targets": self._targets(shape), "alpha": self._alpha})

    def trainable(self, shape: ModelShape) -> int:
        """The sum of rank x (in + out) over the adapted layers, and with DoRA of out."""
        return sum(self.rank * (out + inner) + (out if self.dora else 0) for out, inner in self._layers(shape))

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        """A and B of every adapted layer."""
        return [size for out, inner in self._layers(shape) for size in ((self.rank, inner), (out, self.rank))]

    def own_bytes(self, shape: ModelShape) -> int:
        return 4 * self.trainable(shape)

    def kept_per_token(self, shape: ModelShape) -> int:
        """The result of A of every adapted layer, its rank; with DoRA those of the base and of B too."""
        layers = self._layers(shape)
        return self.rank * len(layers) + (2 * sum(out for out, _ in layers) if self.dora else 0)

    def describe(self) -> str:
        scale = ", rank-stabilised" if self.rslora else ""
        targets = self.targets if isinstance(self.targets, str) else ", ".join(self.targets)
        return f"{'DoRA' if self.dora else 'LoRA'} (rank {self.rank}, alpha {self._alpha:g}{scale}; {targets})"

    def adapt(self, model: Any) -> Any:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.rank,
            lora_alpha=self._alpha,  # type: ignore[arg-type]  # PEFT annotates int and takes floats
            lora_dropout=self.dropout,
            target_modules=self.targets,
            use_rslora=self.rslora,
            use_dora=self.dora,
        )
        with warnings.catch_warnings():
            # PEFT asks the model for an attribute by its old name.
            warnings.simplefilter("ignore", FutureWarning)
            adapted = get_peft_model(model, config)
        if self.dora:
            _measure_norms(adapted)
        return adapted

    def save(self, model: Any, folder: Path) -> list[Path]:
        target = folder / FOLDER
        model.save_pretrained(target)
        (target / "README.md").unlink(missing_ok=True)  # a model card without content
        config_file = target / "adapter_config.json"
        config = read_json(config_file)
        # PEFT keeps the targets as a set, whose order changes from process to process, and the path of the base.
        config["target_modules"] = sorted(config["target_modules"])
        config["base_model_name_or_path"] = None
        write_json(config_file, config)
        return [target / "adapter_model.safetensors", config_file]

    def load(self, base: Path, tuned: Path) -> Any:
        """The base model with the updates in its linear layers; nothing is merged."""
        return self._open(base, tuned).get_base_model()

    def merge(self, base: Path, tuned: Path) -> Any:
        """The base model with the updates added to its weights."""
        try:
            # `safe_merge` looks for weights that are not numbers before it overwrites anything.
            return self._open(base, tuned).merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise PipelineError(f"{tuned}: the adapter cannot be merged ({error}); train again") from error

    def _open(self, base: Path, tuned: Path) -> Any:
        from peft import PeftModel

        return PeftModel.from_pretrained(load_model(base), tuned / FOLDER)

    @property
    def _alpha(self) -> float:
        return 2.0 * self.rank if self.alpha == "auto" else self.alpha

    def _targets(self, shape: ModelShape) -> list[str]:
        return sorted(shape.linear) if self.targets == "all-linear" else sorted(set(self.targets))

    def _layers(self, shape: ModelShape) -> list[tuple[int, int]]:
        """The (out, in) of every adapted layer."""
        return [layer for name in self._targets(shape) for layer in shape.linear.get(name, ())]


def _listed(shape: ModelShape) -> str:
    return ", ".join(sorted(shape.linear))


def _measure_norms(adapted: Any) -> None:
    """Begin at the norms in fp32: PEFT rounds them to the weights' type, and with them every answer."""
    import torch
    from peft.utils.integrations import dequantize_module_weight

    for module in adapted.modules():
        for norms in getattr(module, "lora_magnitude_vector", {}).values():
            weights = dequantize_module_weight(module.get_base_layer()).float()
            norms.weight.data = torch.linalg.norm(weights.T if module.fan_in_fan_out else weights, dim=1)
