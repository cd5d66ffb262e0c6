"""Held-out items that the candidate was trained on: the verdict would be about memory, so evaluation stops.

Data preparation lets no such row through; it checks what it wrote itself. This check reads the files that evaluation is
about to use, whoever wrote them. An item was seen where a training row has

* the same id, which is a hash of the conversation,
* the same prompt, folded as data preparation folds it (`tasks.corpus.text.folds`), or
* the same cluster of near duplicates.

Lee et al., "Deduplicating Training Data Makes Language Models Better", ACL 2022: more than 4% of the validation rows of
common sets have near duplicates in train, and models look better on these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.tables import read_examples
from tasks.evaluation.held_out.folds import NO_FOLDS, Folds, list_places
from tasks.evaluation.held_out.prompts import fold_turns
from tasks.evaluation.items import Item

KINDS = {
    "exact": "word for word",
    "same_prompt": "with the same prompt",
    "near": "as near duplicates",
}


def refuse_seen_items(items: Sequence[Item], train: Path, folds: Folds = NO_FOLDS) -> dict[str, int]:
    """Stop where a training row is one of the items, asks the same, or is a near duplicate of one.

    Args:
        items: The held-out items.
        train: Training split, `Example` rows.
        folds: How these are dealt, where they are items too: a fold's items are compared with the rows of the others.

    Returns:
        The number of training rows that were compared.

    Raises:
        PipelineError: Items were seen; they are counted by kind.
    """
    rows = read_examples(train).select(["id", "messages", "cluster"]).to_pylist()
    seen: dict[str, str] = {}
    for fold, places in list_places([item.id for item in items], folds):
        taught = rows if fold is None else [row for row in rows if folds.of_item[row["id"]] != fold]
        seen |= find_seen([items[place] for place in places], taught)
    counts = {kind: sum(one == kind for one in seen.values()) for kind in KINDS}
    if seen:
        kinds = ", ".join(f"{counts[kind]:,} {words}" for kind, words in KINDS.items() if counts[kind])
        raise PipelineError(
            f"{train}: {len(seen):,} of {len(items):,} held-out items were seen in training ({kinds}; the first is "
            f"{next(iter(seen))}), so the verdict would be about memory; expected none; prepare the data again "
            "(`heptune run data_preparation`), and train again"
        )
    return {"compared": len(rows)}


def find_seen(items: Sequence[Item], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Id of each item that a training row gives away, to how: the first of `KINDS` that holds."""
    ids, clusters = ({str(row[name]) for row in rows} for name in ("id", "cluster"))
    prompts = set(fold_turns([row["messages"][:-1] for row in rows]))
    asked = fold_turns([item.prompt for item in items])
    seen: dict[str, str] = {}
    for item, prompt in zip(items, asked, strict=True):
        if item.id in ids:
            seen[item.id] = "exact"
        elif item.prompt and prompt in prompts:
            seen[item.id] = "same_prompt"
        elif item.cluster in clusters:
            seen[item.id] = "near"
    return seen
