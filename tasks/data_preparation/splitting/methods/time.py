"""Train on the past, hold out the future: each row by its own time, compared with two dates.

Good for: production traffic, where a model answers requests from after its training. The dates are fixed in params, so
that rows added later, whatever their time, move no existing row. Write them in quotes.

Example: ``{name: time, column: created_on, validation_from: "2026-05-01", test_from: "2026-06-01"}``
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.data_preparation.splitting.methods.assignment import Assigned, Shares, list_carried, read_column

if TYPE_CHECKING:
    import pyarrow as pa

# Larger epoch times are milliseconds; read as seconds this one lies in the year 5138.
MIN_MILLISECONDS = 1e11
# Numbers with these counts of digits are years and dates; read as seconds they would lie in 1970.
CALENDAR_FORMATS = {4: "%Y", 8: "%Y%m%d"}
YEARS = range(1900, 2101)


class Time(Section):
    """By a column that holds a time; a row without one is quarantined."""

    name: Literal["time"] = "time"
    column: str = Field(
        min_length=1,
        description="column of the sources: ISO 8601, a year, or seconds or milliseconds since 1970",
    )
    validation_from: datetime = Field(description="rows of this time and later are held out; UTC unless it has a zone")
    test_from: datetime = Field(description="rows of this time and later are test")

    @model_validator(mode="after")
    def _ordered(self) -> Time:
        if in_utc(self.validation_from) >= in_utc(self.test_from):
            raise ValueError("validation_from must lie before test_from")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return list_carried(self.column)

    @property
    def uses_shares(self) -> bool:
        return False

    def assign(self, table: pa.Table, folds: Sequence[str], shares: Shares, minimum: int) -> Assigned:
        """The split of each row."""
        from tasks.corpus.personal_data.identifiers import replace_personal

        values = read_column(table, self.column)
        times = [None if value is None else read_time(value) for value in values]
        splits = [None if time is None else self._choose(time) for time in times]
        reasons = [
            None
            if time
            else f'column "{self.column}" holds no time ({"empty" if value is None else replace_personal(value)[:40]})'
            for time, value in zip(times, values, strict=True)
        ]
        return Assigned(splits, reasons)

    def _choose(self, time: datetime) -> str:
        if time < in_utc(self.validation_from):
            return "train"
        return "validation" if time < in_utc(self.test_from) else "test"


def in_utc(time: datetime) -> datetime:
    """The same time in UTC; one without a zone is taken as UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def read_time(text: str) -> datetime | None:
    """The time a text states, in UTC; None if it states none."""
    if (day := _read_calendar(text.strip())) is not None:
        return day
    try:
        number = float(text)
    except ValueError:
        try:
            return in_utc(datetime.fromisoformat(text.strip()))
        except (ValueError, OverflowError):
            return None
    try:
        return datetime.fromtimestamp(number / 1000 if abs(number) > MIN_MILLISECONDS else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _read_calendar(text: str) -> datetime | None:
    """A year or a date without separators, such as 2026 and 20260501."""
    if not text.isdecimal() or len(text) not in CALENDAR_FORMATS:
        return None
    try:
        day = datetime.strptime(text, CALENDAR_FORMATS[len(text)]).replace(tzinfo=UTC)
    except ValueError:
        return None
    return day if day.year in YEARS else None
