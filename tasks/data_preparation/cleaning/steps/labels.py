"""One spelling per label: lower case, words joined by underscores, other names mapped.

Example:
    ``Cancel-Order`` and ``cancel order`` become ``cancel_order``; with ``aliases: {cancel: cancel_order}`` so
    does ``Cancel``. The report lists every label with several spellings.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.labels import normalise_label

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.rows import Listing
    from tasks.corpus.rows.texts import Cleaned


class Labels(Section):
    """Normalises labels, and answers that are just the label."""

    name: Literal["labels"] = "labels"
    aliases: dict[str, str] = Field(default_factory=dict, description="alternative name to label")
    allowed: tuple[str, ...] = Field(default=(), description="labels that may occur; empty: any label")

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
        renamed = Counter((old, spelling[old]) for old in raw if old is not None and old != spelling[old])
        merged = len(spelling) - len(set(spelling.values()))
        if not renamed:
            return Cleaned(table, reasons, notes={"labels_merged": merged})
        index = table.schema.get_field_index("label")
        out = table.set_column(index, table.schema.field(index), pa.array(labels, pa.string()))
        return Cleaned(
            _update_answers(out, raw, labels),
            reasons,
            sum(renamed.values()),
            tuple(pair for pair, _ in sorted(renamed.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES]),
            {"labels_merged": merged},
            _list_merged(Counter(label for label in raw if label is not None), spelling),
        )


def _list_merged(counts: Counter[str], spelling: dict[str, str]) -> tuple[Listing, ...]:
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
    return (Listing("Merged labels", ("label", "rows", "spellings (rows)"), rows),)


def _update_answers(table: pa.Table, old: list[str | None], new: list[str | None]) -> pa.Table:
    import pyarrow as pa

    turns: list[list[dict[str, Any]]] = table["messages"].to_pylist()
    updated = False
    for conversation, before, after in zip(turns, old, new, strict=True):
        last = conversation[-1]
        if before is not None and before != after and last["content"].strip() == before.strip():
            last["content"] = after
            updated = True
    if not updated:
        return table
    index = table.schema.get_field_index("messages")
    return table.set_column(index, table.schema.field(index), pa.array(turns, table.schema.field(index).type))
