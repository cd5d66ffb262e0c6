"""Maximum mean discrepancy with a Gaussian kernel: did the distribution of the prompts' embeddings change?

Source: Gretton et al. 2012, "A kernel two-sample test", the unbiased estimate of MMD squared, with the median
distance of all rows as bandwidth. Good for a change of topics or meaning that no single word or length shows.

The effect is the share of out-of-distribution prompts that would give the same statistic: mixing in a share q of
prompts far from everything in the baseline moves MMD squared by q squared times that of a window of such prompts.

Example: two one-dimensional samples {0, 1} and {0, 1} with bandwidth 1: within each, the kernel between the two
different points is exp(-1/2) = 0.607; across, the mean is (1 + 0.607) / 2 = 0.803; MMD squared is
0.607 + 0.607 - 2 * 0.803 = -0.393 (the unbiased estimate may be negative).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.threads import on_one_thread

if TYPE_CHECKING:
    from tasks.monitoring.sample import Array, Measure, Probe, TrafficSample


class Embedding(Section):
    """Kernel distance of the prompts' embeddings, as a share of out-of-distribution prompts, 0 to 1."""

    name: Literal["embedding"] = "embedding"
    minimum_effect: float = Field(
        0.05, ge=0, le=1, description="smallest share of out-of-distribution prompts that raises an alert"
    )

    def probes(self, sample: TrafficSample) -> list[Probe]:
        import numpy as np

        from tasks.monitoring.sample import Probe

        kernel = gaussian_kernel(sample.embeddings)
        scale = outlier_scale(kernel[: sample.reference_rows, : sample.reference_rows])
        return [
            Probe(
                self.name,
                "meaning of the prompts",
                "share of out-of-distribution prompts",
                self.minimum_effect,
                discrepancy(kernel, scale),
                lambda statistic, n, m: float(np.sqrt(np.clip(statistic / scale, 0, 1))),
                outlier_noise,
            )
        ]


@on_one_thread
def gaussian_kernel(points: Array) -> Array:
    """RBF kernel of all pairs; the bandwidth is their median distance (1 if all coincide)."""
    import numpy as np

    squares = (points**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * points @ points.T, 0)
    pairs = distances[np.triu_indices(len(points), k=1)]
    median = float(np.median(pairs)) if pairs.size else 0.0
    kernel: Array = np.exp(-distances / (2 * (median if median > 1e-12 else 1.0)))
    np.fill_diagonal(kernel, 1.0)
    return kernel


def outlier_scale(kernel: Array) -> float:
    """MMD squared of a window that varies like the baseline and is as far from it as its own farthest pairs."""
    import numpy as np

    pairs = kernel[np.triu_indices(len(kernel), k=1)]
    if not pairs.size:
        return 1.0
    return max(2 * float(pairs.mean() - np.quantile(pairs, 0.01)), 1e-6)


def discrepancy(kernel: Array, scale: float) -> Measure:
    """Unbiased MMD squared and the equivalent share of outliers, as functions of the count of each row."""
    import numpy as np

    @on_one_thread
    def measure(reference: Array, window: Array) -> tuple[Array, Array]:
        n, m = reference.sum(axis=1), window.sum(axis=1)
        projected, window_projected = reference @ kernel, window @ kernel
        within = ((projected * reference).sum(axis=1) - n) / (n * (n - 1))
        window_within = ((window_projected * window).sum(axis=1) - m) / (m * (m - 1))
        across = (projected * window).sum(axis=1) / (n * m)
        squared = within + window_within - 2 * across
        return squared, np.sqrt(np.clip(squared / scale, 0, 1))

    return measure


def outlier_noise(effect: float, reference_rows: int, window_rows: int) -> float:
    """Standard deviation of the share of outliers in a window (binomial)."""
    import numpy as np

    share = min(max(effect, 1 / window_rows), 0.5)
    return float(np.sqrt(share * (1 - share) / window_rows))
