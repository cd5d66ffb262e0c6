"""What a model holds of answers that are worse than the references, so that its preferences can be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.items import Item
from tasks.language_models.generation import score_references


@dataclass(frozen=True)
class WorseAnswers:
    """What a model holds of the items' worse answers, in the order of the items.

    Attributes:
        losses: Mean negative log-likelihood, nats per token; not a number for items without one.
        tokens: Tokens, the end of turn included; 0 for items without one.
    """

    losses: NDArray[np.float64] = field(repr=False)
    tokens: NDArray[np.int64] = field(repr=False)


def score_worse_answers(
    model: Any, tokenizer: Any, items: Sequence[Item], batch_size: int, name: str
) -> WorseAnswers | None:
    """Losses of the worse answers of those items that have one; None where none has.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        items: The held-out items.
        batch_size: Answers scored at once.
        name: What the model is called, beside the progress bar.
    """
    places = [place for place, item in enumerate(items) if item.worse is not None]
    if not places:
        return None
    prompts, texts = [items[place].prompt for place in places], [items[place].worse or "" for place in places]
    found = score_references(model, tokenizer, prompts, texts, batch_size, f"{name}: scoring worse answers")
    losses, tokens = np.full(len(items), np.nan), np.zeros(len(items), dtype=np.int64)
    losses[places], tokens[places] = [loss.mean for loss in found], [loss.tokens for loss in found]
    return WorseAnswers(losses, tokens)
