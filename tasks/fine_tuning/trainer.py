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
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json
from tasks.fine_tuning.batches import collate, order_batches, validation_batches
from tasks.fine_tuning.checkpoints import TRAINED, UNLOGGED, Checkpoints
from tasks.fine_tuning.output_layer import restrict_positions, scale_logits, sum_in_parts
from tasks.fine_tuning.rows import Splits
from tasks.language_models.encoding import IGNORED
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.losses.loss import MAXIMUM_LOGITS, Supervision, TrainingLoss
from tasks.training.optimizers.groups import group_weights
from tasks.training.plan import Plan
from tasks.training.quantization.loading import quantization_hidden
from tasks.training.rows import TokenizedRows
from tasks.training.schedules.schedule import share_of_peak

logger = logging.getLogger(__name__)

VALIDATION_BATCH_TOKENS = 2048
MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")

ADVICE = "lower training_setup.learning_rate or raise its warmup_share, and run again"


def trainer_arguments(plan: Plan, output: Path) -> SFTConfig:
    """The plan as TRL's arguments. What the callbacks and overrides below decide is switched off here."""
    return SFTConfig(
        output_dir=str(output),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.accumulation_steps,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        max_grad_norm=plan.clip_norm,
        bf16=plan.precision == "bf16",
        fp16=plan.precision == "fp16",
        activation_checkpointing=plan.gradient_checkpointing,
        use_cpu=plan.device == "cpu",
        seed=plan.seed,
        data_seed=plan.seed,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=plan.device == "cuda",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        include_num_input_tokens_seen="no",
        push_to_hub=False,
    )


