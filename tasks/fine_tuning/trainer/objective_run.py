"""An objective at work in a training: its batches and losses, its figures and state, and its reference model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file, replacing
from tasks.fine_tuning.loss.batches import Bins, collate, share_batches, validation_batches
from tasks.fine_tuning.loss.scorer import ModelScorer
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.trainer.averaging import WeightAverage
from tasks.training.choices import VALIDATION_TOKENS
from tasks.training.mixture import list_task_figures
from tasks.training.objectives.objective import ObjectiveLoss, Scorer, StepToMake
from tasks.training.rows import TokenizedRows

logger = logging.getLogger(__name__)

KEPT = "kept_{}.pt"
REFERENCE = "reference.safetensors"  # beside the checkpoints: what was measured before the first step
Split = Literal["train", "validation"]


class FigureSums:
    """Sums of an objective's figures over batches, on the device, in fp64."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}

    def add(self, figures: Mapping[str, tuple[torch.Tensor, int]]) -> None:
        """Add those of a batch; a figure that is not a number is left out, as the step it is of."""
        for name, (total, count) in figures.items():
            pair = torch.stack([total.detach().double(), torch.tensor(float(count)).to(total.device).double()])
            pair = torch.where(pair[0].isfinite(), pair, torch.zeros_like(pair))
            self.sums[name] = self.sums[name] + pair if name in self.sums else pair

    def take(self, names: Sequence[str], trainer: Any) -> dict[str, float]:
        """The means over all processes since the last call, of those figures that there are any of."""
        if not names:
            return {}
        zero = torch.zeros(2, dtype=torch.float64, device=trainer.args.device)
        table = torch.stack([self.sums.get(name, zero) for name in names])
        self.sums = {}
        if trainer.args.world_size > 1:
            torch.distributed.all_reduce(table)
        return {name: total / count for name, (total, count) in zip(names, table.tolist(), strict=True) if count}


