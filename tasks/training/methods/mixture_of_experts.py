"""Sparse up-cycling: the base becomes a mixture of experts, each of which begins as a copy of its feed-forward parts
(Komatsuzaki et al. 2022, arXiv:2212.05055).

The feed-forward part of every block is copied ``experts`` times, and a router, a linear layer, gives each token to the
``top_k`` experts that it finds the most likely, weighted by its probabilities, which are made to sum to 1; so training
begins at the base's own answers, whatever the router says. From there the experts part ways: more weights for the same
computation of a token, but for ``top_k`` instead of one feed-forward part. Two terms are added to the loss:
``load_balance`` times that of Switch Transformers, which spreads tokens over experts (1 where it is even), and ``z``
times that of ST-MoE, which keeps the router's logits small.

Good for going on with a base that has stopped to improve, on many tokens; with few rows LoRA learns as much. What comes
out is a model of Mixtral's architecture (Jiang et al. 2024, arXiv:2401.04088), which transformers and vLLM open, some
times the base's size. The base has to be a Llama or a Mistral, whose blocks Mixtral's are.

Example: ``method: {name: mixture_of_experts, experts: 4, top_k: 2}``. A block of width 320 with a feed-forward part of
3 x 320 x 864 weights gets 3 x 829,440 + 4 x 320 = 2,489,600 more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.full import TRAINS_BASE, rates_of_base
from tasks.training.methods.hooks import RunFacts, StepHooks
from tasks.training.methods.method import Can, Rates

FILE = "experts.safetensors"
PART = "mlp"  # of a block, in the architectures below
LAYERS = ("down_proj", "gate_proj", "up_proj")
# What Mixtral can hold; others differ in more than their experts.
BASES = ("LlamaForCausalLM", "MistralForCausalLM")


class MixtureOfExperts(Section):
    """Train a mixture of experts that begins at the base."""

    can: ClassVar[Can] = TRAINS_BASE
    reads_base: ClassVar[bool] = True
    figures: ClassVar[Mapping[str, str]] = {
        "load_balance": "Load-balance loss of the routers, mean over the blocks; 1 where experts get equal shares",
        "router_z": "Mean squared log-sum-exp of the routers' logits, mean over the blocks",
        "largest_expert": "Share of the tokens' choices that fall on the expert with the most, mean over the blocks",
        "smallest_expert": "Share of the tokens' choices that fall on the expert with the fewest, mean over the blocks",
    }
    released_as: ClassVar[str] = "MixtralForCausalLM"

    name: Literal["mixture_of_experts"] = "mixture_of_experts"
    experts: int = Field(default=4, ge=2, description="copies of each feed-forward part")
    top_k: int = Field(default=2, ge=1, description="experts of a token")
    trained: Literal["all", "experts"] = Field(
        default="all", description="all: every weight; experts: experts and routers, attention and embeddings frozen"
    )
    load_balance: float = Field(default=0.01, ge=0, description="weight of the load-balance loss")
    z: float = Field(default=0.001, ge=0, description="weight of the z loss of the routers' logits")

    def problems(self, shape: ModelShape) -> list[str]:
        """A base that Mixtral cannot hold, more experts of a token than there are."""
        biased = any(name.endswith(".bias") for block in shape.layout.blocks for name in block)
        if shape.architecture not in BASES or biased:
            return [
                f"method.name: {self.name} writes {self.released_as}, whose blocks are those of "
                f"{' and '.join(BASES)} without biases, and the base is {shape.architecture or 'not known'}; take such "
                "a base, or method: {name: full}"
            ]
        if not shape.layers or not set(LAYERS) <= set(shape.linear):
            return ["method: the model has no feed-forward parts to copy; take another base, or method: {name: full}"]
        problems = []
        if self.top_k > self.experts:
            problems.append(
                f"method.top_k: {self.top_k} of {self.experts} experts; set at most {self.experts}, or more experts"
            )
        return problems

    def unusual(self, shape: ModelShape) -> list[str]:
        if self.top_k == 1:
            return ["method.top_k: 1 leaves a router's probabilities no gradient of the task's loss; 2 is usual"]
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return rates_of_base(shape)

    def resolve(self, shape: ModelShape) -> Self:
        return self

    def trainable(self, shape: ModelShape) -> int:
        beside = self._beside(shape)
        return beside + (shape.parameters if self.trained == "all" else self._feed_forward(shape))

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        found = [size for name, sizes in shape.linear.items() if name not in LAYERS for size in sizes]
        parts = [size for name in LAYERS for size in shape.linear[name]]
        routers = shape.layers * [(self.experts, shape.hidden)]
        return [*(found if self.trained == "all" else []), *self.experts * parts, *routers]

    def own_bytes(self, shape: ModelShape) -> int:
        return 4 * self._beside(shape)

    def kept_per_token(self, shape: ModelShape) -> int:
        """Of each block its experts' inputs and results, what one feed-forward part more keeps for all but one of
        them, and the routers' probabilities."""
        of_experts = self.top_k * 2 * shape.hidden + (self.top_k - 1) * 4 * shape.intermediate
        return shape.layers * (of_experts + 2 * self.experts)

    def describe(self) -> str:
        part = "" if self.trained == "all" else ", attention and embeddings frozen"
        return f"a mixture of {self.experts} experts, {self.top_k} a token{part}"

    def adapt(self, model: Any) -> Any:
        from tasks.language_models.folder.layout import find_blocks
        from tasks.training.methods.modules.sparse_feed_forward import find_experts, put_experts

        put_experts(model, find_blocks(model)[1], PART, self.experts, self.top_k)
        if self.trained == "experts":
            model.requires_grad_(False)
            for part in find_experts(model):
                part.requires_grad_(True)
        return model

    def hooks(self, model: Any, run: RunFacts, initial: Path) -> StepHooks:
        return WatchRouters(model, self.load_balance, self.z)

    def outcome(self, model: Any) -> dict[str, str]:
        """Which experts are used, block by block."""
        from tasks.training.methods.modules.sparse_feed_forward import find_experts

        told = {}
        for number, part in enumerate(find_experts(model)):
            shares = part.use.double() / max(1, int(part.use.sum()))
            told[f"tokens by expert, block {number + 1}"] = ", ".join(f"{share:.1%}" for share in shares.tolist())
        return told

    def save(self, model: Any, folder: Path) -> list[Path]:
        from tasks.training.methods.modules.own_weights import save_own

        save_own(model, folder / FILE)
        return [folder / FILE]

    def load(self, base: Path, tuned: Path) -> Any:
        """The base with its experts, computed as it was trained."""
        from tasks.training.methods.modules.own_weights import load_own

        return load_own(self.adapt(load_model(base)), tuned / FILE)

    def merge(self, base: Path, tuned: Path) -> Any:
        """A model of Mixtral's architecture with the same weights."""
        import torch
        from transformers import MixtralConfig, MixtralForCausalLM
        from transformers.initialization import no_init_weights

        trained = self.load(base, tuned)
        known = MixtralConfig().to_dict().keys() - {"model_type", "architectures", "transformers_version"}
        facts = {key: value for key, value in trained.config.to_dict().items() if key in known}
        experts = {"num_local_experts": self.experts, "num_experts_per_tok": self.top_k}
        config = MixtralConfig(**{**facts, **experts, "router_aux_loss_coef": self.load_balance})
        with no_init_weights():
            mixtral = MixtralForCausalLM(config)
        weights = trained.state_dict()
        for number in range(config.num_hidden_layers):
            here = f"model.layers.{number}.{PART}."
            weights[f"{here}gate.weight"] = weights.pop(f"{here}router.weight")
            parts = {
                name: [weights.pop(f"{here}experts.{one}.{name}.weight") for one in range(self.experts)]
                for name in LAYERS
            }
            both = [torch.cat(pair) for pair in zip(parts["gate_proj"], parts["up_proj"], strict=True)]
            weights[f"{here}experts.gate_up_proj"] = torch.stack(both)
            weights[f"{here}experts.down_proj"] = torch.stack(parts["down_proj"])
        mixtral.tie_weights()
        mixtral.load_state_dict(weights)
        mixtral.generation_config = trained.generation_config
        return mixtral

    def _feed_forward(self, shape: ModelShape) -> int:
        return sum(out * inner for name in LAYERS for out, inner in shape.linear[name])

    def _beside(self, shape: ModelShape) -> int:
        """Weights that the base does not have."""
        return (self.experts - 1) * self._feed_forward(shape) + shape.layers * self.experts * shape.hidden


