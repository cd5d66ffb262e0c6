"""What the trainer of transformers is told: the plan by its names, and at which steps it logs, validates and saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_config import SFTConfig

from tasks.training.methods.parts import changes_trained
from tasks.training.plan import Plan


def trainer_arguments(plan: Plan, output: Path) -> SFTConfig:
    """The plan as TRL's arguments. What the callbacks and overrides below decide is switched off here."""
    shared = plan.distribution.arguments(plan.batch_size, plan.accumulation_steps)
    if changes_trained(plan.method):
        shared["ddp_find_unused_parameters"] = True  # DDP waits for the gradients of all weights otherwise
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
        **shared,
    )


class IntervalCallback(TrainerCallback):
    """Decides at which steps to log, evaluate and save. A step that is saved is logged too.

    Args:
        trainer: The `FineTuner`, whose objective is told first that the step is done.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.plan = trainer, trainer.plan

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self.trainer.objective.end_step()
        step, last = state.global_step, state.global_step >= self.plan.steps
        control.should_save = self.plan.is_saved(step)
        control.should_evaluate = last or step % self.plan.evaluate_every_steps == 0
        # A validation may end the run, or have its step saved.
        saves = control.should_save or (control.should_evaluate and self.plan.saves_validated)
        control.should_log = saves or step == 1 or step % self.plan.log_every_steps == 0
        return control
