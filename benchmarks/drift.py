"""Drift of a set of real prompts against itself: how often a window without drift alarms, and how much drift is seen.

Baseline and window are disjoint random draws of the same number of prompts from one set, so every alarm is false; the
share of windows that alarm should be ``monitoring.drift.false_alarms``. With ``--mix`` a share of the window comes from
another set, and the share of windows that alarm is the power.

    python benchmarks/drift.py questions.csv [--rows 100 300 1000] [--windows 300]
    python benchmarks/drift.py questions.csv --mix other.json --shares 0.1 0.2
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.contracts.records import REQUESTS
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.rows.rows import column_messages, join_turns
from tasks.monitoring.drift import DriftVerdict, detect_drift
from tasks.monitoring.params import Drift
from tasks.monitoring.traffic import FrozenTraffic

KINDS = {".csv": Csv, ".tsv": Csv, ".parquet": Parquet}


def read_prompts(place: str) -> list[str]:
    """The distinct prompts of a data file, or of the data files of one kind in a folder."""
    path = Path(place).resolve()
    if path.is_dir():
        names = sorted(name for name in path.iterdir() if set(name.suffixes) & {*KINDS, ".json", ".jsonl"})
        path = max(names, key=lambda name: name.stat().st_size)
    kind = next((KINDS[suffix] for suffix in path.suffixes if suffix in KINDS), Jsonl)
    table = read_sources([kind(path=str(path))], "quarantine", Path()).table
    return list(dict.fromkeys(join_turns(column_messages(table), ["user"])))


def make_requests(prompts: list[str]) -> pa.Table:
    """Answered requests with these prompts; the answers are all the same."""
    rows = [
        {
            "id": str(number),
            "received_at": float(number),
            "model": "m",
            "release": "r",
            "messages": [{"role": "user", "content": prompt}],
            "answer": "We will see to it.",
            "prompt_tokens": 1,
            "completion_tokens": 5,
            "latency_ms": 1.0,
            "status": 200,
        }
        for number, prompt in enumerate(prompts)
    ]
    return pa.Table.from_pylist(rows, schema=REQUESTS)


def draw_verdicts(
    prompts: list[str], others: list[str], rows: int, share: float, windows: int, settings: Drift
) -> list[DriftVerdict]:
    """Verdicts on random windows.

    Args:
        prompts: Prompts of the baseline and of the usual part of the window.
        others: Prompts of the rest of the window.
        rows: Rows of the baseline and of the window.
        share: Share of the window that comes from ``others``.
        windows: Number of windows.
        settings: The detectors and their rates.
    """
    verdicts = []
    for number in range(windows):
        rng = np.random.default_rng([rows, number])
        mixed = round(share * rows)
        places = rng.permutation(len(prompts))[: 2 * rows - mixed]
        drawn = [prompts[place] for place in places]
        foreign = [others[place] for place in rng.choice(len(others), mixed, replace=False)] if mixed else []
        traffic = FrozenTraffic(make_requests(drawn[:rows]), make_requests(drawn[rows:] + foreign), "window")
        verdicts.append(detect_drift(traffic, settings.model_copy(update={"seed": number}), str))
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompts", help="data file or folder of the baseline and of the windows")
    parser.add_argument("--mix", help="data file or folder of another subject")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.2], help="shares of the other subject")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 300, 1000], help="rows on either side")
    parser.add_argument("--windows", type=int, default=300, help="windows per size")
    parser.add_argument("--splits", type=int, default=2000, help="A/A splits of the calibration")
    arguments = parser.parse_args()
    settings = Drift(splits=arguments.splits)
    prompts = read_prompts(arguments.prompts)
    others = read_prompts(arguments.mix) if arguments.mix else []
    print(
        f"{arguments.prompts}: {len(prompts):,} distinct prompts; {settings.false_alarms:.1%} may alarm without drift"
    )
    for rows in arguments.rows:
        for share in arguments.shares if others else [0.0]:
            if 2 * rows - round(share * rows) > len(prompts):
                print(f"{rows:>5} rows: the set has too few prompts")
                continue
            start = time.monotonic()
            verdicts = draw_verdicts(prompts, others, rows, share, arguments.windows, settings)
            alarms = sum(verdict.verdict == "drift" for verdict in verdicts)
            probes = Counter(verdict.alerts[0].probe for verdict in verdicts if verdict.alerts)
            seconds = (time.monotonic() - start) / len(verdicts)
            print(
                f"{rows:>5} rows, {share:.0%} mixed in: {alarms} of {len(verdicts)} windows alarm, "
                f"{alarms / len(verdicts):.1%}; {seconds:.2f} s a window; "
                + ", ".join(f"{name} {count}" for name, count in probes.most_common(4)),
                flush=True,
            )


if __name__ == "__main__":
    main()
