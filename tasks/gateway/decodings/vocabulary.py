"""The refusal of a model whose token ids mean other texts than the release's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.language_models.folder.vocabulary import find_vocabulary_differences


def require_same_vocabulary(tokenizer: Any, other: Any, key: str, folder: Path) -> None:
    """Hold another model's vocabulary against the release's.

    Args:
        tokenizer: The release's.
        other: The other model's.
        key: The param that names it.
        folder: Its folder.

    Raises:
        PipelineError: They differ, with what does.
    """
    if differences := find_vocabulary_differences(tokenizer, other):
        raise PipelineError(
            f"{key}: {folder} has another vocabulary than the release ({differences}); take a model of the same family"
        )
