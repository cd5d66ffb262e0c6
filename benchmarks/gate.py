"""The promotion gate on simulated items: how often a candidate that is not better is promoted, and what intervals hold.

Base and candidate answer the same items; the real bootstrap, comparison and verdict judge them. Without a true
difference every promotion is false; at 95% confidence 2.5% are stated, as only the better side of the interval
promotes. Coverage is the share of intervals that contain the true difference. Items are independent or come in clusters
of near duplicates that share how hard they are; ``exact_match`` is right or wrong, ``loss`` is skewed and weighted by
tokens.

    python benchmarks/gate.py [--cases 2000] [--items 100 400 1000] [--resamples 1000]
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.evaluation.bootstrap import Floats
from tasks.evaluation.items import Item
from tasks.evaluation.metrics.exact_match import ExactMatch
from tasks.evaluation.metrics.loss import Loss
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.evaluation.scoring import score_outcomes
from tasks.evaluation.verdict import decide

METRICS = {"exact_match": ExactMatch(), "loss": Loss()}
# The true improvement of the candidate: a share of right answers, or nats per token.
IMPROVEMENT = 0.05


def make_outcome(model: ModelName, right: Floats, losses: Floats, tokens: Floats) -> Outcome:
    return Outcome(
        model,
        ["yes" if each else "no" for each in right],
        np.ones(len(right), dtype=bool),
        losses,
        tokens.astype(np.int64),
        np.ones(len(right), dtype=np.int64),
    )


def simulate(
    metric: str, items: int, cluster_size: int, improvement: float, seed: list[int], resamples: int
) -> tuple[bool, bool]:
    """Whether the candidate is promoted, and whether the interval holds the true difference.

    Args:
        metric: ``exact_match`` or ``loss``.
        items: Number of items.
        cluster_size: Items per cluster.
        improvement: By how much the candidate is truly better.
        seed: Seed of the items.
        resamples: Number of bootstrap resamples.
    """
    rng = np.random.default_rng(seed)
    cluster = np.arange(items) // cluster_size
    easiness = rng.uniform(0.2, 0.9, items)[cluster]
    hardness = rng.gamma(2.0, 0.5, items)[cluster]
    tokens = rng.integers(5, 50, items).astype(float)
    outcomes = [
        make_outcome(
            model,
            rng.random(items) < easiness + gain,
            hardness * rng.lognormal(-0.125, 0.5, items) - gain,
            tokens,
        )
        for model, gain in (("base", 0.0), ("candidate", improvement))
    ]
    turns = ({"role": "user", "content": "?"},)
    board_items = tuple(Item(f"i{n}", "s", None, f"c{cluster[n]}", turns, "yes") for n in range(items))
    board = score_outcomes(
        Evidence(board_items, None), outcomes, [METRICS[metric]], resamples, confidence=0.95, power=0.8, seed=seed[-1]
    )
    verdict = decide(board, metric, minimum_items=2, must_not_worsen={}, champion=None)
    comparison = board.against_opponent[metric]
    truth = improvement if METRICS[metric].higher_is_better else -improvement
    return verdict.verdict == "promote", comparison.low <= truth <= comparison.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="simulated evaluations per row of the table")
    parser.add_argument("--items", type=int, nargs="+", default=[100, 400, 1000], help="held-out items")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples")
    arguments = parser.parse_args()
    print(
        f"{arguments.cases:,} cases a row; stated: 2.5% false promotions, 95% coverage\n"
        "metric        items  a cluster  false promotions  coverage  promoted when better  coverage when better"
    )
    for metric, size, items in product(METRICS, (1, 5), arguments.items):
        same, better = (
            np.array(
                [
                    simulate(metric, items, size, gain, [items, size, case], arguments.resamples)
                    for case in range(arguments.cases)
                ]
            ).mean(axis=0)
            for gain in (0.0, IMPROVEMENT)
        )
        print(
            f"{metric:<12}  {items:>5}  {size:>9}  {same[0]:>16.1%}  {same[1]:>8.1%}  {better[0]:>20.1%}  "
            f"{better[1]:>20.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
