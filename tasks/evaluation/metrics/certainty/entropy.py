"""Uncertainty: how much the answers differ that a model draws for the same prompt.

Sequence entropy is that of the model's answers, estimated from drawn ones (Malinin and Gales, arXiv:2002.07650)::

    H = -1/n x sum over the n answers of  log p(answer | prompt)      nats

It counts two wordings of the same answer as two answers. Semantic entropy (Kuhn et al., arXiv:2302.09664; in the
discrete form of Farquhar et al., Nature 2024) counts meanings instead: answers are put together that mean the same,
and with the share n_c / n of each cluster c::

    S = -sum over clusters of  n_c / n x log(n_c / n)                 nats, 0 to log(n)

Two answers mean the same where each entails the other after the question, as in the papers; ``by`` says what tells
that, a classifier of entailment or a judge (`tasks.evaluation.supports.meanings`). Without it, which needs no model,
they do where they have the same intent, if there are labels and both answers have an intent, else where their words
agree by a token F1 of ``agreement`` or more with the first answer of the cluster. High entropy goes with made-up
answers; a low one does not make an answer right.

Example:
    ``{name: semantic_entropy, by: {name: entailment, path: models/judges/deberta-v3-base-mnli}}``. Five drawn answers,
    three of one meaning and two of another: S = -(0.6 log 0.6 + 0.4 log 0.4) = 0.673.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.evaluation.metrics.reading import Reading
from tasks.evaluation.supports import AnySupport
from tasks.evaluation.supports.meanings import cluster_meanings, is_same_text

if TYPE_CHECKING:
    from tasks.evaluation.intents import IntentClassifier
    from tasks.evaluation.metrics.metric import Evidence, Scores
    from tasks.evaluation.outcomes import Outcome
    from tasks.evaluation.probes.samples import SamplesProbe


class _Entropy(Section):
    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    per_token: ClassVar[bool] = False
    looks_at: ClassVar[Reading] = "answers"
    exponentiated: ClassVar[bool] = False
    samples: int = Field(default=5, ge=2, le=100, description="answers drawn for each item")
    temperature: float = Field(default=1.0, gt=0, le=10, description="of the draws; 1 is the model's own distribution")
    seed: int = Field(default=0, ge=0, description="of the draws")

    @property
    def probe(self) -> SamplesProbe:
        from tasks.evaluation.probes.samples import SamplesProbe

        return SamplesProbe(self.samples, self.temperature, self.seed)

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        return None

    def drawn(self, outcome: Outcome) -> Any:
        """The drawn answers and their log-probabilities.

        Raises:
            PipelineError: None were drawn.
        """
        measured = outcome.probes.get(self.probe.key)
        if measured is None:
            raise PipelineError(
                f"{outcome.model}: no answers were drawn; score a model with `heptune evaluate`, not texts alone"
            )
        return measured


class SequenceEntropy(_Entropy):
    """Mean entropy of the answers, nats; lower is surer."""

    name: Literal["sequence_entropy"] = "sequence_entropy"
    title: ClassVar[str] = "Sequence entropy"

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        drawn = self.drawn(outcome)["log_probabilities"]
        values = [-sum(logs) / len(logs) if logs else 0.0 for logs in drawn]
        return Scores(np.array(values, dtype=np.float64), np.array([float(bool(logs)) for logs in drawn]))


class SemanticEntropy(_Entropy):
    """Mean entropy of the meanings of answers, nats; lower is surer."""

    name: Literal["semantic_entropy"] = "semantic_entropy"
    title: ClassVar[str] = "Semantic entropy"
    by: AnySupport | None = Field(
        default=None,
        description="tells whether one answer entails another; those that entail each other mean the same; null: "
        "answers of the same intent, or with the same words by agreement",
    )
    agreement: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="token F1 from which two answers mean the same, where by is null and there are no intents",
    )

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        import numpy as np

        from tasks.evaluation.metrics.metric import Scores

        drawn = self.drawn(outcome)["answers"]
        if self.by is None:
            clusters = [self.cluster(texts, evidence.intents) for texts in drawn]
        else:
            asked = [str(item.prompt[-1]["content"]) if item.prompt else "" for item in evidence.items]
            clusters = cluster_meanings(self.by, asked, drawn, evidence.kept)
        values = [measure_entropy(one) for one in clusters]
        return Scores(np.array(values, dtype=np.float64), np.array([float(bool(texts)) for texts in drawn]))

    def cluster(self, texts: Sequence[str], intents: IntentClassifier | None) -> list[int]:
        """The cluster of each answer, by number, without a means of support."""
        from tasks.evaluation.metrics.words.token_f1 import token_f1

        names = intents.classify(list(texts)) if intents else [None] * len(texts)
        first: list[int] = []
        found: list[int] = []
        for place, text in enumerate(texts):
            for number, other in enumerate(first):
                same = token_f1(texts[other], text) >= self.agreement or is_same_text(texts[other], text)
                if names[place] is not None and names[other] is not None:
                    same = names[place] == names[other]
                if same:
                    found.append(number)
                    break
            else:
                found.append(len(first))
                first.append(place)
        return found


def measure_entropy(clusters: Sequence[int]) -> float:
    """Entropy of the shares of clusters, nats; 0 for no answers."""
    import numpy as np

    if not clusters:
        return 0.0
    shares = np.bincount(clusters) / len(clusters)
    return float(-(shares * np.log(shares)).sum()) + 0.0
