"""SMOTE on embeddings (Chawla et al. 2002), by imbalanced-learn.

A synthetic row is a point between the embeddings of a row of a small class and one of its nearest neighbours in that
class. A point has no text, so there are two outputs:

* the vectors of all labelled training rows and of the synthetic ones, for a classifier on embeddings;
* for training on texts, each synthetic point is replaced by the nearest row of its class, which is repeated once more.
  Rows in the centre of their class are therefore repeated more often than those at its edge.

The row of a label with a single row has no neighbour and is repeated.

Example: ``{name: smote, ratio: 2, embedder: {name: tfidf, dimensions: 64}}``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.threads import on_one_thread
from tasks.data_preparation.trainset.balancing.balancer import Balanced, Labelled, raise_counts

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class Smote(Section):
    """Adds synthetic points between rows of small classes."""

    name: Literal["smote"] = "smote"
    ratio: float = Field(
        default=1.0, ge=1, description="maximum ratio of the rows of the largest label to those of any other"
    )
    neighbours: int = Field(default=5, ge=1, description="number of nearest neighbours to interpolate with")
    embedder: AnyEmbedder = Field(default=Tfidf(), description="model that embeds the prompts")
    seed: int = Field(default=0, description="seed of the embedder and of the points")

    @on_one_thread
    def balance(self, rows: Labelled) -> Balanced:
        """The number of times each row shall occur, and the vectors.

        Raises:
            PipelineError: imbalanced-learn is not installed.
        """
        import numpy as np
        import pyarrow as pa

        from tasks.contracts.balance import VECTORS

        vectors = self.embedder.embed(rows.texts, self.seed)
        times = list(rows.times)
        counts = rows.count()
        targets = raise_counts(counts, self.ratio)
        synthetic: list[Array] = []
        nearest: list[int] = []
        for label, members in rows.group().items():
            missing = targets[label] - counts[label]
            if not missing:
                continue
            points = self._interpolate(vectors[members], missing)
            closest = [members[place] for place in (points @ vectors[members].T).argmax(axis=1).tolist()]
            for row in closest:
                times[row] += 1
            synthetic.append(points)
            nearest += closest
        both = np.concatenate([vectors, *synthetic]).astype(np.float32)
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
            raise PipelineError("smote: imbalanced-learn is not installed; pip install 'heptune[balancing]'") from error
        neighbours = min(self.neighbours, len(members) - 1)
        sampler = SMOTE(sampling_strategy={1: len(members) + count}, k_neighbors=neighbours, random_state=self.seed)
        # The sampler needs a second class, which it does not change.
        filler = np.zeros((1, members.shape[1]), dtype=members.dtype)
        points, _ = sampler.fit_resample(np.concatenate([members, filler]), np.array([1] * len(members) + [0]))
        synthetic: Array = points[len(members) + 1 :]
        return synthetic
