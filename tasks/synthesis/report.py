"""The page of a run: accepted rows, refused drafts with step and reason, and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from tasks.corpus.rows.rows import Step
from tasks.corpus.rows.texts import show_conversation
from tasks.corpus.rows.waterfall import plot_waterfall
from tasks.language_models.writers.cost import CallUsage
from tasks.pages.page import Page
from tasks.synthesis.calls import STEPS
from tasks.synthesis.critique import HIGHEST_SCORE, LOWEST_SCORE
from tasks.synthesis.drafts import NOT_NEEDED, Draft, SynthesisResult
from tasks.synthesis.params import Synthesis
from tasks.synthesis.publish import list_figures, list_turns

ACCEPTED_SHOWN, REFUSED_SHOWN, LABELS_SHOWN, MAXIMUM_CHARACTERS = 5, 2, 15, 300

K = TypeVar("K")


def write_report(settings: Synthesis, result: SynthesisResult, path: Path, refused: Path) -> None:
    """Write the page, also for a run without accepted rows.

    Args:
        settings: Settings of the run.
        result: Result of the run.
        path: ``index.html``.
        refused: File of the refused rows, to link to.
    """
    figures = list_figures(result)
    rows = len(result.accepted)
    judge = (settings.judge or settings.teacher).describe() if settings.least_score else ""
    page = Page(
        f"Synthesis: {settings.title}",
        f"{rows:,} of {settings.rows:,} rows, written by {settings.teacher.describe()} and "
        f"{f'judged by {judge}' if judge else 'not judged'}. The run ended: {result.ended}.",
        verdict="enough rows" if rows >= settings.rows else f"{rows:,} of {settings.rows:,}",
        tone="good" if rows >= settings.rows else "warn" if rows else "bad",
        stage="synthesis",
    )
    page.cards(
        {
            "rows accepted": rows,
            "acceptance rate": f"{figures['acceptance_rate']:.0%}",
            "calls": int(figures["calls"]),
            "tokens": int(figures["prompt_tokens"] + figures["completion_tokens"]),
            "cost, in the currency of the prices": f"{figures['cost']:,.2f}",
            "cost per accepted row": f"{figures['cost'] / rows:.3g}" if rows else "–",
        }
    )
    steps = list_steps(result)
    if steps[0].rows_in:
        page.figure(
            plot_waterfall(steps, "prompts proposed"),
            "From proposed prompt to accepted row",
            "Number of drafts that each step removed.",
        )
        page.table(
            "Refused drafts",
            ["step", "reason", "drafts", "share of proposed prompts"],
            [
                [step.name, reason, count, f"{count / steps[0].rows_in:.1%}"]
                for step in steps
                for reason, count in step.reasons.items()
                if reason != NOT_NEEDED
            ],
        )
    if result.refused:
        page.link(refused.name, "All refused drafts with step and reason")
    _add_calls(page, result.steps)
    _add_topics(page, result)
    if any(draft.score is not None for draft in (*result.accepted, *result.refused)):
        page.table("Scores", ["score", "accepted", "refused"], _count_scores(result))
    _add_examples(page, settings, result)
    page.write(path)


def list_steps(result: SynthesisResult) -> list[Step]:
    """The steps of the waterfall: drafts in, drafts out, reasons."""
    left = len(result.accepted) + sum(draft.step != "topics" for draft in result.refused)
    steps = []
    for name in ("instructions", "answers", "critique", "rewrite"):
        refused = Counter(str(draft.reason) for draft in result.refused if draft.step == name)
        unused = refused.pop(NOT_NEEDED, 0)
        for title, reasons in ((name, refused), ("left over", Counter({NOT_NEEDED: unused}))):
            removed = sum(reasons.values())
            if title == name or removed:
                steps.append(Step(title, left, left - removed, reasons=dict(sorted_counts(reasons))))
                left -= removed
    return steps


def sorted_counts(counts: Mapping[K, int]) -> list[tuple[K, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))


def _add_calls(page: Page, steps: Mapping[str, CallUsage]) -> None:
    rows = [
        [name, s.calls, s.usable, s.prompt_tokens, s.completion_tokens, round(s.cost, 4)]
        for name in STEPS
        if (s := steps[name]).calls
    ]
    estimated = sum(usage.estimated for usage in steps.values())
    note = f"The server did not count the tokens of {estimated:,} calls; they are estimated." if estimated else ""
    columns = ["step", "calls", "usable answers", "tokens in", "tokens out", "cost"]
    page.table("Calls", columns, rows, note)
    unusable = [[name, reason, count] for name in STEPS for reason, count in sorted_counts(steps[name].unusable)]
    if unusable:
        page.table(
            "Unusable answers",
            ["step", "reason", "calls"],
            unusable,
            "Unusable answers are retried with other seeds, unless the model always gives the same answer.",
        )


def _add_topics(page: Page, result: SynthesisResult) -> None:
    accepted = Counter(draft.topic for draft in result.accepted)
    refused = Counter(draft.topic for draft in result.refused if draft.reason != NOT_NEEDED)
    page.table("Topics", ["topic", "accepted", "refused"], [[t, accepted[t], refused[t]] for t in result.topics])
    labels = Counter(draft.label for draft in result.accepted if draft.label is not None)
    if labels:
        shown = [[label, count] for label, count in sorted_counts(labels)[:LABELS_SHOWN]]
        rest = f"and {len(labels) - len(shown):,} more" if len(labels) > len(shown) else ""
        page.table("Labels", ["label", "accepted"], shown, rest)


def _count_scores(result: SynthesisResult) -> list[list[int]]:
    accepted = Counter(draft.score for draft in result.accepted)
    refused = Counter(draft.score for draft in result.refused)
    return [[score, accepted[score], refused[score]] for score in range(HIGHEST_SCORE, LOWEST_SCORE - 1, -1)]


def _add_examples(page: Page, settings: Synthesis, result: SynthesisResult) -> None:
    if result.accepted:
        page.heading("Examples of accepted rows")
    stride = max(1, len(result.accepted) // ACCEPTED_SHOWN)
    for draft in result.accepted[::stride][:ACCEPTED_SHOWN]:
        score = f", score {draft.score}" if draft.score is not None else ""
        label = f", label {draft.label}" if draft.label is not None else ""
        turns = [(turn["role"], turn["content"]) for turn in list_turns(settings, draft)]
        page.conversation(turns, f"{draft.topic}{label}{score}")
    shown: Counter[tuple[str, str | None]] = Counter()
    examples = []
    for draft in result.refused:
        kind = (draft.step, draft.reason)
        shown[kind] += 1
        if shown[kind] <= REFUSED_SHOWN and draft.reason != NOT_NEEDED:
            examples.append([draft.step, draft.reason or "", show_draft(draft)])
    if examples:
        page.table("Examples of refused drafts", ["step", "reason", "draft"], examples)


def show_draft(draft: Draft) -> str:
    """A draft as one line of text."""
    turns = [{"role": "user", "content": draft.instruction or draft.topic}]
    if draft.answer:
        turns.append({"role": "assistant", "content": draft.answer})
    verdict = f" ({draft.score}: {draft.critique})" if draft.score is not None and draft.critique else ""
    return show_conversation(turns, MAXIMUM_CHARACTERS) + verdict
