"""What held-out items can be grouped by without a kept column."""

from __future__ import annotations

SOURCE, LABEL, LENGTH, LANGUAGE = "source", "label", "length", "language"
BUILT_IN = (SOURCE, LABEL, LENGTH, LANGUAGE)
