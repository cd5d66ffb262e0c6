"""Data augmentation: add variants of training rows, and reject those too similar to validation or test rows.

A variant has the answer, label and cluster of its original row, and a prompt with a rewritten last user turn. It
becomes a row of the source ``augmented by <method>``, and its original row is in the table of clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from tasks.contracts.records import MESSAGES, UNTRAINED, content_id
from tasks.corpus.label_classifier import fit_label_classifier
from tasks.corpus.rows.learned import learned_messages
from tasks.corpus.rows.rows import Origin, Rows, finish_step, join_turns
from tasks.corpus.rows.texts import EXAMPLES, show_change
from tasks.corpus.similarity.lists import find_between, sign_texts
from tasks.corpus.similarity.shingles import compute_jaccard, cut_shingles
from tasks.corpus.text.draws import draw
from tasks.corpus.text.words import fold_text
from tasks.data_preparation.screening.duplicates import (
    find_near_duplicates,
    find_semantic_duplicates,
    join_prompts_and_answers,
)
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.screening.similar_pairs import record_pairs
from tasks.data_preparation.splitting.split import name_groups
from tasks.data_preparation.trainset.augmentation.material import Material, Variant
from tasks.data_preparation.trainset.augmentation.params import Augmentation

# Kind of the sources of variants.
AUGMENTATION = "augmentation"


class Augmenter(Protocol):
    """A method of augmentation."""

    @property
    def name(self) -> str: ...
    @property
    def share(self) -> float: ...
    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]: ...


def augment_train(rows: Rows, settings: Augmentation, duplicates: Duplicates, answered: Path | None = None) -> Rows:
    """Add variants of training rows.

    Args:
        rows: Split rows.
        settings: Methods.
        duplicates: Thresholds of similarity between variants and held-out rows.
        answered: Folder that caches the answers of models, so that a second run sends no requests.

    Returns:
        The rows with the variants at the end; rejected ones are in ``dropped``.

    Raises:
        PipelineError: A requirement of a method is missing, or its model does not answer.
    """
    for method in settings.methods:
        rows = _augment(rows, method, settings, duplicates, answered)
    return rows


def _augment(
    rows: Rows, method: Augmenter, settings: Augmentation, duplicates: Duplicates, answered: Path | None
) -> Rows:
    is_train = np.array([split == "train" for split in rows.table["split"].to_pylist()], dtype=bool)
    augmented = {origin.title for origin in rows.origins if origin.kind == AUGMENTATION}
    is_train &= np.array([source not in augmented for source in rows.table["source"].to_pylist()], dtype=bool)
    train = rows.table.filter(pa.array(is_train))
    material = _collect(train, settings.seed, answered)
    chosen = [
        row
        for row, name in enumerate(material.ids)
        if material.prompts[row] and draw(f"augment {method.name}", settings.seed, name) < method.share
    ]
    variants = method.rewrite(chosen, material)
    candidates = _make_rows(train, variants, f"augmented by {method.name}")
    reasons = [
        variant.reason or ("unchanged" if variant.prompt == material.prompts[variant.row] else None)
        for variant in variants
    ]
    if settings.keep_labels and method.name != "adversarial":
        reasons = _check_labels(material, variants, reasons)
    reasons = _check_copies(rows.table, candidates, reasons, duplicates)
    rows = _record(rows, train, candidates, variants, reasons)
    origin = Origin(f"augmented by {method.name}", AUGMENTATION, "train", "as its rows", {}, len(variants), 1.0)
    table = pa.concat_tables([rows.table, candidates])
    examples = [
        show_change(material.prompts[variant.row], variant.prompt)
        for variant, reason in zip(variants, reasons, strict=True)
        if reason is None
    ][:EXAMPLES]
    accepted = len(variants) - sum(reason is not None for reason in reasons)
    augmented_rows = finish_step(
        replace(rows, origins=(*rows.origins, origin)),
        f"augmentation: {method.name}",
        table,
        [*[None] * rows.table.num_rows, *reasons],
        changed=accepted,
        examples=examples,
        notes={"rows_chosen": len(chosen), "variants": accepted},
    )
    *before, step = augmented_rows.steps
    return replace(augmented_rows, steps=(*before, replace(step, rows_in=rows.table.num_rows)))


def _collect(train: pa.Table, seed: int, answered: Path | None) -> Material:
    prompts = [
        next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), "")
        for turns in train["messages"].to_pylist()
    ]
    answers = join_turns(learned_messages(train), ["assistant"])
    return Material(train["id"].to_pylist(), prompts, answers, train["label"].to_pylist(), seed, answered)


def _make_rows(train: pa.Table, variants: Sequence[Variant], title: str) -> pa.Table:
    parents = train.take(pa.array([variant.row for variant in variants], pa.int64()))
    has_marks = UNTRAINED.name in parents.column_names
    untrained = parents[UNTRAINED.name].to_pylist() if has_marks else [None] * len(variants)
    conversations = []
    for turns, variant in zip(parents["messages"].to_pylist(), variants, strict=True):
        last = max(place for place, turn in enumerate(turns) if turn["role"] == "user")
        conversations.append([*turns[:last], {"role": "user", "content": variant.prompt}, *turns[last + 1 :]])
    values: dict[str, pa.Array] = {
        "source": pa.array([title] * len(variants), pa.string()),
        "file": pa.array([""] * len(variants), pa.string()),
        "row": pa.array(range(1, len(variants) + 1), pa.int64()),
        "messages": pa.array(conversations, MESSAGES),
        "id": pa.array([content_id(*pair) for pair in zip(conversations, untrained, strict=True)], pa.string()),
    }
    for name, column in values.items():
        index = parents.schema.get_field_index(name)
        parents = parents.set_column(index, parents.schema.field(index), column.cast(parents.schema.field(index).type))
    return parents


def _check_labels(material: Material, variants: Sequence[Variant], reasons: Sequence[str | None]) -> list[str | None]:
    classifier = fit_label_classifier(material.prompts, material.labels)
    if classifier is None or not variants:
        return list(reasons)
    before = classifier.predict([material.prompts[variant.row] for variant in variants])
    after = classifier.predict([variant.prompt for variant in variants])
    return [
        reason
        or (
            "a classifier reads another label"
            if material.labels[variant.row] is not None and old == material.labels[variant.row] != new
            else None
        )
        for variant, reason, old, new in zip(variants, reasons, before, after, strict=True)
    ]


def _check_copies(
    table: pa.Table, candidates: pa.Table, reasons: Sequence[str | None], duplicates: Duplicates
) -> list[str | None]:
    splits = table["split"].to_pylist()
    held_out = table.filter(pa.array([split != "train" for split in splits], pa.bool_()))
    split_of = held_out["split"].to_pylist()
    leaks: dict[int, str] = {}
    both = pa.concat_tables([held_out, candidates])
    found = [find_near_duplicates(both, duplicates, leaks=True, crowds=False).pairs]
    if duplicates.semantic is not None:
        found.append(find_semantic_duplicates(both, duplicates, leaks=True).pairs)
    for first, second in np.concatenate(found).tolist():
        if first < held_out.num_rows <= second:
            leaks.setdefault(second - held_out.num_rows, split_of[first])
    # The prompt of a held-out row with another answer leaks too.
    held_out_prompts, prompts = (
        sign_texts(join_prompts_and_answers(side)[0], duplicates.shingle) for side in (held_out, candidates)
    )
    pairs, _ = find_between(held_out_prompts, prompts, duplicates.same.rows)
    for first, second in pairs.tolist():
        leaks.setdefault(second, split_of[first])
    folds = dict(zip(name_groups(held_out, duplicates.numbers), split_of, strict=True))
    seen = set(table["id"].to_pylist())
    checked: list[str | None] = []
    for row, (name, fold, reason) in enumerate(
        zip(candidates["id"].to_pylist(), name_groups(candidates, duplicates.numbers), reasons, strict=True)
    ):
        split = leaks.get(row) or folds.get(fold)
        if reason is None and split is not None:
            reason = f"too like a row of {split}"
        elif reason is None and name in seen:
            reason = "a row that is there already"
        if reason is None:
            seen.add(name)
        checked.append(reason)
    return checked


def _record(
    rows: Rows, train: pa.Table, candidates: pa.Table, variants: Sequence[Variant], reasons: Sequence[str | None]
) -> Rows:
    kept = [place for place, reason in enumerate(reasons) if reason is None]
    pairs = np.array([(variants[place].row, train.num_rows + place) for place in kept], dtype=np.int64).reshape(-1, 2)
    both = pa.concat_tables([train, candidates])
    similarity = [
        compute_jaccard(cut_shingles([fold_text(text) for text in texts], 4), pairs)
        for texts in (
            [" ".join(sides) for sides in zip(*join_prompts_and_answers(both), strict=True)],
            join_prompts_and_answers(both)[0],
        )
    ]
    return record_pairs(rows, both, "augmented", pairs, similarity[0], similarity[1], dropped=False)
