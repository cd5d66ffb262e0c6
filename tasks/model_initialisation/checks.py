"""Checks that a folder is a complete and safe causal language model; all problems are reported in one line."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME
from tasks.language_models.folder.model_folder import ALLOWED
from tasks.model_initialisation.config_checks import check_configuration
from tasks.model_initialisation.entries import find_unsafe_entries
from tasks.model_initialisation.weights import Weights, read_weights

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tokenizer_config.json")


@dataclass(frozen=True)
class CheckedModel:
    """A checked model folder.

    Attributes:
        folder: The model's folder.
        config: Content of ``config.json``.
        weights: Tensors of the safetensors files.
        fetched: Folder that its source gave, where this one was made from it.
    """

    folder: Path
    config: dict[str, Any]
    weights: Weights
    fetched: Path | None = None

    @property
    def source_folder(self) -> Path:
        """The folder that its source gave."""
        return self.fetched or self.folder

    @property
    def files(self) -> list[Path]:
        """The files to store: weights in use, configuration, tokenizer, card, licence."""
        weights = {path.name for path in self.weights.files}
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.is_file()
            and not path.name.startswith(".")
            and path.name != NAME
            and any(fnmatch.fnmatch(path.name, pattern) for pattern in ALLOWED)
            and (path.suffix != ".safetensors" or path.name in weights)
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of what lies in the folder and is not used, such as pickles and Python code; hidden entries aside."""
        used = {path.name for path in self.files} | {NAME}
        return tuple(
            path.name + ("/" if path.is_dir() else "")
            for path in sorted(self.folder.iterdir())
            if path.name not in used and not path.name.startswith(".")
        )

    @property
    def figures(self) -> dict[str, float | int]:
        return {"parameters": self.weights.parameters, "files": len(self.weights.files)}


def check_folder(folder: Path) -> CheckedModel:
    """Open a model folder.

    Args:
        folder: A transformers folder.

    Raises:
        PipelineError: One line that lists everything missing or refused, what is there, and the next step.
    """
    if unsafe := find_unsafe_entries(folder):
        # Nothing is read beside what is not safe to read.
        raise _refuse(folder, unsafe)
    weights, problems = read_weights(folder)
    config, config_problems = check_configuration(folder, weights)
    problems = config_problems + problems
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        problems.append("no tokenizer.json (or tokenizer.model)")
    if problems or weights is None:
        raise _refuse(folder, problems)
    return CheckedModel(folder, config, weights)


def _refuse(folder: Path, problems: Sequence[str]) -> PipelineError:
    found = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
    shown = ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
    told = "; ".join(problems[:12]) + (f"; and {len(problems) - 12} more" if len(problems) > 12 else "")
    message = (
        f"{folder}: not a usable model folder: {told}. Found: {shown or 'nothing'}. "
        "Next: put the files there (a folder as save_pretrained writes it) or set another "
        "model_initialisation.source"
    )
    return PipelineError(" ".join(message.split()))  # names of files may hold line breaks


def open_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, without running the model authors' code.

    Raises:
        PipelineError: It does not load, or is not a fast one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise PipelineError(
            f"{folder}: the tokenizer does not load ({_first_line(error)}); expected a tokenizer.json that "
            "AutoTokenizer opens; copy it from where the model came from"
        ) from error
    if not tokenizer.is_fast:
        raise PipelineError(
            f"{folder}: only a slow tokenizer ({type(tokenizer).__name__}), which cannot map tokens to the "
            "answer; expected tokenizer.json; convert it with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
