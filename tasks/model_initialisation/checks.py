"""Checks that a folder is a complete and safe causal language model; all problems are reported in one line."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.model_initialisation.weights import PICKLED, Weights, read_weights

logger = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tokenizer_config.json")


@dataclass(frozen=True)
class CheckedModel:
    """A checked model folder.

    Attributes:
        folder: The model's folder.
        config: Content of ``config.json``.
        weights: Tensors of the safetensors files.
    """

    folder: Path
    config: dict[str, Any]
    weights: Weights

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
    config, problems = _read_config(folder)
    weights, weight_problems = read_weights(folder)
    problems += weight_problems
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        problems.append("no tokenizer.json (or tokenizer.model)")
    else:
        problems += _find_remote_code(folder / "tokenizer_config.json")
    if problems or weights is None:
        found = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
        shown = ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
        raise PipelineError(
            f"{folder}: not a usable model folder: {'; '.join(problems)}. Found: {shown or 'nothing'}. "
            "Next: put the files there (a folder as save_pretrained writes it) or set another "
            "model_initialisation.source"
        )
    ignored = sorted(p.name for p in folder.iterdir() if p.name.endswith((*PICKLED, ".py")))
    if ignored:
        logger.info("%s: ignored %s; only safetensors, configuration and tokenizer are used", folder, ignored)
    return CheckedModel(folder, config, weights)


def open_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, without running the model authors' code.

    Raises:
        PipelineError: It does not load, or is not a fast one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, TypeError, AttributeError, ImportError) as error:
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


def _read_config(folder: Path) -> tuple[dict[str, Any], list[str]]:
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            return {}, ["no config.json but an adapter_config.json: an adapter; merge it into its base first"]
        return {}, ["no config.json"]
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        return {}, [f"config.json: not JSON ({error})"]
    if not isinstance(config, dict) or "model_type" not in config:
        return {}, ['config.json: no "model_type"']
    return config, _find_remote_code(path)


def _find_remote_code(path: Path) -> list[str]:
    """The problem of a configuration that asks for the model authors' Python code."""
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        return [f"{path.name}: not JSON ({error})"]
    if isinstance(content, dict) and content.get("auto_map"):
        return [
            f'{path.name}: "auto_map" asks to run code that came with the model, which is never allowed; use a model '
            'that transformers supports itself, or remove "auto_map" where it does'
        ]
    return []


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
