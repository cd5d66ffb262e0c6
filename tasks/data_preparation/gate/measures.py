"""The measurements that the gate evaluates: a table of the rows, one of the sources and one of the splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpus.rows.learned import learned_messages
from tasks.corpus.rows.rows import Origin, Rows, find_plain, turn_lengths
from tasks.corpus.text.folds import fold_prompts
from tasks.data_preparation.screening.duplicates import find_near_duplicates
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.splitting.methods.assignment import SPLITS
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.passages import SHARES_PASSAGE
from tasks.data_preparation.splitting.split import SEEN, fingerprint_rows

Array = np.ndarray[Any, Any]

# Steps that drop valid rows. Rows that other steps drop are unreadable or unclean.
READ = "read"  # the step of rows that are not readable
DUPLICATE_STEPS = ("exact duplicates", "near duplicates", "semantic duplicates")
VALID_ROW_STEPS = (
    *DUPLICATE_STEPS,
    "template",
    "weak labels",
    "contamination",
    "weights",
    "split",
    "preferences",
    "pruning",
    "augmentation",
    "balancing",
)
# Fewer copies of a row are acceptable, whatever their share of the rows.
MIN_COPIES = 50
# A source with fewer rows may by chance have none that is held out.
MIN_HELD_OUT_OF = 50
COLUMNS = {
    "rows": (
        "id", "source", "row", "split", "label", "prompt", "answer", "prompt_characters", "answer_characters",
        "supervised_words", "turns", "last_role", "label_trained", "cluster_splits", "prompt_splits",
        "passage_in_train", "leaks", "contaminated", "triggers",
    ),
    "sources": (
        "source", "rows_read", "rows_used", "supervised_words", "used_share", "bad_share", "duplicate_share",
        "most_copies", "copies_share", "held_out_share",
    ),
    "splits": ("split", "rows", "share", "wanted_share", "of_its_share"),
    "changes": ("prompt_lengths", "answer_lengths", "labels", "labels_lost", "rows_kept"),
}  # fmt: skip
TEXTS = ("prompt", "answer")


@dataclass(frozen=True)
class Turns:
    """The turns of all rows in one flat array."""

    messages: pa.ListArray

    @cached_property
    def owners(self) -> Array:
        """The row of each turn."""
        return np.repeat(np.arange(len(self.messages)), turn_lengths(self.messages))

    @cached_property
    def contents(self) -> pl.Series:
        return pl.Series(self.messages.flatten().field("content"))

    def of_role(self, role: str) -> Array:
        """Per turn whether it has this role."""
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
    """One line per row with the measurements of the checks.

    Characters and words are counted in the turns without leading and trailing white space. ``leaks`` is the number of
    rows of other splits whose similarity reaches ``duplicates.leak``, see `count_leaks`.

    Args:
        rows: Split rows.
        duplicates: Thresholds of near duplicates.
        texts: Whether to add the columns ``prompt`` and ``answer``.
    """
    table = rows.table
    turns = Turns(learned_messages(table))
    of_user, of_assistant = turns.of_role("user"), turns.of_role("assistant")
    characters = turns.contents.str.strip_chars().str.len_chars().to_numpy()
    words = turns.contents.str.count_matches(r"\S+").to_numpy()
    answer_characters = turns.add_up(characters, of_assistant)
    prompts, plain = turns.join(of_user), find_plain(turns.messages)
    empty = prompts == ""
    answers = turns.join(of_assistant) if texts or empty.any() else prompts
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
        # A plain text has no prompt and needs none; its own length stands in.
        "prompt_characters": np.where(plain, answer_characters, turns.add_up(characters, of_user)),
        "answer_characters": answer_characters,
        "supervised_words": turns.add_up(words, of_assistant),
        "turns": turn_lengths(turns.messages),
        "last_role": turns.messages.flatten().field("role").take(pa.array(_last_turns(turns))),
        "label_trained": pc.if_else(pc.is_valid(labels), trained.cast(pa.int64()), None),
        "cluster_splits": count_splits(pl.Series(table["cluster"]), splits),
        "prompt_splits": count_splits(fold_prompts(prompts.zip_with(~empty, answers), duplicates.numbers), splits),
        "passage_in_train": _read_sharing(table),
        "leaks": count_leaks(table, duplicates),
        "contaminated": _flag_found(rows, "contamination"),
        "triggers": _flag_found(rows, "trigger"),
    }
    return pa.table({name: column for name, column in columns.items() if column is not None})


def _last_turns(turns: Turns) -> Array:
    ends: Array = np.cumsum(turn_lengths(turns.messages)) - 1
    return ends


def _flag_found(rows: Rows, kind: str) -> Array:
    # 1 for rows in which a step found something and that it only reported.
    found = rows.twins.filter(pc.and_(pc.equal(rows.twins["kind"], kind), pc.invert(rows.twins["dropped"])))
    marks: Array = np.asarray(pc.is_in(rows.table["id"], found["id"].unique())).astype(np.int64)
    return marks


def _read_sharing(table: pa.Table) -> Array:
    # As splitting found it; rows that later steps add are all in train.
    if SHARES_PASSAGE not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.int64)
    marks: Array = np.asarray(table[SHARES_PASSAGE].fill_null(0))
    return marks


def count_splits(groups: pl.Series, splits: pl.Series) -> Array:
    """Per row the number of splits in which its group occurs."""
    counts = np.ones(len(groups), dtype=np.int64)
    shared = groups.is_duplicated()
    part = pl.DataFrame({"group": groups, "split": splits}).filter(shared)
    counts[shared.to_numpy()] = part.select(pl.col("split").n_unique().over("group")).to_series().to_numpy()
    return counts


def count_leaks(table: pa.Table, duplicates: Duplicates) -> Array:
    """Per row the number of near duplicates in other splits, for rows that are new or changed since the split.

    Splitting compared all of its rows, dropped those that would leak, and joined similar rows into clusters, which
    another check requires to be in one split. Comparing the same rows again would give the same result. Therefore only
    rows that are new, changed or moved since then are compared, with all rows of other splits.
    """
    leaks = np.zeros(table.num_rows, dtype=np.int64)
    if not duplicates.near:
        return leaks
    changed = np.ones(table.num_rows, dtype=bool)
    if SEEN in table.column_names:
        changed = fingerprint_rows(table) != np.asarray(table[SEEN])
    if not changed.any():
        return leaks
    splits = np.asarray(table["split"], dtype=object)
    splits_of_changed = set(splits[changed])
    places = np.flatnonzero(
        changed | (splits != splits_of_changed.pop()) if len(splits_of_changed) == 1 else np.ones_like(changed)
    )
    part = table.take(pa.array(places))
    for first, second in find_near_duplicates(part, duplicates, leaks=True).pairs.tolist():
        if splits[places[first]] != splits[places[second]]:
            leaks[places[first]] += 1
            leaks[places[second]] += 1
    return leaks


def describe_splits(rows: Rows, split: Split) -> pa.Table:
    """One line per split with its share and the share it should have."""
    counts = _count(rows.table["split"])
    shares = [counts[name] / max(rows.table.num_rows, 1) for name in SPLITS]
    configured = split.list_shares(counts)
    if split.method.uses_shares:
        # Rows that are always in train reduce the shares of the other splits.
        others = 1 - sum(_count(rows.table["source"])[title] for title in split.train_only) / max(
            rows.table.num_rows, 1
        )
        configured = {name: share * others + (1 - others) * (name == "train") for name, share in configured.items()}
    expected = [configured[name] for name in SPLITS]
    return pa.table(
        {
            "split": list(SPLITS),
            "rows": [counts[name] for name in SPLITS],
            "share": shares,
            "wanted_share": expected,
            "of_its_share": [share / target if target else 0.0 for share, target in zip(shares, expected, strict=True)],
        }
    )


def describe_sources(rows: Rows, described: pa.Table, split: Split) -> pa.Table:
    """One line per source with rows, with the measurements of the checks.

    ``most_copies`` is the largest number of dropped exact, near and semantic duplicates of one row in the source;
    ``copies_share`` is its share of the rows of the source, 0 below 50 copies. ``held_out_share`` is the share of its
    rows in validation and test, 1 for a source below 50 rows or one that params keep in train. Rows beyond a source's
    limit are in no share; unreadable ones were found among all of its rows.
    """
    used = _count(rows.table["source"])
    sums = pl.DataFrame({"source": pl.Series(described["source"]), "words": pl.Series(described["supervised_words"])})
    words: Counter[str] = Counter(dict(sums.group_by("source").agg(pl.col("words").sum()).iter_rows()))
    dropped = pl.DataFrame({"place": pl.Series(rows.dropped["source"]), "step": pl.Series(rows.dropped["step"])})
    unreadable, unclean, duplicated = Counter[str](), Counter[str](), Counter[str]()
    for place, step, count in dropped.group_by("place", "step").len().iter_rows():
        source = place.partition("/")[0]
        unreadable[source] += count * (step == READ)
        unclean[source] += count * (step != READ and step.partition(":")[0] not in VALID_ROW_STEPS)
        duplicated[source] += count * (step in DUPLICATE_STEPS)
    origins = [origin for origin in rows.origins if origin.rows]
    copies = _count_copies(rows)
    held_out = _count(rows.table.filter(pc.not_equal(rows.table["split"], "train"))["source"])

    def find_bad_share(origin: Origin) -> float:
        broken = unreadable[origin.title] / origin.rows
        readable = origin.taken - unreadable[origin.title]
        return broken + (1 - broken) * unclean[origin.title] / max(readable, 1)

    def find_held_out_share(title: str) -> float:
        if title in split.train_only or used[title] < MIN_HELD_OUT_OF:
            return 1.0
        return held_out[title] / used[title]

    def column(of: Callable[[Any], Any], kind: pa.DataType) -> pa.Array:
        return pa.array([of(origin) for origin in origins], kind)

    return pa.table(
        {
            "source": column(lambda o: o.title, pa.string()),
            "rows_read": column(lambda o: o.rows, pa.int64()),
            "rows_used": column(lambda o: used[o.title], pa.int64()),
            "supervised_words": column(lambda o: words[o.title], pa.int64()),
            "used_share": column(lambda o: used[o.title] / max(o.taken, 1), pa.float64()),
            "bad_share": column(find_bad_share, pa.float64()),
            "duplicate_share": column(lambda o: duplicated[o.title] / max(o.taken, 1), pa.float64()),
            "most_copies": column(lambda o: copies[o.title], pa.int64()),
            "copies_share": column(
                lambda o: copies[o.title] / max(o.taken, 1) if copies[o.title] >= MIN_COPIES else 0.0, pa.float64()
            ),
            "held_out_share": column(lambda o: find_held_out_share(o.title), pa.float64()),
        }
    )


def describe_duplicates(rows: Rows, share: float) -> str:
    """The sources of which more than this share are duplicates, with the share of each reason, in one line."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    dropped = rows.dropped.filter(pc.is_in(rows.dropped["step"], pa.array(DUPLICATE_STEPS)))
    for place, reason in zip(dropped["source"].to_pylist(), dropped["reason"].to_pylist(), strict=True):
        counts[place.partition("/")[0]][reason] += 1
    return "; ".join(
        f"{origin.title} {counts[origin.title].total() / origin.rows:.0%} ("
        + ", ".join(f"{reason} {count / origin.rows:.0%}" for reason, count in counts[origin.title].most_common())
        + ")"
        for origin in rows.origins
        if origin.rows and counts[origin.title].total() > share * origin.rows
    )


def _count_copies(rows: Rows) -> Counter[str]:
    duplicates = rows.twins.filter(pc.is_in(rows.twins["kind"], pa.array(["exact", "near", "semantic"])))
    most: Counter[str] = Counter()
    pairs = pl.DataFrame({"place": pl.Series(duplicates["place"]), "of": pl.Series(duplicates["twin_id"])})
    for place, _, count in pairs.group_by("place", "of").len().iter_rows():
        source = place.partition("/")[0]
        most[source] = max(most[source], count)
    return most


def _count(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(column).to_pylist()})
