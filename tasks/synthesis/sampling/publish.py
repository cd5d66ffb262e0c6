"""The files of a sampling: rows for a source, every sample for reading, figures, and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
    rewards = [one.worth for one in answers if one.reward is not None]
    best = [each.kept[0].worth for each in sampled if each.kept]
    return {
        "prompts": len(sampled),
        "prompts_kept": len(best),
        "samples": len(answers),
        "unusable": len(answers) - len(rewards),
        "rows": sum(len(describe_rows(settings, one)) for one in sampled),
        "mean_reward": _mean(rewards),
        "mean_best_reward": _mean(best),
    }


def average_best(sampled: Sequence[SampledPrompt], most: int) -> list[tuple[int, float]]:
    """What the best of the first k answers is worth on average, for k = 1, 2, 4, ... ``most``, usable ones alone."""
    counts = sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})
    found = []
    for count in counts:
        firsts = [[one.worth for one in each.answers[:count] if one.reward is not None] for each in sampled]
        found.append((count, _mean([max(values) for values in firsts if values])))
    return found


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
            "mean reward of all": f"{figures['mean_reward']:.3f}",
            "of the best kept": f"{figures['mean_best_reward']:.3f}",
            "unusable answers": f"{figures['unusable']:,} of {figures['samples']:,}",
        }
    )
    made.table(
        "Best of so many",
        ["answers", "mean reward of the best"],
        [[count, round(value, 4)] for count, value in average_best(sampled, settings.samples)],
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


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 6) if values else 0.0


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
