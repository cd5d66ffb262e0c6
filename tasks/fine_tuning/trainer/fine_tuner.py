"""TRL's `SFTTrainer`, with the order of rows, the validation loss and the checkpoints of this project.

What differs from TRL, and why:

* batches come from `order_batches`, so that the position in the data is the step number and nothing else;
* the loss is one of ours, and the output layer runs on supervised tokens only, on every device. TRL does so where there
  is Triton; on a CPU it computes every position, and again in the backward pass;
* validation loss is the mean over tokens, not over batches;
* checkpoints are sealed and have no pickled objects but tensors and states; a logged loss ends at each of them, so that
  a resumed run gives the same curve.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json
from tasks.fine_tuning.checkpoints import AVERAGED, SCHEDULER, UNLOGGED, Checkpoints
from tasks.fine_tuning.loss.batch_loss import BatchLoss
from tasks.fine_tuning.loss.batches import Bins, collate, order_batches
from tasks.fine_tuning.loss.noise import noisy_embeddings
from tasks.fine_tuning.loss.output_layer import adapter_hidden
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.trainer.arguments import IntervalCallback
from tasks.fine_tuning.trainer.averaging import AverageCallback, WeightAverage
from tasks.fine_tuning.trainer.method_steps import MethodSteps
from tasks.fine_tuning.trainer.not_finite import StepGuard
from tasks.fine_tuning.trainer.objective_run import ObjectiveRun
from tasks.fine_tuning.trainer.watch import (
    ADVICE,
    WatchCallback,
    advise_on_base,
    find_guesses,
    find_kept_step,
    is_over,
    list_protected,
)
from tasks.language_models.encoding import IGNORED
from tasks.training.methods.hooks import STATE, StepHooks
from tasks.training.mixture import drawing
from tasks.training.optimizers.groups import group_weights
from tasks.training.plan import Plan
from tasks.training.quantization.loading import quantization_hidden
from tasks.training.schedules.schedule import share_of_peak

logger = logging.getLogger(__name__)


class FineTuner(SFTTrainer):
    """One run of a plan.

    Args:
        model: The base as prepared by the training method.
        tokenizer: The base's tokenizer.
        plan: The training plan.
        splits: Training and validation rows.
        checkpoints: Store of the run's checkpoints.
        callbacks: Callbacks for progress and metrics.
        arguments: What `trainer_arguments` gave.
        hooks: What the plan's method does from step to step.
    """

    model: Any
    unlogged: dict[str, Any] | None = None
    average: WeightAverage | None = None
    objective: ObjectiveRun

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        plan: Plan,
        splits: Splits,
        checkpoints: Checkpoints,
        callbacks: list[TrainerCallback],
        arguments: SFTConfig,
        hooks: StepHooks,
    ) -> None:
        self.plan, self.splits, self.checkpoints = plan, splits, checkpoints
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.packed = plan.packing == "bfd"
        self.own_batches: list[Bins] = []
        self.drawn: np.ndarray = np.empty(0, np.int64)
        self.guard = StepGuard(self)
        self.guesses = find_guesses(plan, model, splits.train.weights is not None)
        averaging = [] if plan.ema_decay is None else [AverageCallback(self)]
        self.method_steps = MethodSteps(self, hooks)
        checkpoints.needed |= {AVERAGED} if averaging else set()
        checkpoints.needed |= {STATE} if hooks.keeps_state else set()
        with quantization_hidden(model), adapter_hidden(model):
            super().__init__(
                model=model,
                args=arguments,
                # Required and inspected by TRL, but never iterated: batches are made in `get_train_dataloader`.
                train_dataset=datasets.Dataset.from_dict({"input_ids": [[self.pad]], "labels": [[IGNORED]]}),
                processing_class=tokenizer,
                callbacks=[
                    self.method_steps,
                    *averaging,
                    IntervalCallback(self),
                    WatchCallback(plan, checkpoints, self.guesses),
                    *callbacks,
                ],
            )
        self.batch_loss = BatchLoss(self.model, self.aux_loss_enabled)
        self.objective = ObjectiveRun(self)

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[dict[str, Any]]:
        """All batches of the whole run, those of this process.

        Raises:
            PipelineError: A row has no supervised token.
        """
        plan = self.plan
        train = self.splits.train
        if not plan.objective.can.generates and len(unsupervised := train.find_unsupervised()):
            raise PipelineError(
                f"{len(unsupervised)} of {len(train)} training rows have no supervised token, the first is row "
                f"{unsupervised[0]}; rows without one are to be dropped before training"
            )
        order = order_batches(
            train.lengths.tolist(),
            self.packed,
            plan.row_tokens,
            plan.batch_size,
            plan.seed,
            train.classes,
            drawing(train, plan.mixture, plan.seed),
        )
        batches = list(islice(order, plan.steps * plan.accumulation_steps * plan.world_size))
        self.drawn = np.unique([item for batch in batches for row in batch for item in row])
        self.own_batches = batches[self.args.process_index :: plan.world_size]
        return torch.utils.data.DataLoader(
            self.own_batches,  # type: ignore[arg-type]  # a list is a dataset
            batch_sampler=[[number] for number in range(len(self.own_batches))],
            collate_fn=self._collate_first,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _collate_first(self, batches: list[Bins]) -> dict[str, Any]:
        # Of the rows as they are by then: a reference may have been measured since.
        return collate(self.splits.train, batches[0], self.pad, self.packed)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The batches of a step, as the objective makes them, and their units over all processes."""
        batches = self.objective.make(list(islice(epoch_iterator, num_batches)))
        return batches, self.objective.count_units(batches) if batches else None

    def create_optimizer(self, model: Any = None) -> Any:
        """The plan's optimizer, over groups of the trained weights."""
        if self.optimizer is None:
            model = self.model if model is None else model
            decayed = self.get_decay_parameter_names(model)
            plan = self.plan
            rate_factor = self.method_steps.hooks.rate_factor
            groups = group_weights(
                model, decayed, plan.learning_rate, plan.weight_decay, plan.parameter_groups, rate_factor
            )
            self.optimizer = plan.optimizer.build(groups, plan.seed)
        return self.optimizer

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """A batch's part of a step: its gradient, or what the optimizer measures instead of one."""
        if self.plan.optimizer.can.needs_backward:
            step = super().training_step
            return step(model, inputs, num_items_in_batch)  # type: ignore[no-untyped-call,no-any-return]
        model.train()
        inputs = self._prepare_inputs(inputs)

        def loss() -> torch.Tensor:
            with self.compute_loss_context_manager():
                found: torch.Tensor = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            # Without the number of tokens of the whole step, a batch's loss is a mean of its own.
            return found if num_items_in_batch is not None else found / self.current_gradient_accumulation_steps

        return self._own_optimizer.measure(loss)  # type: ignore[no-any-return]

    @property
    def _own_optimizer(self) -> Any:
        """The optimizer without accelerate's wrapper; None before there is one."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def forget_states(self, weights: Iterable[torch.Tensor]) -> None:
        """Free what the optimizer keeps of some weights; it begins anew when they get gradients again."""
        for one in weights:
            self._own_optimizer.state.pop(one, None)

    def settle_weights(self) -> None:
        """Put the weights where they are to be used; schedule-free optimizers take gradients at another point."""
        if hasattr(self._own_optimizer, "eval"):
            self._own_optimizer.eval()  # the next step changes back

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        if not self.plan.optimizer.can.keeps_gradients:
            self.guard.passes.clear()
            return None
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        if hasattr(norm, "full_tensor"):
            norm = norm.full_tensor()  # of all ranks, where weights are shared
        return self.guard.check_norm(norm)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        # Not told of the checkpoint: it would have DeepSpeed read it, which only as many ranks as wrote it can.
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)  # type: ignore[no-untyped-call]
        if resume_from_checkpoint is not None:
            self._load_optimizer_and_scheduler(resume_from_checkpoint)
            self._load_scaler(resume_from_checkpoint)
        if self.plan.ema_decay is not None:
            self.average = WeightAverage(self.plan.distribution, self.model, self.plan.ema_decay)
            if resume_from_checkpoint is not None:
                self.average.load(Path(resume_from_checkpoint) / AVERAGED)
        if resume_from_checkpoint is None:
            with self.compute_loss_context_manager():
                self.method_steps.hooks.begin(self.model, self.splits.train)
            self.objective.measure_reference()
            self.evaluate()  # the curve begins with the loss before the first step
        return prepared

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        plan, chosen = self.plan, optimizer or self.optimizer
        assert chosen is not None, "the trainer makes the optimizer first"
        if self.lr_scheduler is None:
            share = partial(share_of_peak, plan.schedule, plan.warmup_steps, plan.steps)
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, share)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        self.model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.model.set_requires_gradient_sync(True)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of the plan's objective, per unit of the whole step: tokens, or pairs.

        Args:
            model: As wrapped for training.
            inputs: What `collate` made.
            return_outputs: Not possible, since the logits are not kept.
            num_items_in_batch: Units of the step, over all accumulated batches and processes; those of this batch by
                default.
        """
        if return_outputs:
            raise ValueError("the logits of a training batch are not kept")
        alpha = self.plan.neftune_alpha if self.model.training else None
        with noisy_embeddings(self.model.get_input_embeddings(), alpha, inputs):
            found = self.objective.loss(model, inputs)
        units = num_items_in_batch if num_items_in_batch is not None else self.plan.objective.units(inputs)
        loss = found.total / units
        # Of what is a mean over the batch, not a sum over tokens.
        batches = self.plan.accumulation_steps * (self.plan.world_size if num_items_in_batch is not None else 1)
        if found.auxiliary is not None:
            loss = loss + self.router_aux_loss_coef * found.auxiliary / batches
        hooks = self.method_steps.hooks
        if self.model.training:
            if (extra := hooks.extra_loss(self.model, self.state.global_step + 1)) is not None:
                loss = loss + extra / batches
            self.objective.logged.add(hooks.take_figures())
        if self.plan.world_size > 1 and num_items_in_batch is not None:
            loss = loss * self.plan.world_size  # the processes' gradients are averaged, and so are their logged losses
        return self.guard.check_loss(loss, inputs) if self.model.training and self.own_batches else loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The objective's validation loss: of single tokens their mean cross-entropy, nats, whatever is trained."""
        if not len(self.splits.validation):
            return {}
        self.settle_weights()
        self.model.eval()
        with nullcontext() if self.average is None else self.average.in_model():
            figures = self.objective.validate(self.splits.validation)
        self.model.train()
        if not math.isfinite(figures["eval_loss"]):
            step = self.state.global_step
            advice = ADVICE if step else advise_on_base(self.plan.precision)
            raise PipelineError(f"step {step}: the validation loss is {figures['eval_loss']}; {advice}")
        self.log(dict(figures))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def _maybe_log_save_evaluate(self, *arguments: Any, **named: Any) -> None:
        self._steps_logged = self.state.global_step - self._globalstep_last_logged
        super()._maybe_log_save_evaluate(*arguments, **named)

    def _sum_over_ranks(self, total: float, count: int) -> tuple[float, int]:
        if self.args.world_size == 1:
            return total, count
        sums = torch.tensor([total, count], dtype=torch.float64, device=self.args.device)
        torch.distributed.all_reduce(sums)
        return float(sums[0]), int(sums[1])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self.objective.take_figures()
            self.guard.leave_out_skipped(logs, self._steps_logged)
        super().log(logs, start_time)

    def _run_epoch(self, *arguments: Any, **named: Any) -> None:
        # A run that was stopped early and is opened again has nothing left to do.
        if not is_over(self.plan, self.state.log_history):
            super()._run_epoch(*arguments, **named)  # type: ignore[no-untyped-call]

    @property
    def kept_step(self) -> int:
        """The step whose weights are left behind."""
        return find_kept_step(self.plan, self.state)

    def restore_kept(self) -> None:
        """After the last step, put the weights of the kept one into the model, or their averages if there are any."""
        self.checkpoints.protected |= {self.kept_step}
        if self.kept_step != self.state.global_step:
            folder = self.checkpoints.sound(self.kept_step)
            self.plan.distribution.load_weights(self, folder)
            self.method_steps.load(folder)
            if self.average is not None:
                self.average.load(folder / AVERAGED)
        if self.average is not None:
            self.average.leave_in_model()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        # One that a signal asks for out of turn is written as training goes on from it: weights that are put elsewhere
        # and back are rounded, which those of a run that is not interrupted are not at this step.
        if self.plan.is_saved(step):
            self.settle_weights()
        self.checkpoints.protected = list_protected(self.plan, self.state, self.checkpoints.steps(), self.guesses)
        if self.args.should_save:
            self.checkpoints.save(step, self.write_state)
        else:
            self.accelerator.wait_for_everyone()  # until the first rank has made the folder
            with self.checkpoints.writing(step):
                self._write_share(self.checkpoints.aside(step))
            self.accelerator.wait_for_everyone()  # until all have written into it
        self.accelerator.wait_for_everyone()

    def write_state(self, folder: Path) -> None:
        """Write everything that a resumed run needs; as the first rank, while the others write their shares."""
        self.accelerator.wait_for_everyone()
        loss = self._write_share(folder)
        self.method_steps.save(folder)
        scheduler: Any = self.lr_scheduler
        torch.save(scheduler.state_dict(), folder / SCHEDULER)
        self._save_scaler(str(folder))
        states: Any = self.state.stateful_callbacks
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                states[type(callback).__name__] = callback.state()
        self.state.save_to_json(str(folder / "trainer_state.json"))
        own = {"objective": dict(self.objective.state), "reference": self.objective.reference_hash}
        write_json(folder / UNLOGGED, {"loss": loss, "logged_step": self._globalstep_last_logged, **own})
        self.accelerator.wait_for_everyone()

    def _write_share(self, folder: Path) -> float:
        """Write this rank's share; gives the training loss since the last logged step, the mean of all ranks."""
        self.plan.distribution.save_state(self, folder)
        if self.average is not None:
            self.average.save(folder / AVERAGED)
        self._save_rng_state(str(folder))
        self.objective.write_kept(folder)
        total, _ = self._sum_over_ranks(self._tr_loss.item(), 0)
        return total / int(self.args.world_size)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing yet: weights are read with the optimizer's states, once both are made."""

    def restore_loss(self) -> None:
        """Go on with the sum of the training losses where the checkpoint left it; called when training begins."""
        if self.unlogged:
            self._tr_loss += self.unlogged["loss"]
            self._globalstep_last_logged = self.unlogged["logged_step"]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        self.unlogged = read_json(Path(checkpoint) / UNLOGGED)
        self.objective.state = self.unlogged["objective"]
        self.objective.read_kept(Path(checkpoint))
        self.objective.restore_reference(self.unlogged["reference"])
        self.plan.distribution.load_state(self, Path(checkpoint))
        self.method_steps.load(Path(checkpoint))
        scheduler: Any = self.lr_scheduler
        scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER, weights_only=True))
