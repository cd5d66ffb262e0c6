"""Evidently's report on the features, as one self-contained file with the same bytes every time.

Its tests are those of monitoring, registered with it for every feature, so that a feature has drifted here exactly
where monitoring raises an alert for it. A header says whose tests they are, what monitoring found besides (words and
meaning of the prompts are no columns of a table), and leads back.
"""

from __future__ import annotations

import math
import re
import tempfile
from pathlib import Path
from typing import Any

from tasks.contracts.manifest import write_bytes
from tasks.monitoring.calibration import ProbeFinding
from tasks.monitoring.drift import DriftVerdict
from tasks.monitoring.sample import TrafficSample
from tasks.pages.page import Page
from tasks.pages.text import as_sentence

# Evidently gives each widget and the report a random id.
_RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<=metric_)[0-9a-f]{32}")
_TITLE = re.compile(r"<title>.*?</title>", re.DOTALL)
_BODY = re.compile(r"<body[^>]*>")
TITLE = "Evidently report"
# Evidently hides what is wider than the screen; on a phone it can be moved to.
STYLE = "<style>@media (max-width:960px) { .MuiPaper-root { overflow-x:auto !important; } }</style>"


def write_evidently(verdict: DriftVerdict, false_alarms: float, path: Path) -> None:
    """Write Evidently's report, or a page that says why there is none.

    Args:
        verdict: The verdict with the sample it is based on.
        false_alarms: Largest adjusted p-value of an alert.
        path: The HTML file.
    """
    shown = verdict.verdict.replace("_", " ")
    varying = [] if verdict.sample is None else list_varying(verdict.sample)
    if verdict.sample is None or not varying:
        page = Page(TITLE, "There are no rows to compare.", shown, stage="monitoring")
        page.listing([as_sentence(reason) for reason in verdict.reasons])
        page.write(path)
        return
    page = Page(TITLE, describe(verdict, varying), f"monitoring: {shown}", stage="monitoring")
    report = render_evidently(verdict.sample, varying, verdict.findings, false_alarms)
    write_bytes(path, head(name_ids(report), page).encode())


def describe(verdict: DriftVerdict, varying: list[str]) -> str:
    """Whose tests the report shows, and what raised an alert that it cannot show."""
    text = (
        f"Evidently's view of {len(varying)} features of the same rows. A feature has drifted where monitoring raises "
        "an alert for it: the score is monitoring's p-value, adjusted for all comparisons."
    )
    others = list(dict.fromkeys(f.subject for f in verdict.alerts if f.subject not in varying))
    if others:
        text += f" Monitoring also found drift that is no column here: {', '.join(others)}."
    return text


def head(report: str, page: Page) -> str:
    """Evidently's file with the title and the header of a page of ours."""
    rendered = _TITLE.sub(f"<title>{page.title} · Heptune</title>", report, count=1)
    return _BODY.sub(lambda match: match[0] + STYLE + page.render_header(), rendered, count=1)


def list_varying(sample: TrafficSample) -> list[str]:
    """Features with more than one value, since Evidently's correlations divide by the variance of a feature."""
    features = {**sample.numbers, **sample.flags}
    parts = (slice(None, sample.reference_rows), slice(sample.reference_rows, None))
    return [name for name, values in features.items() if all(len(set(values[part])) > 1 for part in parts)]


def render_evidently(
    sample: TrafficSample, varying: list[str], findings: list[ProbeFinding], false_alarms: float
) -> str:
    """Evidently's drift preset over numbers and flags, decided by our findings, as HTML."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    flags = {name: ["yes" if value else "no" for value in values] for name, values in sample.flags.items()}
    frame = pd.DataFrame({**sample.numbers, **flags})[varying]
    definition = DataDefinition(
        numerical_columns=[name for name in varying if name in sample.numbers],
        categorical_columns=[name for name in varying if name in flags],
    )
    preset = DataDriftPreset(
        per_column_method={name: repeat_finding(name, findings) for name in varying},
        per_column_threshold=dict.fromkeys(varying, false_alarms),
        drift_share=math.floor(1000 / len(varying)) / 1000,  # one feature is enough
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


def repeat_finding(subject: str, findings: list[ProbeFinding]) -> Any:
    """A test of Evidently that gives what monitoring found about a feature: least adjusted p-value, any alert."""
    from evidently.legacy.calculations.stattests.registry import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    own = [finding for finding in findings if finding.subject == subject]
    score = min((finding.adjusted for finding in own), default=1.0)
    alert = any(finding.alert for finding in own)

    def repeat(_reference: Any, _current: Any, _kind: Any, _threshold: float) -> tuple[float, bool]:
        return score, alert

    names = sorted({finding.unit for finding in own})
    test = StatTest(
        name=f"heptune {subject}",
        display_name=f"{' and '.join(names) or 'not compared'}, adjusted p-value",
        allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
    )
    register_stattest(test, repeat)
    return test


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
