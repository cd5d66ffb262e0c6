"""What the methods have in common that put modules of PEFT's beside layers of a frozen base: which layers, how they are
opened, saved and merged, and how their weights are counted.

A member is a file with its paper, its params and the sizes of what it trains beside a layer of (out, in). The adapter
is PEFT's own, ``adapter/``, and opens with any program that has PEFT.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json
from tasks.contracts.params import Section
from tasks.language_models.model_folder import load_model
from tasks.language_models.shape import ModelShape
from tasks.training.methods.method import Can

FOLDER = "adapter"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

Sizes = Sequence[tuple[int, ...]]
Layer = tuple[str, int, int]

# What most of them can.
USUAL = Can(
    frozen_base=True,
    quantized_base=True,
    checkpointing=True,
    reads_gradients=False,
    packing=True,
    merging=True,
    low_rank=False,
)


class Adapter(Section):
    """Modules beside layers of a frozen base; what every method of this kind has.

    Attributes:
        can: As of every method.
        peft_type: PEFT's name of the method.
        title: The method's name in a sentence.
        usual_rates: Lowest and highest learning rate that is usual with AdamW.
        kind_of_layer: What is adapted, in words.
        takes_transposed: GPT-2's linear layers, stored transposed, can be adapted too.
    """

    can: ClassVar[Can] = USUAL
    peft_type: ClassVar[str]
    title: ClassVar[str]
    usual_rates: ClassVar[tuple[float, float]] = (1e-4, 1e-2)
    kind_of_layer: ClassVar[str] = "linear"
    takes_transposed: ClassVar[bool] = True

    name: str
    targets: Literal["all-linear"] | list[str] = Field(
        default="all-linear",
        description="all-linear (all but the output layer) or names such as [q_proj, v_proj], * for any letters",
    )
    blocks: Literal["all"] | list[int] = Field(default="all", description="blocks that are adapted, counted from 0")

    # What a member says.

    @abstractmethod
    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        """Sizes of the weights that are trained beside a layer, as PyTorch holds them.

        Args:
            name: Last part of the layer's name.
            out: Width of its results.
            inner: Width of its inputs.
        """

    def adaptable(self, shape: ModelShape) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Last part of a name to the (out, in) of every such layer that could be adapted."""
        return shape.linear

    def shared_sizes(self, shape: ModelShape) -> Sizes:
        """Sizes of what is trained once for all layers."""
        return []

    def held_bytes(self, shape: ModelShape) -> int:
        """Bytes of what the method holds beside its trained weights: projections, permutations, places."""
        return 0

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The keys of PEFT's configuration that this method's params decide; of a resolved method."""

    def model_settings(self, model: Any) -> dict[str, Any]:
        """More of those keys, which depend on the model."""
        return {}

    def layer_problem(self, out: int, inner: int) -> str:
        """Why a layer cannot be adapted, with the next step and ``{layer}`` for its name; empty where it can."""
        return ""

    def largest_rank(self, out: int, inner: int) -> int:
        """The largest rank that a layer can hold; asked where there is a param ``rank``."""
        return min(out, inner)

    def details(self) -> str:
        """The params that matter, in words."""
        return ""

    # What follows from it.

    def problems(self, shape: ModelShape) -> list[str]:
        """Targets and blocks that do not exist or cannot be adapted."""
        if not self.adaptable(shape):
            return [f"method.targets: the model has no {self.kind_of_layer} layer to adapt; use method: {{name: full}}"]
        problems = [*self._target_problems(shape), *self._block_problems(shape)]
        if not self.takes_transposed and _is_transposed(shape):
            problems.append(
                f"method.name: {self.name} cannot adapt linear layers that are stored transposed, as this model's are; "
                "use method: {name: lora}"
            )
        return [*problems, *self._rank_problems(shape), *self._layer_problems(shape)]

    def unusual(self, learning_rate: float, shape: ModelShape) -> list[str]:
        low, high = self.usual_rates
        if low <= learning_rate <= high:
            return []
        return [f"learning_rate {learning_rate:g} is unusual for {self.title}; {low:g} to {high:g} is usual"]

    def resolve(self, shape: ModelShape) -> Self:
        """The same with every adapted layer named."""
        return self.model_copy(update={"targets": self.target_names(shape)})

    def trainable(self, shape: ModelShape) -> int:
        return sum(math.prod(size) for size in self._all_sizes(shape))

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return [(size[0], size[1]) for size in self._sizes_beside(shape) if len(size) == 2]

    def own_bytes(self, shape: ModelShape) -> int:
        return 4 * self.trainable(shape) + self.held_bytes(shape)

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def describe(self) -> str:
        where = self.targets if isinstance(self.targets, str) else ", ".join(self.targets)
        if self.blocks != "all":
            where += f" of blocks {', '.join(map(str, self.blocks))}"
        details = self.details()
        return f"{self.title} ({details}; {where})" if details else f"{self.title} ({where})"

    def adapt(self, model: Any) -> Any:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
        from peft.utils.peft_types import PeftType

        kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(self.peft_type)]
        with quiet():
            config = kind(task_type="CAUSAL_LM", **self._peft_settings(model))
        return adapt_with(model, config)

    def save(self, model: Any, folder: Path) -> list[Path]:
        return save_adapter(model, folder / FOLDER)

    def load(self, base: Path, tuned: Path) -> Any:
        """The base model with the method's modules in its layers; nothing is merged."""
        return self.open(base, tuned).get_base_model()

    def merge(self, base: Path, tuned: Path) -> Any:
        """The base model with the method's changes in its weights."""
        return merge_adapter(self.open(base, tuned), tuned)

    def open(self, base: Path, tuned: Path) -> Any:
        """PEFT's model of what was saved."""
        return open_adapter(base, tuned)

    def target_names(self, shape: ModelShape) -> list[str]:
        """Last parts of the names of the adapted layers, sorted; those that the model lacks stay as they are."""
        known = sorted(self.adaptable(shape))
        if isinstance(self.targets, str):
            return known
        return sorted({match for target in self.targets for match in _matching(target, known)})

    def layers(self, shape: ModelShape) -> list[Layer]:
        """(name, out, in) of every adapted layer."""
        share = 1.0 if self.blocks == "all" else len(set(self.blocks)) / max(shape.layers, 1)
        return [
            (name, *size)
            for name in self.target_names(shape)
            for size, count in sorted(Counter(self.adaptable(shape).get(name, ())).items())
            for _ in range(round(count * share))
        ]

    def adapted_weights(self, shape: ModelShape) -> int:
        """Weights of the adapted layers."""
        return sum(out * inner for _, out, inner in self.layers(shape))

    def _all_sizes(self, shape: ModelShape) -> Sizes:
        return [*self._sizes_beside(shape), *self.resolve(shape).shared_sizes(shape)]

    def _sizes_beside(self, shape: ModelShape) -> Sizes:
        resolved = self.resolve(shape)
        return [size for layer in resolved.layers(shape) for size in resolved.layer_sizes(*layer)]

    def _rank_problems(self, shape: ModelShape) -> list[str]:
        rank = getattr(self, "rank", 1)
        limits = [(self.largest_rank(out, inner), name) for name, out, inner in self.layers(shape)]
        if not limits or rank <= min(limits)[0]:
            return []
        limit, name = min(limits)
        return [
            f"method.rank: {rank} is more than {name} can hold ({limit}); set at most that, or use method: "
            "{name: full}"
        ]

    def _layer_problems(self, shape: ModelShape) -> list[str]:
        reasons: dict[str, str] = {}
        for name, out, inner in self.layers(shape):
            if reason := self.layer_problem(out, inner):
                reasons.setdefault(reason, name)
        return [reason.replace("{layer}", name) for reason, name in reasons.items()]

    def _peft_settings(self, model: Any) -> dict[str, Any]:
        return {"target_modules": self._peft_targets(), **self.settings(), **self.model_settings(model)}

    def _peft_targets(self) -> list[str] | str:
        """Names, or a pattern of whole names where only some blocks are adapted."""
        if self.blocks == "all" or isinstance(self.targets, str):
            return self.targets
        blocks, names = "|".join(map(str, self.blocks)), "|".join(map(re.escape, self.targets))
        return rf"(?:[^.\d][^.]*\.)*(?:{blocks})\.(?:.*\.)?(?:{names})"

    def _target_problems(self, shape: ModelShape) -> list[str]:
        targets, problems = self.target_names(shape), []
        whole = type(self).model_fields["targets"].default
        known = ", ".join(sorted(self.adaptable(shape)))
        if not targets:
            problems.append(f"method.targets: empty; expected {whole} or some of {known}")
        unknown = sorted(set(targets) - set(self.adaptable(shape)))
        if shape.head in unknown:
            unknown.remove(shape.head)
            problems.append(
                f"method.targets: {shape.head} is the output layer, which {self.title} cannot adapt here; leave it out "
                "or use method: {name: full}"
            )
        if unknown:
            problems.append(
                f"method.targets: the model has no {self.kind_of_layer} module {', '.join(unknown)}; expected {whole} "
                f"or some of {known}"
            )
        return problems

    def _block_problems(self, shape: ModelShape) -> list[str]:
        if self.blocks == "all":
            return []
        problems = []
        beyond = sorted(block for block in self.blocks if not 0 <= block < shape.layers)
        if beyond or not self.blocks:
            problems.append(
                f"method.blocks: {', '.join(map(str, beyond)) or 'empty'}; expected all or some of 0 to "
                f"{shape.layers - 1}"
            )
        uneven = [
            name
            for name in self.target_names(shape)
            if any(count % max(shape.layers, 1) for count in Counter(self.adaptable(shape).get(name, ())).values())
        ]
        if uneven:
            problems.append(
                f"method.blocks: {', '.join(uneven)} is not the same in every block, so weights of some blocks cannot "
                "be counted; set blocks: all"
            )
        return problems


