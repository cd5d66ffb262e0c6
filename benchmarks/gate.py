"""The promotion gate on simulated items: how often a candidate that is not better is promoted, and what intervals hold.

Opponent and candidate answer the same items; the real bootstrap, comparison, spending and verdict judge them. Without a
true difference every promotion is false; at 95% confidence 2.5% are stated, as only the better side of the interval
promotes, and 5% for all decisions of one held-out set. Coverage is the share of intervals that contain the true
difference. Items are independent or come in clusters of near duplicates that share how hard they are; ``exact_match``
is right or wrong, ``loss`` is skewed and weighted by tokens.

    python benchmarks/gate.py [cells|rules|retrains|power ...] [--cases 2000] [--items 100 400 1000] [--resamples 1000]

* ``cells``: each metric, size and cluster size, candidate as good and better.
* ``rules``: candidates that must not pass, by the rule that has to stop them: Holm's method over three primary metrics,
  a metric that is worse by just its margin, BCa intervals, clusters.
* ``retrains``: five retrains on one set, each of which may change the champion, none of them better.
* ``power``: candidates better by just the smallest detectable difference that their comparison states.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from scipy.stats import binomtest

from tasks.evaluation import cross_checks
from tasks.evaluation.bootstrap import Floats
from tasks.evaluation.decisions.params import HeldOutReuse
from tasks.evaluation.decisions.reuse import EarlierDecision, use_held_out
from tasks.evaluation.items import Item
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.metrics.words.token_f1 import TokenF1
from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.evaluation.params import Bootstrap
from tasks.evaluation.scoring import Scoreboard, score_outcomes
from tasks.evaluation.verdict import decide

METRICS = {"exact_match": ExactMatch(), "loss": Loss(), "token_f1": TokenF1()}
# The true improvement of the candidate: a share of right answers, or nats per token.
IMPROVEMENT = 0.05
MARGIN = 0.05
RETRAINS = 5
# The answers of the models: right, half right (a token F1 of 0.5 beside an exact match of 0), and wrong.
RIGHT, HALF, WRONG = "yes indeed", "yes but", "no"


class Task:
    """Held-out items, and models that answer them."""

    def __init__(self, items: int, cluster_size: int, seed: Sequence[int]) -> None:
        self.rng = np.random.default_rng(seed)
        cluster = np.arange(items) // cluster_size
        self.easiness = self.rng.uniform(0.2, 0.9, items)[cluster]
        self.hardness = self.rng.gamma(2.0, 0.5, items)[cluster]
        self.tokens = self.rng.integers(5, 50, items).astype(float)
        turns = ({"role": "user", "content": "?"},)
        self.items = tuple(Item(f"i{n}", "s", None, f"c{cluster[n]}", turns, RIGHT) for n in range(items))

    def answer(self, model: ModelName, right: float = 0.0, loss: float = 0.0) -> Outcome:
        """A model that is right more often and has a lower loss by so much."""
        count = len(self.items)
        drawn = self.rng.random(count)
        answers = [
            RIGHT if each < easy else HALF if each < (1 + easy) / 2 else WRONG
            for each, easy in zip(drawn, self.easiness + right, strict=True)
        ]
        losses: Floats = self.hardness * self.rng.lognormal(-0.125, 0.5, count) - loss
        ones = np.ones(count, dtype=np.int64)
        return Outcome(model, answers, ones.astype(bool), losses, self.tokens.astype(np.int64), ones)

    def score(
        self, outcomes: Sequence[Outcome], metrics: Sequence[str], confidence: float, **how: object
    ) -> Scoreboard:
        settings = Bootstrap.model_validate(how).at(confidence)
        return score_outcomes(Evidence(self.items, None), outcomes, [METRICS[name] for name in metrics], **settings)


def judge(
    metric: str, items: int, cluster_size: int, improvement: float, seed: list[int], **how: object
) -> tuple[bool, bool]:
    """Whether the candidate is promoted, and whether the interval holds the true difference."""
    task = Task(items, cluster_size, seed)
    outcomes = [task.answer("base"), task.answer("candidate", improvement, improvement)]
    board = task.score(outcomes, [metric], 0.95, seed=seed[-1], **how)
    verdict = decide(board, metric, minimum_items=2, must_not_worsen={}, champion=None)
    comparison = board.against_opponent[metric]
    truth = improvement if METRICS[metric].higher_is_better else -improvement
    return verdict.verdict == "promote", comparison.low <= truth <= comparison.high


def pass_holm(items: int, cluster_size: int, seed: list[int], **how: object) -> bool:
    """Three primary metrics on none of which the candidate is better."""
    task = Task(items, cluster_size, seed)
    board = task.score([task.answer("base"), task.answer("candidate")], list(METRICS), 0.95, seed=seed[-1], **how)
    return decide(board, list(METRICS), 2, {}, None).verdict == "promote"


def pass_margin(items: int, cluster_size: int, seed: list[int], **how: object) -> bool:
    """Far better on the primary metric, and worse by just the margin on the one that must not worsen."""
    task = Task(items, cluster_size, seed)
    outcomes = [task.answer("base"), task.answer("candidate", right=0.3, loss=-MARGIN)]
    board = task.score(outcomes, ["exact_match", "loss"], 0.95, seed=seed[-1], **how)
    return decide(board, "exact_match", 2, {"loss": MARGIN}, None).verdict == "promote"


def pass_retrains(items: int, spending: str, seed: list[int], **how: object) -> bool:
    """Whether any of the retrains on one set is promoted, the champion being the last that was."""
    task = Task(items, 1, seed)
    reuse = HeldOutReuse.model_validate({"spending": spending})
    champion, earlier, promoted = task.answer("base"), list[EarlierDecision](), False
    ids = [item.id for item in task.items]
    for number in range(RETRAINS):
        candidate = task.answer("candidate")
        use = use_held_out(ids, f"candidate {number}", earlier, reuse, 0.95)
        board = task.score([champion, candidate], ["exact_match"], use.confidence, seed=seed[-1], **how)
        if decide(board, "exact_match", 2, {}, None, use).verdict == "promote":
            promoted = True
            champion = Outcome(**{**vars(candidate), "model": "base"})
        earlier.append(EarlierDecision(candidate=use.candidate, items=use.items))
    return promoted


def show(name: str, stated: str, found: Sequence[bool]) -> None:
    """A row: how many, the share, and its exact 95% interval (Clopper and Pearson)."""
    count = int(np.sum(found))
    low, high = binomtest(count, len(found)).proportion_ci(0.95)
    print(f"{name:<64}  {stated:>9}  {count:>5}  {count / len(found):>6.2%}  [{low:.2%}, {high:.2%}]", flush=True)


def run_cells(cases: int, sizes: Sequence[int], resamples: int) -> None:
    print(
        f"{cases:,} cases a row; stated: 2.5% false promotions, 95% coverage\n"
        "metric        items  a cluster  false promotions  coverage  promoted when better  coverage when better"
    )
    for metric, size, items in product(("exact_match", "loss"), (1, 5), sizes):
        same, better = (
            np.array([judge(metric, items, size, gain, [items, size, n], resamples=resamples) for n in range(cases)])
            .mean(axis=0)
            for gain in (0.0, IMPROVEMENT)
        )  # fmt: skip
        print(
            f"{metric:<12}  {items:>5}  {size:>9}  {same[0]:>16.1%}  {same[1]:>8.1%}  {better[0]:>20.1%}  "
            f"{better[1]:>20.1%}",
            flush=True,
        )


def run_rules(cases: int, sizes: Sequence[int], resamples: int) -> None:
    print(f"{cases:,} cases a row, none of which should pass\n{'rule':<64}  {'stated':>9}  passed")
    rules: list[tuple[str, Callable[..., bool]]] = [
        ("Holm, three primary metrics", pass_holm),
        ("worse by just the margin", pass_margin),
        ("one primary metric", lambda *a, **how: judge("exact_match", *a[:2], 0.0, a[2], **how)[0]),
    ]
    for items, size, (name, rule), method in product(sizes, (1, 5), rules, ("expanded", "bca")):
        how = {"resamples": resamples, "interval_method": method}
        found = [rule(items, size, [items, size, case], **how) for case in range(cases)]
        show(f"{name}, {items} items, {size} a cluster, {method}", "2.5%", found)


def run_retrains(cases: int, sizes: Sequence[int], resamples: int) -> None:
    print(f"{cases:,} cases a row of {RETRAINS} retrains, none better\n{'spending':<64}  {'stated':>9}  any promoted")
    for items, spending in product(sizes, ("equal", "none")):
        found = [pass_retrains(items, spending, [items, case], resamples=resamples) for case in range(cases)]
        show(f"{spending}, {items} items", "5%" if spending == "equal" else "-", found)


def state_detectable(metric: str, items: int, seed: list[int], resamples: int) -> float:
    """The smallest detectable difference that a comparison states."""
    task = Task(items, 1, seed)
    outcomes = [task.answer("base"), task.answer("candidate", 0.1, 0.1)]
    return task.score(outcomes, [metric], 0.95, resamples=resamples).against_opponent[metric].detectable


def run_power(cases: int, sizes: Sequence[int], resamples: int) -> None:
    print(f"{cases:,} cases a row, better by the detectable difference\n{'metric':<64}  {'stated':>9}  promoted")
    for metric, items in product(("exact_match", "loss"), sizes):
        stated = float(np.mean([state_detectable(metric, items, [items, 7, n], resamples) for n in range(100)]))
        found = [judge(metric, items, 1, stated, [items, 1, case], resamples=resamples)[0] for case in range(cases)]
        show(f"{metric}, {items} items, better by {stated:.3f}", "80%", found)


PARTS = {"cells": run_cells, "rules": run_rules, "retrains": run_retrains, "power": run_power}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--cases", type=int, default=2000, help="simulated evaluations per row of the table")
    parser.add_argument("--items", type=int, nargs="+", default=[100, 400, 1000], help="held-out items")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"{', '.join(unknown)} is no part; expected some of {', '.join(PARTS)}")
    # Permutation tests stand beside the verdict and take most of the time.
    cross_checks.FLIPS = 10
    for name in arguments.parts or PARTS:
        PARTS[name](arguments.cases, arguments.items, arguments.resamples)
        print()


if __name__ == "__main__":
    main()
