"""Evidently's own drift report on the features, as one self-contained file with the same bytes every time."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tasks.contracts.manifest import write_bytes
from tasks.monitoring.drift import DriftVerdict
from tasks.monitoring.sample import TrafficSample
from tasks.pages.page import Page

# Evidently gives each widget and the report a random id.
_RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<=metric_)[0-9a-f]{32}")


def write_evidently(verdict: DriftVerdict, false_alarms: float, path: Path) -> None:
    """Write Evidently's report, or a page that says why there is none.

    Args:
        verdict: The verdict with the sample it is based on.
        false_alarms: Rate for the whole report; each column gets its share of it (Bonferroni).
        path: The HTML file.
    """
    varying = [] if verdict.sample is None else list_varying(verdict.sample)
    if verdict.sample is None or not varying:
        page = Page("Evidently report", "There are no rows to compare.", verdict.verdict.replace("_", " "))
        page.listing(verdict.reasons)
        page.write(path)
        return
    write_bytes(path, name_ids(render_evidently(verdict.sample, varying, false_alarms)).encode())


def list_varying(sample: TrafficSample) -> list[str]:
    """Features with more than one value, since Evidently's correlations divide by the variance of a feature."""
    features = {**sample.numbers, **sample.flags}
    parts = (slice(None, sample.reference_rows), slice(sample.reference_rows, None))
    return [name for name, values in features.items() if all(len(set(values[part])) > 1 for part in parts)]


def render_evidently(sample: TrafficSample, varying: list[str], false_alarms: float) -> str:
    """Evidently's drift preset over numbers (Kolmogorov-Smirnov) and flags (chi-square) as HTML."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    flags = {name: ["yes" if value else "no" for value in values] for name, values in sample.flags.items()}
    frame = pd.DataFrame({**sample.numbers, **flags})[varying]
    definition = DataDefinition(
        numerical_columns=[name for name in varying if name in sample.numbers],
        categorical_columns=[name for name in varying if name in flags],
    )
    level = false_alarms / frame.shape[1]
    # Evidently's default above 1,000 rows compares distances with 0.1; p-values are valid at any size.
    preset = DataDriftPreset(
        num_method="ks", num_threshold=level, cat_method="chisquare", cat_threshold=level, drift_share=0.5
    )
    current, reference = frame.iloc[sample.reference_rows :], frame.iloc[: sample.reference_rows]
    snapshot = Report([preset], include_tests=True).run(
        Dataset.from_pandas(current.reset_index(drop=True), data_definition=definition),
        Dataset.from_pandas(reference.reset_index(drop=True), data_definition=definition),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        snapshot.save_html(str(file))
        return file.read_text(encoding="utf-8")


def name_ids(text: str) -> str:
    """Random ids replaced by their order of appearance."""
    seen: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        verdict = match.group()
        number = seen.setdefault(verdict, f"{len(seen):032x}")
        if "-" not in verdict:
            return number
        return "-".join((number[:8], number[8:12], number[12:16], number[16:20], number[20:]))

    return _RANDOM.sub(rename, text)