class IntervalCallback(TrainerCallback):
    """Decides at which steps to log, evaluate and save. A step that is saved is logged too."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        step, last = state.global_step, state.global_step >= self.plan.steps
        control.should_save = last or step % self.plan.checkpoint_every_steps == 0
        control.should_evaluate = last or step % self.plan.evaluate_every_steps == 0
        control.should_log = control.should_save or step == 1 or step % self.plan.log_every_steps == 0
        return control


@dataclass(frozen=True)
class LossSum:
    """A loss over the supervised tokens of a batch.

    Attributes:
        total: Its sum, each token times its weight; a scalar with a gradient.
        tokens: Number of the tokens.
        auxiliary: Load-balancing loss of a mixture of experts; None for other models.
    """

    total: torch.Tensor
    tokens: int
    auxiliary: torch.Tensor | None


class FineTuner(SFTTrainer):
    """One run of a plan.

    Args:
        model: The base as prepared by the training method.
        tokenizer: The base's tokenizer.
        plan: The training plan.
        splits: Training and validation rows.
        checkpoints: Store of the run's checkpoints.
        callbacks: Callbacks for progress and metrics.
    """

    model: Any
    unlogged: dict[str, Any] | None = None

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        plan: Plan,
        splits: Splits,
        checkpoints: Checkpoints,
        callbacks: list[TrainerCallback],
    ) -> None:
        self.plan, self.splits, self.checkpoints = plan, splits, checkpoints
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.packed = plan.packing == "bfd"
        self.vocabulary: int = model.config.get_text_config().vocab_size
        self.sums_in_parts = True  # until the model does something to its logits that is not known
        with quantization_hidden(model):
            super().__init__(
                model=model,
                args=trainer_arguments(plan, checkpoints.folder),
                # Required and inspected by TRL, but never iterated: batches are made in `get_train_dataloader`.
                train_dataset=datasets.Dataset.from_dict({"input_ids": [[self.pad]], "labels": [[IGNORED]]}),
                processing_class=tokenizer,
                callbacks=[IntervalCallback(plan), *callbacks],
            )

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[dict[str, Any]]:
        """All batches of the whole run, those of this process."""
        plan = self.plan
        train = self.splits.train
        order = order_batches(
            train.lengths.tolist(), self.packed, plan.max_tokens, plan.batch_size, plan.seed, train.classes
        )
        needed = plan.steps * plan.accumulation_steps * plan.world_size
        own_batches = list(islice(order, self.args.process_index, needed, plan.world_size))
        return torch.utils.data.DataLoader(
            own_batches,  # type: ignore[arg-type]  # a list is a dataset
            batch_sampler=[[number] for number in range(len(own_batches))],
            collate_fn=partial(_collate_first, train, self.pad, self.packed),
            pin_memory=self.args.dataloader_pin_memory,
        )

    def create_optimizer(self, model: Any = None) -> Any:
        """The plan's optimizer, over groups of the trained weights."""
        if self.optimizer is None:
            model = self.model if model is None else model
            decayed = self.get_decay_parameter_names(model)
            plan = self.plan
            groups = group_weights(model, decayed, plan.learning_rate, plan.weight_decay, plan.parameter_groups)
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

    def settle_weights(self) -> None:
        """Put the weights where they are to be used; schedule-free optimizers take gradients at another point."""
        if hasattr(self._own_optimizer, "eval"):
            self._own_optimizer.eval()  # the next step changes back

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        if not self.plan.optimizer.can.keeps_gradients:
            return None
        return super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        prepare = super()._prepare_for_training
        prepared = prepare(max_steps, train_dataloader, resume_from_checkpoint)  # type: ignore[no-untyped-call]
        if resume_from_checkpoint is None:
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

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The plan's loss over the supervised tokens, each weighted by its row's weight, per token of the whole step.

        Args:
            model: As wrapped for training.
            inputs: What `collate` made.
            return_outputs: Not possible, since the logits are not kept.
            num_items_in_batch: Supervised tokens of the step, over all accumulated batches and processes; those of this
                batch by default.
        """
        if return_outputs:
            raise NotImplementedError("the logits of a training batch are not kept")
        found = self.sum_losses(model, inputs, self.plan.loss)
        loss = found.total / (num_items_in_batch if num_items_in_batch is not None else found.tokens)
        if found.auxiliary is not None:
            # A mean over the batch, not a sum over tokens.
            steps = self.plan.accumulation_steps * (self.plan.world_size if num_items_in_batch is not None else 1)
            loss = loss + self.router_aux_loss_coef * found.auxiliary / steps
        if self.plan.world_size > 1 and num_items_in_batch is not None:
            loss = loss * self.plan.world_size  # the processes' gradients are averaged, and so are their logged losses
        if self.model.training and not math.isfinite(loss.item()):
            raise PipelineError(f"step {self.state.global_step + 1}: the training loss is {loss.item()}; {ADVICE}")
        return loss

    def sum_losses(self, model: Any, inputs: Any, loss: TrainingLoss) -> LossSum:
        """A loss summed over the supervised tokens of a batch.

        Raises:
            PipelineError: The batch has no supervised token, so it would count as learned.
        """
        labels = inputs["labels"]
        # The last position predicts nothing, so its column of the mask is False.
        keep = torch.nn.functional.pad(labels[:, 1:].ne(IGNORED), (0, 1))
        positions = keep.flatten().nonzero().squeeze(1)
        if not len(positions):
            raise PipelineError(
                f"step {self.state.global_step + 1}: a batch of {len(labels)} rows has no supervised token; "
                "rows without one are to be dropped before training"
            )
        # Each position predicts the token after it.
        flat = (positions + 1).clamp(max=labels.numel() - 1)
        weights = inputs["weights"].flatten()[flat] if "weights" in inputs else None
        supervision = Supervision(labels.flatten()[flat], weights)
        model_inputs = {name: inputs[name] for name in MODEL_INPUTS if name in inputs}
        if self.aux_loss_enabled:
            model_inputs["output_router_logits"] = True
        size = max(1, MAXIMUM_LOGITS // self.vocabulary)
        if len(positions) > size and self.sums_in_parts:
            found = self._sum_in_parts(model, model_inputs, positions, size, supervision, loss)
            if found is not None:
                return found
        with restrict_positions(self.model.get_output_embeddings(), positions):
            outputs = model(**model_inputs, use_cache=False)
        return LossSum(loss.total(outputs.logits.float(), supervision), len(positions), self._auxiliary(outputs))

    def _sum_in_parts(
        self,
        model: Any,
        model_inputs: dict[str, torch.Tensor],
        positions: torch.Tensor,
        size: int,
        supervision: Supervision,
        loss: TrainingLoss,
    ) -> LossSum | None:
        """The same in parts of ``size`` positions; None for a model that does more to its logits than is known."""

        def sum_part(logits: torch.Tensor, span: slice) -> torch.Tensor:
            return loss.total(scale_logits(logits.float(), self.model.config), supervision.part(span))

        with sum_in_parts(self.model.get_output_embeddings(), positions, size, sum_part) as sums:
            outputs = model(**model_inputs, use_cache=False)
        total = sums[0].sum()
        # The model did to the sum what it does to logits, so it shows whether all of that is known.
        known = scale_logits(total.detach(), self.model.config)
        if not torch.allclose(outputs.logits.detach().sum(), known, rtol=1e-5, equal_nan=True):
            logger.warning(
                "%s changes its logits in a way that is not known, so they are computed in one piece; lower "
                "training_setup.batch_size where memory is short",
                type(self.model).__name__,
            )
            self.sums_in_parts = False
            return None
        # Wrappers that gather weights see a backward pass by the gradient of the model's own result.
        return LossSum(total + 0.0 * outputs.logits.sum(), len(positions), self._auxiliary(outputs))

    def _auxiliary(self, outputs: Any) -> torch.Tensor | None:
        """The load-balancing loss of a mixture of experts whose configuration asks for it."""
        return outputs.aux_loss if self.aux_loss_enabled else None

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validation loss: mean cross-entropy of the validation rows' supervised tokens, nats, whatever is trained."""
        validation = self.splits.validation
        if not len(validation):
            return {}
        self.settle_weights()
        self.model.eval()
        total, count = 0.0, 0
        for batch in validation_batches(validation.lengths.tolist(), VALIDATION_BATCH_TOKENS):
            inputs = self._prepare_inputs(collate(validation, batch, self.pad, packed=False))
            with torch.no_grad(), self.compute_loss_context_manager():
                found = self.sum_losses(self.model_wrapped, inputs, CrossEntropy())
            total, count = total + found.total.item(), count + found.tokens
        self.model.train()
        figures = {"eval_loss": total / count}
        if not math.isfinite(figures["eval_loss"]):
            raise PipelineError(
                f"step {self.state.global_step}: the validation loss is {figures['eval_loss']}; {ADVICE}"
            )
        self.log(dict(figures))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.plan.precision == "fp16" and not math.isfinite(logs.get("grad_norm", 0.0)):
            # The scale of the loss was too large: the step was left out and the scale halved, as at every beginning.
            logs = {name: value for name, value in logs.items() if name != "grad_norm"}
        for name in ("loss", "grad_norm"):
            if name in logs and not math.isfinite(logs[name]):
                raise PipelineError(
                    f"step {self.state.global_step}: {name.replace('_', ' ')} is {logs[name]}; {ADVICE}"
                )
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        self.settle_weights()
        if self.args.should_save:
            self.checkpoints.save(step, self.write_state)
        else:
            self.accelerator.wait_for_everyone()  # until the first process has made the folder
            self._save_rng_state(str(self.checkpoints.aside(step)))
            self.accelerator.wait_for_everyone()  # until all have written into it
        self.accelerator.wait_for_everyone()

    def write_state(self, folder: Path) -> None:
        """Write everything that a resumed run needs."""
        self.accelerator.wait_for_everyone()
        save_file(trained_weights(self.model), folder / TRAINED)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        states: Any = self.state.stateful_callbacks
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                states[type(callback).__name__] = callback.state()
        self.state.save_to_json(str(folder / "trainer_state.json"))
        write_json(folder / UNLOGGED, {"loss": self._tr_loss.item(), "logged_step": self._globalstep_last_logged})
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Put the trained weights of a checkpoint into the adapted base."""
        own = trained_weights(self.model)
        saved = load_file(Path(resume_from_checkpoint) / TRAINED)
        if own.keys() != saved.keys():
            raise RuntimeError(f"{resume_from_checkpoint}: holds other weights than those that are trained")
        for name, weights in own.items():
            weights.copy_(saved[name])
        self.unlogged = read_json(Path(resume_from_checkpoint) / UNLOGGED)

    def restore_loss(self) -> None:
        """Go on with the sum of the training losses where the checkpoint left it; called when training begins."""
        if self.unlogged:
            self._tr_loss += self.unlogged["loss"]
            self._globalstep_last_logged = self.unlogged["logged_step"]


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that get gradients, by name, tied ones once; not copied."""
    return {name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad}


def _collate_first(rows: TokenizedRows, pad: int, packed: bool, batches: list[Any]) -> dict[str, Any]:
    return collate(rows, batches[0], pad, packed)
