"""Model size: how many parameters a model has, in millions.

What decides about memory, disk and much of the time: a release in bf16 takes two bytes a parameter, one of 8-bit blocks
about one. Parameters that layers share count once; adapters that are not merged count too.

Example:
    ``metrics: [..., model_size]`` with ``gate: {must_not_worsen: {model_size: 0}}``: no candidate is larger than the
    champion. A base of 10.1 million parameters and an adapter of 0.2 million that is not merged: 10.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome
    from tasks.evaluation.probes.size import SizeProbe


class ModelSize(Section):
    """Millions of parameters; fewer are better."""

    name: Literal["model_size"] = "model_size"
    title: ClassVar[str] = "Parameters (millions)"
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    per_token: ClassVar[bool] = False
    # Documents have no answers, and their models have a size.
    looks_at: ClassVar[Reading] = "references"
    exponentiated: ClassVar[bool] = False

    @property
    def probe(self) -> SizeProbe:
        from tasks.evaluation.probes.size import SizeProbe

        return SizeProbe()

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        """The same for every item.

        Raises:
            PipelineError: The model's parameters were not counted.
        """
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        measured = outcome.probes.get(self.probe.key)
        if measured is None:
            raise PipelineError(
                f"{outcome.model}: its parameters were not counted; score models that are opened here, not texts"
            )
        count = len(evidence.items)
        return Scores(np.full(count, measured["parameters"] / 1e6), np.ones(count))
