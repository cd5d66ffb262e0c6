"""A run that is killed with SIGKILL, at any point, ends with the bytes of one that was not: weights, curve, figures.

Each run is a real process. The points: before the first checkpoint, between two, and inside the writing of one. So does
one that is asked to end (SIGTERM), which seals a checkpoint first.
"""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.fine_tuning.small import finish, start, wait_for

# Dropout makes random states matter, accumulation and packing make the position in the data matter.
PACKED = {"packing": "bfd", "accumulation_steps": 2, "batch_size": 2, "max_tokens": 96, "precision": "bf16"}
FULL = {"method": {"name": "full"}, "learning_rate": 1e-3, "checkpoint_every_steps": 5}
OUTS = ("curve.json", "metrics.json", "index.html", "tuned/manifest.json")


def outcome(folder: Path) -> dict[str, bytes]:
    weights = [path for path in (folder / "tuned").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in [*weights, *(folder / out for out in OUTS)]}


def steps(folder: Path) -> int:
    path = folder / "steps.jsonl"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def has_logged(folder: Path, entry: str) -> bool:
    return steps(folder) > 0 and entry in (folder / "steps.jsonl").read_text()


def sealed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoints/*/step-*") if path.suffix != ".part")


@pytest.fixture(scope="module")
def uninterrupted(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    found = {}
    for name, plan in (("lora", PACKED), ("full", FULL)):
        folder = tmp_path_factory.mktemp(name)
        assert finish(initial, folder, {"plan": plan}) == 0
        assert sealed(folder) == ["step-000012"]
        found[name] = outcome(folder)
    return found


def test_killed_before_the_first_checkpoint_starts_over(
    initial: Path, uninterrupted: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"plan": PACKED, "pause_s": 0.5}
    process = start(initial, tmp_path, options)
    wait_for(lambda: steps(tmp_path) >= 2, process)
    process.kill()
    process.join()
    assert sealed(tmp_path) == []
    assert not (tmp_path / "tuned").exists()
    assert finish(initial, tmp_path, {"plan": PACKED}) == 0
    assert "resumed at 0" in (tmp_path / "log.txt").read_text()
    assert outcome(tmp_path) == uninterrupted["lora"]


def test_killed_between_checkpoints_goes_on_from_the_newest(
    initial: Path, uninterrupted: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    options = {"plan": PACKED, "pause_s": 0.5}
    process = start(initial, tmp_path, options)
    # The step after a checkpoint: validated at 5, logged at 6.
    wait_for(lambda: "[5," in (tmp_path / "steps.jsonl").read_text() if steps(tmp_path) else False, process)
    process.kill()
    process.join()
    assert sealed(tmp_path) == ["step-000004"]
    assert finish(initial, tmp_path, {"plan": PACKED}) == 0
    assert "resumed at 4" in (tmp_path / "log.txt").read_text()
    assert outcome(tmp_path) == uninterrupted["lora"]


def test_killed_twice_one_time_inside_a_checkpoint(
    initial: Path, uninterrupted: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    process = start(initial, tmp_path, {"plan": FULL, "slow_from": 10})
    wait_for(lambda: any(tmp_path.glob("checkpoints/*/step-000010.part/optimizer.pt")), process)
    process.kill()
    process.join()
    assert sealed(tmp_path) == ["step-000005"]
    assert list(tmp_path.glob("checkpoints/*/step-000010.part/trained.safetensors"))
    process = start(initial, tmp_path, {"plan": FULL, "pause_s": 0.5})
    wait_for(lambda: sealed(tmp_path) == ["step-000005", "step-000010"], process)
    process.kill()
    process.join()
    assert finish(initial, tmp_path, {"plan": FULL}) == 0
    log = (tmp_path / "log.txt").read_text()
    assert "step-000010.part: incomplete when the run ended, not used" in log
    assert "resumed at 10" in log
    assert outcome(tmp_path) == uninterrupted["full"]


def test_asked_to_end_it_saves_the_step_and_goes_on_from_there(
    initial: Path, uninterrupted: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """In a step, whose loss is logged together with the next one's, and in a validation; neither is a step to save."""
    for logged, step in (("[1,", 2), ("[5,", 5)):
        process = start(initial, tmp_path, {"plan": PACKED, "pause_s": 0.3})
        wait_for(partial(has_logged, tmp_path, logged), process)
        process.terminate()
        process.join()
        assert process.exitcode == -signal.SIGTERM
        assert sealed(tmp_path)[-1] == f"step-{step:06d}"
        assert f"SIGTERM: step {step} is saved" in (tmp_path / "log.txt").read_text()
        assert not (tmp_path / "tuned").exists()
    assert finish(initial, tmp_path, {"plan": PACKED}) == 0
    assert "resuming from" in (tmp_path / "log.txt").read_text()
    assert "resumed at 5" in (tmp_path / "log.txt").read_text()
    assert outcome(tmp_path) == uninterrupted["lora"]


def test_finished_run_is_not_trained_again(
    initial: Path, uninterrupted: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """Only the page was lost, say: the last checkpoint gives the same outs without a step."""
    assert finish(initial, tmp_path, {"plan": PACKED}) == 0
    before = steps(tmp_path)
    assert finish(initial, tmp_path, {"plan": PACKED}) == 0
    assert steps(tmp_path) == before
    assert outcome(tmp_path) == uninterrupted["lora"]


def test_one_process_does_without_deepspeed(initial: Path, tmp_path: Path) -> None:
    """accelerate would import it, for seconds, to ask whether a model is one of its engines."""
    assert finish(initial, tmp_path, {"plan": {**PACKED, "steps": 1}}) == 0
    assert "DeepSpeed imported: False" in (tmp_path / "log.txt").read_text()
