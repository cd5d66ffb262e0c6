"""One spelling per label: lower case, words joined by underscores, other names mapped.

Signs, symbols, digits and accents are never changed: ``-1`` and ``1``, ``C`` and ``C++`` stay two labels. Merged
spellings are listed in the report, and so are labels that may be one and are kept apart.

Example:
    ``Cancel-Order`` and ``cancel order`` become ``cancel_order``; with ``aliases: {cancel: cancel_order}`` so
    does ``Cancel``. ``e-mail`` and ``email`` are kept apart, with a warning; ``aliases: {e-mail: email}`` merges them.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from tasks.contracts.params import Section
from tasks.corpus.text.labels import find_alike, normalise_label

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.rows import Listing
    from tasks.corpus.rows.texts import Cleaned

log = logging.getLogger(__name__)

# A prompt with so many different spellings that change lists the labels to choose from.
LISTED_LABELS = 2


class Labels(Section):
    """Normalises labels, and answers that are just a label."""

    name: Literal["labels"] = "labels"
    aliases: dict[str, str] = Field(default_factory=dict, description="alternative name to label")
    allowed: tuple[str, ...] = Field(default=(), description="labels that may occur; empty: any label")

    @field_validator("aliases")
    @classmethod
    def _aliases_agree(cls, aliases: dict[str, str]) -> dict[str, str]:
        targets: defaultdict[str, set[str]] = defaultdict(set)
        for name, label in aliases.items():
            targets[normalise_label(name)].add(normalise_label(label))
        twice = sorted(name for name, labels in targets.items() if len(labels) > 1)
        if twice:
            raise ValueError(f"{twice[0]} is mapped to {' and '.join(sorted(targets[twice[0]]))}; keep one")
        return aliases

    def clean(self, table: pa.Table) -> Cleaned:
        import pyarrow as pa

        from tasks.corpus.rows.texts import EXAMPLES, Cleaned

        raw = table["label"].to_pylist()
        aliases = {normalise_label(name): normalise_label(label) for name, label in self.aliases.items()}
        spelling = {
            label: aliases.get(normalise_label(label), normalise_label(label))
            for label in set(raw)
            if label is not None
        }
        labels = [None if label is None else spelling[label] for label in raw]
        allowed = {normalise_label(label) for label in self.allowed}
        reasons = [
            "unknown label" if allowed and label is not None and label not in allowed else None for label in labels
        ]
        counts = Counter(label for label in raw if label is not None)
        renamed = {old: new for old, new in spelling.items() if old != new}
        notes: dict[str, int | float] = {"labels_merged": len(spelling) - len(set(spelling.values()))}
        listings = (*_list_merged(counts, spelling), *_list_alike(counts, spelling, notes))
        if not renamed:
            return Cleaned(table, reasons, notes=notes, listings=listings)
        index = table.schema.get_field_index("label")
        out = table.set_column(index, table.schema.field(index), pa.array(labels, pa.string()))
        examples = sorted(renamed.items(), key=lambda pair: (-counts[pair[0]], pair))[:EXAMPLES]
        return Cleaned(
            _rename_answers(out, raw, renamed, notes),
            reasons,
            sum(counts[label] for label in renamed),
            tuple(examples),
            notes,
            listings,
        )


def _list_merged(counts: Counter[str], spelling: Mapping[str, str]) -> tuple[Listing, ...]:
    from tasks.corpus.rows.rows import Listing
    from tasks.corpus.rows.texts import make_visible

    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for old in sorted(counts, key=lambda label: (-counts[label], label)):
        spellings[spelling[old]].append(old)
    merged = {label: names for label, names in spellings.items() if len(names) > 1}
    if not merged:
        return ()
    rows = tuple(
        (label, sum(counts[name] for name in names), ", ".join(f"{make_visible(n)} ({counts[n]:,})" for n in names))
        for label, names in sorted(merged.items())
    )
    log.info("labels: %d labels had several spellings, which were merged; the page lists them", len(rows))
    return (Listing("Merged labels", ("label", "rows", "spellings (rows)"), rows),)


def _list_alike(
    counts: Counter[str], spelling: Mapping[str, str], notes: dict[str, int | float]
) -> tuple[Listing, ...]:
    """Labels that may be one, which a person has to decide; their number becomes a note."""
    from tasks.corpus.rows.rows import Listing

    groups = find_alike(spelling.values())
    if not groups:
        return ()
    rows: Counter[str] = Counter()
    for old, count in counts.items():
        rows[spelling[old]] += count
    lines = []
    for group in groups:
        first, *others = sorted(group, key=lambda label: (-rows[label], label))
        quoted = {label: json.dumps(label, ensure_ascii=False) for label in group}
        fix = f"aliases: {{{', '.join(f'{quoted[label]}: {quoted[first]}' for label in others)}}}"
        shown = ", ".join(f"{quoted[label]} ({rows[label]:,} rows)" for label in (first, *others))
        log.warning(
            "labels: %s may be one label and were kept apart; if they are one, write %s in the step `labels`",
            shown,
            fix,
        )
        lines.append((shown, fix))
    notes["labels_alike"] = sum(len(group) for group in groups)
    note = "They may be one label. They were kept apart; to merge them, write this into the step `labels`."
    return (Listing("Labels that look alike", ("labels (rows)", "to merge them"), tuple(lines), note),)


def _rename_answers(
    table: pa.Table, labels: list[str | None], renamed: Mapping[str, str], notes: dict[str, int | float]
) -> pa.Table:
    """Answers that are just a label get its new spelling: all of a source, or none where prompts list the labels."""
    import pyarrow as pa

    turns: list[list[dict[str, Any]]] = table["messages"].to_pylist()
    sources = table["source"].to_pylist()
    naming = [
        row
        for row, label in enumerate(labels)
        if label is not None and turns[row] and turns[row][-1]["content"].strip() in renamed
    ]
    names = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(map(re.escape, renamed), key=len, reverse=True))})(?!\w)")
    prompts = {row: "\n".join(turn["content"] for turn in turns[row][:-1]) for row in naming}
    listing = {sources[row] for row, prompt in prompts.items() if len(set(names.findall(prompt))) >= LISTED_LABELS}
    changing = [row for row in naming if sources[row] not in listing]
    if len(changing) < len(naming):
        notes["answers_left"] = len(naming) - len(changing)
        log.warning(
            "labels: the text of %d answers stays as it is, because their prompts list the labels in this spelling",
            notes["answers_left"],
        )
    if not changing:
        return table
    for row in changing:
        turns[row][-1]["content"] = renamed[turns[row][-1]["content"].strip()]
    index = table.schema.get_field_index("messages")
    return table.set_column(index, table.schema.field(index), pa.array(turns, table.schema.field(index).type))
