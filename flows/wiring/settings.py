"""Where the engines keep their state, and telemetry off. Import this before any engine.

Prefect and MLflow use SQLite below ``.heptune/`` unless ``PREFECT_API_URL`` or
``MLFLOW_TRACKING_URI`` name a server. A variable that is already set is left alone.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

import flows.wiring.quiet  # noqa: F401 - before the libraries that it is about
from flows.wiring import artifacts
from tasks.contracts.errors import PipelineError

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLIENT_MAX_RETRIES": "3",  # 14 s a call until a server counts as gone
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_CLI_PROMPT": "false",
    "TOKENIZERS_PARALLELISM": "true",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

# What `heptune --verbose` sets in place of QUIET, for this process and the stages.
VERBOSE = "HEPTUNE_VERBOSE"
LOUD = {
    "MLFLOW_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "INFO",
    "TRANSFORMERS_VERBOSITY": "info",
}
ENGINES = ("alembic", "dvc", "httpx", "mlflow")
FIRST_STAGE = b"data_preparation"

# Arrow's own pools keep what was freed; the system's gives it back. PyTorch asks for pages of 2 MiB for large tensors.
# Its matrix products in 16 bits are compiled for each shape of a batch, into some 600 KiB each, and would stay in two
# caches of 1024 each.
MEMORY = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "LRU_CACHE_CAPACITY": "32",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "THP_MEM_ALLOC_ENABLE": "1",
}
# Where browsers reach the servers of a team.
ADDRESSES = ("HEPTUNE_MLFLOW_URL", "HEPTUNE_REPORTS_URL")


def log_to_terminal() -> None:
    """Show what the project logs on stderr; the engines' own chatter goes to their servers only."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: not (getattr(record, "shown_as_bar", False) and sys.stderr.isatty()))
    for name in ("flows", "tasks"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    for name in ENGINES:
        logging.getLogger(name).setLevel(logging.WARNING)
    if is_verbose():
        be_verbose()
    # A server that went away is reported once, by the work that needed it, not by every log line it missed.
    logging.raiseExceptions = False
    # The libraries' notes to each other about names that will change.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(peft|transformers|trl)\.")


def is_verbose() -> bool:
    """Whether the engines' log lines and the tracebacks of expected failures are wanted."""
    return bool(os.environ.get(VERBOSE))


def lasting_environment() -> dict[str, str]:
    """What a process that outlives this command gets: everything but what says which run it belongs to."""
    return {name: value for name, value in os.environ.items() if name in ADDRESSES or not name.startswith("HEPTUNE_")}


def be_verbose() -> None:
    """Show the engines' own log lines, and tracebacks of expected failures, here and in the stages.

    Call it before the engines are imported, which read their settings then.
    """
    os.environ[VERBOSE] = "1"
    for name, value in LOUD.items():
        if os.environ.get(name, QUIET[name]) == QUIET[name]:
            os.environ[name] = value
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    for name in ENGINES:
        engine = logging.getLogger(name)
        engine.setLevel(logging.INFO)
        if not engine.handlers:
            engine.addHandler(handler)


def configure(root: Path | None = None) -> Path:
    """Set the environment of this process and its children.

    Args:
        root: Root of the checkout; the nearest folder upwards with a ``dvc.yaml`` when not given.

    Returns:
        The root.

    Raises:
        PipelineError: The folder of the state cannot be made.
    """
    here = (root or Path.cwd()).resolve()
    root = next((p for p in (here, *here.parents) if (p / artifacts.PIPELINE).is_file()), here)
    state = root / artifacts.STATE
    defaults = {
        **TELEMETRY_OFF,
        **QUIET,
        **MEMORY,
        "PREFECT_HOME": str(state / "prefect"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{state / 'mlflow.db'}",
        "HF_DATASETS_CACHE": str(state / "datasets"),
    }
    try:
        (state / "prefect").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PipelineError(
            f"{state}: cannot be made ({error.strerror}); every command needs to write there"
        ) from error
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # Stages are started as `python -m flows.<stage>`; that must be this interpreter.
    scripts = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != scripts:
        os.environ["PATH"] = scripts + os.pathsep + os.environ.get("PATH", "")
    return root


def enter_checkout() -> Path:
    """Work in the root of the nearest checkout at or above the current folder; the root.

    Raises:
        PipelineError: There is none, and nothing is written.
    """
    root = find_root(Path.cwd())
    os.chdir(root)
    return configure(root)


def find_root(folder: Path) -> Path:
    """The nearest checkout at or above a folder.

    Raises:
        PipelineError: There is none.
    """
    folder = folder.resolve()
    for root in (folder, *folder.parents):
        if is_checkout(root):
            return root
    raise PipelineError(
        f"{folder}: no checkout of Heptune here or above; expected its {artifacts.PIPELINE} and {artifacts.PARAMS}; "
        "change into one"
    )


def is_checkout(folder: Path) -> bool:
    """Whether a folder has the pipeline of this project; other projects of DVC have a ``dvc.yaml`` too."""
    for path in (folder / artifacts.PIPELINE, folder / artifacts.PARAMS):
        try:
            if FIRST_STAGE in path.read_bytes():
                return (folder / artifacts.PIPELINE).exists()
        except OSError:  # missing, or a folder; what cannot be read is told where it is needed
            continue
    return False
