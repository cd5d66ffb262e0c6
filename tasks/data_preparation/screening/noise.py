"""Label noise: rows whose label is probably wrong are reported or dropped.

The detection itself is `tasks.corpus.label_errors.suspects`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from tasks.corpus.label_errors.params import Noise
from tasks.corpus.label_errors.suspects import REASON, STEP, Suspects, find_suspects
from tasks.corpus.rows.rows import Listing, Rows, column_messages, finish_step, join_turns, name_places
from tasks.corpus.rows.texts import show_conversation

SHOWN_ROWS, SHOWN_LABEL_PAIRS = 60, 30


def review_labels(rows: Rows, settings: Noise | None) -> Rows:
    """Report the rows whose label is probably wrong, or drop them.

    Args:
        rows: With ``id``.
        settings: Thresholds and what to do; None skips the search.

    Returns:
        The rows that remain; all of them unless ``action`` is ``drop``.

    Raises:
        PipelineError: There are no labels to judge.
    """
    if settings is None:
        return rows
    messages = column_messages(rows.table)
    labels: list[str | None] = rows.table["label"].to_pylist()
    found = find_suspects(join_turns(messages, ["user"]), labels, settings)
    reasons: list[str | None] = [None] * len(labels)
    if settings.action == "drop":
        for place, suggestion in zip(found.places, found.suggested, strict=True):
            reasons[place] = REASON + suggestion
    notes: dict[str, int | float] = {
        "suspects": len(found.places),
        "judged": found.judged,
        "not_judged": len(labels) - found.judged,
        "recall_estimate": round(found.recall, 4),
        "false_positive_estimate": round(found.false_positives, 4),
        "wrong_estimate": round(found.wrong, 4),
        "confident_learning": found.confident,
    }
    return finish_step(rows, STEP, rows.table, reasons, notes=notes, listings=_list_suspects(rows, labels, found))


def _list_suspects(rows: Rows, labels: Sequence[str | None], found: Suspects) -> list[Listing]:
    shown = rows.table.take(pa.array(found.places[:SHOWN_ROWS], pa.int64()))
    lines = zip(
        name_places(shown["source"], shown["file"]).to_pylist(),
        shown["row"].to_pylist(),
        [show_conversation(turns[:1]) for turns in shown["messages"].to_pylist()],
        [str(labels[place]) for place in found.places[:SHOWN_ROWS]],
        found.suggested,
        (round(value, 4) for value in found.given),
        (round(value, 4) for value in found.other),
        strict=False,
    )
    pairs = Counter(zip((str(labels[place]) for place in found.places), found.suggested, strict=True))
    frequent = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_LABEL_PAIRS]
    return [
        Listing(
            "Rows with a probably wrong label",
            ("source", "row", "text", "label", "predicted label", "P(label)", "P(predicted)"),
            tuple(lines),
            note=f"{len(found.places):,} of the {found.judged:,} rows with a prediction, the most confident first; at "
            f"most {SHOWN_ROWS} are shown, and heptune annotate export --suspects writes all of them for review. "
            f"Estimated recall for randomly wrong labels: {found.recall:.0%}; false positive rate: "
            f"{found.false_positives:.1%}; label noise: at most about {found.wrong:.1%}. The rule of confident "
            f"learning flags {found.confident:,} rows.",
        ),
        Listing(
            "Most frequent pairs of label and predicted label",
            ("label", "predicted label", "rows"),
            tuple((given, other, count) for (given, other), count in frequent),
        ),
    ]
