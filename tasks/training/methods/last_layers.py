"""The last blocks are trained, with the norm after them and the output layer; everything before is as it was.

The oldest way to adapt a network to a new task (Yosinski et al. 2014, arXiv:1411.1792): the lower layers are general,
the upper ones specific. The backward pass ends at the lowest trained block, so that the blocks below keep nothing for
it, and cost a third of what they cost under full fine-tuning.

Where the output layer is tied to the embedding, training it changes the input of the first block too, and the backward
pass has to run through all blocks; so ``output_layer: auto`` trains an output layer of its own and leaves a tied one.

Good for small changes of style or labels on little memory, and for keeping what a base knows. What comes out is the
trained weights alone, ``trained/``, in fp32, which are put over the base.

Example: ``method: {name: last_layers, layers: 2}`` on the embedded base of 6 blocks, whose output layer is tied: 2 x
1,239,680 weights of the blocks and 320 of the norm, 2,479,680 of 10,059,840.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.folder.layout import Sizes, WeightLayout, count_weights, describe_layout, list_matrices
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.full import TRAINS_BASE, rates_of_base
from tasks.training.methods.method import Can, Rates
from tasks.training.methods.parts import list_problems

FILE = "trained/weights.safetensors"


class LastLayers(Section):
    """Train the last blocks, the norm after them and the output layer."""

    can: ClassVar[Can] = TRAINS_BASE

    name: Literal["last_layers"] = "last_layers"
    layers: int = Field(default=2, ge=1, description="blocks that are trained, counted from the output")
    output_layer: Literal["auto"] | bool = Field(
        default="auto", description="train the output layer too; auto: unless it is tied to the embedding"
    )

    def problems(self, shape: ModelShape) -> list[str]:
        problems = list_problems(shape)
        if not problems and self.layers > len(shape.layout.blocks):
            problems.append(
                f"method.layers: {self.layers}, but the model has {len(shape.layout.blocks)} blocks; set at most that, "
                "or take method: {name: full}"
            )
        return problems

    def unusual(self, shape: ModelShape) -> list[str]:
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return rates_of_base(shape)

    def resolve(self, shape: ModelShape) -> Self:
        """The same with the output layer decided."""
        if self.output_layer != "auto":
            return self
        return self.model_copy(update={"output_layer": bool(shape.layout.head)})

    def trainable(self, shape: ModelShape) -> int:
        return count_weights(self._part(shape.layout))

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return list_matrices(
            {name: size for name, size in self._part(shape.layout).items() if name in shape.layout.within}
        )

    def reached_layers(self, shape: ModelShape) -> int:
        tied = not shape.layout.head
        return shape.layers if tied and self.output_layer is True else self.layers

    def own_bytes(self, shape: ModelShape) -> int:
        return 0

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def describe(self) -> str:
        blocks = "last block" if self.layers == 1 else f"last {self.layers} blocks"
        others = " and the output layer" if self.output_layer is True else ""
        return f"training of the {blocks} with the last norm{others}"

    def adapt(self, model: Any) -> Any:
        part = self._part(describe_layout(model))
        for name, weights in model.named_parameters():
            weights.requires_grad_(name in part)
        return model

    def save(self, model: Any, folder: Path) -> list[Path]:
        from safetensors.torch import save_file

        (folder / FILE).parent.mkdir()
        trained = {name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad}
        save_file(trained, folder / FILE)
        return [folder / FILE]

    def load(self, base: Path, tuned: Path) -> Any:
        """The base with the trained weights in it."""
        from safetensors.torch import load_file

        model = load_model(base)
        weights = dict(model.named_parameters())
        for name, trained in load_file(tuned / FILE).items():
            weights[name].data.copy_(trained)
        return model

    def merge(self, base: Path, tuned: Path) -> Any:
        return self.load(base, tuned)

    def _part(self, layout: WeightLayout) -> Sizes:
        """The trained weights; of one that is not resolved too."""
        count = len(layout.blocks)
        blocks = {name: size for number in range(count)[-self.layers :] for name, size in layout.block(number).items()}
        if self.output_layer is True:
            return {**blocks, **layout.others, **(layout.head or layout.embeddings)}
        return {**blocks, **layout.others, **(layout.head if self.output_layer == "auto" else {})}
