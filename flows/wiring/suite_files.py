"""The files of evaluation's suites, as benchmarks whose items data preparation keeps out of the rows."""

from __future__ import annotations

from flows.wiring.params import Params
from tasks.corpus.reading.benchmarks import Benchmark
from tasks.evaluation.suites import expand_suites, list_leaks


def list_suite_files(params: Params) -> list[Benchmark]:
    """A benchmark for each local file that a suite reads and that is not named as one already; see `list_leaks`."""
    named = params.data_preparation.contamination.benchmarks
    paths, titles = {one.path for one in named}, {one.title for one in named}
    found: dict[str, Benchmark] = {}
    for suite in expand_suites(params.evaluation.suites):
        for name, path in list_leaks(suite).items():
            title = f"suite {name}" if name in titles else name
            if path not in paths:
                found.setdefault(path, Benchmark(title=title, path=path))
    return list(found.values())
