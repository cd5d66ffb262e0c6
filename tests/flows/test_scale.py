"""Stage 1 on other engines: the same bytes as on one core, from processes and from a Ray cluster of two workers."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from flows.wiring.spreading import spreading
from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES, QUARANTINE
from tasks.contracts.tables import write_table
from tasks.corpus.engines.local import WorkerPool
from tasks.corpus.engines.ray import Ray
from tasks.corpus.engines.spread import IN_TURN, Spread
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources import unpack
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.splitting.split import split_examples
from tasks.sample_shop.sample import generate_sample

ROWS = 1200


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample with its defects, and rows that no reader likes."""
    path = tmp_path_factory.mktemp("scale") / "rows.jsonl"
    lines = [orjson.dumps(row) for row in generate_sample(ROWS, 7).table.to_pylist()]
    lines[100:100] = [b"{torn", b"", b'{"messages": "none"}', b'["no row"]', b'{"messages": [{"role": "user"}]}']
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small file has several parts."""
    monkeypatch.setattr(unpack, "BLOCK", 64 * 1024)


def prepare(source: Path, out: Path, spread: Spread) -> Rows:
    """The steps that spread, written as the stage writes them."""
    settings = DataPreparation.model_validate({"sources": [{"name": "jsonl", "path": str(source), "title": "rows"}]})
    rows = read_sources(settings.sources, settings.on_bad_row, Path(), (), spread)
    rows = clean_rows(rows, settings.cleaning, None, spread)
    rows = remove_duplicates(rows, settings.duplicates, spread)
    rows = split_examples(rows, settings.split, settings.duplicates, spread)
    write_table(rows.table, out / "rows.parquet", EXAMPLES)
    write_table(rows.dropped, out / "quarantine.parquet", QUARANTINE)
    return rows


def assert_same(one: Path, other: Path, first: Rows, second: Rows) -> None:
    for name in ("rows.parquet", "quarantine.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert first.steps == second.steps
    assert first.twins.equals(second.twins)
    assert first.table["split"].to_pylist() == second.table["split"].to_pylist()


class Parts:
    """Parts in turn, counted; each goes through pickle, as it does on its way to another process."""

    def __init__(self, rows: int) -> None:
        self.rows: int | None = rows
        self.done: dict[str, int] = {}

    def __call__(self, name: str, work: Any, parts: Iterable[Any]) -> Iterator[Any]:
        import cloudpickle

        for part in parts:
            self.done[name] = self.done.get(name, 0) + 1
            its_work, its = cloudpickle.loads(cloudpickle.dumps((work, part)))
            yield cloudpickle.loads(cloudpickle.dumps(its_work(its)))


@pytest.mark.parametrize("rows", [100, 337])
def test_parts_give_the_same_bytes(source: Path, tmp_path: Path, rows: int) -> None:
    parts = Parts(rows)
    whole, cut = prepare(source, tmp_path / "whole", IN_TURN), prepare(source, tmp_path / "cut", parts)
    assert_same(tmp_path / "whole", tmp_path / "cut", whole, cut)
    assert parts.done["read"] > 5
    assert parts.done["clean"] == -(-whole.steps[0].rows_out // rows)


def test_processes_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    whole = prepare(source, tmp_path / "whole", IN_TURN)
    spread = prepare(source, tmp_path / "spread", WorkerPool(workers=2, rows=200, fewest=2))
    assert_same(tmp_path / "whole", tmp_path / "spread", whole, spread)


def die(number: int) -> int:
    if number == 3:
        os._exit(1)
    return number


def test_a_dead_process_is_one_clear_error() -> None:
    with pytest.raises(PipelineError, match="a worker process died"):
        list(WorkerPool(workers=2, rows=1, fewest=2)("count", die, range(8)))


def test_few_parts_stay_here() -> None:
    here = os.getpid()
    pool = WorkerPool(workers=2, rows=10, fewest=4)
    assert list(pool("where", lambda _: os.getpid(), range(3))) == [here] * 3


def test_an_address_without_a_cluster_is_one_clear_error() -> None:
    pytest.importorskip("prefect_ray", reason="Ray is not installed: pip install 'heptune[ray]'")
    with (
        pytest.raises(PipelineError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"),
        spreading(Ray(address="127.0.0.1:9")),
    ):
        pass


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with a core each, on the loopback."""
    pytest.importorskip("prefect_ray", reason="Ray is not installed: pip install 'heptune[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    # Ray takes 127.0.0.1 for the machine's outer address.
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 1024**2, "node_ip_address": "127.0.0.2"}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.add_node(**node)
    yield made.address
    made.shutdown()


def kill_first(marker: Path, number: int) -> int:
    """A number, at the first try with a worker that dies."""
    if number == 2 and not marker.exists():
        from prefect.events.worker import EventsWorker

        # What it has done before is known to the server only once its events are sent.
        EventsWorker.drain_all(timeout=30, at_exit=False)
        marker.touch()
        os.kill(os.getpid(), 9)
    return number * 10


def count_task_runs(client: Any) -> Counter[str]:
    """Number of task runs by name; the server gives at most 200 at once."""
    names: Counter[str] = Counter()
    while found := client.read_task_runs(limit=200, offset=names.total()):
        names.update(run.name.split("-")[0] for run in found)
    return names


def test_a_ray_cluster_gives_the_same_bytes_and_does_a_dead_workers_part_again(
    source: Path, tmp_path: Path, cluster: str
) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    whole = prepare(source, tmp_path / "whole", IN_TURN)
    found: dict[str, Any] = {}

    @flow
    def spread_over_ray() -> None:
        with spreading(Ray(address=cluster, workers=2, rows_per_task=400)) as spread:
            import ray

            found["nodes"] = sum(node["Alive"] for node in ray.nodes())
            found["rows"] = prepare(source, tmp_path / "ray", spread)
            found["after a death"] = list(spread("count", partial(kill_first, tmp_path / "marker"), range(4)))

    with prefect_test_harness(server_startup_timeout=120):
        spread_over_ray()
        with get_client(sync_client=True) as client:
            # Task runs reach the database through a queue, a little after they have ended.
            deadline = time.monotonic() + 30
            while (names := count_task_runs(client))["count part"] < 4 and time.monotonic() < deadline:
                time.sleep(0.2)
    assert found["nodes"] == 2
    assert_same(tmp_path / "whole", tmp_path / "ray", whole, found["rows"])
    assert found["after a death"] == [0, 10, 20, 30]
    assert (tmp_path / "marker").exists()
    assert names["read part"] > 5
    assert names["clean part"] == -(-whole.steps[0].rows_out // 400)
    assert names["count part"] == 4
