"""The interface of a probe: something that is measured on a model while it is in memory, for the metrics that need it.

A probe costs time, so none runs unless a metric of the params asks for it. What it gives is kept with the answers,
unless it is another each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from tasks.evaluation.items import Item

Measured = Mapping[str, Any]


class AnswerProbe(Protocol):
    """A measurement.

    Attributes:
        key: Names the probe and all its settings; the measured values stand under it in an outcome.
        repeats: Whether the same model always gives the same, so that what was measured may be kept.
    """

    repeats: ClassVar[bool]

    @property
    def key(self) -> str: ...

    def measure(
        self, model: Any, tokenizer: Any, items: Sequence[Item], answers: Sequence[str], max_new_tokens: int, batch: int
    ) -> Measured:
        """What JSON can hold: lists with a value for each item, and texts.

        Args:
            model: In evaluation mode.
            tokenizer: Its tokenizer.
            items: The held-out items.
            answers: Its greedy answers to them.
            max_new_tokens: Longest answer, in tokens.
            batch: Rows at once.
        """


@runtime_checkable
class ProbedMetric(Protocol):
    """A metric that needs a probe."""

    @property
    def probe(self) -> AnswerProbe: ...


def list_probes(metrics: Iterable[Any]) -> tuple[AnswerProbe, ...]:
    """The probes that metrics ask for, each once."""
    found = {metric.probe.key: metric.probe for metric in metrics if isinstance(metric, ProbedMetric)}
    return tuple(found.values())
