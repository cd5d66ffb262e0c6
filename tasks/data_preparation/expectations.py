"""What the gate expects, as Great Expectations names it, over three tables: rows, sources and splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.duplicates import Duplicates, find_pairs
from tasks.data_preparation.rows import Rows, column_messages, find_plain, join_turns, turn_lengths
from tasks.data_preparation.split import SPLITS, Split, name_groups

Severity = Literal["critical", "warning", "info"]
Table = Literal["rows", "sources", "splits"]
CheckName = Literal[
    "enough_rows",
    "splits_filled",
    "ids_unique",
    "prompt_present",
    "answer_present",
    "ends_with_answer",
    "rows_supervised",
    "labels_known",
    "labels_trained",
    "clusters_in_one_split",
    "prompts_in_one_split",
    "near_duplicates_in_one_split",
    "sources_supervised",
    "sources_used",
    "bad_rows_few",
    "duplicates_few",
    "splits_near_their_shares",
]
# Steps that take out sound rows; what the others take out is bad.
DUPLICATE_STEPS = ("exact duplicates", "near duplicates", "semantic duplicates")
SOUND_STEPS = (
    *DUPLICATE_STEPS,
    "contamination",
    "weights",
    "split",
    "preferences",
    "pruning",
    "augmentation",
    "balancing",
)


class Expectation(Section):
    """An expectation of Great Expectations' own, by its type."""

    type: str = Field(description="such as expect_column_values_to_not_match_regex")
    table: Table = Field(
        default="rows", description="rows: one line per example; sources: one per source; splits: one per split"
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="its arguments, such as column")
    severity: Severity = "critical"


class Gate(Section):
    """When the prepared data may be used."""

    min_rows: int = Field(default=50, ge=1, description="rows in all splits together")
    max_answer: int = Field(default=20_000, gt=0, description="characters of a row's answers")
    labels: tuple[str, ...] = Field(default=(), description="labels that may occur; any when empty")
    min_used_share: float = Field(default=0.05, ge=0, le=1, description="share of a source's rows that reach a split")
    max_bad_share: float = Field(
        default=0.1, ge=0, le=1, description="share of a source's rows that are unreadable or unclean"
    )
    max_duplicate_share: float = Field(
        default=0.9, ge=0, le=1, description="share of a source's rows that are duplicates"
    )
    severity: dict[CheckName, Severity] = Field(
        default_factory=dict, description="another severity for a check; only critical ones stop the pipeline"
    )
    expectations: tuple[Expectation, ...] = Field(default=(), description="further expectations")


@dataclass(frozen=True)
class Check:
    """One expectation with a name that a person understands.

    Attributes:
        name: Name of the check.
        meaning: What holds when it passes.
        table: The table it looks at.
        type: Type in Great Expectations.
        kwargs: Its arguments.
        severity: Only ``critical`` stops.
    """

    name: str
    meaning: str
    table: Table
    type: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "critical"


def list_checks(settings: Gate, labelled: bool) -> list[Check]:
    """The suite: the checks of this project, then those of params.

    Args:
        settings: Limits, severities and further expectations.
        labelled: Whether any row has a label; without one the checks of labels are left out.
    """

    def between(name: CheckName, meaning: str, table: Table, column: str, low: Any = None, high: Any = None) -> Check:
        limits = {"column": column, "min_value": low, "max_value": high}
        return make(name, meaning, table, "expect_column_values_to_be_between", limits)

    def make(
        name: CheckName,
        meaning: str,
        table: Table,
        kind: str,
        kwargs: dict[str, Any],
        severity: Severity = "critical",
    ) -> Check:
        return Check(name, meaning, table, kind, kwargs, settings.severity.get(name, severity))

    among = "expect_column_values_to_be_in_set"
    checks = [
        make(
            "enough_rows",
            f"at least {settings.min_rows} rows",
            "rows",
            "expect_table_row_count_to_be_between",
            {"min_value": settings.min_rows},
        ),
        make(
            "splits_filled",
            "train, validation and test all hold rows, and there is no other",
            "rows",
            "expect_column_distinct_values_to_equal_set",
            {"column": "split", "value_set": list(SPLITS)},
        ),
        make(
            "ids_unique",
            "no conversation twice",
            "rows",
            "expect_column_values_to_be_unique",
            {"column": "id"},
        ),
        between("prompt_present", "every row asks something", "rows", "prompt_characters", 1),
        between(
            "answer_present",
            f"every row answers, in at most {settings.max_answer} characters",
            "rows",
            "answer_characters",
            1,
            settings.max_answer,
        ),
        make(
            "ends_with_answer",
            "the last turn is the assistant's",
            "rows",
            among,
            {"column": "last_role", "value_set": ["assistant"]},
        ),
        between("rows_supervised", "every row has words to learn", "rows", "supervised_words", 1),
        between(
            "clusters_in_one_split",
            "no cluster of near duplicates in two splits",
            "rows",
            "cluster_splits",
            1,
            1,
        ),
        between("prompts_in_one_split", "no prompt (numbers aside) in two splits", "rows", "prompt_splits", 1, 1),
        between("near_duplicates_in_one_split", "no two rows in different splits are alike", "rows", "leaks", 0, 0),
        between("sources_supervised", "every source has words to learn", "sources", "supervised_words", 1),
        between(
            "sources_used",
            f"of every source at least {settings.min_used_share:.0%} of the rows are used",
            "sources",
            "used_share",
            settings.min_used_share,
        ),
        between(
            "bad_rows_few",
            f"of every source at most {settings.max_bad_share:.0%} of the rows are bad",
            "sources",
            "bad_share",
            None,
            settings.max_bad_share,
        ),
        between(
            "duplicates_few",
            f"of every source at most {settings.max_duplicate_share:.0%} of the rows are duplicates",
            "sources",
            "duplicate_share",
            None,
            settings.max_duplicate_share,
        ),
    ]
    checks.append(
        make(
            "splits_near_their_shares",
            "no split has less than half of the share it should have",
            "splits",
            "expect_column_values_to_be_between",
            {"column": "of_its_share", "min_value": 0.5},
            "warning",
        )
    )
    if labelled:
        trained = {"column": "label_trained", "value_set": [1]}
        checks.append(make("labels_trained", "every held-out label is also trained", "rows", among, trained, "warning"))
    if settings.labels:
        known = {"column": "label", "value_set": list(settings.labels)}
        checks.append(make("labels_known", "only labels that may occur", "rows", among, known))
    return checks + [
        Check(f"{item.type} {number}", "from params", item.table, item.type, item.kwargs, item.severity)
        for number, item in enumerate(settings.expectations, start=1)
    ]


