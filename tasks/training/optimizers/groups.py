"""Groups of weights that an optimizer treats alike: the same learning rate, the same decay, the same part of the model.

Weight decay acts on matrices and embeddings; norms and biases, whose size is no measure of complexity, are left out of
it, as is usual (Loshchilov & Hutter 2019, arXiv:1711.05101; transformers does the same by name). A schedule acts on
all groups alike.

Example: ``parameter_groups: {learning_rates: {embed_tokens: 0.1, layers.0: 0.5}}`` with ``learning_rate: 1.0e-3``
trains the embedding at 1.0e-4, the first block at 5.0e-4 and everything else at 1.0e-3.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import raise_all
from tasks.contracts.params import Section
from tasks.training.methods.method import Method

Part = Literal["matrix", "embedding", "vector"]
SHOWN_NAMES = 12


class ParameterGroups(Section):
    """Weights that learn or decay otherwise than the rest.

    ``lora_plus_ratio`` is LoRA+ (Hayou et al. 2024, arXiv:2402.12354): B begins at zero and should learn faster than A,
    16 times as fast in the paper's experiments, with a ``learning_rate`` about half of LoRA's.
    """

    learning_rates: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={},
        description="parts of weights' names, such as embed_tokens, layers.0 or q_*, to a factor on learning_rate; the "
        "first that fits a name counts",
    )
    decay_embeddings: bool = Field(default=True, description="weight decay acts on embeddings too, not matrices alone")
    lora_plus_ratio: float = Field(
        default=1.0, ge=1, description="LoRA's B matrices learn so many times faster than its A matrices; 1: as fast"
    )

    def problems(self, method: Method) -> list[str]:
        """Everything that cannot work with this method: what was found, what was expected, the next step."""
        if self.lora_plus_ratio == 1 or method.can.low_rank:
            return []
        return [
            f"parameter_groups.lora_plus_ratio: {self.lora_plus_ratio:g}, but method {method.name} trains no pairs of "
            "matrices A and B; set it to 1 or take method: {name: lora}"
        ]

    def describe(self) -> str:
        """In words; empty where all weights learn alike."""
        parts = [f"{name} × {factor:g}" for name, factor in self.learning_rates.items()]
        parts += [f"B matrices × {self.lora_plus_ratio:g}"] if self.lora_plus_ratio != 1 else []
        parts += [] if self.decay_embeddings else ["no decay of embeddings"]
        return ", ".join(parts)

    def factor(self, name: str) -> float:
        """What the learning rate of a weight is multiplied with.

        Args:
            name: Of the weight, such as ``model.layers.0.self_attn.q_proj.weight``.
        """
        pattern = self._pattern(name)
        own = 1.0 if pattern is None else self.learning_rates[pattern]
        return own * (self.lora_plus_ratio if "lora_B" in name.split(".") else 1.0)

    def unused(self, names: Collection[str]) -> list[str]:
        """A problem for each key of ``learning_rates`` that decides about none of the trained weights."""
        used = {self._pattern(name) for name in names}
        parts = sorted({part for name in names for part in name.split(".") if not part.isdigit()} - {"weight", "bias"})
        shown = ", ".join(parts[:SHOWN_NAMES]) + (", ..." if len(parts) > SHOWN_NAMES else "")
        return [
            f"parameter_groups.learning_rates.{pattern}: fits the name of no trained weight, or of none that no key "
            f"before it fits; parts of their names are {shown}"
            for pattern in self.learning_rates
            if pattern not in used
        ]

    def _pattern(self, name: str) -> str | None:
        return next((pattern for pattern in self.learning_rates if _fits(pattern, name)), None)


def _fits(pattern: str, name: str) -> bool:
    """Whether the dotted parts of a pattern stand one after another in a name."""
    wanted, parts = pattern.split("."), name.split(".")
    return any(
        all(fnmatchcase(part, one) for part, one in zip(parts[start : start + len(wanted)], wanted, strict=True))
        for start in range(len(parts) - len(wanted) + 1)
    )


def group_weights(
    model: Any,
    decayed: Collection[str],
    learning_rate: float,
    weight_decay: float,
    special: ParameterGroups | None = None,
    own_factor: Callable[[str], float] = lambda _: 1.0,
) -> list[dict[str, Any]]:
    """The trained weights of a model in groups, as PyTorch's optimizers take them.

    Args:
        model: What the method returned; weights that require no gradient are left out.
        decayed: Names of the weights that weight decay acts on.
        learning_rate: Peak.
        weight_decay: Of the decayed ones.
        special: Weights that learn or decay otherwise.
        own_factor: What the method multiplies the learning rate of a weight with, by its name.

    Returns:
        Groups with ``params``, ``lr``, ``weight_decay`` and ``part``, none of them empty; those that learn at
        ``learning_rate`` first, whose rate is the one that is logged.

    Raises:
        PipelineError: A key of ``learning_rates`` fits no trained weight.
    """
    special = special or ParameterGroups()
    parts = _parts(model)
    trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    raise_all(special.unused(trained), "the learning rates do not fit the model")
    groups: dict[tuple[float, Part, bool], list[Any]] = {}
    for name, weights in trained.items():
        decays = name in decayed and (special.decay_embeddings or parts[name] != "embedding")
        groups.setdefault((special.factor(name) * own_factor(name), parts[name], decays), []).append(weights)
    return [
        {
            "params": weights,
            "lr": learning_rate * factor,
            "weight_decay": weight_decay if decays else 0.0,
            "part": part,
        }
        for (factor, part, decays), weights in sorted(groups.items(), key=lambda group: group[0][0] != 1)
    ]


def _parts(model: Any) -> Mapping[str, Part]:
    """Whether a weight is a matrix inside the blocks, one of an embedding or the output layer, or neither."""
    import torch

    head = model.get_output_embeddings()
    outer = {
        id(weights)
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding) or module is head
        for weights in module.parameters(recurse=False)
        if len(_size(weights)) > 1
    }
    return {
        name: "embedding" if id(weights) in outer else "matrix" if len(_size(weights)) == 2 else "vector"
        for name, weights in model.named_parameters()
    }


def _size(weights: Any) -> tuple[int, ...]:
    """The size of a weight, also where DeepSpeed has spread it over the processes and left an empty one behind."""
    return tuple(getattr(weights, "ds_shape", weights.shape))
