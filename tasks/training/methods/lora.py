"""LoRA: frozen weights, and beside each chosen linear layer a product of two thin matrices (Hu et al. 2021,
arXiv:2106.09685).

A layer y = W x becomes y = W x + (alpha / rank) B A x, with A of rank x in drawn at random and B of out x rank zero, so
that training begins at the base's own answers. ``rslora`` divides by the square root of the rank instead, which keeps
the size of the update as the rank grows (Kalajdzievski 2023, arXiv:2312.03732). ``dora`` trains the norm of each row
of the weights too, apart from its direction, which is what A and B turn (Liu et al. 2024, arXiv:2402.09353): closer to
full fine-tuning at small ranks, for about twice the time. ``freeze_a`` trains B alone (LoRA-FA; Zhang et al. 2023,
arXiv:2308.03303): half the gradients and optimizer states.

``start`` says where A and B begin. ``pissa`` takes the largest singular values of W (Meng et al. 2024,
arXiv:2404.02948), ``olora`` its QR decomposition (Büyükakyüz 2024, arXiv:2406.01775): both learn faster at first. They
begin at a part of W itself, which a second, frozen pair of matrices takes off again, so that the base stays as it is,
in few bits too, and the adapter works over it. (PEFT takes it off the base's weights, and then asks for that base
whenever the adapter is opened.) ``gaussian`` and ``orthogonal`` draw A otherwise.

Good for fine-tuning on little memory and for many variants of one base. All linear layers of the blocks, not only those
of attention, reach full fine-tuning's quality (Schulman et al. 2025, "LoRA Without Regret"). What comes out is a
PEFT adapter, ``adapter/``, a small fraction of the base's size, that merges into the base.

Example: ``method: {name: lora, rank: 32, targets: all-linear}``, whose alpha is 64, twice the rank. A layer of 320 x
320 gets 32 x (320 + 320) = 20,480 trainable weights beside its 102,400 frozen ones, and its update is multiplied by 2.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import FOLDER, Adapter, quiet
from tasks.training.methods.beside_layers import USUAL, Sizes
from tasks.training.methods.method import Can

START = "start"  # PEFT's name of the frozen pair that takes the first values off again
DECOMPOSED = ("pissa", "olora")


class Lora(Adapter):
    """Train low-rank updates of frozen linear layers."""

    can: ClassVar[Can] = replace(USUAL, low_rank=True)
    peft_type: ClassVar[str] = "LORA"
    title: ClassVar[str] = "LoRA"

    name: Literal["lora"] = "lora"
    rank: int = Field(default=32, ge=1, description="inner dimension of the updates")
    alpha: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        default="auto", description="scale; updates are multiplied by alpha / rank; auto: twice the rank"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the updates' inputs dropped in training")
    ranks: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="other ranks for some targets, such as {down_proj: 8}"
    )
    alphas: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="other scales for some targets, such as {down_proj: 16}"
    )
    start: Literal["kaiming", "gaussian", "orthogonal", "pissa", "olora"] = Field(
        default="kaiming", description="first values of A and B; pissa and olora take them from the base's weights"
    )
    start_iterations: int | None = Field(
        default=None, ge=1, description="of pissa: so many iterations of a fast decomposition; null: an exact one"
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(rank), for ranks of 64 and more")
    dora: bool = Field(default=False, description="train the norms of the weights' rows too: better at small ranks")
    freeze_a: bool = Field(default=False, description="train B alone: half the gradients and optimizer states")
    embeddings: bool = Field(
        default=False, description="train the embeddings and the output layer too, whole, as copies of the base's"
    )

    def problems(self, shape: ModelShape) -> list[str]:
        problems = super().problems(shape)
        for key, patterns in (("ranks", self.ranks), ("alphas", self.alphas)):
            if unknown := sorted(set(patterns) - set(self.target_names(shape))):
                problems.append(
                    f"method.{key}: {', '.join(unknown)} not among the targets "
                    f"{', '.join(self.target_names(shape)) or '(none)'}; name some of those"
                )
        if self.dora and self.start in DECOMPOSED:
            problems.append(f"method.start: {self.start} begins at the weights that dora takes apart; set dora: false")
        odd = sorted({rank for rank in (self.rank, *self.ranks.values()) if rank % 2})
        if self.start == "orthogonal" and odd:
            problems.append(f"method.start: orthogonal needs even ranks, found {odd[0]}; set rank: {odd[0] + 1}")
        if self.start_iterations is not None and self.start != "pissa":
            problems.append(f"method.start_iterations: is of start: pissa, not {self.start}; leave it out")
        return problems

    def _rank_problems(self, shape: ModelShape) -> list[str]:
        excess = [
            (min(out, inner), name) for name, out, inner in self.layers(shape) if self._rank(name) > min(out, inner)
        ]
        if not excess:
            return []
        smallest, name = min(excess)
        key = f"method.ranks.{name}" if name in self.ranks else "method.rank"
        return [
            f"{key}: {self._rank(name)} is more than the smaller side of {name} ({smallest}); a full update has "
            f"rank {smallest}; set at most that, or use method: {{name: full}}"
        ]

    def resolve(self, shape: ModelShape) -> Self:
        """The same with every adapted layer named, and alpha as a number."""
        return super().resolve(shape).model_copy(update={"alpha": self._alpha})

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        """B, and as they are asked for A and the norms."""
        rank = self._rank(name)
        sizes: list[tuple[int, ...]] = [(out, rank)]
        sizes += [] if self.freeze_a else [(rank, inner)]
        return [*sizes, (out,)] if self.dora else sizes

    def shared_sizes(self, shape: ModelShape) -> Sizes:
        table = shape.vocabulary * shape.hidden
        tables = max(1, shape.embedding_weights // max(table, 1))
        return tables * [(shape.vocabulary, shape.hidden)] if self.embeddings else []

    def held_bytes(self, shape: ModelShape) -> int:
        """A where it is frozen, and the first values where they come from the base's weights."""
        layers = [(self._rank(name), out, inner) for name, out, inner in self.layers(shape)]
        held = sum(rank * inner for rank, _, inner in layers) if self.freeze_a else 0
        if self.start in DECOMPOSED:
            held += sum(rank * (out + inner) for rank, out, inner in layers)
        return 4 * held

    def kept_per_token(self, shape: ModelShape) -> int:
        """The result of A of every adapted layer, its rank; with DoRA those of the base and of B too."""
        layers = self.layers(shape)
        return sum(self._rank(name) for name, _, _ in layers) + (
            2 * sum(out for _, out, _ in layers) if self.dora else 0
        )

    def details(self) -> str:
        parts = [f"rank {self.rank}, alpha {self._alpha:g}"]
        parts += [f"{name} {rank}" for name, rank in self.ranks.items()]
        parts += [self.start] if self.start != "kaiming" else []
        parts += ["rank-stabilised"] if self.rslora else []
        parts += ["A frozen"] if self.freeze_a else []
        parts += ["embeddings too"] if self.embeddings else []
        return ", ".join(parts)

    def describe(self) -> str:
        return super().describe().replace(self.title, "DoRA" if self.dora else self.title, 1)

    def settings(self) -> dict[str, Any]:
        return {
            "r": self.rank,
            "lora_alpha": self._alpha,
            "lora_dropout": self.dropout,
            "use_rslora": self.rslora,
            "use_dora": self.dora,
            "rank_pattern": dict(self.ranks),
            "alpha_pattern": {name: self._alpha_of(name) for name in {**self.ranks, **self.alphas}},
            "init_lora_weights": "gaussian" if self.start == "gaussian" else True,
        }

    def model_settings(self, model: Any) -> dict[str, Any]:
        if not self.embeddings:
            return {}
        tables = [model.get_input_embeddings()]
        if model.get_output_embeddings() is not None and not _are_tied(model):
            tables.append(model.get_output_embeddings())
        names = [name.rpartition(".")[2] for name, module in model.named_modules() if any(module is t for t in tables)]
        return {"modules_to_save": names, "ensure_weight_tying": _are_tied(model)}

    @property
    def reads_base(self) -> bool:
        """For the norms of its rows, or for its decomposition."""
        return self.dora or self.start in DECOMPOSED

    def adapt(self, model: Any) -> Any:
        adapted = super().adapt(model)
        if self.dora:
            _measure_norms(adapted)
        if self.start in DECOMPOSED:
            self._begin_at_weights(adapted)
        if self.start == "orthogonal":
            _begin_orthogonal(adapted)
        if self.freeze_a:
            for name, weights in adapted.named_parameters():
                if ".lora_A." in name:
                    weights.requires_grad_(False)
        return adapted

    def open(self, base: Path, tuned: Path) -> Any:
        opened = super().open(base, tuned)
        if self.start in DECOMPOSED:
            with quiet():
                opened.load_adapter(tuned / FOLDER / START, START)
            _use_both(opened)
        return opened

    @property
    def _alpha(self) -> float:
        return 2.0 * self.rank if self.alpha == "auto" else self.alpha

    def _rank(self, name: str) -> int:
        return self.ranks.get(name, self.rank)

    def _alpha_of(self, name: str) -> float:
        """The scale of a target: its own, or as far above its rank as that of the others."""
        return self.alphas.get(name, self._alpha * self._rank(name) / self.rank)

    def _begin_at_weights(self, adapted: Any) -> None:
        """Begin at a part of each layer's weights, and have a frozen pair take it off again."""
        import copy

        import torch
        from peft.utils.integrations import dequantize_module_weight

        with quiet():
            adapted.add_adapter(START, copy.deepcopy(adapted.peft_config["default"]))
        for module in adapted.modules():
            if START not in getattr(module, "lora_A", {}):
                continue
            weights = dequantize_module_weight(module.get_base_layer()).detach().float()
            part = (weights.T if module.fan_in_fan_out else weights) / module.scaling["default"]
            with torch.no_grad():
                down, up = self._decompose(part, module.r["default"])
                for adapter, sign in (("default", 1), (START, -1)):
                    module.lora_A[adapter].weight.copy_(down)
                    module.lora_B[adapter].weight.copy_(sign * up)
        _use_both(adapted)

    def _decompose(self, weights: Any, rank: int) -> tuple[Any, Any]:
        """A and B, whose product is a part of the weights."""
        import torch

        if self.start == "olora":
            left, right = torch.linalg.qr(weights)
            return right[:rank], left[:, :rank]
        if self.start_iterations is None:
            left, values, right = torch.linalg.svd(weights, full_matrices=False)
        else:
            left, values, turned = torch.svd_lowrank(weights, rank, niter=self.start_iterations)
            right = turned.T
        roots = values[:rank].sqrt()
        return roots[:, None] * right[:rank], left[:, :rank] * roots


