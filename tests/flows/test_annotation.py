"""`heptune annotate` in a checkout: tasks out, an export in, the page, and one line where something is missing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from flows.commands.command_line import app
from flows.wiring.params import read_params
from tasks.contracts.errors import PipelineError

PARAMS = """
annotation:
  labels: [parcel, refund]
  pool: {name: text, path: data/raw/pool.txt, rows: lines}
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    read_params.cache_clear()
    rng = random.Random(1)
    words = {"parcel": ["parcel", "courier", "late", "tracking"], "refund": ["money", "back", "refund", "paid"]}
    lines = [" ".join([*rng.sample(words[label], 2), str(row)]) for row, label in enumerate(["parcel", "refund"] * 20)]
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/pool.txt").write_text("\n".join(lines))
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "dvc.yaml").write_text("stages: {data_preparation: {cmd: python -m flows.data_preparation}}\n")
    yield tmp_path
    read_params.cache_clear()


def test_a_round_by_the_commands(checkout: Path) -> None:
    out = CliRunner().invoke(app, ["annotate", "next", "--items", "10"])
    assert out.exit_code == 0, out.output
    assert "no labels to learn from" in out.output
    path = checkout / "data/raw/annotation/next.json"
    tasks = orjson.loads(path.read_bytes())
    assert len(tasks) == 10
    for number, task in enumerate(tasks):
        label = "refund" if set(task["data"]["text"].split()) & {"money", "back", "refund", "paid"} else "parcel"
        value = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
        task |= {"id": number, "annotations": [{"completed_by": who, "result": [value]} for who in (1, 2)]}
    (checkout / "export.json").write_bytes(orjson.dumps(tasks))
    out = CliRunner().invoke(app, ["annotate", "import", "export.json"])
    assert out.exit_code == 0, out.output
    assert "10 of 10 texts have a label" in out.output
    assert "alpha 1.000" in out.output
    assert "Krippendorff" in (checkout / "reports/annotation/index.html").read_text()
    # The next round learns from this one and asks for other texts.
    out = CliRunner().invoke(app, ["annotate", "next", "--items", "10"])
    assert "the most uncertain texts first" in out.output
    again = {task["data"]["text"] for task in orjson.loads(path.read_bytes())}
    assert not again & {task["data"]["text"] for task in tasks}
    with pytest.raises(PipelineError, match="no prepared rows"):
        CliRunner().invoke(app, ["annotate", "export"], catch_exceptions=False)
