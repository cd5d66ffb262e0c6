"""Verdicts about pairs of answers, and the biases that they show.

* Position bias: how much the judge favours the answer that is shown first. Each pair is shown in both orders, so
  without a bias half of the shares are the first-shown answer's, whichever answers are better (Zheng et al. 2023,
  section 3.3; Wang et al., "Large Language Models are not Fair Evaluators", arXiv:2305.17926).
* Length bias: of the pairs that are decided, the share in which the longer answer wins. Longer answers may be better:
  only beside what people say of the same pairs is it a bias (Dubois et al., arXiv:2404.04475).

All intervals are those of the bootstrap of `tasks.evaluation.bootstrap`, at 95%.

Example:
    The answer shown first wins in both orders of one pair, and the same answer in both orders of another: shares of
    1 and 0.5 for the first place, 0.75 on average, and one of two pairs is judged consistently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.evaluation.bootstrap import interval, replicate_means

RESAMPLES, CONFIDENCE = 2_000, 0.95
# Shares that differ by less are the same, but for rounding.
SAME = 1e-9
Three = tuple[float, float, float]


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to the same conversation.

    Attributes:
        prompt: The turns before them.
        first: An answer.
        second: Another.
        reference: A right answer; empty where there is none.
    """

    prompt: Sequence[Mapping[str, str]]
    first: str
    second: str
    reference: str = ""

    def swap(self) -> AnswerPair:
        return replace(self, first=self.second, second=self.first)

    def describe(self, shows_reference: bool) -> str:
        """The conversation as a judge reads it."""
        shown = "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in self.prompt)
        return f"{shown}\n\n[a right answer]\n{self.reference}" if shows_reference and self.reference else shown


@dataclass(frozen=True)
class PairVerdict:
    """What a judge says of a pair: shares of "first better", "tie" and "second better".

    Attributes:
        forward: With the first answer shown first.
        backward: With the second answer shown first.
    """

    forward: Three
    backward: Three

    @property
    def shares(self) -> Three:
        """The mean of both orders."""
        first, tie, second = ((a + b) / 2 for a, b in zip(self.forward, self.backward, strict=True))
        return first, tie, second

    @property
    def value(self) -> float:
        """1 where the first answer is better, 0 where the second is, 0.5 at a tie."""
        return find_value(self.shares)

    @property
    def confidence(self) -> float:
        """How sure the judge is of the better answer, 0.5 to 1."""
        first, tie, _ = self.shares
        return max(first + tie / 2, 1 - first - tie / 2)

    @property
    def is_consistent(self) -> bool:
        """Whether both orders give the same verdict."""
        return find_value(self.forward) == find_value(self.backward)

    @property
    def first_shown(self) -> float:
        """Share of the answer that is shown first, over both orders; without a bias 0.5 on average."""
        forward, backward = self.forward, self.backward
        return (forward[0] + forward[1] / 2 + backward[2] + backward[1] / 2) / 2


@dataclass(frozen=True)
class MeasuredShare:
    """A share with its interval, of so many pairs; not a number where there are none."""

    value: float
    low: float
    high: float
    pairs: int

    def describe(self) -> str:
        if not self.pairs:
            return "not measured"
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}] of {self.pairs:,}"


def find_value(shares: Three) -> float:
    """The likeliest of the three as 1, 0.5 or 0; a tie where the likeliest are equally likely."""
    first, tie, second = shares
    if first > max(tie, second) + SAME:
        return 1.0
    return 0.0 if second > max(tie, first) + SAME else 0.5


def combine(verdicts: Sequence[PairVerdict | None]) -> PairVerdict | None:
    """The mean verdict of several models; None where one of them gave none."""
    given = [verdict for verdict in verdicts if verdict is not None]
    if len(given) < len(verdicts):
        return None
    forward, backward = (
        np.mean([getattr(one, order) for one in given], axis=0).tolist() for order in ("forward", "backward")
    )
    return PairVerdict(tuple(forward), tuple(backward))


def measure_share(values: Sequence[float], clusters: Sequence[str] | None = None) -> MeasuredShare:
    """The mean of values between 0 and 1, with its interval.

    Args:
        values: One a pair.
        clusters: Clusters that are resampled whole; each pair by itself by default.
    """
    if not values:
        return MeasuredShare(float("nan"), float("nan"), float("nan"), 0)
    groups = list(clusters or map(str, range(len(values))))
    column = np.array(values, dtype=np.float64)[:, None]
    replicates = replicate_means(column, np.ones_like(column), groups, RESAMPLES, 0)[:, 0]
    value = float(column.mean())
    units = len(set(groups))
    low, high = interval(replicates, CONFIDENCE, units)
    if low == high:
        # All the same: the rule of three, as for differences (`tasks.evaluation.comparison`).
        low, high = max(0.0, value - min(1.0, 3 / units)), min(1.0, value + min(1.0, 3 / units))
    return MeasuredShare(value, low, high, len(values))


def measure_position(verdicts: Sequence[PairVerdict]) -> MeasuredShare:
    """Share of the answer that is shown first; 0.5 without a bias."""
    return measure_share([verdict.first_shown for verdict in verdicts])


def measure_consistency(verdicts: Sequence[PairVerdict]) -> MeasuredShare:
    """Share of pairs with the same verdict in both orders."""
    return measure_share([float(verdict.is_consistent) for verdict in verdicts])


def measure_length(values: Sequence[float], pairs: Sequence[AnswerPair]) -> MeasuredShare:
    """Of the pairs that are decided and whose answers differ in length: share in which the longer one wins.

    Args:
        values: 1 where the first answer is better, 0 where the second is, 0.5 at a tie.
        pairs: The answers.
    """
    return measure_share(
        [
            value if len(pair.first) > len(pair.second) else 1 - value
            for value, pair in zip(values, pairs, strict=True)
            if value != 0.5 and len(pair.first) != len(pair.second)
        ]
    )
