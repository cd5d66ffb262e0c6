"""Every path in the repository, relative to its root. A test holds them against ``dvc.yaml``."""

from __future__ import annotations

from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")

RAW = Path("data/raw")
# Hashes of the raw data that git ignores.
RAW_HASHES = Path("data/raw.dvc")
FEEDBACK = RAW / "feedback"
ANNOTATION = RAW / "annotation"
# No source takes these endings for its own, so one that reads all of data/raw passes them by.
ACCEPTED = RAW / "gate/accepted.statistics"
APPROVALS = RAW / "gate/approvals"
SYNTHETIC = RAW / "synthetic"
PREPARED = Path("data/prepared")
TRAIN = PREPARED / "train.parquet"
VALIDATION = PREPARED / "validation.parquet"
TEST = PREPARED / "test.parquet"
ANSWERS = PREPARED / "answers.parquet"
EXTRA = PREPARED / "extra.parquet"
QUARANTINE = PREPARED / "quarantine.parquet"
BALANCE = PREPARED / "balance"
PRODUCTION = Path("data/production")
WINDOW = PRODUCTION / "window.parquet"
BASELINE = PRODUCTION / "baseline.parquet"

BASE = Path("models/base")
INITIAL = Path("models/initial")
PLAN = Path("models/plan")
CHECKPOINTS = Path("models/checkpoints")
TUNED = Path("models/tuned")
RELEASE = Path("models/release")
ADAPTERS = Path("models/adapters")
SUITES = Path("data/suites")
CHAMPION = Path("models/champion.json")
SOURCE = Path("models/source.json")
TEACHER = Path("models/teacher")
JUDGES = Path("models/judges")
REWARD = Path("models/reward")

REPORTS = Path("reports")
INDEX = REPORTS / "index.html"
RUN_FACTS = REPORTS / "runs.js"

STATE = Path(".heptune")
RELEASES = STATE / "releases"
EVALUATED = STATE / "answers"
JUDGED = STATE / "verdicts"
REPEATED = STATE / "repeated"
STORE = STATE / "requests.db"
SPOOL = STATE / "requests.spool.jsonl"
KEYS = STATE / "keys.json"
WRITTEN = STATE / "written"
SAMPLED = STATE / "sampled"
DECISIONS = STATE / "decisions.jsonl"
REFUSED = STATE / "refused"
WAITING = STATE / "waiting_for_approval.json"


def report(stage: str) -> Path:
    """The page of a stage."""
    return REPORTS / stage / "index.html"


def metrics(stage: str) -> Path:
    """The figures of a stage, a flat JSON object of numbers."""
    return REPORTS / stage / "metrics.json"


def headline(stage: str) -> Path:
    """The figures of a stage that ``dvc metrics show`` lists; some stages have none."""
    return REPORTS / stage / "headline.json"


DATA_DOCS = REPORTS / "data_preparation/data_docs"
CLUSTERS = REPORTS / "data_preparation/clusters"
CARD = REPORTS / "data_preparation/card.md"
CARD_PAGE = REPORTS / "data_preparation/card.html"
CURVE = REPORTS / "fine_tuning/curve.json"
DIAGNOSIS = REPORTS / "fine_tuning/diagnosis.json"
TRAINING_LOSS = REPORTS / "fine_tuning/training_loss.json"
VALIDATION_LOSS = REPORTS / "fine_tuning/validation_loss.json"
PREDICTIONS = REPORTS / "evaluation/predictions.parquet"
FOLD_ANSWERS = REPORTS / "evaluation/folds.parquet"
SLICES = REPORTS / "evaluation/slices.json"
EVALUATION_REPORT = REPORTS / "evaluation/report.json"
EVALUATION_VERDICT = REPORTS / "evaluation/verdict.json"
FINDINGS = REPORTS / "monitoring/findings.json"
EVIDENTLY = REPORTS / "monitoring/evidently.html"
DRIFT_VERDICT = REPORTS / "monitoring/verdict.json"
