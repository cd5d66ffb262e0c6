"""The whole of stage 1, step by step as `flows/data_preparation.py` has it, with the time and the memory of each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def read_peak() -> float:
    """Largest memory of this process since the last call, in MB; Linux forgets the peak when asked to."""
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def run_stage_steps(source: Path, benchmark: Path, out: Path) -> dict[str, Any]:
    """Seconds of CPU of each step, and under ``peak <step>`` the peak memory in MB.

    Args:
        source: JSON Lines with messages.
        benchmark: Items that the rows are compared with.
        out: Folder of everything that the stage writes.
    """
    import great_expectations  # noqa: F401 - a second that is none of the gate's

    from tasks.corpus.reading.answers import exclude_rejected
    from tasks.corpus.reading.ingest import read_sources
    from tasks.corpus.reading.unused_columns import write_extra
    from tasks.data_preparation.cleaning.clean import clean_rows
    from tasks.data_preparation.gate.gate import check_quality, check_suite
    from tasks.data_preparation.output.card.card import write_card
    from tasks.data_preparation.output.publish import write_quarantine, write_splits
    from tasks.data_preparation.output.report import write_metrics, write_report
    from tasks.data_preparation.params import DataPreparation
    from tasks.data_preparation.screening.clusters import write_clusters
    from tasks.data_preparation.screening.contamination import remove_contamination
    from tasks.data_preparation.screening.duplicates import remove_duplicates
    from tasks.data_preparation.screening.noise import review_labels
    from tasks.data_preparation.screening.triggers import find_triggers
    from tasks.data_preparation.splitting.split import split_examples
    from tasks.data_preparation.trainset.augmentation.augment import augment_train
    from tasks.data_preparation.trainset.balancing.balance import balance_train
    from tasks.data_preparation.trainset.pruning.prune import prune_train

    logging.disable(logging.WARNING)
    settings = DataPreparation.model_validate(
        {
            "sources": [{"name": "jsonl", "path": str(source), "title": "bench"}],
            "contamination": {"benchmarks": [{"title": "benchmark", "path": str(benchmark)}]},
        }
    )
    prepared, reports = out / "prepared", out / "reports"
    timed: dict[str, Any] = {"import": time.process_time(), "peak import": read_peak()}

    def take(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.process_time()
        result = work(*arguments)
        timed[name] = time.process_time() - began
        timed[f"peak {name}"] = read_peak()
        return result

    check_suite(settings.gate)
    rows = take("read", read_sources, settings.sources, settings.on_bad_row, Path())
    timed["rows"] = rows.steps[0].rows_in
    rows = take("clean", clean_rows, rows, settings.cleaning)
    rows = take("duplicates", remove_duplicates, rows, settings.duplicates)
    rows = take("noise", review_labels, rows, settings.noise)
    rows = take("contamination", remove_contamination, rows, settings.contamination, Path())
    rows = take("triggers", find_triggers, rows, settings.triggers)
    rows = take("split", split_examples, rows, settings.split, settings.duplicates)
    rows = take("rejected answers", exclude_rejected, rows)
    rows = take("pruning", prune_train, rows, settings.pruning)
    rows = take("augmentation", augment_train, rows, settings.augmentation, settings.duplicates, out / "written")
    rows = take("balancing", balance_train, rows, settings.balancing, settings.split.seed, prepared / "balance")
    take("quarantine", write_quarantine, rows, prepared / "quarantine.parquet")
    verdict = take(
        "gate", check_quality, rows, settings.gate, settings.duplicates, settings.split, reports / "data_docs"
    )
    take("clusters", write_clusters, rows, reports / "clusters")
    take("report", write_report, rows, verdict, reports / "index.html")
    card = (settings.card, settings.sources, settings.cleaning, reports / "card.md", reports / "card.html")
    take("card", write_card, rows, verdict, *card)
    take("extra", write_extra, rows, prepared / "extra.parquet")
    take("splits", write_splits, rows, verdict, settings.split.seed, prepared)
    take("metrics", write_metrics, rows, verdict, reports / "metrics.json")
    return timed