class ObjectiveRun:
    """The objective of a trainer's plan at work.

    Args:
        trainer: The `FineTuner`; its model is adapted and has the weights of the first step.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.objective = trainer, trainer.plan.objective
        self.state: Mapping[str, float] = {}
        self.kept: dict[str, Any] = {}  # what `Objective.make` hands to its next calls
        self.making_s = 0.0  # seconds spent in it
        self.logged, self.of_step = FigureSums(), FigureSums()
        live = self.objective.reference == "live"
        self.reference = WeightAverage(trainer.plan.distribution, trainer.model, 1.0) if live else None

    def scorer(self, model: Any, seen: int = 0) -> ModelScorer:
        """The model at work on batches.

        Args:
            model: As wrapped for training.
            seen: 1 within a step, 0 between two.
        """
        trainer = self.trainer
        step = trainer.state.global_step + seen
        return ModelScorer(trainer.batch_loss, model, trainer.plan.loss, self.state, step, self.in_reference)

    @contextmanager
    def in_reference(self, scorer: ModelScorer) -> Iterator[Scorer]:
        """A scorer of the model with the weights that it had before the first step, without gradients."""
        assert self.reference is not None, "an objective that asks for a reference says so: reference = live"
        training = self.trainer.model.training
        self.trainer.model.eval()
        try:
            with torch.no_grad(), self.reference.in_model():
                # Not as wrapped: nothing is exchanged among processes.
                yield replace(scorer, model=self.trainer.model)
        finally:
            self.trainer.model.train(training)

    def make(self, batches: Sequence[Any], split: Split = "train") -> list[Any]:
        """The batches of a step as they are trained on."""
        trainer = self.trainer
        if not batches or not self.objective.can.generates:
            return list(batches)
        rows = getattr(trainer.splits, split)
        step = StepToMake(
            model=trainer.model,
            tokenizer=trainer.processing_class,
            rows=rows,
            scorer=self.scorer(trainer.model, seen=1),
            seed=(trainer.plan.seed, trainer.state.global_step + 1 if split == "train" else 0),
            pad=trainer.pad,
            collate=lambda made, items: collate(made, [[item] for item in items], trainer.pad, packed=False),
            split=split,
            folder=trainer.checkpoints.folder,
            kept=self.kept,
        )
        training, began = trainer.model.training, time.monotonic()
        trainer.model.eval()
        try:
            with torch.no_grad(), self._decoding_precision():
                made = self.objective.make([trainer._prepare_inputs(batch) for batch in batches], step)
        finally:
            trainer.model.train(training)
            self.making_s += time.monotonic() - began
        return list(made)

    def _decoding_precision(self) -> AbstractContextManager[Any]:
        """Autocast where weights are of several precisions, which the wrapped forward pass has of its own.

        Objectives decode with the model below what wraps it; weights that are all fp32 decode in fp32.
        """
        if all(weight.dtype == torch.float32 for weight in self.trainer.model.parameters()):
            return nullcontext()
        autocast: AbstractContextManager[Any] = self.trainer.accelerator.autocast()
        return autocast

    def take_making(self) -> float:
        """Seconds spent in making batches since the last call."""
        seconds, self.making_s = self.making_s, 0.0
        return seconds

    def write_kept(self, folder: Path) -> None:
        """Write what the next calls of `Objective.make` are handed, that of this process."""
        if self.kept:
            torch.save(self.kept, folder / self._kept_file)

    def read_kept(self, folder: Path) -> None:
        """The same for a run that goes on."""
        if (folder / self._kept_file).is_file():
            self.kept = torch.load(folder / self._kept_file, weights_only=True)

    @property
    def _kept_file(self) -> str:
        return KEPT.format(self.trainer.args.process_index)

    def count_units(self, batches: Sequence[Any]) -> torch.Tensor:
        """Units of the batches of a step, over all processes."""
        trainer = self.trainer
        count = torch.tensor(sum(self.objective.units(batch) for batch in batches), device=trainer.args.device)
        if trainer.args.world_size > 1:
            count = trainer.accelerator.gather(count).sum()
        return count.float()

    def loss(self, model: Any, inputs: Any) -> ObjectiveLoss:
        """The loss of a batch, summed over its units; its figures are noted."""
        found: ObjectiveLoss = self.objective.loss(self.scorer(model, seen=1), inputs)
        self.logged.add(found.figures)
        if self.objective.can.keeps_state:
            self.of_step.add(found.figures)
        return found

    def take_figures(self) -> dict[str, float]:
        """Means of the figures since the last logged step."""
        return self.logged.take(list(self.trainer.plan.figures), self.trainer)

    def end_step(self) -> None:
        """After a step, what the next ones are told of it."""
        if self.objective.can.keeps_state:
            figures = self.of_step.take(list(self.objective.figures), self.trainer)
            self.state = dict(self.objective.next_state(self.state, figures))

    def validate(self, rows: TokenizedRows) -> dict[str, float]:
        """Mean loss over the units of the validation items, ``eval_loss``, and the figures, on all processes."""
        trainer, sums = self.trainer, FigureSums()
        total, count = 0.0, 0
        for inputs, counts, task in self._share(rows, np.arange(len(rows))):
            (inputs,) = self.make([inputs], "validation")
            with torch.no_grad(), trainer.compute_loss_context_manager():
                found = self.objective.validation_loss(self.scorer(trainer.model_wrapped), inputs)
            if counts:
                units = self.objective.units(inputs)
                total, count = total + found.total.item(), count + units
                sums.add({**found.figures, **({task: (found.total, units)} if task else {})})
        total, count = trainer._sum_over_ranks(total, count)
        figures = sums.take([*self.objective.figures, *list_task_figures(rows)], trainer)
        return {"eval_loss": total / count, **{f"eval_{name}": value for name, value in figures.items()}}

    def _share(self, rows: TokenizedRows, items: np.ndarray) -> Iterator[tuple[Any, bool, str]]:
        """This process's share of some items: each batch, whether it counts, and the figure of its task, if any."""
        trainer, names = self.trainer, list_task_figures(rows)
        tasks = None if rows.tasks is None else rows.tasks[items]
        places = validation_batches(rows.lengths[items].tolist(), VALIDATION_TOKENS, tasks)
        batches: list[Bins] = [[[int(items[place])] for (place,) in batch] for batch in places]
        for batch, counts in share_batches(batches, trainer.args.process_index, trainer.args.world_size):
            task = "" if rows.tasks is None else names[rows.tasks[batch[0][0]]]
            yield trainer._prepare_inputs(collate(rows, batch, trainer.pad, packed=False)), counts, task

    def measure_reference(self) -> None:
        """Before the first step, measure what the objective wants of the model as it then is, and keep it."""
        if not self._is_precomputed:
            return
        trainer, columns = self.trainer, dict[str, np.ndarray]()
        trainer.model.eval()
        splits = trainer.splits
        wanted = {split: np.arange(len(getattr(splits, split))) for split in ("train", "validation")}
        if self.objective.reference == "precomputed":
            wanted["train"] = trainer.drawn
        for split, items in wanted.items():
            for name, column in self._measure(getattr(splits, split), items).items():
                columns[f"{split}.{name}"] = column
        trainer.model.train()
        file = self._file
        if trainer.is_world_process_zero():
            from safetensors.numpy import save

            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as aside:
                aside.write_bytes(save(columns))
        self._add(columns)

    def restore_reference(self, sha256: str) -> None:
        """The same for a run that goes on.

        Args:
            sha256: Of the file, as the checkpoint has it.

        Raises:
            PipelineError: It is not there, or is another.
        """
        if not self._is_precomputed:
            return
        from safetensors.numpy import load_file

        file = self._file
        if not file.is_file() or hash_file(file) != sha256:
            raise PipelineError(
                f"{file}: {'changed' if file.is_file() else 'missing'}, and the reference is measured before the first "
                f"step only; remove {file.parent} and run again"
            )
        self._add(load_file(file))

    @property
    def _is_precomputed(self) -> bool:
        return self.objective.reference in ("precomputed", "precomputed_of_all")

    @property
    def reference_hash(self) -> str:
        """SHA-256 of what `measure_reference` kept; empty without a file."""
        return hash_file(self._file) if self._file.is_file() else ""

    @property
    def _file(self) -> Path:
        folder: Path = self.trainer.checkpoints.folder
        return folder / REFERENCE

    def _measure(self, rows: TokenizedRows, items: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of some items, on all processes; NaN for the others, so that no step reads one in silence."""
        trainer, found = self.trainer, dict[str, torch.Tensor]()
        if not len(items):
            return {}
        for inputs, counts, _ in self._share(rows, items):
            with torch.no_grad(), trainer.compute_loss_context_manager():
                measured = self.objective.measure_reference(self.scorer(trainer.model_wrapped), inputs)
            first = inputs["items"][:, None] * rows.per_item
            sequences = (first + torch.arange(rows.per_item, device=first.device)).flatten()
            for name, values in measured.items():
                shape = (len(rows) * rows.per_item, *values.shape[1:])
                column = found.setdefault(name, torch.zeros(shape, device=first.device))
                if counts:
                    column[sequences] = values.float()
        if trainer.args.world_size > 1:
            for column in found.values():  # each sequence was measured by one process
                torch.distributed.all_reduce(column)
        others = np.repeat(~np.isin(np.arange(len(rows)), items), rows.per_item)
        columns = {name: column.cpu().numpy() for name, column in found.items()}
        for values in columns.values():
            values[others] = np.nan
        return columns

    def _add(self, columns: Mapping[str, np.ndarray]) -> None:
        splits = self.trainer.splits

        def extended(split: Split) -> TokenizedRows:
            rows: TokenizedRows = getattr(splits, split)
            own = {name.partition(".")[2]: column for name, column in columns.items() if name.startswith(f"{split}.")}
            used: TokenizedRows = self.objective.use_reference(replace(rows, columns={**rows.columns, **own}))
            return used

        self.trainer.splits = Splits(extended("train"), extended("validation"))
