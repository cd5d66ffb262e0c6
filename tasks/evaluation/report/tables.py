"""The tables of the evaluation page, and how it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.evaluation.items import ItemSet
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.slices.scores import Slice
from tasks.evaluation.wording import show_p, signed
from tasks.pages.text import show_score

Table = tuple[list[str], list[list[Any]], str]


def tabulate_differences(board: Scoreboard) -> Table:
    columns = [
        "metric",
        "against",
        "result",
        "candidate",
        "other model",
        "difference",
        f"{board.confidence:.0%} interval",
        "detectable",
        "items",
    ]
    rows: list[list[Any]] = [
        [
            board.metrics[name].title,
            pair.removeprefix("candidate_vs_"),
            one.result,
            show_score(one.mean_a),
            show_score(one.mean_b),
            signed(one.difference),
            f"[{signed(one.low)}, {signed(one.high)}]".replace(" ", "\N{NO-BREAK SPACE}"),
            show_score(one.detectable),
            one.items,
        ]
        for pair, by_metric in sorted(board.comparisons.items(), key=lambda pair: board.opponent not in pair[0])
        for name, one in by_metric.items()
    ]
    missing = [f"{name}: {why}" for name, why in {**board.not_applicable, **board.incomparable}.items()]
    note = "Result: whether the candidate is better, worse, or undecided, the interval containing zero."
    note += " Not compared: " + "; ".join(missing) + "." if missing else ""
    return columns, rows, note


def tabulate_checks(board: Scoreboard) -> Table:
    columns = ["metric", "against", "better on", "worse on", "same on", "permutation p", "Wilcoxon p", "McNemar p"]
    rows: list[list[Any]] = [
        [
            board.metrics[name].title,
            pair.removeprefix("candidate_vs_"),
            one.checks.better,
            one.checks.worse,
            one.checks.ties,
            *(
                "–" if p is None else show_p(p)
                for p in (one.checks.permutation, one.checks.wilcoxon, one.checks.mcnemar)
            ),
        ]
        for pair, by_metric in board.comparisons.items()
        for name, one in by_metric.items()
        if one.checks
    ]
    note = (
        "Items on which the candidate scores better, worse or the same, near duplicates as one. The verdict rests on "
    )
    return columns, rows, f"{note}the intervals above.{''.join(_doubts(board))}"


def _doubts(board: Scoreboard) -> list[str]:
    """Where another test of the same difference sees it otherwise than the interval."""
    found = [
        (board.metrics[name].title, one.checks.disagree(one.result != "undecided", board.confidence))
        for name, one in board.against_opponent.items()
        if one.checks
    ]
    return [f" {title}: other tests see it otherwise ({', '.join(tests)})." for title, tests in found if tests]


def tabulate_slices(board: Scoreboard, parts: Sequence[Slice], most: int) -> Table:
    """Slices by one property; those that are too small are called that."""
    columns = [
        parts[0].dimension if parts else "slice",
        f"difference to the {board.opponent}",
        "interval",
        *board.outcomes,
        "candidate, interval",
        "items",
        "remark",
    ]
    rows: list[list[Any]] = []
    for part in parts[:most]:
        one = part.comparison
        ends = _show_ends(signed(one.low), signed(one.high)) if one.low < one.high else "–"
        rows.append(
            [
                part.name,
                signed(one.difference),
                "too small" if part.too_small else ends,
                *(show_score(part.values[model]) for model in board.outcomes),
                _show_ends(show_score(part.ends[0]), show_score(part.ends[1])),
                part.items,
                "stands out" if part.stands_out else "",
            ]
        )
    note = (
        f"The {most} on which the candidate is weakest, of {len(parts):,}; all are in report.json."
        if (len(parts) > most)
        else ""
    )
    return columns, rows, note


def _show_ends(low: str, high: str) -> str:
    return f"[{low}, {high}]".replace(" ", "\N{NO-BREAK SPACE}")


def _describe_asking(board: Scoreboard) -> list[str]:
    """What the models were asked for: vectors, the likelihood of documents, or answers."""
    if any(outcome.ranks is not None for outcome in board.outcomes.values()):
        return ["Each model gave vectors of the items' texts, read without a chat template; nothing was answered."]
    if not any(item.prompt for item in board.items):
        return [
            "Each item is a document, read without a chat template and scored by its likelihood; nothing was asked."
        ]
    truncated = {model: int((~outcome.finished).sum()) for model, outcome in board.outcomes.items()}
    return [
        "The last answer of a conversation is the item, everything before it the prompt, rendered by each "
        "model's own chat template and answered greedily.",
        "Answers cut off by the limit of tokens or time: "
        + ", ".join(f"{model} {count:,}" for model, count in truncated.items())
        + ".",
    ]


def describe_method(selected: ItemSet, board: Scoreboard) -> list[str]:
    left_out = []
    if selected.too_long:
        left_out.append(f"{selected.too_long:,} longer than a model's context")
    for reason, count in selected.refused.items():
        left_out.append(f"{count:,} that a chat template refuses ({reason})")
    if selected.duplicates:
        left_out.append(f"{selected.duplicates:,} that repeat an item")
    if selected.unanswerable:
        left_out.append(f"{selected.unanswerable:,} without a prompt or an answer")
    method = [
        f"{len(board.items):,} of {selected.held_out:,} held-out rows, selected by a hash of their content"
        + (f"; left out: {', '.join(left_out)}." if left_out else "; none was left out."),
        *_describe_asking(board),
        "Differences are paired: both models are scored on the same resampled items, and near-duplicates are drawn "
        "together. Perplexities are computed in each resample before they are subtracted.",
        f'"Detectable" is the smallest true difference that these items show with {board.power:.0%} power; '
        "a smaller one may exist and go unnoticed.",
    ]
    method += [
        f"{name}: {count:,} items are scored for some models only and are left out for all."
        for name, count in board.unpaired.items()
    ]
    if board.ceiling is not None:
        method.append(
            "The intent of an answer is the label that it names, or the one that a classifier of words predicts, which "
            f"was fitted on the training answers. It is right on {board.ceiling:.1%} of the held-out reference "
            "answers, which is the ceiling of intent accuracy, and abstains from answers that are less like those of "
            "any label than right answers are. These count as wrong: "
            + ", ".join(f"{model} {count:,}" for model, count in board.abstained.items())
            + ". Intent accuracy does not measure whether what an answer says is true."
        )
    return method
