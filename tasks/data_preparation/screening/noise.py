"""Rows whose label is probably wrong, shown or set aside; `tasks.corpus.label_errors.suspects` tells which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from tasks.corpus.label_errors.params import Noise
from tasks.corpus.label_errors.suspects import REASON, STEP, Suspects, find_suspects
from tasks.corpus.rows.rows import Listing, Rows, column_messages, finish_step, join_turns, name_places
from tasks.corpus.rows.texts import show_conversation

SHOWN, SHOWN_PAIRS = 60, 30


def review_labels(rows: Rows, settings: Noise | None) -> Rows:
    """Show the rows whose label is probably wrong, or set them aside.

    Args:
        rows: With ``id``.
        settings: None looks for nothing.

    Returns:
        The rows that are left; all of them unless ``action`` is ``drop``.

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
    first = rows.table.take(pa.array(found.places[:SHOWN], pa.int64()))
    lines = zip(
        name_places(first["source"], first["file"]).to_pylist(),
        first["row"].to_pylist(),
        [show_conversation(turns[:1]) for turns in first["messages"].to_pylist()],
        [str(labels[place]) for place in found.places[:SHOWN]],
        found.suggested,
        (round(value, 4) for value in found.given),
        (round(value, 4) for value in found.other),
        strict=False,
    )
    pairs = Counter(zip((str(labels[place]) for place in found.places), found.suggested, strict=True))
    common = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_PAIRS]
    return [
        Listing(
            "Labels that look wrong",
            ("source", "row", "text", "label", "more like", "its probability", "of the other"),
            tuple(lines),
            note=f"{len(found.places):,} of {found.judged:,} judged rows, the surest first, {SHOWN} shown at most; "
            f"`heptune annotate export --suspects` writes all for a person to look at. Of labels wrong at random about "
            f"{found.recall:.0%} are found, and {found.false_positives:.1%} of the right ones with them; at most about "
            f"{found.wrong:.1%} of the labels are wrong. Confident learning's own rule finds {found.confident:,}.",
        ),
        Listing(
            "Labels taken for another",
            ("label", "more like", "rows"),
            tuple((given, other, count) for (given, other), count in common),
        ),
    ]
