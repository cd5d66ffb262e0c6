"""Corrections are read and cleaned as stage 1 will do it, so that rows it would drop never become part of the data."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file, write_bytes
from tasks.corpus.personal_data.pii import KEY as PII_KEY
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.data_preparation.cleaning.clean import NoRowLeft, clean_rows
from tasks.data_preparation.params import DataPreparation
from tasks.monitoring.feedback import Corrections, FeedbackRow, SetAside

logger = logging.getLogger(__name__)


def screen_rows(corrections: Corrections, settings: DataPreparation) -> Corrections:
    """Set aside the corrections that stage 1 cannot read or drops while cleaning, with its reasons.

    A large share of such rows would fail its quality gate, now and in every later run. Where the steps cannot be run on
    the corrections alone, all of them pass.

    Args:
        corrections: As collected from the log.
        settings: Params of stage 1.
    """
    if not corrections.rows:
        return corrections
    try:
        reasons = find_reasons(corrections.rows, settings)
    except PipelineError as error:
        logger.warning("the corrections are not screened: %s", error)
        return corrections
    kept = [row for number, row in enumerate(corrections.rows, start=1) if number not in reasons]
    refused = [
        SetAside(row.request, row.key, reasons[number])
        for number, row in enumerate(corrections.rows, start=1)
        if number in reasons
    ]
    return replace(corrections, rows=kept, set_aside=[*corrections.set_aside, *refused])


def find_reasons(rows: Sequence[FeedbackRow], settings: DataPreparation) -> dict[int, str]:
    """Number of each dropped row, counted from 1, to the step that drops it and its reason.

    Raises:
        PipelineError: The rows cannot be read, or a requirement of a step is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feedback.jsonl"
        write_bytes(path, b"".join(row.line() for row in rows), private=True)
        source = Jsonl(title="feedback", path=str(path), sha256=hash_file(path))
        read = read_sources((source,), "quarantine", Path())
        try:
            dropped = clean_rows(read, settings.cleaning, SecretStr(os.environ.get(PII_KEY, ""))).dropped
        except NoRowLeft as error:
            dropped = error.dropped
    return {
        row["row"]: f"{row['step']}: {row['reason']}" for row in dropped.select(["row", "step", "reason"]).to_pylist()
    }
