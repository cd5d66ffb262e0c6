"""Only a whole checkpoint of the same run is taken up; each refused one gets a line with the reason."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.checkpoints import STATE_FILES, Checkpoints, RunOrigin, remove
from tasks.fine_tuning.origin import origin_of
from tasks.training.distribution.whole import WHOLE_FILES
from tests.tasks.fine_tuning.small import finish, make_plan, make_splits

ORIGIN = RunOrigin("data", "plan", "model", "code", "libraries", 1)
FILES = (*STATE_FILES, *WHOLE_FILES, "rng_state.pth")


def make_store(root: Path, origin: RunOrigin = ORIGIN, keep: int = 3) -> Checkpoints:
    return Checkpoints(root, origin, keep)


def write(folder: Path) -> None:
    for name in FILES:
        (folder / name).write_text(f"{name} of {folder.name}")


def save(store: Checkpoints, *steps: int) -> None:
    for step in steps:
        store.save(step, write)


def test_newest_is_found_and_the_oldest_go(tmp_path: Path) -> None:
    store = make_store(tmp_path, keep=2)
    save(store, 10, 20, 30)
    assert store.steps() == [20, 30]
    assert store.newest() == store.path(30)
    assert make_store(tmp_path / "empty").newest() is None


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_sends_it_to_the_older_one(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    store = make_store(tmp_path)
    save(store, 10, 20)
    (store.path(20) / name).unlink()
    assert store.newest() == store.path(10)
    assert "step-000020" in caplog.text
    assert "not used" in caplog.text


def test_an_edited_or_torn_one_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_store(tmp_path)
    save(store, 10, 20, 30)
    edited = store.path(30) / "optimizer.pt"
    edited.write_text(edited.read_text().replace("of", "fo"))
    torn = store.path(20) / "trained.safetensors"
    torn.write_text(torn.read_text()[:-3])
    assert store.newest() == store.path(10)
    assert caplog.text.count("changed since it was written") == 2
    (store.path(10) / "manifest.json").write_text("{")
    assert store.newest() is None
    assert "not JSON" in caplog.text


def test_a_manifest_that_leaves_a_file_out_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_store(tmp_path)
    save(store, 10)
    path = store.path(10) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]["rng_state.pth"]
    path.write_text(json.dumps(manifest))
    assert store.newest() is None
    assert "does not list rng_state.pth" in caplog.text


def test_no_flipped_bit_of_a_manifest_passes_for_another_checkpoint(tmp_path: Path) -> None:
    """The step alone may differ: it is read from the folder's name."""
    store = make_store(tmp_path)
    save(store, 10)
    path = store.path(10) / "manifest.json"
    intact = path.read_bytes()
    for place in range(len(intact)):
        path.write_bytes(intact[:place] + bytes([intact[place] ^ 1 << place % 8]) + intact[place + 1 :])
        line = intact[intact.rfind(b"\n", 0, place) + 1 :].partition(b"\n")[0]
        assert store.newest() is None or b'"step":' in line, path.read_bytes()


def test_a_half_written_one_is_never_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = make_store(tmp_path)
    save(store, 10)
    shutil.copytree(store.path(10), store.aside(20))
    assert store.newest() == store.path(10)
    assert "incomplete" in caplog.text
    assert not store.aside(20).exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (RunOrigin("other", "plan", "model", "code", "libraries", 1), "made from other data;"),
        (RunOrigin("data", "other", "model", "code", "libraries", 1), "made from another plan;"),
        (RunOrigin("data", "plan", "other", "code", "libraries", 1), "made from another base model;"),
        (RunOrigin("data", "plan", "model", "other", "libraries", 1), "made from other code;"),
        (RunOrigin("data", "plan", "model", "code", "other", 1), "made from other library versions;"),
    ],
)
def test_another_origin_is_refused_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: RunOrigin, words: str
) -> None:
    caplog.set_level(logging.INFO)
    old, new = make_store(tmp_path, changed), make_store(tmp_path)
    save(old, 10)
    assert new.newest() is None
    assert words in caplog.text
    assert old.newest() == old.path(10)
    # Neither does moving it into the right folder help.
    shutil.copytree(old.path(10), new.path(10))
    caplog.clear()
    assert new.newest() is None
    assert f"{new.path(10)}: {words}" in caplog.text
    # Nor does the damage of the newest one hide why the run begins anew.
    save(old, 20)
    (old.path(20) / "optimizer.pt").write_text("torn")
    caplog.clear()
    make_store(tmp_path).newest()
    assert "changed since it was written" in caplog.text
    assert f"{old.path(10)}: {words}" in caplog.text


