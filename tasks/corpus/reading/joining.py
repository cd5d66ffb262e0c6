"""Equal conversations become one row with all that is known of it: every other answer, every mark, a label.

Which source or kind comes first does not matter: a conversation that is an example in one source and the preferred
answer of a comparison in another is both. Scores are comparable within one prompt of one source only; those of a
repeated row are shifted so that the preferred answer, which both rows have, scores the same, and answers that several
rows score get the mean. Marks without a comparison are votes: the mean decides, and a tie counts as bad, because no
model is trained on an answer in doubt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa

from tasks.contracts.records import STEPS
from tasks.corpus.reading.answers import COLUMN, TYPE
from tasks.corpus.reading.unused_columns import COLUMN as EXTRA
from tasks.corpus.rows.rows import Listing
from tasks.corpus.rows.texts import show_conversation

Value = dict[str, Any]
Turns = list[dict[str, str]]

SHOWN_CONFLICTS = 20
VOTES, REVERSED, REJECTED = (
    "marked good in one row and bad in another",
    "preferred to the other answer in one row, and the other to it in another",
    "an answer to learn in one row, rejected in another",
)


def join_repeats(table: pa.Table, repeats: Sequence[tuple[int, int]]) -> pa.Table:
    """Merge the answers, the label and the unused columns of repeated conversations into their first row.

    Args:
        table: The rows.
        repeats: A row and a later one with the same conversation.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for first, repeated in repeats:
        groups[first].append(repeated)
    if not groups:
        return table
    for name in ("label", EXTRA):
        if name in table.column_names:
            table = _fill_nulls(table, name, groups)
    if STEPS.name in table.column_names:
        table = _join_steps(table, groups)
    if COLUMN not in table.column_names:
        return table
    values = table[COLUMN].to_pylist()
    for first, repeated_rows in groups.items():
        rated = [value for value in (values[row] for row in (first, *repeated_rows)) if value]
        if rated:
            values[first] = join_values(rated)
    return table.set_column(table.schema.get_field_index(COLUMN), COLUMN, pa.array(values, TYPE))


def _join_steps(table: pa.Table, groups: dict[int, list[int]]) -> pa.Table:
    """A step is right where all rows that mark it say so."""
    marks = table[STEPS.name].to_pylist()
    for first, repeated in groups.items():
        given = [marks[row] for row in (first, *repeated) if marks[row]]
        if given:
            marks[first] = [all(each) for each in zip(*given, strict=False)]
    return table.set_column(table.schema.get_field_index(STEPS.name), STEPS, pa.array(marks, STEPS.type))


def _fill_nulls(table: pa.Table, name: str, groups: dict[int, list[int]]) -> pa.Table:
    values = table[name].to_pylist()
    filled = False
    for first, repeated in groups.items():
        if values[first] is None:
            values[first] = next((values[row] for row in repeated if values[row] is not None), None)
            filled |= values[first] is not None
    if not filled:
        return table
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def join_values(values: Sequence[Value]) -> Value:
    """The answers of equal conversations as one value of the column ``answers``.

    Answers that begin at another turn than those of the first value belong to another prompt and are left out.
    """
    values = [value for value in values if value["start"] == values[0]["start"]]
    compared = [value for value in values if value["others"]]
    if not compared:
        score = _mean([value["score"] for value in values])
        preferred = all(value["preferred"] for value in values) if score is None else score > 0.5
        return values[0] | {"score": score, "preferred": preferred}
    score = _mean([value["score"] for value in compared])
    scores: dict[bytes, list[float | None]] = defaultdict(list)
    turns: dict[bytes, Turns] = {}
    for value in compared:
        shift = 0.0 if score is None or value["score"] is None else score - value["score"]
        for other in value["others"]:
            key = orjson.dumps(other["turns"])
            turns[key] = other["turns"]
            scores[key].append(None if other["score"] is None else other["score"] + shift)
    means = {key: _mean(given) for key, given in scores.items()}
    ordered = sorted(means, key=lambda key: -(means[key] or 0.0))
    others = [{"turns": turns[key], "score": means[key]} for key in ordered]
    return values[0] | {"score": score, "preferred": any(v["preferred"] for v in compared), "others": others}


def _mean(scores: Sequence[float | None]) -> float | None:
    given = [score for score in scores if score is not None]
    return sum(given) / len(given) if given else None


def list_conflicts(table: pa.Table) -> tuple[Listing, ...]:
    """A table of the answers that rows contradict each other about; empty when there are none.

    Args:
        table: All rows, before repeated conversations are dropped.
    """
    if COLUMN not in table.column_names:
        return ()
    found = list(_find_conflicts(table))
    if not found:
        return ()
    counts = Counter(kind for kind, _ in found)
    lines = tuple((kind, show_conversation(turns)) for kind, turns in found[:SHOWN_CONFLICTS])
    total = "; ".join(f"{kind}: {count:,}" for kind, count in counts.items())
    return (
        Listing(
            "Answers that rows disagree about",
            ("disagreement", "conversation"),
            lines,
            note=f"{total}. Comparisons stay as they are; of marks the majority decides, and a tie counts as bad. "
            f"At most {SHOWN_CONFLICTS} are shown.",
        ),
    )


def _find_conflicts(table: pa.Table) -> Iterator[tuple[str, Turns]]:
    messages, values = table["messages"].to_pylist(), table[COLUMN].to_pylist()
    marks: dict[bytes, set[bool]] = defaultdict(set)
    better: dict[bytes, set[bytes]] = defaultdict(set)
    for turns, value in zip(messages, values, strict=True):
        whole = orjson.dumps(turns)
        if value is None or value["preferred"]:
            marks[whole].add(True)
        elif not value["others"]:
            marks[whole].add(False)
        for other in value["others"] if value else ():
            if (value["score"] or 0.0) > (other["score"] or 0.0):
                better[orjson.dumps(turns[: value["start"]] + other["turns"])].add(whole)
    for turns in dict.fromkeys(marks):
        if marks[turns] == {True, False}:
            yield VOTES, orjson.loads(turns)
        elif marks[turns] == {True} and turns in better:
            reversed_by = [other for other in better[turns] if turns in better.get(other, ())]
            yield REVERSED if reversed_by else REJECTED, orjson.loads(turns)