def divisor_problem(key: str, value: int, side: int, which: str) -> str:
    """A size that a side of a layer is no multiple of; empty where it is."""
    if side % value == 0:
        return ""
    fitting = math.gcd(value, side)
    return f"method.{key}: {value} does not divide the {which} of {{layer}} ({side}); set {key}: {fitting}"


def common_divisor(layers: list[Layer], largest: int) -> int:
    """The largest number up to a limit that divides both sides of all layers."""
    common = math.gcd(*(side for _, out, inner in layers for side in (out, inner)))
    return max(size for size in range(1, largest + 1) if common % size == 0)


@contextmanager
def quiet() -> Iterator[None]:
    """Without PEFT's remarks on what is meant: old names of attributes, transposed layers, sizes it adjusts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def adapt_with(model: Any, config: Any) -> Any:
    """The base with what a configuration of PEFT's puts into it, whose trained weights are fp32."""
    from peft import get_peft_model

    with quiet():
        adapted = get_peft_model(model, config)
    for weights in adapted.parameters():
        if weights.requires_grad:
            weights.data = weights.data.float()
    return adapted


def open_adapter(base: Path, tuned: Path) -> Any:
    """PEFT's model of what `save_adapter` wrote into ``adapter/`` of a folder."""
    from peft import PeftModel

    with quiet():
        return PeftModel.from_pretrained(load_model(base), tuned / FOLDER)


