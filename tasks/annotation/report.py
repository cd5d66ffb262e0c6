"""The page of an import: agreement of annotators, disagreements, and the resulting labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tasks.annotation.rounds import LABELS, ImportedLabels
from tasks.corpus.agreement import RELIABLE, TENTATIVE, Alpha, measure_alpha, measure_pairs
from tasks.corpus.rows.texts import make_visible
from tasks.pages.page import Page, Tone
from tasks.pages.text import plural

MAXIMUM_ROWS = 100
MAXIMUM_CHARACTERS = 200


def write_page(imported: ImportedLabels, export: Path, path: Path) -> Alpha:
    """Write the page.

    Args:
        imported: The import.
        export: The imported file.
        path: ``index.html``.

    Returns:
        The agreement of all annotators.
    """
    alpha = measure_alpha([task.votes for task in imported.tasks])
    verdict, tone = judge(alpha)
    unresolved = len(imported.tasks) - imported.new
    page = Page(
        "Annotation",
        f"{imported.new:,} of {len(imported.tasks):,} texts of {export.name} got a label, {unresolved:,} did not; "
        f"{LABELS} has {plural(len(imported.rows), 'row')}.",
        verdict=verdict,
        tone=tone,
        stage="annotation",
    )
    names = sorted({name for task in imported.tasks for name in task.votes}, key=_sort_key)
    page.cards(
        {
            "texts labelled": imported.new,
            "annotators": len(names),
            "labels given": sum(len(task.votes) for task in imported.tasks),
            "texts with several labels": alpha.texts,
            "Krippendorff's alpha": "–" if alpha.value is None else round(alpha.value, 3),
        }
    )
    page.text(_explain(alpha))
    _add_annotators(page, imported, names)
    _add_pairs(page, imported)
    _add_disagreements(page, imported)
    _add_open(page, imported)
    _add_labels(page, imported)
    _add_suggestions(page, imported)
    page.write(path)
    return alpha


def judge(alpha: Alpha) -> tuple[str, Tone]:
    """The verdict on the agreement and its colour, by the lower end of the interval."""
    if alpha.value is None:
        return ("one label" if alpha.texts else "no overlap"), "plain"
    low = alpha.value if alpha.low is None else alpha.low
    if low >= RELIABLE:
        return "reliable", "good"
    return ("tentative", "warn") if low >= TENTATIVE else ("unreliable", "bad")


def _explain(alpha: Alpha) -> str:
    if alpha.value is None:
        reason = "every label is the same" if alpha.texts else "no text was labelled by two annotators"
        return f"Agreement cannot be measured: {reason}."
    return (
        f"Krippendorff's alpha for nominal labels is {alpha.value:.3f}, 95% interval {alpha.low:.3f} to "
        f"{alpha.high:.3f} (bootstrap over {alpha.texts:,} texts). 1 is perfect agreement, 0 is chance; labels "
        f"are reliable from {RELIABLE} and tentatively so from {TENTATIVE}."
    )


def _sort_key(name: str) -> tuple[int, str]:
    digits = "".join(character for character in name if character.isdigit())
    return int(digits or 0), name


def _add_annotators(page: Page, imported: ImportedLabels, names: list[str]) -> None:
    lines: list[list[Any]] = []
    for name in names:
        votes = [
            (task.votes[name], label, len(task.votes))
            for task, label in zip(imported.tasks, imported.resolved.labels, strict=True)
            if name in task.votes
        ]
        shared = [vote == label for vote, label, count in votes if label is not None and count > 1]
        same = f"{sum(shared) / len(shared):.1%}" if shared else "–"
        lines.append([name, len(votes), len(shared), same])
    columns = ["annotator", "labels", "on texts with several labels", "equal to the final label"]
    note = "The final label is the one written to the data."
    if imported.resolved.accuracies:
        columns.append("estimated accuracy")
        note += " The accuracy is estimated by the label model from the agreement between annotators."
        lines = [[*line, f"{imported.resolved.accuracies[str(line[0])]:.1%}"] for line in lines]
    page.table("Annotators", columns, lines, note=note)


def _add_pairs(page: Page, imported: ImportedLabels) -> None:
    pairs = measure_pairs([task.votes for task in imported.tasks])
    page.table(
        "Agreement of pairs",
        ["annotator", "other annotator", "common texts", "same label", "Cohen's kappa"],
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


def _add_disagreements(page: Page, imported: ImportedLabels) -> None:
    lines = [
        [
            _truncate(task.text),
            "; ".join(
                f"{name}: {vote}" for name, vote in sorted(task.votes.items(), key=lambda one: _sort_key(one[0]))
            ),
            label or "–",
        ]
        for task, label in zip(imported.tasks, imported.resolved.labels, strict=True)
        if len(set(task.votes.values())) > 1
    ]
    page.table(
        "Disagreements",
        ["text", "labels", "final label"],
        lines[:MAXIMUM_ROWS],
        note=plural(len(lines), "text") + (f", the first {MAXIMUM_ROWS} shown." if len(lines) > MAXIMUM_ROWS else "."),
    )
    confused: Counter[tuple[str, str]] = Counter()
    for task in imported.tasks:
        given = sorted(set(task.votes.values()))
        confused.update((a, b) for index, a in enumerate(given) for b in given[index + 1 :])
    page.table(
        "Confused labels",
        ["label", "other label", "texts"],
        [
            [a, b, count]
            for (a, b), count in sorted(confused.items(), key=lambda item: (-item[1], item[0]))[:MAXIMUM_ROWS]
        ],
    )


def _add_open(page: Page, imported: ImportedLabels) -> None:
    reasons = Counter(why for why in imported.resolved.why if why)
    page.table(
        "Texts without a final label",
        ["reason", "texts"],
        [[reason, count] for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))],
        note="Ties are in again.json, to be labelled by another annotator.",
    )
    relabelled, replaced = sum(task.relabelled for task in imported.tasks), imported.replaced
    if relabelled or replaced:
        page.text(
            f"Annotators relabelled a text {plural(relabelled, 'time')}, of which the last label counts; "
            f"{plural(replaced, 'text')} had another label in an earlier import."
        )


def _add_labels(page: Page, imported: ImportedLabels) -> None:
    counts = Counter(label for label in imported.resolved.labels if label is not None)
    page.table(
        "Labels",
        ["label", "texts", "share"],
        [
            [label, count, f"{count / imported.new:.1%}"]
            for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ],
    )


def _add_suggestions(page: Page, imported: ImportedLabels) -> None:
    pairs = [
        {"suggestion": str(task.predicted), "result": label}
        for task, label in zip(imported.tasks, imported.resolved.labels, strict=True)
        if task.predicted is not None and label is not None
    ]
    for pair in measure_pairs(pairs):
        kappa = "" if pair.kappa is None else f", Cohen's kappa {pair.kappa:.3f}"
        page.text(
            f"{plural(pair.texts, 'text')} had a suggested label; it is the final label of {pair.same:.1%} of "
            f"them{kappa}."
        )


def _truncate(text: str) -> str:
    return make_visible(text[:MAXIMUM_CHARACTERS]) + ("…" if len(text) > MAXIMUM_CHARACTERS else "")
