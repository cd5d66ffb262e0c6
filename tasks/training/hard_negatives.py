"""Hard negatives: texts that are near a text and yet do not belong to it, given with the rows or mined from the others.

Mined ones are found with the vectors that the model makes before the first step: the texts nearest to the first text of
a pair whose cosine is still a margin below that of its own partner (TopK-MarginPos of Moreira et al. 2024,
arXiv:2407.15831), since what is as near as the partner often belongs to it too. Untrained decoders make vectors that
all point into one direction, so their mean is taken off before (Mu and Viswanath 2018, arXiv:1702.01417).

Example: with cosines 0.8 (own), 0.75, 0.6 and 0.1, a margin of 0.1 and two negatives, those of 0.6 and 0.1 are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# First texts compared with all others at once.
COMPARED_TOGETHER = 512


def list_worse_answers(answers: pa.Table) -> Mapping[str, list[str]]:
    """Id of a row to the texts of its answers that are worse than its best one, the better first.

    Args:
        answers: Schema `ANSWER_SETS`.
    """
    found: dict[str, list[str]] = {}
    for row in answers.select(["id", "answers"]).to_pylist():
        best = max((one["score"] for one in row["answers"]), default=0.0)
        worse = sorted((one for one in row["answers"] if one["score"] < best), key=lambda one: -one["score"])
        texts = [one["turns"][-1]["content"].strip() for one in worse if one["turns"]]
        found[row["id"]] = list(dict.fromkeys(text for text in texts if text))
    return found


def mine_negatives(
    first: np.ndarray,
    second: np.ndarray,
    texts: np.ndarray,
    labels: np.ndarray,
    count: int,
    margin: float,
) -> np.ndarray:
    """For each pair the pairs whose second texts are hard negatives of its first, the hardest first.

    Args:
        first: Vectors of the first texts, (pairs, width).
        second: Vectors of the second texts, (pairs, width).
        texts: A number for each text, first and second, (pairs, 2); what is the same text is no negative.
        labels: A number for the label of each pair, 0 for none, (pairs,); what has the same one is no negative.
        count: Negatives of a pair.
        margin: Cosine by which a negative is less near than the partner.

    Returns:
        Numbers of pairs, -1 where there are no more, (pairs, count).
    """
    import numpy as np

    middle = np.concatenate([first, second]).mean(0)
    first, second = (_unit(vectors - middle) for vectors in (first, second))
    # A text that several pairs have is one candidate, with the labels of all of them.
    _, kept, numbers = np.unique(texts[:, 1], return_index=True, return_inverse=True)
    taken = np.full((len(first), count), -1, dtype=np.int64)
    labelled = [np.unique(numbers[labels == label]) for label in np.unique(labels[labels != 0])]
    of_label = dict(zip(np.unique(labels[labels != 0]).tolist(), labelled, strict=True))
    of_first: dict[int, list[int]] = {}
    for text, number in zip(texts[:, 0].tolist(), numbers.tolist(), strict=True):
        of_first.setdefault(text, []).append(number)
    names = texts[kept, 1]
    for start in range(0, len(first), COMPARED_TOGETHER):
        rows = np.arange(start, min(start + COMPARED_TOGETHER, len(first)))
        cosines = first[rows] @ second[kept].T
        own = (first[rows] * second[rows]).sum(1)
        cosines[cosines > own[:, None] - margin] = -np.inf
        for place, row in enumerate(rows.tolist()):
            cosines[place, of_first[int(texts[row, 0])]] = -np.inf
            cosines[place, names == texts[row, 0]] = -np.inf
            if labels[row]:
                cosines[place, of_label[int(labels[row])]] = -np.inf
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        found = np.take_along_axis(cosines, order, axis=1) > -np.inf
        taken[rows, : order.shape[1]] = np.where(found, kept[order], -1)
    return taken


def _unit(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.maximum(lengths, 1e-12)
    return unit