def merge_adapter(opened: Any, tuned: Path) -> Any:
    """The base with an opened adapter's changes in its weights.

    Args:
        opened: What `open_adapter` gave.
        tuned: Its folder, for the message.

    Raises:
        PipelineError: Its weights cannot be merged.
    """
    try:
        # `safe_merge` looks for weights that are not numbers before it overwrites anything.
        return opened.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise PipelineError(f"{tuned}: the adapter cannot be merged ({error}); train again") from error


def save_adapter(model: Any, folder: Path) -> list[Path]:
    """Write PEFT's files, the same bytes for the same weights, and no path of this machine."""
    with quiet():
        model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # a model card without content
    for file in sorted(folder.rglob(CONFIG)):
        config = json.loads(file.read_text())
        adapter = file.parent.name if file.parent != folder else "default"
        for key, value in vars(model.peft_config[adapter]).items():
            # PEFT keeps names as a set, whose order changes from process to process.
            if isinstance(value, set) and key in config:
                config[key] = sorted(config[key])
        config["base_model_name_or_path"] = None
        write_json(file, config)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_transposed(shape: ModelShape) -> bool:
    """Whether linear layers are stored as (in, out), as GPT-2's are."""
    return any(
        name.endswith(".weight")
        and len(size) == 2
        and (size[0], size[1]) not in (sizes := shape.linear.get(name.split(".")[-2], ()))
        and (size[1], size[0]) in sizes
        for block in shape.layout.blocks
        for name, size in block.items()
    )


def _matching(target: str, known: Sequence[str]) -> list[str]:
    """The names that a target stands for; itself where it is none of the model's."""
    return [name for name in known if fnmatchcase(name, target)] or [target]
