"""From the base and what was trained to one model folder that needs nothing else.

A method that merges leaves a plain transformers folder; of one that does not, the base is exported and what was trained
is put beside it.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.deployment.embedder import write_embedder
from tasks.deployment.exports.export import Export
from tasks.language_models.folder.model_folder import load_model, load_tokenizer, resolve_model, set_generation_config
from tasks.language_models.templates.ends import carry_ends
from tasks.training.objectives.reward_models.reward_objective import RewardObjective
from tasks.training.released import BASE, load_released, put_beside
from tasks.training.tuned import merge_reward_model, merge_tuned, read_method, read_objective

log = logging.getLogger(__name__)

READ_BY = (
    "AutoModelForSequenceClassification opens it, training takes it as a reward {name: model, path: ...}, and it "
    "answers nothing, so no gateway serves it"
)


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        folder: Where it lies.
        parameters: Weights of the model, tied ones once.
        bytes: Size of the folder.
    """

    folder: Path
    parameters: int
    bytes: int

    @property
    def figures(self) -> dict[str, float | int]:
        return {"parameters": self.parameters, "bytes": self.bytes}


def export_model(initial: Path, tuned: Path, export: Export, folder: Path) -> Exported:
    """Merge what was trained into a freshly loaded fp32 base and export it, or export the two side by side.

    Args:
        initial: The base model's folder.
        tuned: Folder written by fine-tuning.
        export: The format.
        folder: Where the model goes; made anew.

    Raises:
        PipelineError: What was trained cannot be merged or opened, or the disk refused the files.
    """
    method, objective = read_method(initial, tuned), read_objective(tuned)
    if isinstance(objective, RewardObjective):
        log.info("the release is %s: %s", objective.describe(), READ_BY)
        model, tokenizer = merge_reward_model(initial, tuned)
    else:
        model, tokenizer = merge_tuned(initial, tuned) if method.can.merging else _open_base(initial)
        carry_ends(model.generation_config, tokenizer)
    target = folder if method.can.merging else folder / BASE
    try:
        shutil.rmtree(folder, ignore_errors=True)
        target.mkdir(parents=True)
        export.write(model, tokenizer, target)
        if not method.can.merging:
            put_beside(method, tuned, folder)
        elif objective.name == "contrastive":
            write_embedder(folder, objective.pooling)
    except OSError as error:
        raise PipelineError(
            f"{folder}: cannot write ({error.strerror or error}); free some space and run again"
        ) from error
    whole = model if method.can.merging else load_released(folder)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return Exported(folder, sum(p.numel() for p in whole.parameters()), size)


def _open_base(initial: Path) -> tuple[Any, Any]:
    """The base in fp32 with its tokenizer, as the tuned model has them."""
    return set_generation_config(load_model(resolve_model(initial)), initial), load_tokenizer(initial)
