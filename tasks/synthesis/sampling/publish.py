"""The files of a sampling: rows for a source, every sample for reading, figures, and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

from tasks.contracts.manifest import write_json
from tasks.pages.page import Page
from tasks.synthesis.publish import write_lines
from tasks.synthesis.sampling.choice import SampledPrompt, describe_rows, list_samples
from tasks.synthesis.sampling.params import AnswerSampling

SHOWN, LONGEST = 6, 300


def write_sampled(settings: AnswerSampling, sampled: Sequence[SampledPrompt], path: Path) -> int:
    """Write the rows that a source of stage 1 reads; their number."""
    rows = [row for one in sampled for row in describe_rows(settings, one)]
    write_lines(path, rows)
    return len(rows)


def measure_sampled(settings: AnswerSampling, sampled: Sequence[SampledPrompt]) -> dict[str, int | float]:
    """The figures of a run: how many prompts, answers and rows there are, and what they are worth."""
    answers = [one for each in sampled for one in each.answers]
    return {
        "prompts": len(sampled),
        "prompts_kept": sum(bool(each.kept) for each in sampled),
        "samples": len(answers),
        "unusable": sum(one.reward is None for one in answers),
        "rows": sum(len(describe_rows(settings, one)) for one in sampled),
        "mean_reward": average_best(sampled, 1),
        "mean_best_reward": average_best(sampled, max((len(each.answers) for each in sampled), default=1)),
    }


def average_best(sampled: Sequence[SampledPrompt], count: int) -> float:
    """Expected reward of the best of ``count`` answers, mean over the prompts that have a usable one.

    Over all subsets of a prompt's usable answers of that size, or of all where they are fewer; for rewards of 0 and 1
    it is pass@k (Chen et al. 2021, arXiv:2107.03374).

    Example: of rewards 0, 0 and 1 the best of one is worth 1/3, the best of two 2/3, the best of three 1.
    """
    found = []
    for each in sampled:
        worth = sorted(one.worth for one in each.answers if one.reward is not None)
        if worth:
            size = min(count, len(worth))
            # The answer in place i is the best of C(i, size - 1) subsets.
            total = sum(value * comb(place, size - 1) for place, value in enumerate(worth))
            found.append(total / comb(len(worth), size))
    return _mean(found)


def write_report(
    settings: AnswerSampling, sampled: Sequence[SampledPrompt], page: Path, samples: Path, metrics: Path
) -> Any:
    """Write every sample, the figures and the page; the figures.

    Args:
        settings: Of the run.
        sampled: Its result.
        page: ``index.html``.
        samples: File with one answer a line.
        metrics: File of the figures.
    """
    write_lines(samples, (line for one in sampled for line in list_samples(one)))
    figures = measure_sampled(settings, sampled)
    write_json(metrics, figures)
    kinds = ", ".join(reward.describe() for reward in settings.rewards)
    made = Page(
        f"Sampling: {settings.title}",
        f"{settings.samples} answers of {settings.model.describe()} to each of {len(sampled):,} prompts; rewarded by "
        f"{kinds}.",
        verdict=f"{figures['rows']:,} rows",
        tone="good",
        stage="sampling",
    )
    made.cards(
        {
            "rows": f"{figures['rows']:,}",
            "prompts kept": f"{figures['prompts_kept']:,} of {figures['prompts']:,}",
            "mean reward of an answer": f"{figures['mean_reward']:.3f}",
            f"of the best of {settings.samples}": f"{figures['mean_best_reward']:.3f}",
            "unusable answers": f"{figures['unusable']:,} of {figures['samples']:,}",
        }
    )
    made.table(
        "Best of so many",
        ["answers", "mean reward of the best"],
        [[count, round(average_best(sampled, count), 4)] for count in list_counts(settings.samples)],
        "Expected over all choices of so many of a prompt's usable answers, mean over the same prompts in each line.",
    )
    left_out = Counter(one.left_out for one in sampled if one.left_out)
    unusable = Counter(one.draw.unusable for each in sampled for one in each.answers if one.draw.unusable)
    made.table("Prompts without a row", ["reason", "prompts"], [list(each) for each in left_out.most_common()])
    made.table("Answers that cannot be used", ["reason", "answers"], [list(each) for each in unusable.most_common()])
    made.table(
        "Answers",
        ["prompt", "answer", "reward", "kept"],
        [
            [_shorten(str(one.prompt.turns[-1]["content"])), _shorten(answer.draw.text), answer.worth, "yes" * kept]
            for one in sampled[:SHOWN]
            for answer in one.answers
            if answer.reward is not None
            for kept in [answer.number in {each.number for each in one.kept}]
        ],
    )
    made.link(samples.name, "All answers with their rewards")
    made.write(page)
    return figures


def list_counts(most: int) -> list[int]:
    """1, 2, 4, ... and ``most``."""
    return sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 6) if values else 0.0


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
