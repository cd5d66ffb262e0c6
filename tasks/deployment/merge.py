"""From base and adapter (or trained weights) to one model folder that needs nothing else."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tasks.contracts.errors import PipelineError
from tasks.training.tuned import load_tuned

log = logging.getLogger(__name__)


class Export(Protocol):
    """How a merged model becomes a folder; see `tasks.deployment.exports`."""

    def write(self, model: Any, tokenizer: Any, folder: Path) -> None: ...


@dataclass(frozen=True)
class Exported:
    """A merged and exported model.

    Attributes:
        folder: Where it lies.
        parameters: Weights of the merged model, tied ones once.
        bytes: Size of the folder.
    """

    folder: Path
    parameters: int
    bytes: int

    @property
    def figures(self) -> dict[str, float | int]:
        return {"parameters": self.parameters, "bytes": self.bytes}


def export_merged(initial: Path, tuned: Path, export: Export, folder: Path) -> Exported:
    """Merge the adapter into a freshly loaded fp32 base and export it; trained weights go as they are.

    Args:
        initial: The base model's folder.
        tuned: Adapter or weights, from fine-tuning.
        export: The format.
        folder: Where the model goes; made anew.

    Raises:
        PipelineError: The adapter cannot be merged, or the disk refused the files.
    """
    model, tokenizer = load_tuned(initial, tuned)
    merged = _merge(model, tuned)
    parameters = sum(p.numel() for p in merged.parameters())
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        export.write(merged, tokenizer, folder)
    except OSError as error:
        raise PipelineError(
            f"{folder}: cannot write ({error.strerror or error}); free some space and run again"
        ) from error
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return Exported(folder, parameters, size)


def _merge(model: Any, tuned: Path) -> Any:
    """The plain model with the adapter's update added to its weights."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return model
    method = model.active_peft_config
    if method.is_prompt_learning:
        raise PipelineError(
            f"{tuned}: a {method.peft_type.value} adapter lives in the prompt and cannot be merged; "
            "train with full or lora to release it"
        )
    try:
        # `safe_merge` looks for weights that are not numbers before it overwrites anything.
        return model.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError) as error:
        raise PipelineError(f"{tuned}: the adapter cannot be merged ({error}); train again") from error
