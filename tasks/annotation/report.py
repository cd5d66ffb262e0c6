"""The page of an import: how far annotators agree, where they do not, and what became of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tasks.annotation.agreement import GOOD, TENTATIVE, Alpha, measure_alpha, measure_pairs
from tasks.annotation.rounds import LABELS, Imported
from tasks.corpus.rows.texts import make_visible
from tasks.pages.page import Page, Tone

SHOWN = 100
LONGEST = 200


def write_page(found: Imported, export: Path, path: Path) -> Alpha:
    """Write the page.

    Args:
        found: What was imported.
        export: The file it came from.
        path: ``index.html``.

    Returns:
        The agreement of all annotators.
    """
    alpha = measure_alpha([task.votes for task in found.tasks])
    verdict, tone = judge(alpha)
    open_ = len(found.tasks) - found.new
    page = Page(
        "Annotation",
        f"{found.new:,} of {len(found.tasks):,} texts of {export.name} have a label now, {open_:,} are left open; "
        f"{LABELS} holds {len(found.rows):,} rows.",
        verdict=verdict,
        tone=tone,
    )
    names = sorted({name for task in found.tasks for name in task.votes}, key=_in_order)
    page.cards(
        {
            "texts labelled": found.new,
            "annotators": len(names),
            "labels given": sum(len(task.votes) for task in found.tasks),
            "seen by several": alpha.texts,
            "Krippendorff's alpha": "–" if alpha.value is None else round(alpha.value, 3),
        }
    )
    page.text(_explain(alpha))
    _add_annotators(page, found, names)
    _add_pairs(page, found)
    _add_disagreements(page, found)
    _add_open(page, found)
    _add_labels(page, found)
    _add_suggestions(page, found)
    page.write(path)
    return alpha


def judge(alpha: Alpha) -> tuple[str, Tone]:
    """A word on the agreement and its colour, by the lower end of the interval."""
    if alpha.value is None:
        return ("one label" if alpha.texts else "no overlap"), "plain"
    low = alpha.value if alpha.low is None else alpha.low
    if low >= GOOD:
        return "they agree", "good"
    return ("tentative", "warn") if low >= TENTATIVE else ("they disagree", "bad")


def _explain(alpha: Alpha) -> str:
    if alpha.value is None:
        what = "every label is the same" if alpha.texts else "no text was labelled by two annotators"
        return f"Agreement cannot be measured: {what}."
    return (
        f"Krippendorff's alpha for nominal labels is {alpha.value:.3f}, 95% interval {alpha.low:.3f} to "
        f"{alpha.high:.3f} (bootstrap over {alpha.texts:,} texts). 1 is perfect agreement, 0 is chance; from {GOOD} on "
        f"labels can be relied on, from {TENTATIVE} on tentatively."
    )


def _in_order(name: str) -> tuple[int, str]:
    digits = "".join(character for character in name if character.isdigit())
    return int(digits or 0), name


def _add_annotators(page: Page, found: Imported, names: list[str]) -> None:
    lines: list[list[Any]] = []
    for name in names:
        mine = [
            (task.votes[name], label, len(task.votes))
            for task, label in zip(found.tasks, found.resolved.labels, strict=True)
            if name in task.votes
        ]
        shared = [vote == label for vote, label, count in mine if label is not None and count > 1]
        same = f"{sum(shared) / len(shared):.1%}" if shared else "–"
        lines.append([name, len(mine), len(shared), same])
    columns = ["annotator", "labels", "with others", "same as the result"]
    note = "The result is the label that was taken."
    if found.resolved.accuracies:
        columns.append("accuracy, estimated")
        note += " The accuracy is what the label model learned from who agrees with whom."
        lines = [[*line, f"{found.resolved.accuracies[str(line[0])]:.1%}"] for line in lines]
    page.table("Annotators", columns, lines, note=note)


def _add_pairs(page: Page, found: Imported) -> None:
    pairs = measure_pairs([task.votes for task in found.tasks])
    page.table(
        "Agreement of pairs",
        ["annotator", "and", "texts of both", "same label", "Cohen's kappa"],
        [
            [
                pair.first,
                pair.second,
                pair.texts,
                f"{pair.same:.1%}",
                "–" if pair.kappa is None else round(pair.kappa, 3),
            ]
            for pair in pairs
        ],
    )


def _add_disagreements(page: Page, found: Imported) -> None:
    lines = [
        [
            _cut(task.text),
            "; ".join(
                f"{name}: {vote}" for name, vote in sorted(task.votes.items(), key=lambda one: _in_order(one[0]))
            ),
            label or "–",
        ]
        for task, label in zip(found.tasks, found.resolved.labels, strict=True)
        if len(set(task.votes.values())) > 1
    ]
    page.table(
        "Where annotators disagree",
        ["text", "labels", "result"],
        lines[:SHOWN],
        note=f"{len(lines):,} texts" + (f", the first {SHOWN} shown." if len(lines) > SHOWN else "."),
    )
    confused: Counter[tuple[str, str]] = Counter()
    for task in found.tasks:
        given = sorted(set(task.votes.values()))
        confused.update((a, b) for place, a in enumerate(given) for b in given[place + 1 :])
    page.table(
        "Labels given to the same text",
        ["label", "and", "texts"],
        [[a, b, count] for (a, b), count in sorted(confused.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]],
    )


def _add_open(page: Page, found: Imported) -> None:
    reasons = Counter(why for why in found.resolved.why if why)
    page.table(
        "Left open",
        ["reason", "texts"],
        [[reason, count] for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))],
        note="Texts on which annotators are tied are in again.json, to be labelled by one more.",
    )
    again, replaced = sum(task.again for task in found.tasks), found.replaced
    if again or replaced:
        page.text(
            f"{again:,} times an annotator labelled a text again, the last label counts; {replaced:,} texts had "
            "another label in an earlier import."
        )


def _add_labels(page: Page, found: Imported) -> None:
    counts = Counter(label for label in found.resolved.labels if label is not None)
    page.table(
        "Labels",
        ["label", "texts", "share"],
        [
            [label, count, f"{count / found.new:.1%}"]
            for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ],
    )


def _add_suggestions(page: Page, found: Imported) -> None:
    both = [
        {"suggestion": str(task.predicted), "result": label}
        for task, label in zip(found.tasks, found.resolved.labels, strict=True)
        if task.predicted is not None and label is not None
    ]
    for pair in measure_pairs(both):
        kappa = "" if pair.kappa is None else f", Cohen's kappa {pair.kappa:.3f}"
        page.text(f"{pair.texts:,} texts came with a suggestion; {pair.same:.1%} of them got that label{kappa}.")


def _cut(text: str) -> str:
    return make_visible(text[:LONGEST]) + ("…" if len(text) > LONGEST else "")
