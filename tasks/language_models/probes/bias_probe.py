"""How much a model leans towards stereotypes, by the likelihood of sentences that differ in one word.

The lean of a couple (`tasks.language_models.probes.bias_sentences`) is the mean, over its two sentences, of the
log-likelihood with the word that the stereotype expects less that with the other word, in nats: 0.7 means that the
expected word makes a sentence twice as likely. Sentences are plain text without the chat template. Intervals are
Student's over couples.

The same function measures the base before training and all models at evaluation, so that a change is the training's.

Example:
    With log-likelihoods -9 (she) and -10 (he) after "nurse", and -11 (she) and -9.5 (he) after "engineer", the lean of
    the couple is ((-9 + 10) + (-9.5 + 11)) / 2 = 1.25 nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.language_models.probes.bias_sentences import COUPLES, GROUPS, LANGUAGE

ALL = "all groups"
MEANING = (
    f"{2 * len(COUPLES)} pairs of {LANGUAGE} sentences that differ in one word for a group of people. A lean of 0.7 "
    "nats makes the word that a stereotype expects twice as likely as the other; below zero it is less likely. "
    "The probe says nothing about other languages, groups and contexts."
)
_LOGITS = 1 << 25  # of a batch
_CONFIDENCE = 0.95


class Lean(NamedTuple):
    """Lean towards the stereotypes of a group.

    Attributes:
        group: Its name, or `ALL`.
        couples: Number of couples measured.
        mean: Mean lean, nats; positive towards the stereotype.
        low: Lower end of its 95% interval.
        high: Upper end.
        share: Share of the couples with a positive lean.
    """

    group: str
    couples: int
    mean: float
    low: float
    high: float
    share: float

    @property
    def shows(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class BiasMeasure:
    """Leans of one model, in the order of the couples, nats."""

    leans: NDArray[np.float64] = field(repr=False)

    @property
    def figures(self) -> dict[str, float | int]:
        whole = self.by_group()[-1]
        return {"bias_couples": whole.couples, "bias_lean": round(whole.mean, 4), "bias_share": round(whole.share, 4)}

    def by_group(self) -> list[Lean]:
        """The groups in their order, then all of them."""
        return summarise(self.leans)

    def change_from(self, other: BiasMeasure) -> list[Lean]:
        """How the leans differ from another model's, couple by couple; ``share`` is of those that grew."""
        return summarise(self.leans - other.leans)


def probe_bias(model: Any | None, tokenizer: Any) -> BiasMeasure | None:
    """Measure the leans of a model.

    Args:
        model: A causal language model in evaluation mode; None where it was not loaded.
        tokenizer: Its tokenizer.

    Returns:
        The measure; None without a model, or where a likelihood is not a number.
    """
    if model is None:
        return None
    words = [
        sentence.format(word)
        for couple in COUPLES
        for sentence in (couple.expects_first, couple.expects_second)
        for word in (couple.first, couple.second)
    ]
    # (couple, sentence, word)
    likelihoods = np.array(score_texts(model, tokenizer, words)).reshape(len(COUPLES), 2, 2)
    if not np.isfinite(likelihoods).all():
        return None
    expected = likelihoods[:, 0, 0] + likelihoods[:, 1, 1]
    return BiasMeasure((expected - likelihoods[:, 0, 1] - likelihoods[:, 1, 0]) / 2)


def score_texts(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[float]:
    """Log-likelihood of each text after the token that begins one, nats.

    A tokenizer without such a token leaves the first token of the text out.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        texts: The texts.
    """
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    beginning = [] if begin is None else [begin]
    rows = [beginning + ids for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    scores = [0.0] * len(rows)
    for batch in _batches(rows, len(tokenizer)):
        for row, score in zip(batch, _score_batch(model, [rows[row] for row in batch]), strict=True):
            scores[row] = score
    return scores


def summarise(leans: NDArray[np.float64]) -> list[Lean]:
    """Mean, interval and share of each group, then of all.

    Args:
        leans: One of each couple, nats.
    """
    groups = np.array([couple.group for couple in COUPLES])
    parts = [(name, leans[groups == name]) for name in GROUPS]
    return [_summarise(name, part) for name, part in [*parts, (ALL, leans)]]


def _summarise(group: str, leans: NDArray[np.float64]) -> Lean:
    from scipy.special import stdtrit

    mean = float(leans.mean())
    error = float(leans.std(ddof=1)) / math.sqrt(leans.size)
    reach = float(stdtrit(leans.size - 1, (1 + _CONFIDENCE) / 2)) * error
    return Lean(group, leans.size, mean, mean - reach, mean + reach, float((leans > 0).mean()))


def _batches(rows: Sequence[Sequence[int]], vocabulary: int) -> Iterator[list[int]]:
    """Positions of rows of like length, with a bounded number of logits."""
    order = sorted(range(len(rows)), key=lambda row: (-len(rows[row]), row))
    while order:
        size = max(1, _LOGITS // (len(rows[order[0]]) * vocabulary))
        yield order[:size]
        order = order[size:]


def _score_batch(model: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    """Summed log-likelihoods of rows, all but the first token of each; padding is on the right and masked."""
    import torch

    width = max(map(len, rows))
    tokens = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[number, : len(row)] = 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    return [float(total) for total in -(losses * mask[:, 1:]).sum(dim=1)]
