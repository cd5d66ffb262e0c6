"""Memory tuning: many small experts beside layers of a frozen base that hold named facts, and leave other text alone
(Li et al. 2024, "Banishing LLM Hallucinations Requires Rethinking Generalization", arXiv:2406.17642).

An expert e adds scale * B_e A_e x to a layer's output, as LoRA does. Which experts a token gets is chosen once, by
cross-attention: the state that goes into the first adapted block is the query, every expert has a key, and the
``top_k`` keys that are the most similar win; only these experts are computed and trained. What a token is chosen for
depends on blocks below all experts, so it is the same after training as before.

The keys are found before the first step, and then stay. The base reads the training rows; the states before each token
of an answer are clustered, one cluster to an expert. With as many experts as the answers have tokens each token has one
of its own, and a few epochs are enough: an expert that several share has to tell them apart, which takes many more
epochs (see docs/training/methods.md). Spare experts are not used. An expert takes part where a state is as similar to
its key as those of its facts; how much less is enough is ``reach``, between those and the most similar state of other
text: the prompts of the rows, and texts that the base writes itself (``texts``). Everything else has no expert, and its
answers are the base's, to the last digit as long as nothing before it had one.

Good for facts that have to be right, trained until their loss is near zero, where LoRA of the same size would cost what
the base knows. A fact is learned as it is asked in the rows: put a row for each wording. Not for a new style or task.
It does not merge: the experts are in use for some tokens and not for others, so a release holds the base and
``experts.safetensors`` beside it. Where rows have no supervised tokens the last state of each is taken for an answer's.

Example: ``method: {name: memory_tuning, experts: 3200, targets: [down_proj]}`` and ``learning_rate: 1.0e-2`` for 500
facts of 6 tokens. Beside a layer of 864 x 320 the experts have 3,200 x (864 + 320) = 3,788,800 weights, of which a
token of a fact uses 864 + 320 = 1,184.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.language_models.encoding import IGNORED
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.beside_layers import USUAL, BesideLayers, Sizes
from tasks.training.methods.hooks import RunFacts, StepHooks
from tasks.training.methods.method import Can

if TYPE_CHECKING:
    from tasks.training.rows import TokenizedRows

log = logging.getLogger(__name__)

FILE = "experts.safetensors"
STATES = 32768  # before tokens of answers, of which keys are made at most


class MemoryTuning(BesideLayers):
    """Train small experts that only the states of the rows' answers reach."""

    can: ClassVar[Can] = replace(USUAL, checkpointing=False, merging=False)
    title: ClassVar[str] = "memory tuning"

    name: Literal["memory_tuning"] = "memory_tuning"
    experts: int = Field(
        default=256, ge=1, description="experts beside each layer; as many as the answers have tokens, ends included"
    )
    rank: int = Field(default=1, ge=1, description="inner dimension of an expert's updates")
    top_k: int = Field(default=1, ge=1, description="experts of a token, at most")
    alpha: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        default="auto", description="scale; updates are multiplied by alpha / rank; auto: twice the rank"
    )
    first_block: Literal["auto"] | int = Field(
        default="auto",
        description="block whose input is compared, counted from 0; it and all above it have experts; auto: the last",
    )
    sharpness: float = Field(default=10.0, gt=0, description="factor of the cosines that weigh the experts of a token")
    reach: float = Field(
        default=0.5, ge=0, le=1, description="0: experts for states as trained; 1: for all that no other text is near"
    )
    texts: int = Field(default=32, ge=0, description="texts that the base writes, to keep experts away from")

    def problems(self, shape: ModelShape) -> list[str]:
        problems = super().problems(shape)
        if self.top_k > self.experts:
            problems.append(
                f"method.top_k: {self.top_k} of {self.experts} experts; set at most {self.experts}, or more experts"
            )
        return problems

    def _block_problems(self, shape: ModelShape) -> list[str]:
        if not shape.layers or not shape.layout.blocks:
            return ["method: the model has no blocks that are known, to put experts into; use method: {name: lora}"]
        if not 0 <= self._first(shape) < shape.layers:
            return [f"method.first_block: {self.first_block}; expected auto or 0 to {shape.layers - 1}"]
        if self._first(shape) and (uneven := self._uneven_targets(shape)):
            return [
                f"method.first_block: {', '.join(uneven)} is not the same in every block, so weights of some blocks "
                "cannot be counted; leave it out of targets"
            ]
        return []

    def unusual(self, shape: ModelShape) -> list[str]:
        told = super().unusual(shape)
        if self._first(shape) == 0:
            told.append(
                "method.first_block: 0 compares the embeddings of single tokens, which do not tell facts apart; "
                f"{_last(shape)} is the last"
            )
        return told

    def resolve(self, shape: ModelShape) -> Self:
        """The same with every adapted layer named, alpha as a number, and the first block."""
        update = {"alpha": self._alpha, "first_block": self._first(shape)}
        return super().resolve(shape).model_copy(update=update)

    def chosen_blocks(self, shape: ModelShape) -> Sequence[int]:
        return range(self._first(shape), shape.layers)

    def reached_layers(self, shape: ModelShape) -> int:
        return len(self.chosen_blocks(shape))

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.experts * self.rank, inner), (self.experts * self.rank, out)]

    def held_bytes(self, shape: ModelShape) -> int:
        """Keys and thresholds, what states are compared by, and two figures."""
        return 4 * (self.experts * (shape.hidden + 1) + 2 * shape.hidden + 2)

    def kept_per_token(self, shape: ModelShape) -> int:
        """Of a token whose experts are all in use: its inputs once more, what is between A and B, and these two, read
        for as many tokens as share them."""
        shared = self.rank / 4
        return sum(
            self.top_k * round(inner + self.rank + shared * (inner + out)) for _, out, inner in self.layers(shape)
        )

    def details(self) -> str:
        return f"{self.experts} experts of rank {self.rank}, {self.top_k} a token"

    def which_blocks(self) -> str:
        return " of the last block" if self.first_block == "auto" else f" from block {self.first_block} on"

    def adapt(self, model: Any) -> Any:
        from tasks.language_models.folder.layout import find_blocks
        from tasks.training.methods.modules import memory_experts

        model.requires_grad_(False)
        shared = memory_experts.RouterState()
        width = model.config.get_text_config().hidden_size
        router = memory_experts.ExpertRouter(width, self.experts, self.top_k, self.sharpness, shared)
        _, blocks = find_blocks(model)
        first, scale = int(self.first_block), self._alpha / self.rank
        memory_experts.put_router(blocks[first], router.to(model.device))
        for block in blocks[first:]:
            for name, layer in list(block.named_modules()):
                if name.rpartition(".")[2] in self.targets:
                    inner, out = _sizes(layer)
                    experts = memory_experts.MemoryExperts(inner, out, self.experts, self.rank, scale, shared)
                    memory_experts.put_experts(layer, experts.to(layer.weight.device))
        return model

    def hooks(self, model: Any, run: RunFacts, initial: Path) -> StepHooks:
        return SelectExperts(self.texts, self.reach, run.seed)

    def outcome(self, model: Any) -> dict[str, str]:
        """How much of the facts, and of other text, has an expert."""
        from tasks.training.methods.modules.memory_experts import NEVER, find_router

        router = find_router(model)
        answers, others = router.reached.tolist()
        return {
            "experts in use": f"{int((router.thresholds < NEVER).sum())} of {self.experts}",
            "tokens of answers with an expert": f"{answers:.2%}",
            "other tokens with an expert": f"{others:.2%} of the rows' prompts and the base's own texts",
        }

    def save(self, model: Any, folder: Path) -> list[Path]:
        from tasks.training.methods.modules.memory_experts import find_router
        from tasks.training.methods.modules.own_weights import save_own

        save_own(model, folder / FILE, _held(find_router(model)))
        return [folder / FILE]

    def load(self, base: Path, tuned: Path) -> Any:
        from tasks.training.methods.modules.memory_experts import find_router
        from tasks.training.methods.modules.own_weights import load_own

        model = self.adapt(load_model(base))
        return load_own(model, tuned / FILE, _held(find_router(model)))

    def merge(self, base: Path, tuned: Path) -> Any:
        raise PipelineError(f"{tuned}: experts of {self.title} answer for some tokens only, so they do not merge")

    @property
    def _alpha(self) -> float:
        return 2.0 * self.rank if self.alpha == "auto" else self.alpha

    def _first(self, shape: ModelShape) -> int:
        return _last(shape) if self.first_block == "auto" else self.first_block


