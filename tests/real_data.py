"""Real sets of texts with labels, from the folder that HEPTUNE_REAL_DATA names; skipped where it is absent."""

from __future__ import annotations

import csv
import gzip
import json
import os
from functools import cache
from pathlib import Path

import pytest

REAL_SETS = ("banking77", "bitext_support", "clinc_oos")


@cache
def read_real(name: str) -> list[tuple[str, str]]:
    """Texts and labels of a set."""
    root = os.environ.get("HEPTUNE_REAL_DATA", "")
    folder = Path(root) / name
    if not root or not folder.is_dir():
        pytest.skip(f"HEPTUNE_REAL_DATA does not name a folder with {name}")
    if name == "banking77":
        with (folder / "train.csv").open(encoding="utf-8") as lines:
            return [(row["text"], row["category"]) for row in csv.DictReader(lines)]
    if name == "bitext_support":
        with gzip.open(next(folder.glob("*.csv.gz")), "rt", encoding="utf-8") as lines:
            return [(row["instruction"], row["intent"]) for row in csv.DictReader(lines)]
    lists = json.loads(gzip.decompress((folder / "data_full.trainval.json.gz").read_bytes()))
    return [(text, label) for each in lists.values() for text, label in each]
