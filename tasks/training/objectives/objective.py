"""The shape of a training objective: which rows it takes, what of them it minimises, and what it needs for that.

An objective is a frozen section of params, ``training_setup.objective``; the plan stores it as it is. It works on
*items*. An item is what is drawn, counted and never split: a conversation, a pair of answers to a prompt, one answer
marked good or bad, a prompt. It consists of one *sequence* of tokens or of several, the same number for every item.

What happens in a run, and which part of the objective is asked:

1. Setup and fine-tuning read the items of a split from the prepared tables: `Objective.tokenize`. A run whose tables
   have no item for the objective is refused, see `tasks.training.objectives.data`.
2. The model is made: `Objective.extend` adds modules of the objective's own, such as a head.
3. Before the first step, with `Objective.reference` ``precomputed``: `Objective.measure_reference` of every item that a
   step draws and of those of validation (``precomputed_of_all``: of every item), whose results are further columns of
   the rows, NaN for the others, kept beside the checkpoints, and `Objective.use_reference` of each split.
4. For each optimizer step: batches of items, a function of lengths, plan and seed; with ``can.generates``
   `Objective.make` turns the batches of the step into others, by generating; then for each batch `Objective.loss`.
   The trainer divides by the units (tokens, pairs) of the whole step over all batches and processes, so that the
   gradient is the same however a step is split: **a loss is a sum over units**. One that depends on which items share a
   batch is the same for the same batches only.
5. Validation: `Objective.validation_loss` of the validation split's items.
6. `Objective.save` writes the modules of the objective's own beside what the method saves.

A batch is a mapping of tensors: ``input_ids`` and ``labels`` (-100 where nothing is read), and ``attention_mask`` or
``position_ids``, all of shape (rows, width). Rows that have ``columns`` or several sequences an item give more:
``sequences`` (rows, width), the number of the sequence of each token within the batch, -1 for padding; ``items``
(items,), the index of each item in `TokenizedRows`; and each column, (sequences,). Sequence s belongs to item
``s // sequences per item`` of the batch. Packed and padded batches look the same to an objective that reads its tokens
through `Scorer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.long_rows import LongRows
from tasks.training.losses.loss import TrainingLoss
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.rows import TokenizedRows

if TYPE_CHECKING:
    import torch

Batch = Mapping[str, Any]
Reference = Literal["none", "precomputed", "precomputed_of_all", "live"]


@dataclass(frozen=True)
class ObjectiveCan:
    """What an objective can and needs. Refusals and tables are made of it, and a contract test holds it to it.

    A fact is added together with the code that asks for it; none has a default, so every objective has to answer.

    Attributes:
        packing: Train on rows of several items, none of whose sequences sees another.
        token_loss: Minimise what ``training_setup.loss`` says; with another objective that param has no meaning.
        generates: Make its batches by generating, through `Objective.make`.
        shared_weights: Train where processes hold shares of the weights.
        keeps_state: Hand something from step to step, through `Objective.next_state`.
    """

    packing: bool
    token_loss: bool
    generates: bool
    shared_weights: bool
    keeps_state: bool


@dataclass(frozen=True)
class ObjectiveLoss:
    """A loss over the units of a batch.

    Attributes:
        total: Its sum, a scalar with a gradient.
        figures: Name, one of `Objective.figures`, to the sum of a figure over the batch and the number of what was
            summed; the trainer adds both over batches and processes and logs the ratio. Detached.
        auxiliary: Load-balancing loss of a mixture of experts, as `TokenValues` has it; None for other models.
    """

    total: torch.Tensor
    figures: Mapping[str, tuple[torch.Tensor, int]] = field(default_factory=dict)
    auxiliary: torch.Tensor | None = None


@dataclass(frozen=True)
class TokenValues:
    """Something that was computed at every supervised position of a batch.

    Attributes:
        values: With a gradient, fp32, shape (positions,) or (positions, numbers), in the order of the batch.
        sequences: Number of the sequence of each position within the batch, shape (positions,).
        count: Sequences of the batch.
        auxiliary: Load-balancing loss of a mixture of experts; None for other models.
    """

    values: torch.Tensor
    sequences: torch.Tensor
    count: int
    auxiliary: torch.Tensor | None = None

    def sums(self) -> torch.Tensor:
        """The sum over each sequence, shape (sequences, ...)."""
        zeros = self.values.new_zeros((self.count, *self.values.shape[1:]))
        return zeros.index_add(0, self.sequences, self.values)

    def lengths(self) -> torch.Tensor:
        """Supervised positions of each sequence, shape (sequences,)."""
        import torch

        return torch.bincount(self.sequences, minlength=self.count)

    def places(self) -> torch.Tensor:
        """Place of each position among the supervised ones of its sequence, from 0, shape (positions,)."""
        import torch

        order = torch.argsort(self.sequences, stable=True)
        lengths = self.lengths()
        starts = (torch.cumsum(lengths, 0) - lengths)[self.sequences[order]]
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device) - starts
        return places


class Scorer(Protocol):
    """The model at work on a batch, as the trainer hands it to an objective.

    Logits exist at supervised positions alone (`labels` other than -100; the position before such a token predicts
    it), and of many only in parts, which are computed again in the backward pass.
    """

    @property
    def model(self) -> Any:
        """The model as wrapped for training."""
        ...

    @property
    def token_loss(self) -> TrainingLoss:
        """``training_setup.loss``."""
        ...

    @property
    def state(self) -> Mapping[str, float]:
        """What `Objective.next_state` made of the steps so far; empty before the first."""
        ...

    @property
    def step(self) -> int:
        """The step under way, counted from 1; in validation, the one that was done last."""
        ...

    def sum(self, inputs: Batch, loss: TrainingLoss) -> ObjectiveLoss:
        """A loss of single tokens, weighted by the rows' weights, summed over the batch."""
        ...

    def log_probabilities(self, inputs: Batch) -> TokenValues:
        """The log-probability of every supervised token, nats; ``.sums()`` is that of the sequences."""
        ...

    def at_tokens(
        self, inputs: Batch, function: Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor]
    ) -> TokenValues:
        """What a function makes of the logits at the supervised positions.

        Args:
            inputs: The batch.
            function: From logits (part, vocabulary) in fp32, the right tokens (part,), and which of all supervised
                positions the part is, to numbers (part,) or (part, numbers). It is called again in the backward pass.
        """
        ...

    def at_ends(self, inputs: Batch, head: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """What a head makes of the last hidden state of each sequence, (sequences, width) to (sequences, numbers).

        The output layer does not run. The head is a module of the model that `Objective.extend` added, or has no
        weights.
        """
        ...

    def at_states(
        self, inputs: Batch, positions: torch.Tensor, head: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """The same of any positions of the flattened batch (rows x width): (positions, width) to (positions, ...)."""
        ...

    def reference(self) -> AbstractContextManager[Scorer]:
        """A scorer of the reference model, without gradients, while the block runs; only with ``reference: live``.

        It is the same model with copies of the trained weights as they were before the first step. Open it before
        anything with a gradient is computed of the batch: weights are exchanged in place.
        """
        ...


@dataclass(frozen=True)
class StepToMake:
    """What `Objective.make` is given beside the batches.

    Attributes:
        model: Not wrapped, in evaluation mode, without gradients.
        tokenizer: The base's.
        rows: All items of the split, whose index ``items`` in a batch says; `TokenizedRows.notes` has their texts.
        scorer: Of the model.
        seed: Of the plan, and the step. Draw for an item from (seed, step, item) and nothing else, so that a resumed
            run and another number of processes draw the same.
        pad: Token id of the padding.
        collate: Makes a batch of rows that were made here; gets rows and the indices of their items.
        split: ``train`` or ``validation``.
        folder: That of the run's checkpoints, for what is kept beside them.
        kept: What is handed to the next calls: tensors, numbers, texts, and lists, tuples and mappings of them. It is
            in the checkpoints, that of each process.
    """

    model: Any
    tokenizer: Any
    rows: TokenizedRows
    scorer: Scorer
    seed: tuple[int, int]
    pad: int
    collate: Callable[[TokenizedRows, Sequence[int]], dict[str, Any]]
    split: Literal["train", "validation"]
    folder: Path
    kept: dict[str, Any]


class Objective(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument.

    Attributes:
        can: Facts.
        rows: What kind of rows it takes.
        sequences: Sequences of an item. ``training_setup.max_tokens`` is the length of one.
        long_rows: What may become of rows longer than that; both sides of a pair have to keep their prompt.
        unit: What the loss is a mean over, in the singular: ``token``, ``pair``; for pages.
        figures: Names of what it logs, to their meanings. Validation has the same with ``eval_`` before the name.
        loss_tells: Whether a lower training loss is a better model; that of a policy's gradient is near 0 throughout.
        rate_share: Its usual learning rates, as a share of those for supervised learning by the same method.
    """

    can: ClassVar[ObjectiveCan]
    rows: ClassVar[RowKind]
    sequences: ClassVar[int]
    long_rows: ClassVar[tuple[LongRows, ...]]
    unit: ClassVar[str]
    figures: ClassVar[Mapping[str, str]]
    loss_tells: ClassVar[bool]
    rate_share: ClassVar[float]

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    @property
    def loss_in(self) -> str:
        """What its validation loss is counted in, for pages: ``nats per token``."""
        ...

    @property
    def reference(self) -> Reference:
        """Which reference model it needs: none; one whose figures are measured once before the first step, which is the
        model as it then is, on the items that are drawn or on all; or one that has to be there in every step."""
        ...

    def describe(self) -> str:
        """The objective in words, for a page, the middle of a sentence."""
        ...

    def problems(self, shape: ModelShape) -> list[str]:
        """What cannot work with these params and this model: what was found, what was expected, the next step."""
        ...

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        """The items of a split; what cannot be trained on is dropped and counted, with reasons."""
        ...

    @property
    def longest_answer(self) -> int | None:
        """Tokens of the longest answer that it generates; None where it generates none."""
        ...

    def trained_tokens(self, tokens: int, items: int) -> int:
        """Tokens of an epoch that are trained on, of items with so many; of answers to be generated the most."""
        ...

    def files(self) -> list[Path]:
        """Files of the user's that decide about the weights and are not part of the params."""
        ...

    def own_weights(self, shape: ModelShape) -> int:
        """Weights of modules of its own, all trained; 0 without `extend`."""
        ...

    @property
    def own_passes(self) -> int:
        """Passes through models of its own beside each one of the model, whose activations are kept as well."""
        ...

    def held_bytes(self) -> int:
        """Bytes of other models that are there in every step, such as a teacher's."""
        ...

    def extend(self, model: Any, seed: int) -> Any:
        """The adapted model with modules of the objective's own, which train and are in the checkpoints."""
        ...

    def save(self, model: Any, folder: Path) -> list[Path]:
        """Write those modules into the tuned folder, beside the method's files; the files.

        It is called before the method saves, so that what is of use in training only can be taken out of the model.
        """
        ...

    def units(self, inputs: Batch) -> int:
        """Number of units of a batch."""
        ...

    def measure_reference(self, scorer: Scorer, inputs: Batch) -> Mapping[str, torch.Tensor]:
        """Columns, (sequences, ...) each, that are measured once before the first step, where it is precomputed."""
        ...

    def use_reference(self, rows: TokenizedRows) -> TokenizedRows:
        """The items of a split, with those columns in them, as they are trained on: as many items, in their order."""
        ...

    def make(self, batches: Sequence[Batch], step: StepToMake) -> list[Batch]:
        """The batches of a step, of this process, as they are trained on; only with ``can.generates``."""
        ...

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        """The loss, summed over the units of a batch."""
        ...

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        """The same of a batch of validation items, without gradients."""
        ...

    def next_state(self, state: Mapping[str, float], figures: Mapping[str, float]) -> Mapping[str, float]:
        """What the next steps are told in `Scorer.state`, from a step's figures over all batches and processes.

        It is kept in the checkpoints. An objective without a state gives the empty mapping.
        """
        ...
