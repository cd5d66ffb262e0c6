"""What judges say, on the evaluation page: how far to believe them, who was asked, and what it cost."""

from __future__ import annotations

from tasks.evaluation.judges.judged import JudgedAnswers, JudgedRun, list_bias_sentences
from tasks.evaluation.report.blocks import BlockTable, ReportBlock

COLUMNS = ("model", "verdicts from", "questions", "without a verdict", "tokens", "cost")


def list_judge_blocks(run: JudgedRun) -> list[ReportBlock]:
    """A part of the page for each judge."""
    return [_make_block(name, judged, run) for name, judged in run.by_judge.items()]


def _make_block(name: str, judged: JudgedAnswers, run: JudgedRun) -> ReportBlock:
    panel = judged.panel
    rows = [
        [
            model,
            "probabilities" if weighed else "text",
            usage.calls,
            usage.calls - usage.usable,
            usage.prompt_tokens + usage.completion_tokens,
            usage.cost,
        ]
        for model, usage, weighed in zip(panel.names, panel.usage, panel.weighed, strict=True)
    ]
    summary = f"{judged.unjudged:,} of {judged.items:,} items have no verdict and count for no model."
    if judged.unfit:
        summary = f"It decides nothing: {judged.unfit}."
    return ReportBlock(
        f"Judge: {name}",
        summary,
        (BlockTable("", COLUMNS, rows, "Kept verdicts count as if they were asked again."),),
        notes=[f"{sentence}." for sentence in list_bias_sentences(judged)],
        values={key: value for key, value in run.figures.items() if key.startswith(f"judge.{name}.")},
    )
