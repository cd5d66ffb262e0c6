"""The checks of the gate as expectations of Great Expectations over four tables: rows, sources, splits and changes.

Supervised text is counted in words, not in tokens: token counts would depend on one model and become stale when it
changes, and a row has words exactly when it has tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.contracts.errors import raise_all
from tasks.data_preparation.gate.measures import COLUMNS, MIN_HELD_OUT_OF
from tasks.data_preparation.gate.params import CheckName, Gate, Severity, Table
from tasks.data_preparation.splitting.methods.assignment import SPLITS

# Of a source whose rows are all alike, all may be in train, where nothing can tell what they teach.
LEAST_HELD_OUT_SHARE = 0.005
# Arguments of an expectation about a number; without any of them it expects nothing.
BOUNDS = ("min_value", "max_value")


@dataclass(frozen=True)
class Check:
    """One expectation with a readable name.

    Attributes:
        name: Name of the check.
        meaning: What is true when it passes.
        table: The table it is evaluated on.
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


def list_checks(
    settings: Gate, labelled: bool, steps: Sequence[str] = (), changes: Collection[str] = ()
) -> list[Check]:
    """The suite: the checks of this project, then those of params.

    Args:
        settings: Thresholds, severities and further expectations.
        labelled: Whether any row has a label; if none has, the checks of labels are left out.
        steps: Names of the steps that ran; the checks of contamination and trigger phrases need their steps.
        changes: Columns of the comparison with the last accepted version, see `COLUMNS`; empty before there is one.
    """

    def between(
        name: CheckName,
        meaning: str,
        table: Table,
        column: str,
        low: float | None = None,
        high: float | None = None,
        severity: Severity = "critical",
    ) -> Check:
        limits = {"column": column, "min_value": low, "max_value": high}
        return make(name, meaning, table, "expect_column_values_to_be_between", limits, severity)

    def make(
        name: CheckName, meaning: str, table: Table, kind: str, kwargs: dict[str, Any], severity: Severity = "critical"
    ) -> Check:
        return Check(name, meaning, table, kind, kwargs, settings.severity.get(name, severity))

    among, distinct = "expect_column_values_to_be_in_set", "expect_column_distinct_values_to_equal_set"
    count, unique = "expect_table_row_count_to_be_between", "expect_column_values_to_be_unique"
    words, change, kept = settings.min_source_words, settings.max_change, settings.min_kept_share
    used, bad = settings.min_used_share, settings.max_bad_share
    duplicates, copies = settings.max_duplicate_share, settings.max_copies_share
    filled = "train, validation and test each have rows, and there is no other split"
    answers = f"every row has an answer of at most {settings.max_answer:,} characters"
    assistant = {"column": "last_role", "value_set": ["assistant"]}
    checks = [
        make("enough_rows", f"at least {settings.min_rows:,} rows", "rows", count, {"min_value": settings.min_rows}),
        make("splits_filled", filled, "rows", distinct, {"column": "split", "value_set": list(SPLITS)}),
        make("ids_unique", "no conversation occurs twice", "rows", unique, {"column": "id"}),
        between("prompt_present", "every row has a prompt", "rows", "prompt_characters", 1),
        between("answer_present", answers, "rows", "answer_characters", 1, settings.max_answer),
        make("ends_with_answer", "the last turn of every row is the assistant's", "rows", among, assistant),
        between("rows_supervised", "the answer of every row has at least one word", "rows", "supervised_words", 1),
        between("clusters_in_one_split", "all rows of a cluster are in one split", "rows", "cluster_splits", 1, 1),
        between(
            "prompts_in_one_split",
            "prompts that differ in case or punctuation only are in one split",
            "rows",
            "prompt_splits",
            1,
            1,
        ),
        between(
            "near_duplicates_in_one_split", "there are no near duplicates in different splits", "rows", "leaks", 0, 0
        ),
        between(
            "passages_in_one_split",
            "no held-out prompt shares a sentence of a passage of 30 words or more with one in train",
            "rows",
            "passage_in_train",
            0,
            0,
            "warning",
        ),
        between(
            "sources_supervised",
            f"the answers of every source have at least {words:,} {'word' if words == 1 else 'words'}",
            "sources",
            "supervised_words",
            words,
        ),
        between(
            "sources_used", f"at least {used:.0%} of the rows of every source are used", "sources", "used_share", used
        ),
        between(
            "bad_rows_few",
            f"at most {bad:.0%} of the rows of every source are unreadable or unclean",
            "sources",
            "bad_share",
            None,
            bad,
        ),
        between(
            "duplicates_few",
            f"at most {duplicates:.0%} of the rows of every source are duplicates",
            "sources",
            "duplicate_share",
            None,
            duplicates,
            "warning",
        ),
        between(
            "copies_few",
            f"at most {copies:.0%} of the rows of every source copy the same row",
            "sources",
            "copies_share",
            None,
            copies,
            "warning",
        ),
        between(
            "sources_held_out",
            f"of every source with {MIN_HELD_OUT_OF} rows or more, some are in validation or test",
            "sources",
            "held_out_share",
            LEAST_HELD_OUT_SHARE,
            None,
            "warning",
        ),
        between(
            "splits_near_their_shares",
            "every split has at least half of its configured share",
            "splits",
            "of_its_share",
            0.5,
            None,
            "warning",
        ),
    ]
    if "contamination" in steps:
        clean = "no kept row contains a benchmark item"
        checks.append(between("nothing_contaminated", clean, "rows", "contaminated", 0, 0, "warning"))
    if "triggers" in steps:
        phrases = "no kept row contains a trigger phrase"
        checks.append(between("no_trigger_phrases", phrases, "rows", "triggers", 0, 0, "warning"))
    if labelled:
        trained = {"column": "label_trained", "value_set": [1]}
        checks.append(
            make(
                "labels_trained",
                "every label in validation and test also occurs in train",
                "rows",
                among,
                trained,
                "warning",
            )
        )
    if settings.labels:
        known = {"column": "label", "value_set": list(settings.labels)}
        checks.append(make("labels_known", "only labels named in the params occur", "rows", among, known))
    lengths = f"Kolmogorov-Smirnov distance of the {{}} lengths from the last accepted version at most {change:g}"
    shares = f"total variation distance of the label shares from the last accepted version at most {change:g}"
    enough = f"at least {kept:.0%} of the number of rows of the last accepted version"
    none_lost = "every label of the last accepted version still occurs"
    for_changes = [
        between("prompt_lengths_as_accepted", lengths.format("prompt"), "changes", "prompt_lengths", None, change),
        between("answer_lengths_as_accepted", lengths.format("answer"), "changes", "answer_lengths", None, change),
        # A warning: new requests may bring new labels, and retraining on drift is meant to learn them.
        between("labels_as_accepted", shares, "changes", "labels", None, change, "warning"),
        between("labels_kept", none_lost, "changes", "labels_lost", 0, 0, "warning"),
        between("rows_kept", enough, "changes", "rows_kept", kept),
    ]
    checks += [check for check in for_changes if check.kwargs["column"] in changes]
    return checks + [
        Check(f"{item.type} {number}", "from params", item.table, item.type, item.kwargs, item.severity)
        for number, item in enumerate(settings.expectations, start=1)
    ]


