"""Schedules take what cron and Prefect take, and say what is wrong with the rest."""

from __future__ import annotations

import pytest
from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationError

from tasks.monitoring.schedule import Schedule

RIGHT = (
    "0 3 * * 0",
    "*/15 8-18/2 1,15 jan-mar mon-fri",
    "0 0 29 2 *",
    "59 23 31 12 7",
    "0  3 * * SUN",
    "0 0 31 2 mon",
    "5/15 * * * *",
)
WRONG = {
    "0 3 * *": "has 4 fields; expected 5: minute, hour, day of month, month, day of week",
    "60 3 * * *": '"60" is no minute; expected 0-59',
    "0 24 * * *": '"24" is no hour; expected 0-23',
    "0 0 0 * *": '"0" is no day of month; expected 1-31',
    "0 0 * 13 *": '"13" is no month; expected 1-12 or jan to dec',
    "0 0 * * sunday": '"sunday" is no day of week; expected 0-7 or sun to sat',
    "0 0 * * 5-1": "the smaller first",
    "*/0 * * * *": '"*/0" is no minute',
    "0 0 31 2,4 *": "that month never has 31 days",
    "weekly": "has 1 fields",
    "": "has 0 fields",
}


@pytest.mark.parametrize("cron", RIGHT)
def test_what_prefect_takes_is_taken(cron: str) -> None:
    schedule = Schedule.model_validate(cron)
    assert (schedule.cron, schedule.timezone) == (" ".join(cron.lower().split()), "UTC")
    assert CronSchedule(cron=schedule.cron, timezone=schedule.timezone).cron == schedule.cron


@pytest.mark.parametrize("cron", WRONG)
def test_what_is_no_time_is_refused_with_the_reason(cron: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Schedule(cron=cron)
    assert WRONG[cron] in str(raised.value)


def test_a_time_zone_is_one_that_there_is() -> None:
    assert Schedule(cron="0 3 * * *", timezone="Europe/Berlin").timezone == "Europe/Berlin"
    with pytest.raises(ValidationError, match=r'no time zone "Europe/Berln"; did you mean "Europe/Berlin"\?'):
        Schedule(cron="0 3 * * *", timezone="Europe/Berln")
    for name in ("CEST or so", "../etc/passwd", ""):
        with pytest.raises(ValidationError, match="no time zone"):
            Schedule(cron="0 3 * * *", timezone=name)
