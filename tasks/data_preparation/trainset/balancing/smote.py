"""SMOTE on embeddings (Chawla et al. 2002), by imbalanced-learn.

A synthetic row lies between a row of a small class and one of its nearest neighbours of that class, as a point among
the embeddings of the prompts. A point has no text, so there are two products:

* the vectors of all labelled training rows and the synthetic ones, for a classifier on embeddings;
* for training on texts, each synthetic point stands for the row of its class nearest to it, which is repeated once
  more. Rows in the thick of their class are so repeated more often than those at its edge.

A label of one row has no neighbour; its row is repeated.

Example: ``{name: smote, ratio: 2, embedder: {name: tfidf, dimensions: 64}}``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.data_preparation.trainset.balancing.balancer import Balanced, Labelled, raise_counts

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class Smote(Section):
    """Adds points between rows of small classes."""

    name: Literal["smote"] = "smote"
    ratio: float = Field(default=1.0, ge=1, description="rows of the largest label over those of any other, afterwards")
    neighbours: int = Field(default=5, ge=1, description="nearest rows of the class that a point may lie towards")
    embedder: AnyEmbedder = Field(default=Tfidf(), description="what makes vectors of prompts")
    seed: int = Field(default=0, description="of the embedder and of the points")

    def balance(self, rows: Labelled) -> Balanced:
        """How often each row is to be there, and the vectors.

        Raises:
            PipelineError: imbalanced-learn is not installed.
        """
        import numpy as np
        import pyarrow as pa

        from tasks.contracts.balance import VECTORS

        vectors = self.embedder.embed(rows.texts, self.seed)
        times = list(rows.times)
        counts = rows.count()
        wanted = raise_counts(counts, self.ratio)
        made: list[Array] = []
        nearest: list[int] = []
        for label, members in rows.group().items():
            missing = wanted[label] - counts[label]
            if not missing:
                continue
            points = self._interpolate(vectors[members], missing)
            closest = [members[place] for place in (points @ vectors[members].T).argmax(axis=1).tolist()]
            for row in closest:
                times[row] += 1
            made.append(points)
            nearest += closest
        both = np.concatenate([vectors, *made]).astype(np.float32)
        owner = [*range(len(vectors)), *nearest]
        table = pa.table(
            {
                "id": pa.array([*rows.ids, *[None] * len(nearest)], pa.string()),
                "nearest": [rows.ids[row] for row in owner],
                "label": [rows.labels[row] for row in owner],
                "synthetic": [False] * len(vectors) + [True] * len(nearest),
                "vector": pa.FixedSizeListArray.from_arrays(both.ravel(), both.shape[1]).cast(pa.list_(pa.float32())),
            },
            schema=VECTORS,
        )
        return Balanced(times, table, {"synthetic": len(nearest), "dimensions": both.shape[1]})

    def _interpolate(self, members: Array, count: int) -> Array:
        import numpy as np

        if len(members) == 1:
            return np.repeat(members, count, axis=0)
        try:
            from imblearn.over_sampling import SMOTE
        except ImportError as error:
            raise PipelineError("smote: imbalanced-learn is missing; pip install 'heptune[balancing]'") from error
        neighbours = min(self.neighbours, len(members) - 1)
        sampler = SMOTE(sampling_strategy={1: len(members) + count}, k_neighbors=neighbours, random_state=self.seed)
        # The sampler wants a second class, which it leaves alone.
        filler = np.zeros((1, members.shape[1]), dtype=members.dtype)
        points, _ = sampler.fit_resample(np.concatenate([members, filler]), np.array([1] * len(members) + [0]))
        made: Array = points[len(members) + 1 :]
        return made
