"""Clusters of duplicate and similar rows, as a table to filter and a page to read.

The table ``clusters.parquet`` has a line per row of every cluster: the row, its outcome, and the earlier row it is
similar to. A cluster is a connected component of these pairs. The page shows the largest clusters.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.contracts.manifest import seal
from tasks.contracts.tables import write_table
from tasks.corpus.rows.rows import Rows, name_places
from tasks.corpus.similarity.pairs import join_clusters
from tasks.pages.page import Page

FILE = "clusters.parquet"
CLUSTERS = pa.schema(
    [
        pa.field("cluster", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("place", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("twin_place", pa.string()),
        pa.field("twin_row", pa.int64()),
        pa.field("similarity", pa.float64()),
        pa.field("prompt_similarity", pa.float64()),
        pa.field("text", pa.string(), nullable=False),
    ]
)
SHOWN_CLUSTERS = 150
SHOWN_MEMBERS = 8
SHOWN_PAIRS = 12
# Names on the page of the kinds of pairs.
KIND_NAMES = {
    "exact": "exact duplicate",
    "near": "near duplicate",
    "semantic": "semantic duplicate",
    "alike": "similar, kept",
    "across splits": "similar, in different splits",
}
FIRST_MEMBER = "first"
BENCHMARK = "benchmark"
NOT_LOOKED_FOR = "not looked for"

# Place, row and content hash: all rows that were read from one nested row have its row number.
Key = tuple[str, int, str]


@dataclass
class Member:
    """A row of a cluster, with the pair that links it to an earlier row; the first row has none."""

    key: Key
    label: str | None
    text: str
    pair: dict[str, Any] | None = None


def write_clusters(rows: Rows, folder: Path) -> dict[str, int]:
    """Write the table, the page and the manifest.

    Args:
        rows: The rows at the end of the stage.
        folder: Emptied first.

    Returns:
        Figures: number of clusters, rows in clusters, and the size of the largest.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    table = make_table(rows)
    write_table(table, folder / FILE, CLUSTERS)
    sizes = dict(zip(table["cluster"].to_pylist(), table["size"].to_pylist(), strict=True))
    _make_page(rows, table, sizes).write(folder / "index.html")
    figures = {"clusters": len(sizes), "rows": table.num_rows, "largest": max(sizes.values(), default=0)}
    seal(folder, [folder / FILE, folder / "index.html"], figures)
    return figures


def make_table(rows: Rows) -> pa.Table:
    """The lines of `CLUSTERS`, the largest cluster first."""
    members: dict[Key, Member] = {}
    number_of: dict[Key, int] = {}
    edges: list[tuple[int, int]] = []
    for pair in rows.twins.to_pylist():
        first = (pair["twin_place"], pair["twin_row"], pair["twin_id"])
        second = (pair["place"], pair["row"], pair["id"])
        for key, label, text in (
            (first, pair["twin_label"], pair["twin_text"]),
            (second, pair["label"], pair["text"]),
        ):
            members.setdefault(key, Member(key, label, text))
            number_of.setdefault(key, len(number_of))
        members[second].pair = members[second].pair or pair
        edges.append((number_of[first], number_of[second]))
    clusters: dict[int, list[Member]] = defaultdict(list)
    first_members = join_clusters(len(members), np.array(edges, dtype=np.int64).reshape(-1, 2))
    for first_member, member in zip(first_members, members.values(), strict=True):
        clusters[first_member].append(member)
    splits = _map_kept_rows_to_splits(rows)
    dropped_by = {(line["source"], line["row"]): line["step"] for line in _list_dropped(rows)}
    lines: list[dict[str, Any]] = []
    ordered = sorted(clusters.values(), key=lambda cluster: -len(cluster))
    for number, cluster in enumerate(ordered, start=1):
        for member in sorted(cluster, key=lambda member: member.pair is not None):
            pair = member.pair or {}
            lines.append(
                {
                    "cluster": number,
                    "size": len(cluster),
                    "place": member.key[0],
                    "row": member.key[1],
                    "label": member.label,
                    "outcome": _name_outcome(member, splits, dropped_by),
                    "kind": pair.get("kind", FIRST_MEMBER),
                    "twin_place": pair.get("twin_place"),
                    "twin_row": pair.get("twin_row"),
                    "similarity": pair.get("similarity"),
                    "prompt_similarity": pair.get("prompt_similarity"),
                    "text": member.text,
                }
            )
    return pa.Table.from_pylist(lines, schema=CLUSTERS)


def _map_kept_rows_to_splits(rows: Rows) -> dict[Key, str]:
    places = name_places(rows.table["source"], rows.table["file"]).to_pylist()
    columns = (rows.table[name].to_pylist() for name in ("row", "id", "split"))
    return {(place, row, name): split for place, row, name, split in zip(places, *columns, strict=True)}


def _list_dropped(rows: Rows) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = rows.dropped.select(["source", "row", "step"]).to_pylist()
    return lines


def _name_outcome(member: Member, kept: Mapping[Key, str], dropped_by: Mapping[tuple[str, int], str]) -> str:
    if member.pair and member.pair["dropped"]:
        return f"dropped: {member.pair['kind']}"
    if member.key in kept:
        return kept[member.key]
    step = dropped_by.get(member.key[:2])
    if step:
        return f"dropped: {step}"
    return BENCHMARK if member.pair is None and member.key[0].startswith("benchmark ") else "set apart"


