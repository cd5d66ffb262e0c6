"""When something is started again and again: five fields of cron, in a time zone.

Fields: minute (0-59), hour (0-23), day of month (1-31), month (1-12 or jan-dec), day of week (0-7 or sun-sat, 0 and 7
are Sunday). Each is ``*``, a value, a range ``1-5``, steps ``*/15`` or ``8-18/2``, or a list of these (crontab(5)).

Example:
    ``{cron: "0 3 * * sun", timezone: Europe/Berlin}``: Sundays at three in the night, summer and winter.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from tasks.contracts.params import Section

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(MONTHS, start=1)}),
    ("day of week", 0, 7, {name: number for number, name in enumerate(DAYS)}),
)
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
PART = re.compile(r"(?:(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")


class Schedule(Section):
    """A time that comes again."""

    cron: str = Field(description='minute, hour, day of month, month and day of week, such as "0 3 * * sun"')
    timezone: str = Field(default="UTC", description="IANA name of the time zone, such as Europe/Berlin")

    @model_validator(mode="before")
    @classmethod
    def _accept_cron_alone(cls, value: Any) -> Any:
        return {"cron": value} if isinstance(value, str) else value

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        return check_cron(cron)

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        from zoneinfo import ZoneInfo, available_timezones

        try:
            ZoneInfo(name)
        except (KeyError, OSError, ValueError) as error:
            near = difflib.get_close_matches(name, sorted(available_timezones()), 1)
            hint = f'did you mean "{near[0]}"?' if near else "write an IANA name, such as Europe/Berlin or UTC"
            raise ValueError(f'no time zone "{name}"; {hint}') from error
        return name


def check_cron(cron: str) -> str:
    """The expression with single spaces.

    Raises:
        ValueError: It has other than five fields, a value that its field cannot have, or a date that never comes.
    """
    words = cron.lower().split()
    if len(words) != len(FIELDS):
        raise ValueError(
            f'"{cron}" has {len(words)} fields; expected 5: minute, hour, day of month, month, day of week, '
            'such as "0 3 * * sun"'
        )
    values = [read_field(word, *field) for word, field in zip(words, FIELDS, strict=True)]
    _, _, days, months, _ = values
    if words[4] == "*" and min(days) > max(LONGEST_MONTHS[month - 1] for month in months):
        raise ValueError(f'"{cron}": that month never has {min(days)} days, so it never comes')
    return " ".join(words)


def read_field(word: str, title: str, lowest: int, highest: int, names: dict[str, int]) -> set[int]:
    """The values of a field.

    Raises:
        ValueError: A part of it is none.
    """
    found: set[int] = set()
    wanted = f"{lowest}-{highest}" + (f" or {next(iter(names))} to {list(names)[-1]}" if names else "")
    for part in word.split(","):
        match = PART.fullmatch(part)
        ends = [] if match is None else [names.get(end, end) for end in (match["first"], match["last"]) if end]
        if match is None or not all(str(end).isascii() and str(end).isdigit() for end in ends):
            raise ValueError(f'"{part}" is no {title}; expected {wanted}, *, a range 1-5, or steps */2')
        first, last = (lowest, highest) if match["all"] else (int(ends[0]), int(ends[-1]))
        if match["step"] and len(ends) == 1:
            last = highest
        step = int(match["step"] or 1)
        if not lowest <= first <= last <= highest or not step:
            raise ValueError(f'"{part}" is no {title}; expected {wanted}, the smaller first')
        found |= set(range(first, last + 1, step))
    return found
