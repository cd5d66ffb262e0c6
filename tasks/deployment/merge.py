"""From the base and what was trained to one model folder that needs nothing else."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tasks.contracts.errors import PipelineError
from tasks.language_models.ends import carry_ends
from tasks.training.tuned import merge_tuned

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
    """Merge what was trained into a freshly loaded fp32 base and export it.

    Args:
        initial: The base model's folder.
        tuned: Folder written by fine-tuning.
        export: The format.
        folder: Where the model goes; made anew.

    Raises:
        PipelineError: What was trained cannot be merged, or the disk refused the files.
    """
    merged, tokenizer = merge_tuned(initial, tuned)
    carry_ends(merged.generation_config, tokenizer)
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
