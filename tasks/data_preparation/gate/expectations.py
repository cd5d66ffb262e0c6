"""What the gate expects, as Great Expectations names it, over four tables: rows, sources, splits and changes.

What there is to learn is counted in words, not in tokens: tokens would tie the data to one model, whose change would
make them stale, and a row has words exactly when it has tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.contracts.errors import raise_all
from tasks.data_preparation.gate.measures import COLUMNS
from tasks.data_preparation.gate.params import CheckName, Gate, Severity, Table
from tasks.data_preparation.splitting.split import SPLITS

# Arguments that say what is expected of a number; all of them missing expects nothing.
BOUNDS = ("min_value", "max_value")


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


def list_checks(
    settings: Gate, labelled: bool, steps: Sequence[str] = (), changes: Collection[str] = ()
) -> list[Check]:
    """The suite: the checks of this project, then those of params.

    Args:
        settings: Limits, severities and further expectations.
        labelled: Whether any row has a label; without one the checks of labels are left out.
        steps: Names of the steps that ran; a check of what a step finds stands for a step that ran.
        changes: What could be compared with the last accepted version, see `COLUMNS`; nothing before there is one.
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
    twice, copies = settings.max_duplicate_share, settings.max_copies_share
    filled = "train, validation and test all hold rows, and there is no other"
    answers = f"every row answers, in at most {settings.max_answer} characters"
    assistant = {"column": "last_role", "value_set": ["assistant"]}
    checks = [
        make("enough_rows", f"at least {settings.min_rows} rows", "rows", count, {"min_value": settings.min_rows}),
        make("splits_filled", filled, "rows", distinct, {"column": "split", "value_set": list(SPLITS)}),
        make("ids_unique", "no conversation twice", "rows", unique, {"column": "id"}),
        between("prompt_present", "every row asks something", "rows", "prompt_characters", 1),
        between("answer_present", answers, "rows", "answer_characters", 1, settings.max_answer),
        make("ends_with_answer", "the last turn is the assistant's", "rows", among, assistant),
        between("rows_supervised", "every row has words to learn", "rows", "supervised_words", 1),
        between("clusters_in_one_split", "no cluster of near duplicates in two splits", "rows", "cluster_splits", 1, 1),
        between("prompts_in_one_split", "no prompt (numbers aside) in two splits", "rows", "prompt_splits", 1, 1),
        between("near_duplicates_in_one_split", "no two rows in different splits are alike", "rows", "leaks", 0, 0),
        between(
            "sources_supervised",
            f"every source has words to learn, at least {words:,}",
            "sources",
            "supervised_words",
            words,
        ),
        between(
            "sources_used", f"of every source at least {used:.0%} of the rows are used", "sources", "used_share", used
        ),
        between(
            "bad_rows_few", f"of every source at most {bad:.0%} of the rows are bad", "sources", "bad_share", None, bad
        ),
        between(
            "duplicates_few",
            f"of every source at most {twice:.0%} of the rows are duplicates",
            "sources",
            "duplicate_share",
            None,
            twice,
        ),
        between(
            "copies_few",
            f"of every source at most {copies:.0%} of the rows copy one row",
            "sources",
            "copies_share",
            None,
            copies,
            "warning",
        ),
        between(
            "splits_near_their_shares",
            "no split has less than half of the share it should have",
            "splits",
            "of_its_share",
            0.5,
            None,
            "warning",
        ),
    ]
    if "contamination" in steps:
        held = "no row that is kept holds an item of a benchmark"
        checks.append(between("nothing_contaminated", held, "rows", "contaminated", 0, 0, "warning"))
    if "triggers" in steps:
        phrases = "no row that is kept holds a trigger phrase"
        checks.append(between("no_trigger_phrases", phrases, "rows", "triggers", 0, 0, "warning"))
    if labelled:
        trained = {"column": "label_trained", "value_set": [1]}
        checks.append(make("labels_trained", "every held-out label is also trained", "rows", among, trained, "warning"))
    if settings.labels:
        known = {"column": "label", "value_set": list(settings.labels)}
        checks.append(make("labels_known", "only labels that may occur", "rows", among, known))
    moved = f"of at most {change:.0%} of the rows as in the last accepted version"
    less = f"at least {kept:.0%} of the last accepted version's rows"
    lost = "every label of the last accepted version"
    for_changes = [
        between("prompt_lengths_as_accepted", f"lengths other {moved}", "changes", "prompt_lengths", None, change),
        between("answer_lengths_as_accepted", f"lengths other {moved}", "changes", "answer_lengths", None, change),
        # New requests bring other labels, and a retrain on drift is there to learn them.
        between("labels_as_accepted", f"labels other {moved}", "changes", "labels", None, change, "warning"),
        between("labels_kept", lost, "changes", "labels_lost", 0, 0, "warning"),
        between("rows_kept", less, "changes", "rows_kept", kept),
    ]
    checks += [check for check in for_changes if check.kwargs["column"] in changes]
    return checks + [
        Check(f"{item.type} {number}", "from params", item.table, item.type, item.kwargs, item.severity)
        for number, item in enumerate(settings.expectations, start=1)
    ]


def refuse_empty(checks: Sequence[Check]) -> None:
    """Refuse checks that expect nothing, or look at what is not there.

    Raises:
        PipelineError: There is no check, or one has an empty argument, no column or bound where it needs one, or names
            a column that its table has not; all reported together, with the known names.
    """
    problems = [f"quality gate: {check.type}: {fault}" for check in checks for fault in _find_faults(check)]
    if not checks:
        problems.append("quality gate: the suite is empty; nothing passes that was not evaluated")
    raise_all(problems, "quality gate")


def _find_faults(check: Check) -> list[str]:
    given = {name: value for name, value in check.kwargs.items() if value is not None}
    faults = []
    if not given:
        faults.append("has no argument and so expects nothing; give its kwargs, such as column")
    for name, value in given.items():
        empty = isinstance(value, str | Sequence | Mapping) and not (value.strip() if isinstance(value, str) else value)
        if empty or (isinstance(value, list) and any(isinstance(item, str) and not item.strip() for item in value)):
            faults.append(f"{name} is empty; say what is expected, or take the expectation out")
        if name == "mostly" and not value:
            faults.append("mostly is 0, which every column fulfils; give a share above 0")
    if given and _needs_bound(check.type) and not any(name in given for name in BOUNDS):
        faults.append("has neither min_value nor max_value and so expects nothing; give one")
    for column in _name_columns(check.type, given):
        if column not in COLUMNS[check.table]:
            known = ", ".join(COLUMNS[check.table])
            faults.append(f'no column "{column}" in table {check.table}; known are {known}')
    return faults


def _needs_bound(kind: str) -> bool:
    return kind.endswith("_to_be_between")


def _name_columns(kind: str, given: Mapping[str, Any]) -> list[str]:
    # What an expectation says about the set of columns itself may name others.
    if kind.startswith("expect_table_columns") or kind == "expect_column_to_exist":
        return []
    named = [given[name] for name in ("column", "column_A", "column_B") if name in given]
    listed = [given[name] for name in ("column_list", "column_set") if isinstance(given.get(name), list)]
    return [name for name in (*named, *(name for names in listed for name in names)) if isinstance(name, str)]