class SelectExperts(StepHooks):
    """Finds the keys before the first step.

    Args:
        texts: That the base writes.
        reach: How far experts are reached.
        seed: Of the run.
    """

    keeps_state: ClassVar[bool] = True

    def __init__(self, texts: int, reach: float, seed: int) -> None:
        self._texts, self._reach, self._seed = texts, reach, seed

    def begin(self, model: Any, rows: TokenizedRows) -> None:
        import torch

        from tasks.training.methods.modules.expert_keys import read_states, set_keys, write_texts
        from tasks.training.methods.modules.memory_experts import NEVER, find_router

        router, training = find_router(model), model.training
        model.eval()
        router.thresholds.fill_(NEVER)  # the base alone is asked
        answers, others = list_places(rows)
        own = write_texts(model, self._texts, self._seed) if self._texts else []
        of_answers, of_others = (read_states(model, router, places) for places in (answers, [*others, *own]))
        if rows.supervised > len(router.keys):
            log.warning(
                "%s tokens of answers share %s experts, and what shares one is recalled badly; set method.experts: %s",
                f"{rows.supervised:,}",
                f"{len(router.keys):,}",
                rows.supervised,
            )
        set_keys(router, of_answers, of_others, self._reach, self._seed)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for held in router.buffers():
                torch.distributed.broadcast(held, 0)  # rounding may differ among the machines
        model.train(training)

    def state(self, model: Any) -> dict[str, Any]:
        from tasks.training.methods.modules.memory_experts import find_router

        return dict(find_router(model).named_buffers())

    def load_state(self, model: Any, state: Mapping[str, Any]) -> None:
        from tasks.training.methods.modules.memory_experts import find_router

        for name, held in find_router(model).named_buffers():
            held.copy_(state[name])