def _begin_orthogonal(adapted: Any) -> None:
    """Begin at matrices A and B neither of which is zero, whose product is: theirs are two halves of an orthogonal one.

    As PEFT does (https://datta0.github.io/posts/rethink-lora-init), but also over a base in few bits.
    """
    import torch

    for module in adapted.modules():
        if "default" not in getattr(module, "lora_A", {}):
            continue
        down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
        halves, _ = torch.linalg.qr(torch.randn(len(down), len(down)))
        with torch.no_grad():
            down.copy_((torch.randn(down.shape[1], len(down) // 2) @ halves[0::2]).T / 10)
            up.copy_(torch.randn(up.shape[0], len(down) // 2) @ halves[1::2] / 10)


def _use_both(adapted: Any) -> None:
    """Add what both pairs say; only the first is trained."""
    adapted.base_model.set_adapter(["default", START])
    for name, weights in adapted.named_parameters():
        if f".{START}." in name:
            weights.requires_grad_(False)


def _are_tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _measure_norms(adapted: Any) -> None:
    """Begin at the norms in fp32: PEFT rounds them to the weights' type, and with them every answer."""
    import torch
    from peft.utils.integrations import dequantize_module_weight

    for module in adapted.modules():
        for norms in getattr(module, "lora_magnitude_vector", {}).values():
            weights = dequantize_module_weight(module.get_base_layer()).float()
            norms.weight.data = torch.linalg.norm(weights.T if module.fan_in_fan_out else weights, dim=1)