def describe_rows(rows: Rows, duplicates: Duplicates) -> pa.Table:
    """One line per row with what the checks look at."""
    table = rows.table
    messages = column_messages(table)
    prompts, answers = join_turns(messages, ["user"]), join_turns(messages, ["assistant"])
    ends = np.cumsum(turn_lengths(messages)) - 1
    roles = messages.flatten().field("role")
    splits = table["split"].to_pylist()
    labels = table["label"].to_pylist()
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    return pa.table(
        {
            "id": table["id"],
            "source": table["source"],
            "row": table["row"],
            "split": table["split"],
            "label": table["label"],
            "prompt": pa.array(prompts, pa.string()),
            "answer": pa.array(answers, pa.string()),
            # Plain text has no prompt of its own and needs none.
            "prompt_characters": [
                len((answer if plain else prompt).strip())
                for prompt, answer, plain in zip(prompts, answers, find_plain(messages), strict=True)
            ],
            "answer_characters": [len(text.strip()) for text in answers],
            "supervised_words": [len(text.split()) for text in answers],
            "turns": turn_lengths(messages),
            "last_role": roles.take(pa.array(ends)),
            "label_trained": [None if label is None else int(label in trained) for label in labels],
            "cluster_splits": _count_splits(table["cluster"].to_pylist(), splits),
            "prompt_splits": _count_splits(name_groups(table), splits),
            "leaks": _count_leaks(table, splits, duplicates),
        }
    )


def _count_splits(groups: Sequence[str], splits: Sequence[str]) -> list[int]:
    found: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        found[group].add(split)
    return [len(found[group]) for group in groups]


def _count_leaks(table: pa.Table, splits: Sequence[str], duplicates: Duplicates) -> list[int]:
    leaks = [0] * table.num_rows
    if duplicates.near:
        for pair in find_pairs(table, duplicates.leak, duplicates.shingle, duplicates.numbers).tolist():
            if splits[pair[0]] != splits[pair[1]]:
                for row in pair:
                    leaks[row] += 1
    return leaks


def describe_splits(rows: Rows, split: Split) -> pa.Table:
    """One line per split with its share and the share it should have."""
    counts = Counter(rows.table["split"].to_pylist())
    shares = [counts[name] / max(rows.table.num_rows, 1) for name in SPLITS]
    wanted = [split.list_shares(counts)[name] for name in SPLITS]
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
    """One line per source that gave rows, with what the checks look at."""
    used = Counter(rows.table["source"].to_pylist())
    words: Counter[str] = Counter()
    for source, count in zip(described["source"].to_pylist(), described["supervised_words"].to_pylist(), strict=True):
        words[source] += count
    bad, twice = Counter[str](), Counter[str]()
    for place, step in zip(rows.dropped["source"].to_pylist(), rows.dropped["step"].to_pylist(), strict=True):
        source = place.partition("/")[0]
        bad[source] += step.partition(":")[0] not in SOUND_STEPS
        twice[source] += step in DUPLICATE_STEPS
    origins = [origin for origin in rows.origins if origin.rows]
    return pa.table(
        {
            "source": pa.array([origin.title for origin in origins], pa.string()),
            "rows_read": pa.array([origin.rows for origin in origins], pa.int64()),
            "rows_used": pa.array([used[origin.title] for origin in origins], pa.int64()),
            "supervised_words": pa.array([words[origin.title] for origin in origins], pa.int64()),
            "used_share": pa.array([used[origin.title] / origin.rows for origin in origins], pa.float64()),
            "bad_share": pa.array([bad[origin.title] / origin.rows for origin in origins], pa.float64()),
            "duplicate_share": pa.array([twice[origin.title] / origin.rows for origin in origins], pa.float64()),
        }
    )