def _make_page(rows: Rows, table: pa.Table, sizes: dict[int, int]) -> Page:
    kinds = Counter(rows.twins["kind"].to_pylist())
    page = Page(
        "Duplicates and leakage",
        f"{sum(outcome != BENCHMARK for outcome in table['outcome'].to_pylist()):,} rows are similar to another row "
        f"or to a benchmark item, in {len(sizes):,} clusters. Of duplicates only the first row is kept. Similar "
        "rows that are not duplicates are kept, all in the same split.",
        stage="data_preparation",
        inside="clusters",
    )
    page.cards(
        {
            "exact duplicates": kinds["exact"],
            "near duplicates": _count_found(rows, kinds["near"], "near duplicates"),
            "semantic duplicates": _count_found(rows, kinds["semantic"], "semantic duplicates"),
        }
    )
    page.cards(
        {
            "similar across splits": kinds["across splits"],
            "similar, kept": kinds["alike"],
            "contaminated by a benchmark": _count_found(rows, kinds["contamination"], "contamination"),
        }
    )
    _add_recall(page, rows)
    _add_sources(page, rows)
    _add_splits(page, rows)
    for step in rows.steps:
        if step.name in ("near duplicates", "semantic duplicates", "contamination"):
            for listing in step.listings:
                page.table(listing.heading, listing.columns, listing.rows, listing.note)
    _add_contamination(page, rows)
    _add_clusters(page, table)
    page.link(FILE, f"Table of all clusters ({FILE})")
    return page


def _count_found(rows: Rows, count: int, step: str) -> int | str:
    """What a step found; nothing that was looked for and not found is 0."""
    looked = any(each.name == step and (step != "contamination" or each.listings) for each in rows.steps)
    return count if looked else NOT_LOOKED_FOR


def _add_recall(page: Page, rows: Rows) -> None:
    lines = [
        [
            step.name,
            step.notes["recall_probes"],
            step.notes["recall_pairs"],
            f"{step.notes['recall']:.1%}" if step.notes["recall_pairs"] else "–",
            f"{step.notes['recall_low']:.1%}" if step.notes["recall_pairs"] else "–",
        ]
        for step in rows.steps
        if "recall" in step.notes
    ]
    page.table(
        "Recall of MinHash",
        ["step", "rows sampled", "near-duplicate pairs", "recall", "lower 95% limit"],
        lines,
        note="Each sampled row was compared with all other rows by exact Jaccard similarity. The precision is 100%: "
        "the exact similarity of every reported pair is computed, and reaches the thresholds.",
    )


def _add_sources(page: Page, rows: Rows) -> None:
    counts = Counter(
        (pair["place"].partition("/")[0], pair["twin_place"].partition("/")[0], pair["kind"])
        for pair in rows.twins.to_pylist()
        if pair["kind"] in KIND_NAMES
    )
    ordered = sorted(counts.items(), key=lambda item: (item[0][0] == item[0][1], -item[1], item[0]))
    page.table(
        "Duplicates and similar rows by source",
        ["source", "source of the earlier row", "kind", "rows"],
        [[source, earlier, KIND_NAMES[kind], count] for (source, earlier, kind), count in ordered],
    )


def _add_splits(page: Page, rows: Rows) -> None:
    reasons = next((step.reasons for step in rows.steps if step.name == "split"), {})
    page.table(
        "Rows dropped when the data were split",
        ["reason", "rows"],
        [[reason, count] for reason, count in reasons.items()],
        note="Of two similar rows in different splits the later one is dropped.",
    )


def _add_contamination(page: Page, rows: Rows) -> None:
    pairs = [pair for pair in rows.twins.to_pylist() if pair["kind"] == "contamination"]
    if pairs:
        page.table(
            "Examples of contaminated rows",
            ["source", "row", "text", "benchmark", "item", "similarity", "text of the item"],
            [
                [p["place"], p["row"], p["text"], p["twin_place"], p["twin_row"], p["similarity"], p["twin_text"]]
                for p in pairs[:SHOWN_PAIRS]
            ],
        )


def _add_clusters(page: Page, table: pa.Table) -> None:
    largest = table.filter(pa.compute.less_equal(table["cluster"], SHOWN_CLUSTERS)).to_pylist()
    shown_members: Counter[int] = Counter()
    lines: list[Sequence[Any]] = []
    for line in largest:
        shown_members[line["cluster"]] += 1
        rank = shown_members[line["cluster"]]
        if rank > SHOWN_MEMBERS:
            continue
        first = rank == 1
        lines.append(
            [
                f"{line['cluster']} ({line['size']} rows)" if first else "",
                line["outcome"],
                "–" if line["similarity"] is None else f"{line['similarity']:.2f}",
                line["text"],
                line["label"] or "–",
                line["place"],
                line["row"],
            ]
        )
    page.table(
        "The largest clusters",
        ["cluster", "outcome", "similarity", "text", "label", "source", "row"],
        lines,
        note=f"At most {SHOWN_CLUSTERS} clusters, and {SHOWN_MEMBERS} rows of each, are shown; {FILE} has all.",
    )
