"""Names of labels: when two spellings are one label."""

from __future__ import annotations

import re

_BETWEEN = re.compile(r"[\s\-_/]+")


def normalise_label(label: str) -> str:
    """Lower case, words joined by underscores."""
    return _BETWEEN.sub("_", label.strip().casefold()).strip("_")
