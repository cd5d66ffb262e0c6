"""The report page of the stage, and its metrics."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow.compute as pc

from tasks.contracts.manifest import write_json
from tasks.contracts.power import CONFIDENCE, POWER, detectable_share
from tasks.corpus.reading.answers import count_answers, count_equal
from tasks.corpus.rows.rows import Origin, Rows
from tasks.corpus.rows.texts import show_conversation
from tasks.data_preparation.gate.gate import Verdict
from tasks.data_preparation.gate.measures import DUPLICATE_STEPS
from tasks.data_preparation.output.plots import plot_labels
from tasks.data_preparation.output.sections import add_lengths, add_splits, add_waterfall, count_labels, start_page
from tasks.data_preparation.output.sizes import count_values, measure_sizes
from tasks.data_preparation.splitting.methods.assignment import SPLITS
from tasks.data_preparation.trainset.augmentation.augment import AUGMENTATION
from tasks.pages.page import Page
from tasks.pages.text import plural

SHOWN_LABELS = 25
# Quarantined rows shown per step and reason.
SHOWN_DROPPED = 2
MAX_CONTENT_CHARACTERS = 220
_SPACES = re.compile(r"^ +| {2,}| +$")


def write_report(rows: Rows, verdict: Verdict, path: Path) -> None:
    """Write the report page, also when the gate failed, since it explains the failure.

    Args:
        rows: Split rows.
        verdict: Verdict of the gate.
        path: ``index.html``; the data docs are in ``data_docs`` beside it.
    """
    read, kept = rows.steps[0].rows_in, rows.table.num_rows
    splits, labels = count_values(rows.table["split"]), len(count_labels(rows.table))
    sources = [origin for origin in rows.origins if origin.rows and origin.kind != AUGMENTATION]
    variants = sum(origin.rows for origin in rows.origins if origin.kind == AUGMENTATION)
    page = start_page(
        "Data preparation",
        f"{plural(read, 'row')} from {plural(len(sources), 'source')}"
        f"{f' and {variants:,} augmented variants' if variants else ''} yielded {plural(kept, 'example')}; "
        f"{plural(rows.dropped.num_rows, 'row')} {'was' if rows.dropped.num_rows == 1 else 'were'} quarantined, each "
        "with its reason.",
        verdict,
    )
    page.cards(
        {
            "rows read": read,
            "examples": kept,
            **{name: splits[name] for name in SPLITS},
            **({"labels": labels} if labels else {}),
        }
    )
    _add_gate(page, verdict)
    add_waterfall(page, rows)
    _add_steps(page, rows)
    _add_sources(page, rows)
    _add_answers(page, rows)
    sizes = measure_sizes(rows.table)
    add_splits(page, rows, sizes)
    _add_power(page, rows)
    add_lengths(page, sizes)
    _add_labels(page, rows)
    _add_examples(page, rows)
    page.write(path)


def write_metrics(rows: Rows, verdict: Verdict, path: Path) -> dict[str, int | float]:
    """Write the metrics of the stage, flat.

    Args:
        rows: Split rows.
        verdict: Verdict of the gate.
        path: ``metrics.json``.

    Returns:
        The metrics.
    """
    splits = count_values(rows.table["split"])
    by_step: Counter[str] = Counter(rows.dropped["step"].to_pylist())
    read = rows.steps[0].rows_in
    metrics: dict[str, int | float] = {
        "rows_read": read,
        "rows_kept": rows.table.num_rows,
        "rows_dropped": rows.dropped.num_rows,
        "duplicate_share": round(sum(by_step[name] for name in DUPLICATE_STEPS) / read, 6),
        "labels": len(count_labels(rows.table)),
        "gate_checks": len(verdict.results),
        "gate_failed": len(verdict.failed),
        "gate_warned": len(verdict.warned),
    }
    metrics |= {f"rows_{name}": splits[name] for name in SPLITS}
    metrics |= {f"dropped_{step.name.replace(' ', '_')}": by_step[step.name] for step in rows.steps}
    metrics |= {f"changed_{step.name.replace(' ', '_')}": step.changed for step in rows.steps if step.changed}
    metrics |= {f"shape_confidence_{o.title}": round(o.confidence, 4) for o in rows.origins if o.shape}
    with_answers = sum(count_answers(rows.table).values()) + sum(count_answers(rows.rejected).values())
    metrics |= {"rows_with_answers": with_answers} if with_answers else {}
    write_json(path, metrics)
    return metrics


def _add_gate(page: Page, verdict: Verdict) -> None:
    problems = [
        *(f"Critical, {r.check.name}: {r.finding}; expected: {r.check.meaning}" for r in verdict.failed),
        *(f"Warning, {r.check.name}: {r.finding}; expected: {r.check.meaning}" for r in verdict.warned),
    ]
    if verdict.approved and verdict.approval:
        page.text(f"Critical checks failed and were approved by {verdict.approval.name}: {verdict.approval.reason}")
    if problems:
        page.listing(problems, "Failed checks of the quality gate")
    passing = sum(r.success for r in verdict.results)
    page.link("card.html", "Data card: a description of the data for their users")
    page.link("clusters/index.html", "Duplicates and leakage: clusters of similar rows, and the measured recall")
    page.link("data_docs/index.html", f"Data docs: {passing} of {len(verdict.results)} checks passed")


def _add_steps(page: Page, rows: Rows) -> None:
    dropped = [sum(step.reasons.values()) for step in rows.steps]
    added = [step.rows_out - step.rows_in + removed for step, removed in zip(rows.steps, dropped, strict=True)]
    page.table(
        "Processing steps",
        ["step", "dropped", "changed", *(["added"] if any(added) else []), "rows in", "rows out", "reasons"],
        [
            [
                step.name,
                removed,
                step.changed,
                *([extra] if any(added) else []),
                step.rows_in,
                step.rows_out,
                "; ".join(f"{reason} ({count:,})" for reason, count in step.reasons.items()) or "–",
            ]
            for step, extra, removed in zip(rows.steps, added, dropped, strict=True)
        ],
        note="Every dropped row is in data/prepared/quarantine.parquet with its source, row number, step and reason.",
    )
    for step in rows.steps:
        for each in step.listings:
            page.table(each.heading, each.columns, each.rows, each.note)


def _add_sources(page: Page, rows: Rows) -> None:
    used = count_values(rows.table["source"])
    page.table(
        "Sources",
        ["source", "used", "rows", "shape", "confidence", "weight", "kind", "place"],
        [
            [
                o.title,
                used[o.title],
                o.rows,
                o.shape or "–",
                _show_confidence(o),
                float(o.weight),
                o.kind,
                o.place,
            ]
            for o in rows.origins
        ],
    )
    unused = [[o.title, ", ".join(o.unused)] for o in rows.origins if o.unused]
    if unused:
        page.table(
            "Unused columns",
            ["source", "columns"],
            unused,
            note="The setting keep of a source writes them to data/prepared/extra.parquet.",
        )


def _show_confidence(origin: Origin) -> str:
    """Confidence of the detected shape, and the other shapes that fit the rows."""
    others = [f"{name} {value:.2f}" for name, value in origin.candidates.items() if name != origin.shape.split(" ")[0]]
    return f"{origin.confidence:.2f}" + (f" (also {', '.join(others)})" if others else "") if origin.shape else "–"


def _add_answers(page: Page, rows: Rows) -> None:
    preferred, rejected, equal = count_answers(rows.table), count_answers(rows.rejected), count_equal(rows.table)
    lines = [
        [o.title, preferred[o.title], rejected[o.title], equal[o.title]]
        for o in rows.origins
        if preferred[o.title] or rejected[o.title]
    ]
    if lines:
        page.table(
            "Rows with several or rated answers",
            ["source", "rows with a preferred answer", "rows with rejected answers only", "both answers the same"],
            lines,
            note="The splits contain the preferred answer of each row; answers.parquet beside them contains all "
            "answers with their scores, for preference training. Where both are the same "
            "they compare nothing, and are not in it.",
        )


def _add_power(page: Page, rows: Rows) -> None:
    """What the test split can prove; the gates that need a number of rows are params of other stages."""
    test = rows.table.filter(pc.equal(rows.table["split"], "test"))
    if not test.num_rows:
        return
    clusters = pc.count_distinct(test["cluster"]).as_py()
    labelled = test.num_rows - test["label"].null_count
    page.heading("What the test split can prove")
    page.text(
        f"It has {plural(test.num_rows, 'row')}"
        f"{f', {labelled:,} of them with a label' if labelled else ''}"
        f"{f', in {clusters:,} clusters of similar rows' if clusters < test.num_rows else ''}. Between two models a "
        f"difference of about {detectable_share(clusters):.2g} in the share of right answers is likely to be proven "
        f"({CONFIDENCE:.0%} confidence, {POWER:.0%} power), and a much smaller one is not. No model is promoted where "
        "evaluation.gate.minimum_items is larger than the number of rows that can be scored, and no drift is found "
        "where monitoring.drift.minimum_rows is; a larger data_preparation.split.test, or more data, gives more."
    )


def _add_labels(page: Page, rows: Rows) -> None:
    counts = count_labels(rows.table)
    if not counts:
        return
    page.figure(plot_labels(list(counts), list(counts.values())), "Labels")
    by_split: dict[str, Counter[str]] = defaultdict(Counter)
    for label, split in zip(rows.table["label"].to_pylist(), rows.table["split"].to_pylist(), strict=True):
        if label is not None:
            by_split[label][split] += 1
    rarest = list(counts)[-SHOWN_LABELS:][::-1]
    page.table(
        "Rarest labels" if len(counts) > SHOWN_LABELS else "Labels per split",
        ["label", *SPLITS],
        [[name, *(by_split[name][split] for split in SPLITS)] for name in rarest],
    )


def _add_examples(page: Page, rows: Rows) -> None:
    changes = [
        [step.name, _show_spaces(before), _show_spaces(after)]
        for step in rows.steps
        if step.changed
        for before, after in step.examples
    ]
    if changes:
        page.table("Examples of changed texts", ["step", "before", "after"], changes)
    duplicates = [
        [step.name, dropped, kept] for step in rows.steps if not step.changed for dropped, kept in step.examples
    ]
    if duplicates:
        page.table("Examples of duplicate and similar rows", ["step", "dropped", "kept"], duplicates)
    dropped = _show_dropped(rows)
    if dropped:
        page.table("Examples of quarantined rows", ["step", "reason", "source", "row", "content"], dropped)
    first = rows.table.filter(pc.equal(rows.table["split"], "train")).slice(0, 1).to_pylist()
    for row in first:
        turns: list[Mapping[str, Any]] = row["messages"]
        label = f", label {row['label']}" if row["label"] else ""
        page.conversation(
            [(turn["role"], turn["content"][:2000]) for turn in turns],
            f"A training example ({row['source']}, row {row['row']}{label})",
        )


def _show_spaces(text: str) -> str:
    """A text with leading, trailing and repeated spaces made visible, since a browser hides them."""
    return _SPACES.sub(lambda match: "␣" * len(match[0]), text)


def _show_dropped(rows: Rows) -> list[list[Any]]:
    counts: Counter[tuple[str, str]] = Counter()
    shown: list[list[Any]] = []
    columns = [rows.dropped[name].to_pylist() for name in ("step", "reason", "source", "row", "content")]
    for step, reason, source, row, content in zip(*columns, strict=True):
        counts[step, reason] += 1
        if counts[step, reason] <= SHOWN_DROPPED:
            shown.append([step, reason, source, row, _show_content(content)])
    return shown


def _show_content(content: str) -> str:
    """The turns of a dropped conversation, or the raw text of an unreadable row; truncated."""
    try:
        turns = orjson.loads(content)["messages"]
        return show_conversation(turns, MAX_CONTENT_CHARACTERS)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return content[:MAX_CONTENT_CHARACTERS] + ("…" if len(content) > MAX_CONTENT_CHARACTERS else "")
