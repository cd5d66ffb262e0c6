"""The page of a run: what was accepted and refused, where, why, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from tasks.corpus.rows.rows import Step
from tasks.corpus.rows.texts import show_conversation
from tasks.corpus.rows.waterfall import plot_waterfall
from tasks.pages.page import Page
from tasks.synthesis.calls import STEPS, Spent
from tasks.synthesis.critique import HIGHEST, LOWEST
from tasks.synthesis.drafts import NOT_NEEDED, Draft, Written
from tasks.synthesis.params import Synthesis
from tasks.synthesis.publish import list_figures, list_turns

SHOWN, SHOWN_REFUSED, SHOWN_LABELS, LONGEST = 5, 2, 15, 300

K = TypeVar("K")


def write_report(settings: Synthesis, written: Written, path: Path, refused: Path) -> None:
    """Write the page, also of a run that accepted nothing.

    Args:
        settings: Of the run.
        written: What it wrote.
        path: ``index.html``.
        refused: File of the refused rows, to link to.
    """
    figures = list_figures(written)
    rows = len(written.accepted)
    judge = (settings.judge or settings.teacher).describe() if settings.least_score else "nobody"
    page = Page(
        f"Synthesis: {settings.title}",
        f"{settings.teacher.describe()} wrote, {judge} judged: {rows:,} of {settings.rows:,} rows wanted. The run "
        f"ended because of: {written.ended}.",
        verdict="enough rows" if rows >= settings.rows else f"{rows:,} of {settings.rows:,}",
        tone="good" if rows >= settings.rows else "warn" if rows else "bad",
    )
    page.cards(
        {
            "rows accepted": rows,
            "acceptance rate": f"{figures['acceptance_rate']:.0%}",
            "calls": int(figures["calls"]),
            "tokens": int(figures["prompt_tokens"] + figures["completion_tokens"]),
            "cost": f"{figures['cost']:.4g}",
            "cost per row": f"{figures['cost'] / rows:.3g}" if rows else "–",
        }
    )
    steps = list_steps(written)
    if steps[0].rows_in:
        page.figure(
            plot_waterfall(steps, "prompts proposed"),
            "From proposal to row",
            "What each step took of the prompts proposed.",
        )
        page.table(
            "Refused",
            ["step", "reason", "drafts", "share of the proposed"],
            [
                [step.name, reason, count, f"{count / steps[0].rows_in:.1%}"]
                for step in steps
                for reason, count in step.reasons.items()
                if reason != NOT_NEEDED
            ],
        )
    if written.refused:
        page.link(refused.name, "All refused drafts, each with step and reason")
    _add_calls(page, written.steps)
    _add_topics(page, written)
    if any(draft.score is not None for draft in (*written.accepted, *written.refused)):
        page.table("Scores", ["score", "accepted", "refused"], _count_scores(written))
    _add_examples(page, settings, written)
    page.write(path)


def list_steps(written: Written) -> list[Step]:
    """The way of the drafts, as the waterfall shows it."""
    left = len(written.accepted) + sum(draft.step != "topics" for draft in written.refused)
    steps = []
    for name in ("instructions", "answers", "critique", "rewrite"):
        mine = Counter(str(draft.reason) for draft in written.refused if draft.step == name)
        unused = mine.pop(NOT_NEEDED, 0)
        for title, reasons in ((name, mine), ("left over", Counter({NOT_NEEDED: unused}))):
            gone = sum(reasons.values())
            if title == name or gone:
                steps.append(Step(title, left, left - gone, reasons=dict(sorted_counts(reasons))))
                left -= gone
    return steps


def sorted_counts(counts: Mapping[K, int]) -> list[tuple[K, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))


def _add_calls(page: Page, steps: Mapping[str, Spent]) -> None:
    rows = [
        [name, s.calls, s.usable, s.prompt_tokens, s.completion_tokens, round(s.cost, 4)]
        for name in STEPS
        if (s := steps[name]).calls
    ]
    estimated = sum(spent.estimated for spent in steps.values())
    note = f"The server did not count the tokens of {estimated:,} calls; they are estimated." if estimated else ""
    columns = ["step", "calls", "usable answers", "tokens in", "tokens out", "cost"]
    page.table("Calls", columns, rows, note)
    bad = [[name, why, count] for name in STEPS for why, count in sorted_counts(steps[name].unusable)]
    if bad:
        page.table(
            "Answers that could not be used",
            ["step", "why", "calls"],
            bad,
            "Each question is asked a few times, with other seeds, unless the model always answers the same.",
        )


def _add_topics(page: Page, written: Written) -> None:
    accepted = Counter(draft.topic for draft in written.accepted)
    refused = Counter(draft.topic for draft in written.refused if draft.reason != NOT_NEEDED)
    page.table("Topics", ["topic", "accepted", "refused"], [[t, accepted[t], refused[t]] for t in written.topics])
    labels = Counter(draft.label for draft in written.accepted if draft.label is not None)
    if labels:
        shown = [[label, count] for label, count in sorted_counts(labels)[:SHOWN_LABELS]]
        rest = f"and {len(labels) - len(shown):,} more" if len(labels) > len(shown) else ""
        page.table("Labels", ["label", "accepted"], shown, rest)


def _count_scores(written: Written) -> list[list[int]]:
    accepted = Counter(draft.score for draft in written.accepted)
    refused = Counter(draft.score for draft in written.refused)
    return [[score, accepted[score], refused[score]] for score in range(HIGHEST, LOWEST - 1, -1)]


def _add_examples(page: Page, settings: Synthesis, written: Written) -> None:
    if written.accepted:
        page.heading("Accepted")
    stride = max(1, len(written.accepted) // SHOWN)
    for draft in written.accepted[::stride][:SHOWN]:
        score = f", score {draft.score}" if draft.score is not None else ""
        label = f", label {draft.label}" if draft.label is not None else ""
        turns = [(turn["role"], turn["content"]) for turn in list_turns(settings, draft)]
        page.conversation(turns, f"{draft.topic}{label}{score}")
    shown: Counter[tuple[str, str | None]] = Counter()
    examples = []
    for draft in written.refused:
        kind = (draft.step, draft.reason)
        shown[kind] += 1
        if shown[kind] <= SHOWN_REFUSED and draft.reason != NOT_NEEDED:
            examples.append([draft.step, draft.reason or "", show_draft(draft)])
    if examples:
        page.table("Some that were refused", ["step", "reason", "draft"], examples)


def show_draft(draft: Draft) -> str:
    """A draft in one line."""
    turns = [{"role": "user", "content": draft.instruction or draft.topic}]
    if draft.answer:
        turns.append({"role": "assistant", "content": draft.answer})
    said = f" ({draft.score}: {draft.critique})" if draft.score is not None and draft.critique else ""
    return show_conversation(turns, LONGEST) + said
