"""``heptune plan`` says what stage 3 would, from headers and sizes, without PyTorch and without a trace."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.commands.foresight.machines import CARDS, find_stated
from flows.commands.plan import describe_costs, find_rate, plan
from flows.wiring.params import read_params
from tasks.contracts.errors import PipelineError
from tasks.training_setup.costs import Costs
from tests.checkout import ROOT
from tests.flows.small import child_environment
from tests.tiny import example_rows, write_examples

GIB = 2**30


@pytest.fixture
def checkout(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a base and nothing made yet."""
    root = tmp_path / "checkout"
    (root / "data/raw").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    files = [path for path in tiny_model.iterdir() if path.name != "manifest.json"]
    (root / "models/base").mkdir(parents=True)
    for path in files:
        shutil.copy(path, root / "models/base" / path.name)
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / '.heptune/mlflow.db'}")
    read_params.cache_clear()
    return root


def asked(*changes: str, **options: Any) -> dict[str, Any]:
    """The values of the command's answer."""
    read_params.cache_clear()
    given = dict.fromkeys(("machine", "tokens", "conversations", "tokens_per_s", "price_per_hour", "watts"))
    return dict(plan(**{**given, **options}, changes=list(changes)).values)


def test_it_tells_what_evaluation_trains_more(checkout: Path) -> None:
    write_examples(checkout / "data/prepared/train.parquet", example_rows(60))
    write_examples(checkout / "data/prepared/validation.parquet", example_rows(5, seed=1))
    assert asked()["repeated_trainings"] == 0
    assert asked("evaluation.folds=5")["repeated_trainings"] == 5
    assert asked("evaluation.training_seeds=3")["repeated_trainings"] == 2


FULL = "training_setup.method={name: full}"


