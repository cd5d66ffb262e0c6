"""The base's generation config: one that its own library saves, with the ends that the model will learn.

A config that asks for a temperature without sampling loads with a warning, but cannot be saved: training would end
in an error at its first checkpoint. The release carries this config, so that other servers obey the same ends.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.language_models.folder.model_folder import GENERATION_CONFIG
from tasks.language_models.templates.ends import carry_ends
from tasks.language_models.templates.rendering import first_line

logger = logging.getLogger(__name__)


def settle_generation_config(folder: Path, tokenizer: Any) -> str | None:
    """The generation config to write beside the model in place of its own; None where its own is right.

    Args:
        folder: The base model's folder.
        tokenizer: Its tokenizer, with the chat template in use.

    Raises:
        PipelineError: It cannot be read, or its own library refuses it even with sampling on.
    """
    from transformers import AutoConfig, GenerationConfig

    path = folder / GENERATION_CONFIG
    try:
        if path.is_file():
            config = GenerationConfig.from_pretrained(folder)
        else:
            config = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PipelineError(f"{path}: transformers refuses it ({first_line(error)}); correct or remove it") from error
    mended = _make_savable(config, path)
    added = carry_ends(config, tokenizer)
    if added:
        logger.info("%s: an answer ends with %s, as the chat template writes it", path, config.eos_token_id)
    return str(config.to_json_string()) + "\n" if mended or added else None


def _make_savable(config: Any, path: Path) -> bool:
    """Mend settings of sampling that stand without it; says whether that was needed."""
    problem = _refusal(config)
    if not problem:
        return False
    if config.temperature == 0:  # greedy, as other servers write it; transformers samples by no such temperature
        config.temperature, change = None, "temperature: 0 is left out"
    else:
        config.do_sample, change = True, "do_sample: true is added"
    if _refusal(config) or (config.temperature or 0) < 0:
        raise PipelineError(f"{path}: transformers refuses to save it ({problem}); correct or remove it")
    logger.warning(
        "%s: settings of sampling without do_sample, which transformers refuses to save; in models/initial %s; "
        "evaluation and the gateway's default stay greedy",
        path,
        change,
    )
    return True


def _refusal(config: Any) -> str:
    try:
        config.validate(strict=True)
    except ValueError as error:
        lines = [line.strip("- ") for line in str(error).splitlines() if line.strip()]
        return " ".join(lines[:2])[:240]
    return ""
