"""Answers of models that are only asked, behind a URL or as a mixture of several: nothing but their texts is known."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.evaluation.items import Item, hash_items
from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.language_models.writers.answers import CUT_OFF, FailureLimit, ask_fully

if TYPE_CHECKING:
    from tasks.language_models.writers import AnyWriter

logger = logging.getLogger(__name__)


def answer_with_writer(name: ModelName, writer: AnyWriter, items: Sequence[Item], folder: Path | None) -> Outcome:
    """Answers of a writer, by its own settings; losses are not a number, as no writer gives them.

    What has no answer, because it was cut off or refused or the server failed, is scored as an empty one.

    Args:
        name: What the model is called.
        writer: The model.
        items: Items to answer.
        folder: Where answers are kept; None keeps none.

    Raises:
        PipelineError: There is no answer at all.
    """
    asked = [place for place, item in enumerate(items) if item.prompt]
    failures = FailureLimit()
    prompts = [[dict(turn) for turn in items[place].prompt] for place in asked]
    found = dict(zip(asked, ask_fully(writer, prompts, folder, failures=failures), strict=True))
    missing = [answer.why for answer in found.values() if answer.text is None]
    if len(missing) == len(found):
        why = failures.reason or ", ".join(sorted(set(missing))) or "no item has a prompt"
        raise PipelineError(f"{name}: not one of {len(items):,} items is answered ({why}); check the writer")
    if missing:
        reasons = ", ".join(sorted(set(missing)))
        logger.warning("%s: %s of %s items have no answer (%s), and are scored as empty", name, len(missing),
                       len(found), reasons)  # fmt: skip
    answers = [found.get(place) for place in range(len(items))]
    return Outcome(
        name,
        [(answer.text or "") if answer else "" for answer in answers],
        np.array([answer is None or answer.why != CUT_OFF for answer in answers]),
        np.full(len(items), np.nan),
        np.ones(len(items), dtype=np.int64),
        np.array([(answer.completion_tokens or 0) if answer else 0 for answer in answers], dtype=np.int64),
        items=hash_items(items),
    )
