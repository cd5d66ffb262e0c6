"""Latency: how long a user waits for the whole answer.

Of the first ``prompts`` items the seconds from the prompt to the end of the greedy answer, one prompt at a time, the
shortest of ``tries``; the mean over the items. A model that writes longer answers is slower to read and to wait for,
and counts so. Candidate and champion are timed on the same items in the same run, one after the other, and never from
what was kept; the pairing by item cancels what items share, not what else the machine does meanwhile, so leave a
margin for that, and time on a machine that is otherwise idle. Servers batch and cache: their numbers are others.

Example:
    ``metrics: [..., {name: latency, prompts: 20}]`` with ``gate: {must_not_worsen: {latency: 0.2}}``: no candidate
    whose answers may take 0.2 seconds longer than those of the champion. Without times nothing is promoted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading

if TYPE_CHECKING:
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome
    from tasks.evaluation.probes.timing import TimingProbe


class Latency(Section):
    """Mean seconds of an answer; lower is better."""

    name: Literal["latency"] = "latency"
    prompts: int = Field(default=20, ge=2, description="items that are timed")
    tries: int = Field(default=3, ge=1, le=20, description="times that each is answered; the shortest counts")
    title: ClassVar[str] = "Latency (s)"
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False

    @property
    def probe(self) -> TimingProbe:
        from tasks.evaluation.probes.timing import TimingProbe

        return TimingProbe(self.prompts, self.tries)

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        """Seconds of each item that was timed.

        Raises:
            PipelineError: None was.
        """
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        measured = outcome.probes.get(self.probe.key)
        if measured is None:
            raise PipelineError(
                f"{outcome.model}: its answers were not timed; score models that are opened here, not texts"
            )
        seconds = measured["seconds"]
        values = np.array([0.0 if one is None else one for one in seconds], dtype=np.float64)
        return Scores(values, np.array([float(one is not None) for one in seconds]))
