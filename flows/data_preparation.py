"""Stage 1: sources to train, validation and test, behind a quality gate."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.people.approval import resolve_failed_gate
from flows.wiring.preflight.sizes import tell_possible_verdicts
from flows.wiring.spreading import spreading
from flows.wiring.stage import run, stage, task
from flows.wiring.suite_files import list_suite_files
from tasks.corpus.personal_data.pii import KEY as PII_KEY
from tasks.corpus.reading.answers import exclude_rejected
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.unused_columns import write_extra
from tasks.data_preparation.cleaning.clean import check_cleaners, clean_rows
from tasks.data_preparation.gate.gate import check_quality, check_suite
from tasks.data_preparation.output.card.card import write_card
from tasks.data_preparation.output.publish import write_quarantine, write_splits
from tasks.data_preparation.output.report import write_metrics, write_report
from tasks.data_preparation.screening.clusters import write_clusters
from tasks.data_preparation.screening.contamination import remove_contamination
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.noise import review_labels
from tasks.data_preparation.screening.triggers import find_triggers
from tasks.data_preparation.splitting.split import split_examples
from tasks.data_preparation.trainset.augmentation.augment import augment_train
from tasks.data_preparation.trainset.balancing.balance import balance_train
from tasks.data_preparation.trainset.pruning.prune import prune_train


@stage
def data_preparation(params: Params) -> None:
    """Read the sources, clean the rows, remove duplicates, split, check, and write the rows if they pass the gate."""
    settings = params.data_preparation
    task(check_suite)(settings.gate)
    task(check_cleaners)(settings.cleaning)
    with spreading(settings.engine) as spread:
        rows = task(read_sources)(settings.sources, settings.on_bad_row, Path(), settings.split.method.columns, spread)
        rows = task(clean_rows)(rows, settings.cleaning, SecretStr(os.environ.get(PII_KEY, "")), spread)
        rows = task(remove_duplicates)(rows, settings.duplicates, spread)
        rows = task(review_labels)(rows, settings.noise)
        rows = task(remove_contamination)(rows, settings.contamination, Path(), list_suite_files(params))
        rows = task(find_triggers)(rows, settings.triggers)
        rows = task(split_examples)(rows, settings.split, settings.duplicates, spread)
    rows = task(exclude_rejected)(rows)
    rows = task(prune_train)(rows, settings.pruning)
    rows = task(augment_train)(rows, settings.augmentation, settings.duplicates, artifacts.WRITTEN)
    rows = task(balance_train)(rows, settings.balancing, settings.split.seed, artifacts.BALANCE)
    task(write_quarantine)(rows, artifacts.QUARANTINE)
    verdict = task(check_quality)(
        rows,
        settings.gate,
        settings.duplicates,
        settings.split,
        artifacts.DATA_DOCS,
        artifacts.ACCEPTED,
        artifacts.APPROVALS,
        artifacts.BALANCE,
    )
    task(write_clusters)(rows, artifacts.CLUSTERS)
    task(write_report)(rows, verdict, artifacts.report("data_preparation"))
    verdict = resolve_failed_gate(verdict, rows, settings.gate)
    task(write_card)(
        rows, verdict, settings.card, settings.sources, settings.cleaning, artifacts.CARD, artifacts.CARD_PAGE
    )
    task(write_extra)(rows, artifacts.EXTRA)
    task(write_splits)(rows, verdict, settings.split.seed, artifacts.PREPARED)
    task(write_metrics)(rows, verdict, artifacts.metrics("data_preparation"))
    tell_possible_verdicts(params)


if __name__ == "__main__":
    run(data_preparation)
