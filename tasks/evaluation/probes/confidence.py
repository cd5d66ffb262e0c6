"""How sure a model is of an answer.

Where all references are names of labels, the model's answer is the label that it finds most likely: for each label the
summed log-probability of its tokens after the prompt, and over the labels a softmax. Elsewhere it is the greedy answer,
and the confidence the geometric mean of its tokens' probabilities, its end of turn included: ``exp(-loss)`` of the
model on its own answer. An answer that was cut off did not end, so its confidence is low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.language_models.generation import score_references

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.probes.probe import Measured

LABELS, TOKENS = "labels", "tokens"
# More labels would take longer than the answers.
MOST_LABELS = 100


@dataclass(frozen=True)
class ConfidenceProbe:
    """Confidence per item, and where labels are answered the label."""

    repeats: ClassVar[bool] = True

    @property
    def key(self) -> str:
        return "confidence"

    def measure(
        self, model: Any, tokenizer: Any, items: Sequence[Item], answers: Sequence[str], max_new_tokens: int, batch: int
    ) -> Measured:
        """``of`` (labels or tokens), ``confidence`` per item, 0 to 1, and with labels ``chosen``, the likeliest."""
        import numpy as np

        labels = list_answered_labels(items)
        asked = [place for place, item in enumerate(items) if item.prompt]
        confidence, chosen = [0.0] * len(items), [""] * len(items)
        texts = labels or [""]
        prompts = [items[place].prompt for place in asked for _ in texts]
        replies = [text if labels else answers[place] for place in asked for text in texts]
        losses = score_references(model, tokenizer, prompts, replies, batch, "confidence")
        for number, place in enumerate(asked):
            part = losses[number * len(texts) : (number + 1) * len(texts)]
            if not labels:
                confidence[place] = float(np.exp(-part[0].mean))
                continue
            logs = np.array([-loss.mean * loss.tokens for loss in part])
            shares = np.exp(logs - np.logaddexp.reduce(logs))
            chosen[place], confidence[place] = labels[int(shares.argmax())], float(shares.max())
        return {"of": LABELS if labels else TOKENS, "confidence": confidence, "chosen": chosen}


def list_answered_labels(items: Sequence[Item]) -> list[str]:
    """The labels, as references write them, where every asked item is answered by the name of its label."""
    written: dict[str, str] = {}
    for item in items:
        if not item.prompt:
            continue
        if item.label is None or _plain(item.reference) != _plain(item.label):
            return []
        written.setdefault(item.label, item.reference)
    return sorted(written.values()) if 2 <= len(written) <= MOST_LABELS else []


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").strip(" .").split())
