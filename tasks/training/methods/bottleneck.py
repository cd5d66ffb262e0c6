"""Bottleneck adapters: small networks of one hidden layer inside each frozen block (Houlsby et al. 2019,
arXiv:1902.00751; in parallel He et al. 2022, arXiv:2110.04366).

An adapter is A(x) = scale * up(activation(down(x))), where ``down`` maps the model's width to ``size`` and ``up`` back.
``form: serial`` adds it to the output y of a block's attention and of its feed-forward part, before the residual
connection: y becomes y + A(y). ``form: parallel`` feeds it the input x of the part instead: y becomes y + A(x), which
He et al. found the better place beside the feed-forward part, with a scale of 4. ``up`` starts at zero, so that
training begins at the base's own answers.

Good for many variants of one base, where the non-linearity is worth more than merging: unlike LoRA it does not become a
part of the base's weights, so a release holds the base and the adapters beside it, and every answer pays for them. What
comes out is ``adapters.safetensors``.

Example: ``method: {name: bottleneck, size: 64}``. On a block of width 320 each of its two adapters has 320 x 64 + 64 +
64 x 320 + 320 = 41,344 weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.beside_layers import USUAL
from tasks.training.methods.method import Can, Rates

FILE = "adapters.safetensors"
Part = Literal["attention", "feed_forward"]
# Last part of the name of the linear layer that ends a part of a block, by architecture. GPT-2 has one name for both.
OUTPUTS: dict[Part, tuple[str, ...]] = {
    "attention": ("o_proj", "out_proj", "dense", "c_proj"),
    "feed_forward": ("down_proj", "fc2", "fc_out", "dense_4h_to_h", "c_proj"),
}
# OPT's, whose feed-forward part is no module of its own.
WITHOUT_PART = "fc2"
PARALLEL_SCALE = 4.0


class Bottleneck(Section):
    """Train small networks inside the frozen blocks."""

    can: ClassVar[Can] = replace(USUAL, merging=False)

    name: Literal["bottleneck"] = "bottleneck"
    form: Literal["serial", "parallel"] = Field(
        default="serial", description="serial: on the output of a block's part; parallel: beside the part, on its input"
    )
    size: int = Field(default=64, ge=1, description="width of an adapter's hidden layer")
    at: Literal["auto"] | list[Part] = Field(
        default="auto",
        description="parts of a block: [attention, feed_forward]; auto: both where serial, feed_forward where parallel",
    )
    activation: Literal["relu", "gelu", "silu"] = Field(default="relu", description="between the two layers")
    scale: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        default="auto",
        description=f"factor of an adapter's output; auto: 1 serial, {PARALLEL_SCALE:g} parallel",
    )

    def problems(self, shape: ModelShape) -> list[str]:
        """Parts that are not named, named twice, or that this model has no known output layer of."""
        if not shape.linear:
            return ["method: the model has no linear layer to adapt; use method: {name: full}"]
        if not self._parts or len(set(self._parts)) < len(self._parts):
            return [f"method.at: {list(self._parts)}; expected attention, feed_forward or both, each once"]
        return [
            f"method.at: no output layer of the {part.replace('_', '-')} part among the model's linear layers "
            f"({', '.join(shape.linear)}); expected {' or '.join(self._names(part))} once per block; use method: "
            "{name: lora}"
            for part in self._parts
            if not self._has_output(shape, part)
        ]

    def unusual(self, shape: ModelShape) -> list[str]:
        if self.size > shape.hidden:
            return [f"method.size: {self.size} is more than the model's width ({shape.hidden}): nothing is narrowed"]
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return (1e-4, 1e-2)

    def resolve(self, shape: ModelShape) -> Self:
        """The same with the parts and the scale as they are."""
        return self.model_copy(update={"at": list(self._parts), "scale": self._scale})

    def trainable(self, shape: ModelShape) -> int:
        """Of each adapter the two matrices and their biases."""
        return self._adapters(shape) * (2 * shape.hidden * self.size + self.size + shape.hidden)

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return self._adapters(shape) * [(self.size, shape.hidden), (shape.hidden, self.size)]

    def own_bytes(self, shape: ModelShape) -> int:
        return 4 * self.trainable(shape)

    def kept_per_token(self, shape: ModelShape) -> int:
        """The hidden layer before and after its activation, and where serial the part's output."""
        read = shape.hidden if self.form == "serial" else 0
        return self._adapters(shape) * (2 * self.size + read)

    def describe(self) -> str:
        places = " and ".join(part.replace("_", "-") for part in self._parts)
        return f"{self.form} bottleneck adapters (size {self.size}, scale {self._scale:g}; {places})"

    def adapt(self, model: Any) -> Any:
        from tasks.training.methods.modules import bottleneck

        model.requires_grad_(False)
        width = model.config.get_text_config().hidden_size
        for part in self._parts:
            for holder, layer in list(_outputs(model, part, self._names(part))):
                network = bottleneck.BottleneckNetwork(width, self.size, self.activation, self._scale)
                network.to(layer.weight.device)
                if self.form == "serial":
                    bottleneck.put_on_output(layer, network)
                else:
                    bottleneck.put_beside(holder, network)
        return model

    def save(self, model: Any, folder: Path) -> list[Path]:
        from tasks.training.methods.modules.own_weights import save_own

        save_own(model, folder / FILE)
        return [folder / FILE]

    def load(self, base: Path, tuned: Path) -> Any:
        from tasks.training.methods.modules.own_weights import load_own

        return load_own(self.adapt(load_model(base)), tuned / FILE)

    def merge(self, base: Path, tuned: Path) -> Any:
        raise PipelineError(f"{tuned}: {self.describe()} are not linear, so they do not merge")

    @property
    def _parts(self) -> tuple[Part, ...]:
        if self.at == "auto":
            return ("attention", "feed_forward") if self.form == "serial" else ("feed_forward",)
        return tuple(self.at)

    @property
    def _scale(self) -> float:
        if self.scale == "auto":
            return 1.0 if self.form == "serial" else PARALLEL_SCALE
        return self.scale

    def _adapters(self, shape: ModelShape) -> int:
        return len(self._parts) * shape.layers

    def _names(self, part: Part) -> list[str]:
        return [name for name in OUTPUTS[part] if self.form == "serial" or name != WITHOUT_PART]

    def _has_output(self, shape: ModelShape, part: Part) -> bool:
        """Whether one linear layer of each block ends the part, or of both parts in models that name them alike."""
        found = next((name for name in self._names(part) if name in shape.linear), "")
        ends = sum(out == shape.hidden for out, _ in shape.linear.get(found, ()))
        return ends == shape.layers or (ends == 2 * shape.layers and all(found in names for names in OUTPUTS.values()))


def _outputs(model: Any, part: Part, names: list[str]) -> Iterator[tuple[Any, Any]]:
    """Of each block the module that holds a part's output layer, and that layer, which has one of some names.

    Raises:
        PipelineError: They are not one per block.
    """
    found: dict[str, list[tuple[Any, Any]]] = {}
    for path, module in model.named_modules():
        holder, _, name = path.rpartition(".")
        if name in names and ("att" in holder.rpartition(".")[2]) == (part == "attention"):
            found.setdefault(name, []).append((model.get_submodule(holder), module))
    layers = next((found[name] for name in names if name in found), [])
    blocks = model.config.get_text_config().num_hidden_layers
    if len(layers) != blocks:
        raise PipelineError(
            f"method: {len(layers)} output layers of the {part.replace('_', '-')} part in {blocks} blocks of "
            f"{type(model).__name__}; expected one in each; use method: {{name: lora}}"
        )
    return iter(layers)
