"""Selects rows that cover the data: every row should be near a kept one.

``cover`` is the greedy k-center core-set (Sener and Savarese 2018): each selected row is the one farthest from those
selected before. ``prototypes`` and ``outskirts`` cluster the rows by k-means and keep those nearest to
the centres, or farthest from them (Sorscher et al. 2022; for fine-tuning, DEFT-UCS, Das and Khetan 2024). None needs
labels.

Example: ``{name: diversity, take: cover}``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.threads import on_one_thread

if TYPE_CHECKING:
    from tasks.data_preparation.trainset.pruning.pool import Array, Pool


class Diversity(Section):
    """By the position among the embeddings."""

    name: Literal["diversity"] = "diversity"
    take: Literal["cover", "prototypes", "outskirts"] = Field(default="cover", description="which rows are kept")
    clusters: int = Field(default=50, ge=1, description="number of clusters of k-means")
    embedder: AnyEmbedder = Field(default=Tfidf(), description="model that embeds the prompts")

    @on_one_thread
    def score(self, pool: Pool) -> Array:
        """A score per row; the rows with the highest are kept."""
        import numpy as np

        points = self.embedder.embed(pool.prompts, pool.seed)
        if self.take == "cover":
            return -order_by_cover(points).astype(np.float64)
        from sklearn.cluster import KMeans

        count = min(self.clusters, len(points))
        centres = KMeans(count, random_state=pool.seed, n_init=1).fit(points)
        distances: Array = np.linalg.norm(points - centres.cluster_centers_[centres.labels_], axis=1)
        return -distances if self.take == "prototypes" else distances


def order_by_cover(points: Array) -> Array:
    """Per row its rank in the greedy k-center order, which begins with the row nearest to the mean.

    Args:
        points: Unit vectors; the time grows with the square of their number, about a minute for 20,000.
    """
    import numpy as np

    # For unit vectors one minus the dot product orders like the distance, at a third of the cost.
    distances = np.full(len(points), np.inf, dtype=points.dtype)
    rank = np.empty(len(points), dtype=np.int64)
    row = int(np.argmax(points @ points.mean(axis=0))) if len(points) else 0
    for step in range(len(points)):
        rank[row] = step
        distances = np.minimum(distances, 1 - points @ points[row])
        distances[row] = -np.inf
        row = int(distances.argmax())
    return rank
