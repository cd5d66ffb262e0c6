"""What the gate looks at: a table of the rows, one of the sources, one of the splits; made a column at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.rows import Rows, column_messages, find_plain, turn_lengths
from tasks.corpus.text.folds import fold_prompts
from tasks.data_preparation.screening.duplicates import find_pairs
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import SEEN, SPLITS, fingerprint_rows

Array = np.ndarray[Any, Any]

# Steps that take out sound rows; what the others take out is bad.
DUPLICATE_STEPS = ("exact duplicates", "near duplicates", "semantic duplicates")
SOUND_STEPS = (
    *DUPLICATE_STEPS,
    "weak labels",
    "contamination",
    "weights",
    "split",
    "preferences",
    "pruning",
    "augmentation",
    "balancing",
)
# Fewer copies of a row are no flood, however few rows there are.
FLOOD = 50
COLUMNS = {
    "rows": (
        "id", "source", "row", "split", "label", "prompt", "answer", "prompt_characters", "answer_characters",
        "supervised_words", "turns", "last_role", "label_trained", "cluster_splits", "prompt_splits", "leaks",
        "contaminated", "triggers",
    ),
    "sources": (
        "source", "rows_read", "rows_used", "supervised_words", "used_share", "bad_share", "duplicate_share",
        "most_copies", "copies_share",
    ),
    "splits": ("split", "rows", "share", "wanted_share", "of_its_share"),
    "changes": ("prompt_lengths", "answer_lengths", "labels", "labels_lost", "rows_kept"),
}  # fmt: skip
TEXTS = ("prompt", "answer")


@dataclass(frozen=True)
class Turns:
    """The turns of a table, flat."""

    messages: pa.ListArray

    @cached_property
    def owners(self) -> Array:
        """The row of each turn."""
        return np.repeat(np.arange(len(self.messages)), turn_lengths(self.messages))

    @cached_property
    def contents(self) -> pl.Series:
        return pl.Series(self.messages.flatten().field("content"))

    def said_by(self, role: str) -> Array:
        return np.asarray(pc.equal(self.messages.flatten().field("role"), role))

    def add_up(self, values: Array, chosen: Array) -> Array:
        """Per row the sum over the chosen turns."""
        totals: Array = np.bincount(self.owners[chosen], values[chosen], len(self.messages)).astype(np.int64)
        return totals

    def join(self, chosen: Array) -> pl.Series:
        """Per row the texts of the chosen turns, joined by newlines."""
        turns = pl.DataFrame({"row": self.owners, "text": self.contents}).filter(pl.Series(chosen))
        if turns.height and np.bincount(turns["row"]).max() > 1:
            turns = turns.group_by("row", maintain_order=True).agg(pl.col("text").str.join("\n"))
        texts = pl.repeat("", len(self.messages), dtype=pl.String, eager=True)
        return texts if not turns.height else texts.scatter(turns["row"], turns["text"])


def describe_rows(rows: Rows, duplicates: Duplicates, texts: bool = True) -> pa.Table:
    """One line per row with what the checks look at.

    Characters and words are those of the texts of the turns without the white space around them. ``leaks`` counts rows
    of other splits that are as alike as ``duplicates.leak``, see `count_leaks`.

    Args:
        rows: Split rows.
        duplicates: What counts as a near duplicate.
        texts: Also ``prompt`` and ``answer``.
    """
    table = rows.table
    turns = Turns(column_messages(table))
    asks, says = turns.said_by("user"), turns.said_by("assistant")
    characters = turns.contents.str.strip_chars().str.len_chars().to_numpy()
    words = turns.contents.str.count_matches(r"\S+").to_numpy()
    answer_characters = turns.add_up(characters, says)
    prompts, plain = turns.join(asks), find_plain(turns.messages)
    empty = prompts == ""
    answers = turns.join(says) if texts or empty.any() else prompts
    splits = pl.Series(table["split"])
    labels = table["label"]
    trained = pc.is_in(labels, labels.filter(pc.equal(table["split"], "train")).unique())
    columns: dict[str, Any] = {
        "id": table["id"],
        "source": table["source"],
        "row": table["row"],
        "split": table["split"],
        "label": labels,
        "prompt": prompts.to_arrow() if texts else None,
        "answer": answers.to_arrow() if texts else None,
        # Plain text has no prompt of its own and needs none.
        "prompt_characters": np.where(plain, answer_characters, turns.add_up(characters, asks)),
        "answer_characters": answer_characters,
        "supervised_words": turns.add_up(words, says),
        "turns": turn_lengths(turns.messages),
        "last_role": turns.messages.flatten().field("role").take(pa.array(_find_ends(turns))),
        "label_trained": pc.if_else(pc.is_valid(labels), trained.cast(pa.int64()), None),
        "cluster_splits": count_splits(pl.Series(table["cluster"]), splits),
        "prompt_splits": count_splits(fold_prompts(prompts.zip_with(~empty, answers)), splits),
        "leaks": count_leaks(table, duplicates),
        "contaminated": _mark(rows, "contamination"),
        "triggers": _mark(rows, "trigger"),
    }
    return pa.table({name: column for name, column in columns.items() if column is not None})


def _find_ends(turns: Turns) -> Array:
    ends: Array = np.cumsum(turn_lengths(turns.messages)) - 1
    return ends


def _mark(rows: Rows, kind: str) -> Array:
    # Which rows are still there although a step found something in them.
    found = rows.twins.filter(pc.and_(pc.equal(rows.twins["kind"], kind), pc.invert(rows.twins["dropped"])))
    marks: Array = np.asarray(pc.is_in(rows.table["id"], found["id"].unique())).astype(np.int64)
    return marks


def count_splits(groups: pl.Series, splits: pl.Series) -> Array:
    """Per row the number of splits that its group is in."""
    counts = np.ones(len(groups), dtype=np.int64)
    shared = groups.is_duplicated()
    part = pl.DataFrame({"group": groups, "split": splits}).filter(shared)
    counts[shared.to_numpy()] = part.select(pl.col("split").n_unique().over("group")).to_series().to_numpy()
    return counts


def count_leaks(table: pa.Table, duplicates: Duplicates) -> Array:
    """Per row the number of near duplicates in other splits, for rows that the split did not see as they are now.

    Splitting looked for near duplicates among all its rows, dropped what would leak, and put what is alike into one
    cluster, which a check of its own holds to one split. Looking again at the same rows in the same way would find the
    same. So only rows that are new, changed or moved since are compared, with all rows they may clash with.
    """
    leaks = np.zeros(table.num_rows, dtype=np.int64)
    if not duplicates.near:
        return leaks
    fresh = np.ones(table.num_rows, dtype=bool)
    if SEEN in table.column_names:
        fresh = fingerprint_rows(table) != np.asarray(table[SEEN])
    if not fresh.any():
        return leaks
    splits = np.asarray(table["split"], dtype=object)
    own = set(splits[fresh])
    places = np.flatnonzero(fresh | (splits != own.pop()) if len(own) == 1 else np.ones_like(fresh))
    part = table.take(pa.array(places))
    for first, second in find_pairs(part, duplicates.leak, duplicates.shingle, duplicates.numbers).tolist():
        if splits[places[first]] != splits[places[second]]:
            leaks[places[first]] += 1
            leaks[places[second]] += 1
    return leaks


def describe_splits(rows: Rows, split: Split) -> pa.Table:
    """One line per split with its share and the share it should have."""
    counts = _count(rows.table["split"])
    shares = [counts[name] / max(rows.table.num_rows, 1) for name in SPLITS]
    asked = split.list_shares(counts)
    if split.method.uses_shares:
        # What is in train whatever its share makes the shares of the others smaller.
        others = 1 - sum(_count(rows.table["source"])[title] for title in split.train_only) / max(
            rows.table.num_rows, 1
        )
        asked = {name: share * others + (1 - others) * (name == "train") for name, share in asked.items()}
    wanted = [asked[name] for name in SPLITS]
    return pa.table(
        {
            "split": list(SPLITS),
            "rows": [counts[name] for name in SPLITS],
            "share": shares,
            "wanted_share": wanted,
            "of_its_share": [share / want if want else 0.0 for share, want in zip(shares, wanted, strict=True)],
        }
    )


def describe_sources(rows: Rows, described: pa.Table) -> pa.Table:
    """One line per source that gave rows, with what the checks look at.

    ``most_copies`` is how often the row with the most exact and near copies was copied in rows of the source that left,
    and ``copies_share`` the same of its rows, 0 below 50 copies.
    """
    used = _count(rows.table["source"])
    sums = pl.DataFrame({"source": pl.Series(described["source"]), "words": pl.Series(described["supervised_words"])})
    words: Counter[str] = Counter(dict(sums.group_by("source").agg(pl.col("words").sum()).iter_rows()))
    left = pl.DataFrame({"place": pl.Series(rows.dropped["source"]), "step": pl.Series(rows.dropped["step"])})
    bad, twice = Counter[str](), Counter[str]()
    for place, step, count in left.group_by("place", "step").len().iter_rows():
        source = place.partition("/")[0]
        bad[source] += count * (step.partition(":")[0] not in SOUND_STEPS)
        twice[source] += count * (step in DUPLICATE_STEPS)
    origins = [origin for origin in rows.origins if origin.rows]
    copies = _count_copies(rows)

    def column(of: Callable[[Any], Any], kind: pa.DataType) -> pa.Array:
        return pa.array([of(origin) for origin in origins], kind)

    return pa.table(
        {
            "source": column(lambda o: o.title, pa.string()),
            "rows_read": column(lambda o: o.rows, pa.int64()),
            "rows_used": column(lambda o: used[o.title], pa.int64()),
            "supervised_words": column(lambda o: words[o.title], pa.int64()),
            "used_share": column(lambda o: used[o.title] / o.rows, pa.float64()),
            "bad_share": column(lambda o: bad[o.title] / o.rows, pa.float64()),
            "duplicate_share": column(lambda o: twice[o.title] / o.rows, pa.float64()),
            "most_copies": column(lambda o: copies[o.title], pa.int64()),
            "copies_share": column(
                lambda o: copies[o.title] / o.rows if copies[o.title] >= FLOOD else 0.0, pa.float64()
            ),
        }
    )


def _count_copies(rows: Rows) -> Counter[str]:
    twins = rows.twins.filter(pc.is_in(rows.twins["kind"], pa.array(["exact", "near", "semantic"])))
    most: Counter[str] = Counter()
    pairs = pl.DataFrame({"place": pl.Series(twins["place"]), "of": pl.Series(twins["twin_id"])})
    for place, _, count in pairs.group_by("place", "of").len().iter_rows():
        source = place.partition("/")[0]
        most[source] = max(most[source], count)
    return most


def _count(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(column).to_pylist()})