def test_it_imports_no_pytorch_and_writes_nothing(checkout: Path) -> None:
    write_examples(checkout / "data/prepared/train.parquet", example_rows(60))
    write_examples(checkout / "data/prepared/validation.parquet", example_rows(5, seed=1))
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    code = "import sys; from flows.commands.command_line import app; app(sys.argv[1:], standalone_mode=False); "
    code += "print('imported:', *sorted({'torch', 'transformers', 'trl', 'peft', 'mlflow'} & sys.modules.keys()))"
    words = ["plan", "-S", "training_setup.epochs=5", "--tokens-per-s", "1000", "--price-per-hour", "2"]
    environment = {**child_environment(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=checkout, env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    *told, imported = done.stdout.splitlines()
    assert imported.strip() == "imported:"
    names = [line.partition(" ")[0] for line in told if not line.startswith(" ")]
    assert names == ["params.yaml:", "base", "data", "machine", "method", "batch", "steps", "memory", "time", "cost"]
    after = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file() and ".heptune" not in path.parts}
    assert after == before


def test_parts_and_costs(checkout: Path) -> None:
    found = asked(FULL, tokens=3600, conversations=60, tokens_per_s=1.0, price_per_hour=3.0, watts=100.0)
    assert found["data"] == {
        "source": "as stated", "examples": 60, "rows_without_loss": 0, "cut": 0, "tokens": 3600,
        "supervised_tokens": 1800,
    }  # fmt: skip
    parts = dict(found["memory"])
    assert parts.pop("total") == sum(parts.values()) == found["plan"]["predicted_memory_bytes"]
    assert parts["weights"] == 4 * found["base"]["parameters"]
    epochs = found["plan"]["epochs"]
    assert found["seconds"] == pytest.approx(3600 * epochs)
    assert (found["price"], found["kilowatt_hours"]) == (pytest.approx(3 * epochs), pytest.approx(0.1 * epochs))


def test_a_small_cost_is_not_nothing_and_without_a_rate_it_says_what_is_missing() -> None:
    assert [*describe_costs(Costs(1000, 10.0, 0.0012, None), 100.0, "as stated")][1:] == ["cost      less than 0.01"]
    assert [*describe_costs(Costs(1000, 10.0, 1.5, 2.0), 100.0, "as stated")][1:] == [
        "cost      about 1.50",
        "energy    about 2 kWh",
    ]
    (line,) = describe_costs(Costs(1000, None, None, None), None, "")
    assert line.endswith("state --tokens-per-s to see time, cost and energy")


def test_phases_are_shown_one_by_one_and_summed(checkout: Path) -> None:
    phases = "training_setup.phases=[{epochs: 2}, {objective: {name: dpo}, epochs: 1, max_tokens: 128, batch_size: 8}]"
    short = "training_setup.max_tokens=64"
    found = asked(FULL, phases, short, tokens=3600, conversations=60, tokens_per_s=1.0)
    first, second = found["phases"]
    assert [(one["objective"], one["tokens"]) for one in (first, second)] == [("supervised", 7200), ("dpo", 3600)]
    assert second["memory"] > first["memory"]
    assert found["memory"]["total"] == second["memory"]
    assert (found["tokens"], found["seconds"]) == (10800, 10800.0)
    assert found["plan"]["before"]["steps"] == first["steps"]
    read_params.cache_clear()
    lines = plan(None, 3600, 60, 1.0, None, None, [FULL, phases, short]).text.splitlines()
    shown = {line[:10].strip(): line[10:] for line in lines if not line.startswith(" ")}
    assert shown["steps"] == f"{first['steps'] + second['steps']} in 2 phases"
    assert shown["memory"].endswith("at its peak, in phase 2:")
    assert shown["phase 2"].startswith("direct preference optimisation")
    assert "about 3.0 h" in shown["time"] or "3 h" in shown["time"]


def test_its_refusals_are_those_of_the_stage_all_at_once(checkout: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        asked("training_setup.max_tokens=300", "training_setup.method={name: lora, rank: 65}", tokens=1000)
    assert str(caught.value).startswith("the training plan cannot work: 2 problems")
    for part in ("max_tokens: 300 is more than the model's context (256)", "method.rank: 65"):
        assert part in str(caught.value)


def test_data_is_estimated_and_said_so(checkout: Path) -> None:
    assert "size of the raw sources" in asked(FULL)["data"]["source"]
    write_examples(checkout / "data/prepared/train.parquet", example_rows(60))
    write_examples(checkout / "data/prepared/validation.parquet", example_rows(5, seed=1))
    found = asked(FULL)["data"]
    assert found["source"].startswith("estimated from data/prepared/train.parquet at 4.0 bytes a token")
    assert found["examples"] == 60
    counted = {"examples": 60, "rows_without_loss": 0, "tokens": 1234, "cut": 0}
    (checkout / "reports/training_setup").mkdir(parents=True)
    (checkout / "reports/training_setup/metrics.json").write_text(json.dumps(counted))
    found = asked(FULL)["data"]
    assert found["source"] == "counted by training_setup"
    assert found["tokens"] == pytest.approx(1234, rel=0.03)  # rounded row by row
    values = yaml.safe_load((checkout / "params.yaml").read_text())
    shutil.rmtree(checkout / "data/prepared")
    source = {"name": "csv", "path": "data/raw/none/*.csv", "optional": True}
    values["data_preparation"]["sources"] = [source]
    (checkout / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(PipelineError, match="state them with --tokens"):
        asked(FULL)


@pytest.mark.parametrize(
    ("text", "device", "cards", "memory", "bf16"),
    [
        ("8xh100", "cuda", 8, CARDS["h100"][0], True),
        ("t4", "cuda", 1, CARDS["t4"][0], False),
        ("laptop", "cpu", 0, 16.0, True),
        ("{device: cuda, accelerators: 4, accelerator_memory_gib: 40}", "cuda", 4, 40.0, True),
        ("{cores: 4, memory_gib: 8, bf16: false}", "cpu", 0, 8.0, False),
    ],
)
def test_stated_machines(text: str, device: str, cards: int, memory: float, bf16: bool) -> None:
    machine, _ = find_stated(text)
    assert (machine.device, machine.accelerators, machine.bf16) == (device, cards, bf16)
    assert machine.training_memory_bytes == round(memory * GIB)


@pytest.mark.parametrize(
    "text", ["h1000", "0xh100", "{device: tpu}", "{device: cuda}", "{cores: many}", "[1", "{speed: 3}"]
)
def test_machines_that_are_none(text: str) -> None:
    with pytest.raises(PipelineError, match=r"--machine .*; ?expected|--machine .*expected"):
        find_stated(text)


def test_the_rate_is_that_of_the_last_training_of_a_base_of_this_size(checkout: Path) -> None:
    assert find_rate(100) == (None, "as the last training here")
    (checkout / ".heptune").mkdir(exist_ok=True)
    with sqlite3.connect(checkout / ".heptune/mlflow.db") as database:
        database.executescript(
            """
            CREATE TABLE registered_model_aliases (name, alias, version);
            CREATE TABLE experiments (experiment_id, name);
            CREATE TABLE runs (run_uuid, experiment_id, lifecycle_stage);
            CREATE TABLE metrics (run_uuid, key, value, timestamp);
            INSERT INTO experiments VALUES (1, 'heptune');
            INSERT INTO runs VALUES ('a', 1, 'active'), ('b', 1, 'active'), ('c', 1, 'deleted');
            INSERT INTO metrics VALUES ('a', 'tokens_per_second', 10, 1), ('b', 'tokens_per_second', 30, 2),
                ('b', 'tokens_per_second', 50, 3), ('b', 'tokens_per_second', 1, 4), ('c', 'tokens_per_second', 9, 5);
            """
        )
    assert find_rate(100)[0] == 30
    (checkout / "reports/training_setup").mkdir(parents=True)
    (checkout / "reports/training_setup/metrics.json").write_text('{"parameters": 99}')
    assert find_rate(100)[0] is None