def list_places(rows: TokenizedRows) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Of sequences spread evenly over the rows, the places before each token of an answer, and all others.

    Returns:
        Each sequence's token ids with such places, twice: those before answers, and those that are not. Of a sequence
        without supervised tokens, the last place counts as one before an answer.
    """
    import numpy as np

    number = len(rows.offsets) - 1
    supervised = max(rows.supervised, number)
    every = max(1, -(-supervised // STATES))
    answers, others = [], []
    for index in range(0, number, every):
        tokens, labels = rows.row(index)
        before = np.append(labels[1:] != IGNORED, False)
        if not before.any():
            before[-1] = True
        answers.append((tokens, np.flatnonzero(before)))
        others.append((tokens, np.flatnonzero(~before)))
    return answers, others


def _held(router: Any) -> dict[str, Any]:
    """What a router holds, by names that no weights have."""
    return {f"router.{name}": held for name, held in router.named_buffers()}


def _last(shape: ModelShape) -> int:
    return max(shape.layers - 1, 0)


def _sizes(layer: Any) -> tuple[int, int]:
    """Widths of a linear layer's inputs and results; transposed ones name them otherwise."""
    if hasattr(layer, "in_features"):
        return layer.in_features, layer.out_features
    inner, out = layer.weight.shape
    return int(inner), int(out)