def refuse_empty(checks: Sequence[Check]) -> None:
    """Refuse checks that expect nothing or name columns that do not exist.

    Raises:
        PipelineError: There is no check, or one has an empty argument, lacks a column or bound, or names a column
            that its table does not have; all problems are reported together, with the known names.
    """
    problems = [f"quality gate: {check.type}: {fault}" for check in checks for fault in _find_faults(check)]
    if not checks:
        problems.append("quality gate: the suite is empty; data that were not evaluated do not pass")
    raise_all(problems, "quality gate")


def _find_faults(check: Check) -> list[str]:
    given = {name: value for name, value in check.kwargs.items() if value is not None}
    faults = []
    if not given:
        faults.append("has no arguments and therefore expects nothing; set kwargs, such as column")
    for name, value in given.items():
        empty = isinstance(value, str | Sequence | Mapping) and not (value.strip() if isinstance(value, str) else value)
        if empty or (isinstance(value, list) and any(isinstance(item, str) and not item.strip() for item in value)):
            faults.append(f"{name} is empty; set a value or remove the expectation")
        if name == "mostly" and not value:
            faults.append("mostly is 0, which every column satisfies; set a share above 0")
    if given and _needs_bound(check.type) and not any(name in given for name in BOUNDS):
        faults.append("has neither min_value nor max_value and therefore expects nothing; set one")
    for column in _name_columns(check.type, given):
        if column not in COLUMNS[check.table]:
            known = ", ".join(COLUMNS[check.table])
            faults.append(f'no column "{column}" in table {check.table}; known are {known}')
    return faults


def _needs_bound(kind: str) -> bool:
    return kind.endswith("_to_be_between")


def _name_columns(kind: str, given: Mapping[str, Any]) -> list[str]:
    # Expectations about the columns themselves may name columns that do not exist.
    if kind.startswith("expect_table_columns") or kind == "expect_column_to_exist":
        return []
    named = [given[name] for name in ("column", "column_A", "column_B") if name in given]
    listed = [given[name] for name in ("column_list", "column_set") if isinstance(given.get(name), list)]
    return [name for name in (*named, *(name for names in listed for name in names)) if isinstance(name, str)]
