"""What a wrong next token of an answer costs, from the costs of confusing labels and the answers that labels have.

The first answers of the training rows form a prefix tree. A row with label y stands at one of its nodes with every
token of its answer; a token v that others of the node's answers go on with leads to answers whose labels j have shares
s_v(j). Going there by mistake costs ``c(v) = sum over j of s_v(j) C[y][j]``: nothing, where all of them have label y.
Tokens that no answer goes on with have no cost here; the likelihood of the right one speaks of them.

Below a node whose answers all have one label there is nothing to confuse, so the tree ends there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.language_models.encoding import IGNORED

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class AnswerCosts:
    """Costs of tokens at some places of a training split.

    Attributes:
        places: Places among all tokens of the split where the next token may lead to another label, ascending.
        lists: Number of the list of each place.
        offsets: Start of each list and end of the last one.
        tokens: Tokens of all lists.
        costs: What each of them costs, above 0.
    """

    places: np.ndarray
    lists: np.ndarray
    offsets: np.ndarray
    tokens: np.ndarray
    costs: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.places, self.lists, self.offsets, self.tokens, self.costs

    def between(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Place, token and cost of every entry of the places from ``start`` up to ``end``."""
        import numpy as np

        first, last = np.searchsorted(self.places, [start, end])
        lists = self.lists[first:last]
        sizes = self.offsets[lists + 1] - self.offsets[lists]
        inside = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        entries = np.repeat(self.offsets[lists], sizes) + inside
        return np.repeat(self.places[first:last], sizes), self.tokens[entries], self.costs[entries]


def find_answer_costs(
    tokens: np.ndarray, labels: np.ndarray, offsets: np.ndarray, classes: np.ndarray, costs: np.ndarray
) -> AnswerCosts:
    """The costs of all next tokens that lead to an answer of another label.

    Args:
        tokens: Token ids of all rows, shape (tokens,).
        labels: The token where it is supervised, `IGNORED` elsewhere.
        offsets: Start of each row and end of the last one, shape (rows + 1,).
        classes: Class number of each row, shape (rows,); rows with -1 take no part.
        costs: What it costs to answer class j where i is right, shape (classes, classes).
    """
    import numpy as np

    starts, ends = _first_answers(labels, offsets)
    rows = np.flatnonzero((classes >= 0) & (starts < ends))
    group = np.zeros(len(rows), dtype=np.int64)
    found = _Lists()
    depth = 0
    while len(rows):
        at = starts[rows] + depth
        inside = at < ends[rows]
        rows, group, at = rows[inside], group[inside], at[inside]
        if not len(rows):
            break
        branches, branch = np.unique(np.stack([group, tokens[at]]), axis=1, return_inverse=True)
        branch = branch.reshape(-1)
        counts = np.zeros((branches.shape[1], len(costs)))
        np.add.at(counts, (branch, classes[rows]), 1)
        expected = counts / counts.sum(1, keepdims=True) @ costs.T
        found.add(at, group, classes[rows], branches, expected)
        mixed = (counts > 0).sum(1) > 1
        rows, group = rows[mixed[branch]], branch[mixed[branch]]
        depth += 1
    return found.pack()


def _first_answers(labels: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of the first run of supervised tokens of each row; equal where a row has none."""
    import numpy as np

    supervised = np.concatenate([labels != IGNORED, [False]])
    places = np.arange(len(supervised))
    following = np.minimum.accumulate(np.where(supervised, places, len(labels))[::-1])[::-1]
    starts = np.minimum(following[offsets[:-1]], offsets[1:])
    gaps = np.minimum.accumulate(np.where(~supervised, places, len(labels))[::-1])[::-1]
    return starts, np.minimum(gaps[starts], offsets[1:])


class _Lists:
    """The places of all depths, and the lists that rows of one node and class share."""

    def __init__(self) -> None:
        self.places: list[np.ndarray] = []
        self.numbers: list[np.ndarray] = []
        self.lists: list[tuple[np.ndarray, np.ndarray]] = []

    def add(
        self, at: np.ndarray, group: np.ndarray, classes: np.ndarray, branches: np.ndarray, expected: np.ndarray
    ) -> None:
        """Add the places of one depth.

        Args:
            at: The place of each row.
            group: Its node.
            classes: Its class.
            branches: Node and next token of every branch, shape (2, branches), sorted.
            expected: What a branch costs a row of each class, shape (branches, classes).
        """
        import numpy as np

        nodes, node_of_row = np.unique(np.stack([group, classes]), axis=1, return_inverse=True)
        numbers = np.full(nodes.shape[1], -1)
        for number, (node, name) in enumerate(nodes.T.tolist()):
            first, last = np.searchsorted(branches[0], [node, node + 1])
            costs = expected[first:last, name]
            if last - first > 1 and costs.any():
                numbers[number] = len(self.lists)
                self.lists.append((branches[1, first:last][costs > 0], costs[costs > 0]))
        chosen = numbers[node_of_row.reshape(-1)]
        self.places.append(at[chosen >= 0])
        self.numbers.append(chosen[chosen >= 0])

    def pack(self) -> AnswerCosts:
        import numpy as np

        places = np.concatenate([np.empty(0, np.int64), *self.places]).astype(np.int64)
        numbers = np.concatenate([np.empty(0, np.int64), *self.numbers]).astype(np.int64)
        order = np.argsort(places, kind="stable")
        return AnswerCosts(
            places=places[order],
            lists=numbers[order],
            offsets=np.cumsum([0, *(len(tokens) for tokens, _ in self.lists)]).astype(np.int64),
            tokens=np.concatenate([np.empty(0, np.int64), *(tokens for tokens, _ in self.lists)]).astype(np.int64),
            costs=np.concatenate([np.empty(0, np.float32), *(costs for _, costs in self.lists)]).astype(np.float32),
        )
