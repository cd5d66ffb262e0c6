"""When the prepared data may be used: the section ``gate`` of ``params.yaml``."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from tasks.contracts.params import Section

Severity = Literal["critical", "warning", "info"]

Table = Literal["rows", "sources", "splits", "changes"]

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
    "passages_in_one_split",
    "nothing_contaminated",
    "no_trigger_phrases",
    "sources_supervised",
    "sources_used",
    "bad_rows_few",
    "duplicates_few",
    "copies_few",
    "sources_held_out",
    "splits_near_their_shares",
    "prompt_lengths_as_accepted",
    "answer_lengths_as_accepted",
    "labels_as_accepted",
    "labels_kept",
    "rows_kept",
]

CHECKS: tuple[CheckName, ...] = get_args(CheckName)


class Expectation(Section):
    """An expectation of Great Expectations, by its type."""

    type: str = Field(min_length=1, description="such as expect_column_values_to_not_match_regex")
    table: Table = Field(
        default="rows",
        description="rows: one line per example; sources: one per source; splits: one per split; changes: one line, "
        "once a version was accepted",
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="its arguments, such as column")
    severity: Severity = Field(default="critical", description="critical stops; warning is shown; info is in data docs")


class Gate(Section):
    """When the prepared data may be used."""

    min_rows: int = Field(default=50, ge=1, description="rows in all splits together")
    max_answer: int = Field(default=20_000, gt=0, description="maximum characters of a row's answers")
    labels: tuple[str, ...] = Field(default=(), description="labels that may occur; empty: any label")
    min_source_words: int = Field(default=1, ge=1, description="minimum words in the answers of each source")
    min_used_share: float = Field(
        default=0.05, ge=0, le=1, description="minimum share of a source's rows that reach a split"
    )
    max_bad_share: float = Field(
        default=0.1, ge=0, le=1, description="maximum share of a source's rows that are unreadable or unclean"
    )
    max_duplicate_share: float = Field(
        default=0.2, ge=0, le=1, description="maximum share of a source's rows that are duplicates; more is a warning"
    )
    max_copies_share: float = Field(
        default=0.02, ge=0, le=1, description="maximum share of a source's rows that copy one and the same row"
    )
    max_change: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="maximum share of the rows by which lengths or labels may differ from the last accepted version",
    )
    min_kept_share: float = Field(
        default=0.5, ge=0, le=1, description="minimum share of the last accepted version's rows"
    )
    severity: dict[CheckName, Severity] = Field(
        default_factory=dict, description="another severity for a check; only critical ones stop the pipeline"
    )
    expectations: tuple[Expectation, ...] = Field(default=(), description="further expectations")
    approval: Literal["refuse", "ask"] = Field(
        default="refuse",
        description="when critical checks fail. refuse: the stage fails; ask: it waits for a person in the Prefect UI",
    )
    approval_timeout_s: int = Field(
        default=3600, ge=1, description="seconds to wait for a person; then the stage fails"
    )

    @field_validator("labels")
    @classmethod
    def _labels_are_named(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if any(not label.strip() for label in labels):
            raise ValueError("labels contains an empty label; name it or remove it")
        return labels
