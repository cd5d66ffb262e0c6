"""Train on the past, hold out the future: each row by its own time, against two dates.

Good for: traffic, where a model must answer what comes after it was trained. The dates are fixed in params, so that
rows added later, of whatever time, move no old row. Give them in quotes.

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

# Epoch times above this are milliseconds: as seconds it lies in the year 5138.
MILLISECONDS = 1e11
# Numbers of so many digits are years and dates: as seconds they lie in 1970, before anything was asked of a model.
CALENDAR = {4: "%Y", 8: "%Y%m%d"}
YEARS = range(1900, 2101)


class Time(Section):
    """By a column that holds a time; a row without one is set aside."""

    name: Literal["time"] = "time"
    column: str = Field(
        min_length=1,
        description="column of the sources: ISO 8601, a year, or seconds or milliseconds since 1970",
    )
    validation_from: datetime = Field(description="rows of this time and later are held out; UTC where it says none")
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
    """A time in UTC, None if the text is none."""
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
        return datetime.fromtimestamp(number / 1000 if abs(number) > MILLISECONDS else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _read_calendar(text: str) -> datetime | None:
    """A year or a date without signs between, such as 2026 and 20260501."""
    if not text.isdecimal() or len(text) not in CALENDAR:
        return None
    try:
        day = datetime.strptime(text, CALENDAR[len(text)]).replace(tzinfo=UTC)
    except ValueError:
        return None
    return day if day.year in YEARS else None
