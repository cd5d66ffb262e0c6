"""A damaged checkpoint never decides about the weights: an older one is used, or the run starts over, and says why."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import Trainer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_folder, read_json
from tasks.fine_tuning.checkpoints import STATE_FILES, UNLOGGED, Checkpoints
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer.fine_tuner import FineTuner
from tasks.training.distribution.whole import TRAINED, WHOLE_FILES, put_weights
from tests.tasks.fine_tuning.small import make_plan, make_splits

PLAN = make_plan(steps=6, checkpoint_every_steps=2, evaluate_every_steps=6)
FILES = (*STATE_FILES, *WHOLE_FILES, "rng_state.pth", "manifest.json")


def truncate(path: Path) -> None:
    with path.open("rb+") as stream:
        stream.truncate(path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: tuple[Callable[[Path], None], ...] = (truncate, Path.unlink, flip_a_bit)


def train(initial: Path, folder: Path) -> int:
    """Run to the end, from what is there; the step that it resumed at."""
    return fine_tune(PLAN, make_splits(initial), initial, folder / "checkpoints", folder / "tuned", 9).resumed_at


@pytest.fixture(scope="module")
def uninterrupted(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that was killed after its checkpoint of step 4, and the hash of what it would have become."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "finish", lambda *_: None)
        assert train(initial, folder) == 0
    (run,) = (folder / "checkpoints").iterdir()
    assert sorted(path.name for path in run.iterdir()) == ["step-000002", "step-000004", "step-000006"]
    shutil.rmtree(run / "step-000006")
    return folder


@pytest.fixture
def killed(uninterrupted: Path, tmp_path: Path) -> Path:
    shutil.copytree(uninterrupted / "checkpoints", tmp_path / "checkpoints")
    return tmp_path


def newest(folder: Path) -> Path:
    (path,) = folder.glob("checkpoints/*/step-000004")
    return path


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_sends_it_to_the_older_checkpoint(
    initial: Path,
    uninterrupted: Path,
    killed: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    damage(newest(killed) / name)
    assert train(initial, killed) == 2
    assert hash_folder(killed / "tuned") == hash_folder(uninterrupted / "tuned")
    (told,) = (record for record in caplog.records if "not used" in record.message)
    assert told.levelno == logging.WARNING
    assert "step-000004" in told.message


def test_where_every_checkpoint_is_damaged_it_starts_over(
    initial: Path, uninterrupted: Path, killed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in killed.glob("checkpoints/*/step-*/optimizer.pt"):
        flip_a_bit(path)
    assert train(initial, killed) == 0
    assert hash_folder(killed / "tuned") == hash_folder(uninterrupted / "tuned")
    assert caplog.text.count("not used") == 2


def load_what_is_there(trainer: FineTuner, checkpoint: str | None) -> None:
    if checkpoint:
        put_weights(trainer.model, load_file(Path(checkpoint) / TRAINED), checkpoint)
        trainer.unlogged = read_json(Path(checkpoint) / UNLOGGED)
        Trainer._load_optimizer_and_scheduler(trainer, checkpoint)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_without_the_check_a_missing_state_would_change_the_weights_and_say_nothing(
    initial: Path, uninterrupted: Path, killed: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What transformers does by itself: it takes up what is there."""
    monkeypatch.setattr(Checkpoints, "_problem", lambda *_: None)
    monkeypatch.setattr(FineTuner, "_load_optimizer_and_scheduler", load_what_is_there)
    (newest(killed) / name).unlink()
    assert train(initial, killed) == 4
    assert hash_folder(killed / "tuned") != hash_folder(uninterrupted / "tuned")


def test_an_intact_one_is_resumed_to_the_same_weights(initial: Path, uninterrupted: Path, killed: Path) -> None:
    assert train(initial, killed) == 4
    assert hash_folder(killed / "tuned") == hash_folder(uninterrupted / "tuned")


@pytest.mark.parametrize(
    ("number", "advice"), [(28, "No space left on device"), (30, "Read-only file system"), (13, "Permission denied")]
)
def test_weights_that_cannot_be_written_are_told_in_one_line_and_written_by_the_next_run(
    initial: Path, uninterrupted: Path, killed: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(_self: object, _model: object, folder: Path) -> list[Path]:
        (folder / "half").write_text("half")
        raise OSError(number, advice)

    with monkeypatch.context() as patch:
        patch.setattr(type(PLAN.method), "save", refuse)
        with pytest.raises(PipelineError, match=rf"tuned: cannot write \({advice}\); .* and run again") as caught:
            train(initial, killed)
    assert "\n" not in str(caught.value)
    assert ("free some space" in str(caught.value)) == (number == 28)
    assert not (killed / "tuned").exists()
    assert train(initial, killed) == 6
    assert hash_folder(killed / "tuned") == hash_folder(uninterrupted / "tuned")
