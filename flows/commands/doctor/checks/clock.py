"""The clock: TLS, tokens and the order of files fail where it is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import flows
from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring import artifacts

DAY_S = 24 * 3600


def examine(here: Surroundings) -> Iterator[Finding]:
    now = time.time()
    newest = max(
        (path.stat().st_mtime, str(path)) for path in (artifacts.PARAMS, Path(str(flows.__file__))) if path.exists()
    )
    if newest[0] > now + DAY_S:
        shown, later = (datetime.fromtimestamp(moment, UTC).date() for moment in (now, newest[0]))
        yield Finding(
            "error", "clock", f"the clock says {shown}, but {newest[1]} is of {later}; certificates and tokens "
            "count as not valid yet", "set the clock (`timedatectl set-ntp true`)",
        )  # fmt: skip