def test_finished_runs_are_tidied_and_interrupted_ones_kept(tmp_path: Path) -> None:
    interrupted = make_store(tmp_path, RunOrigin("a", "", "", "", "", 1))
    finished = make_store(tmp_path, RunOrigin("b", "", "", "", "", 1))
    current = make_store(tmp_path)
    for store in (interrupted, finished, current):
        save(store, 10, 20)
    finished.finish(20)
    assert finished.steps() == [20]
    current.finish(20)
    assert interrupted.steps() == [10, 20]
    assert finished.steps() == []
    assert current.steps() == [20]


def test_removal_that_stops_halfway_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path)
    save(store, 10)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    remove(store.path(10))
    assert store.newest() is None


def test_a_refused_write_keeps_the_older_one_and_says_so(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    save(store, 10)

    def full(folder: Path) -> None:
        (folder / "trained.safetensors").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(PipelineError, match=r"No space left on device .*it resumes at step 10") as caught:
        store.save(20, full)
    assert "\n" not in str(caught.value)
    assert not store.aside(20).exists()
    assert store.newest() == store.path(10)


def test_a_folder_that_cannot_be_written_is_told_with_its_own_advice(tmp_path: Path) -> None:
    def closed(_: Path) -> None:
        raise OSError(30, "Read-only file system")

    with pytest.raises(PipelineError, match=r"Read-only file system .*make it writable and run again, it starts from"):
        make_store(tmp_path).save(10, closed)


def test_an_old_one_that_cannot_be_removed_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tmp_path, keep=1)
    save(store, 10)

    def refuse(self: Path, **_: bool) -> None:
        raise OSError(30, "Read-only file system", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        remove(store.path(10))
    assert "step-000010: cannot be removed (Read-only file system), so it stays" in caplog.text
    assert store.newest() == store.path(10)


def test_errors_of_the_code_stay_errors(tmp_path: Path) -> None:
    def broken(_: Path) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        make_store(tmp_path).save(10, broken)


@pytest.mark.parametrize(
    ("limit", "plan"),
    [
        (12_000, {}),  # less than the adapter, which safetensors writes
        (12_000, {"method": {"name": "lora", "rank": 8, "alpha": 8, "dropout": 0.0, "targets": ["q_proj"]}}),
    ],
    ids=["weights", "optimizer"],
)
def test_disk_full_in_a_real_run_is_one_line(
    initial: Path, tmp_path: Path, limit: int, plan: dict[str, object]
) -> None:
    assert finish(initial, tmp_path, {"file_limit": limit, "plan": plan}) == 1
    *progress, error = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split()[0] for line in progress] == ["training", "step"]
    assert error.startswith("PipelineError: ")
    assert "step-000004: cannot write the checkpoint (" in error
    assert "free some space and run again" in error
    assert not list(tmp_path.glob("checkpoints/*/*.part"))
    assert finish(initial, tmp_path, {"plan": plan}) == 0


def test_data_plan_and_base_make_the_fingerprint(initial: Path) -> None:
    plan, splits = make_plan(), make_splits(initial)
    origin = origin_of(plan, splits, initial)
    assert origin == origin_of(make_plan(), make_splits(initial), initial)
    assert origin.fingerprint != origin_of(make_plan(seed=4), splits, initial).fingerprint
    assert origin.fingerprint != origin_of(plan, make_splits(initial, seed=1), initial).fingerprint