class WatchRouters(StepHooks):
    """Adds the routers' two terms to the loss, and counts which experts the tokens of all ranks use.

    Args:
        model: As adapted; its routers are watched from now on.
        load_balance: Weight of the load-balance loss.
        z: Weight of the z loss.
    """

    keeps_state: ClassVar[bool] = True

    def __init__(self, model: Any, load_balance: float, z: float) -> None:
        from tasks.training.methods.modules.sparse_feed_forward import find_experts

        self._load_balance, self._z = load_balance, z
        self._figures: dict[str, tuple[Any, int]] = {}
        for part in find_experts(model):
            part.watched = True

    def extra_loss(self, model: Any, step: int) -> Any:
        """The terms of the passes since the last call, mean over the blocks."""
        import torch

        from tasks.training.methods.modules.sparse_feed_forward import find_experts, measure_routers

        found = [measure_routers(kept) for part in find_experts(model) if (kept := part.take())]
        if not found:
            return None
        balance, z, largest, smallest = (torch.stack(values).mean() for values in zip(*found, strict=True))
        self._figures = {
            name: (value.detach(), 1)
            for name, value in zip(MixtureOfExperts.figures, (balance, z, largest, smallest), strict=True)
        }
        return self._load_balance * balance + self._z * z

    def take_figures(self) -> Mapping[str, tuple[Any, int]]:
        figures, self._figures = self._figures, {}
        return figures

    def after(self, model: Any, step: int) -> None:
        """Count what the step's tokens chose."""
        import torch

        from tasks.training.methods.modules.sparse_feed_forward import find_experts

        parts = list(find_experts(model))
        chosen = torch.stack([part.chosen for part in parts])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(chosen)
        for part, counts in zip(parts, chosen, strict=True):
            part.use = part.use.to(counts.device) + counts
            part.chosen = torch.zeros_like(counts)

    def state(self, model: Any) -> dict[str, Any]:
        """The tokens that each expert got."""
        from tasks.training.methods.modules.sparse_feed_forward import find_experts

        return {f"use.{number}": part.use for number, part in enumerate(find_experts(model))}

    def load_state(self, model: Any, state: Mapping[str, Any]) -> None:
        from tasks.training.methods.modules.sparse_feed_forward import find_experts

        for number, part in enumerate(find_experts(model)):
            part.use = state[f"use.{number}"]
