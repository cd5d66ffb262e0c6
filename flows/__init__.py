"""The wiring: Prefect flows, DVC, MLflow, YAML and the command line around the work in `tasks`."""

import sys
from importlib.util import find_spec


def describe_missing(package: str) -> str:
    """What to do where a package is not installed in this Python."""
    return (
        f"{package} is not installed for {sys.executable}; `make demo` makes the environment .venv, "
        "then use .venv/bin/heptune or .venv/bin/python"
    )


# `python -m flows` and the stages `python -m flows.<stage>`, which DVC starts with the `python` that it finds.
if sys.argv[:1] == ["-m"]:
    if sys.version_info < (3, 11):  # noqa: UP036 - this Python may be another than that of the environment
        _found = sys.version.split()[0]
        sys.exit(f"heptune: {sys.executable} is Python {_found}; expected 3.11 or newer, use .venv/bin/python")
    for _package in ("typer", "pydantic", "prefect", "dvc"):
        if find_spec(_package) is None:
            sys.exit(f"heptune: {describe_missing(_package)}")
