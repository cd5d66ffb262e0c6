"""TRL's `SFTTrainer`, with the order of rows, the validation loss and the checkpoints of this project.

What differs from TRL, and why:

* batches come from `order_batches`, so that the position in the data is the step number and nothing else;
* on a CPU the output layer runs only on supervised tokens. TRL does so on GPUs; on a CPU it computes every position,
  and again in the backward pass;
* validation loss is the mean over tokens, not over batches;
* checkpoints are sealed and have no pickled objects but tensors and states; a logged loss ends at each of them, so that
  a resumed run gives the same curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
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
from tasks.fine_tuning.batches import collate, order_batches, validation_batches
from tasks.fine_tuning.checkpoints import TRAINED, Checkpoints
from tasks.fine_tuning.rows import Splits, TokenizedRows
from tasks.language_models.encoding import IGNORED
from tasks.training.plan import Plan

VALIDATION_BATCH_TOKENS = 2048
MAXIMUM_LOGITS = 1 << 28  # of a batch; above, TRL's tiled output layer is used on a CPU too

ADVICE = "lower training_setup.learning_rate or raise its warmup_share, and run again"


def trainer_arguments(plan: Plan, output: Path) -> SFTConfig:
    """The plan as TRL's arguments. What the callbacks and overrides below decide is switched off here."""
    return SFTConfig(
        output_dir=str(output),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.accumulation_steps,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="constant_with_warmup" if plan.schedule == "constant" else plan.schedule,
        warmup_steps=plan.warmup_steps,
        weight_decay=plan.weight_decay,
        max_grad_norm=plan.clip_norm,
        optim=plan.optimizer,
        bf16=plan.precision == "bf16",
        fp16=False,
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

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        prepare = super()._prepare_for_training
        prepared = prepare(max_steps, train_dataloader, resume_from_checkpoint)  # type: ignore[no-untyped-call]
        if resume_from_checkpoint is None:
            self.evaluate()  # the curve begins with the loss before the first step
        return prepared

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean negative log-likelihood of the supervised tokens, each weighted by its row's weight, nats."""
        labels = inputs["labels"]
        vocabulary = self.model.get_output_embeddings().weight.shape[0]
        large = labels.device.type != "cpu" or labels.numel() * vocabulary > MAXIMUM_LOGITS
        if return_outputs or (large and "weights" not in inputs):
            compute_loss = super().compute_loss
            return compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[no-untyped-call]
        total, count = self._token_losses(model, inputs)
        loss = total / (num_items_in_batch if num_items_in_batch is not None else max(count, 1))
        if self.model.training and not math.isfinite(loss.item()):
            raise PipelineError(f"step {self.state.global_step + 1}: the training loss is {loss.item()}; {ADVICE}")
        return loss

    def _token_losses(self, model: Any, inputs: Any) -> tuple[torch.Tensor, int]:
        """Sum of the weighted losses and number of the supervised tokens of a batch."""
        targets = inputs["labels"][:, 1:]
        keep = targets.ne(IGNORED)
        # The last position predicts nothing, so its row of the mask is False.
        positions = torch.nn.functional.pad(keep, (0, 1)).flatten().nonzero().squeeze(1)
        weights = inputs.get("weights")
        with _restrict_positions(self.model.get_output_embeddings(), positions):
            model_inputs = {name: value for name, value in inputs.items() if name not in ("labels", "weights")}
            logits = model(**model_inputs, use_cache=False).logits
        if weights is None:
            total = torch.nn.functional.cross_entropy(logits.float(), targets[keep], reduction="sum")
        else:
            losses = torch.nn.functional.cross_entropy(logits.float(), targets[keep], reduction="none")
            total = losses @ weights[:, 1:][keep]
        return total, int(keep.sum())

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validation loss: mean over the supervised tokens of the validation rows, nats."""
        validation = self.splits.validation
        if not len(validation):
            return {}
        self.model.eval()
        total, count = 0.0, 0
        for batch in validation_batches(validation.lengths.tolist(), VALIDATION_BATCH_TOKENS):
            inputs = self._prepare_inputs(collate(validation, batch, self.pad, packed=False))
            with torch.no_grad(), self.compute_loss_context_manager():
                batch_total, tokens = self._token_losses(self.model_wrapped, inputs)
            total, count = total + batch_total.item(), count + tokens
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
        for name in ("loss", "grad_norm"):
            if name in logs and not math.isfinite(logs[name]):
                raise PipelineError(
                    f"step {self.state.global_step}: {name.replace('_', ' ')} is {logs[name]}; {ADVICE}"
                )
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
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
        self._save_rng_state(str(folder))
        states: Any = self.state.stateful_callbacks
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                states[type(callback).__name__] = callback.state()
        self.state.save_to_json(str(folder / "trainer_state.json"))
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Put the trained weights of a checkpoint into the adapted base."""
        own = trained_weights(self.model)
        saved = load_file(Path(resume_from_checkpoint) / TRAINED)
        if own.keys() != saved.keys():
            raise RuntimeError(f"{resume_from_checkpoint}: holds other weights than those that are trained")
        for name, weights in own.items():
            weights.copy_(saved[name])


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that get gradients, by name, tied ones once; not copied."""
    return {name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad}


def _collate_first(rows: TokenizedRows, pad: int, packed: bool, batches: list[Any]) -> dict[str, Any]:
    return collate(rows, batches[0], pad, packed)


@contextmanager
def _restrict_positions(output_layer: Any, positions: torch.Tensor) -> Iterator[None]:
    """Run the output layer on some positions of (rows x width) only, so that logits are (positions, vocabulary)."""

    def select(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (arguments[0].flatten(0, 1).index_select(0, positions),)

    hook = output_layer.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
