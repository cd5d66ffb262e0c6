"""Sealed checkpoints: written aside, synced, hashed in a manifest, renamed. Only complete ones are ever read.

``<root>/<run>/step-000100`` holds weights, optimizer, scheduler, random states, trainer state and, in its manifest,
what it was made from. ``<run>`` is the start of the hash of that, so runs with other data, params or code lie side by
side, and an interrupted one can be resumed after another was tried.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson
from safetensors import SafetensorError

from tasks.contracts.errors import PipelineError, write_advice
from tasks.contracts.manifest import NAME, read_manifest, seal, write_json
from tasks.training.distribution.whole import WHOLE_FILES

logger = logging.getLogger(__name__)

FINISHED = "finished.json"
AVERAGED = "averaged.safetensors"  # moving averages of the trained weights, where the plan asks for them
# Of the first rank, beside what the distribution writes and the random states of each rank.
SCHEDULER = "scheduler.pt"
UNLOGGED = "unlogged.json"  # the training loss since the last logged step
STATE_FILES = (SCHEDULER, "trainer_state.json", UNLOGGED)
_STEP = re.compile(r"step-(\d{6,})$")
_DIFFERENCES = {
    "data": "other data",
    "plan": "another plan",
    "work": "another plan",
    "resizes": "another plan",
    "model": "another base model",
    "start": "an earlier phase that ended elsewhere",
    "code": "other code",
    "libraries": "other library versions",
    "world_size": "another number of processes",
}


@dataclass(frozen=True)
class RunOrigin:
    """What a run is made from; only a checkpoint of the same origin is resumed.

    Attributes:
        data: Hash of the tokenized training split and the validation rows.
        plan: Hash of the plan.
        model: Hash of the base model's manifest.
        code: Hash of the modules that determine the weights.
        libraries: Versions of the libraries that do so too.
        world_size: Number of processes.
        work: Hash of the plan without how many ranks share it.
        resizes: Another number of ranks can go on.
        start: Hash of the weights that an earlier phase left; empty for a training that begins at the base.
    """

    data: str
    plan: str
    model: str
    code: str
    libraries: str
    world_size: int
    work: str = ""
    start: str = ""
    resizes: bool = False

    @property
    def fingerprint(self) -> str:
        """Hash of all that a checkpoint must have in common with this run to be resumed, 16 hex digits."""
        ignored = {"plan", "world_size"} if self.resizes else {"work"}
        values = {key: value for key, value in vars(self).items() if key not in ignored}
        return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    def differences(self, facts: Mapping[str, Any]) -> list[str]:
        """Where a checkpoint's origin, or that of another machine, differs from this one, in words."""
        ignored = {"plan", "world_size"} if self.resizes and self.is_resized(facts) else set()
        differing = [key for key in _DIFFERENCES if key not in ignored and facts.get(key) != vars(self)[key]]
        return list(dict.fromkeys(_DIFFERENCES[key] for key in differing))

    def is_resized(self, facts: Mapping[str, Any]) -> bool:
        """Whether a checkpoint is of the same work by another number of ranks."""
        return bool(self.work) and facts.get("work") == self.work and facts.get("world_size") != self.world_size


class Checkpoints:
    """The checkpoints of one run.

    Args:
        root: Folder of all runs' checkpoints.
        origin: What this run is made from.
        keep: Number of newest checkpoints kept during the run.
        state_files: Number of ranks to the files of weights and optimizer that they write, which may be patterns.
    """

    def __init__(
        self,
        root: Path,
        origin: RunOrigin,
        keep: int,
        state_files: Callable[[int], list[str]] = lambda _: list(WHOLE_FILES),
    ) -> None:
        self.root, self.origin, self.keep, self.state_files = root, origin, keep, state_files
        self.needed: set[str] = set()  # files of a plan's own
        self.protected: set[int] = set()  # steps whose checkpoints stay however old they are
        self.folder = root / origin.fingerprint
        self.companions: set[str] = set()  # folders of the earlier phases of the run

    def missing(self, files: Iterable[str], ranks: int) -> list[str]:
        """What a checkpoint of so many ranks needs and is not among its files."""
        present = list(files)
        states = ["rng_state.pth"] if ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(ranks)]
        needed = {*STATE_FILES, *self.state_files(ranks), *states, *self.needed}
        return sorted(name for name in needed if not any(fnmatchcase(file, name) for file in present))

    def aside(self, step: int) -> Path:
        """Where the files of a step are written before they are sealed."""
        return self.folder / f"step-{step:06d}.part"

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Write, sync, seal and rename a checkpoint, then drop the oldest.

        Args:
            step: Optimizer steps done.
            write: Writes all files into the folder it is given.

        Raises:
            PipelineError: The disk is full or not writable; older checkpoints are untouched.
        """
        part = self.aside(step)
        with self.writing(step):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            write(part)
            self._seal(part, step)
        final = part.with_suffix("")
        for old in self.steps()[: -self.keep]:
            if old not in self.protected:
                remove(self.path(old))
        logger.info("checkpoint %s sealed", final.name)
        return final

    @contextmanager
    def writing(self, step: int) -> Iterator[None]:
        """The block writes files of a checkpoint.

        Raises:
            PipelineError: The disk refused one; what was written is removed.
        """
        part = self.aside(step)
        try:
            yield
        except (OSError, RuntimeError, SafetensorError, PipelineError) as error:
            reason = refusal(error)
            if reason is None:
                raise
            size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
            shutil.rmtree(part, ignore_errors=True)
            older = self.steps()
            resume = f"it resumes at step {older[-1]}" if older else "it starts from the beginning"
            raise PipelineError(
                f"{part.with_suffix('')}: cannot write the checkpoint ({reason} after {size / 1e6:,.1f} MB); "
                f"{write_advice(reason)} and run again, {resume}"
            ) from error

    def _seal(self, part: Path, step: int) -> None:
        files = sorted(path for path in part.rglob("*") if path.is_file())
        missing = self.missing((str(path.relative_to(part)) for path in files), self.origin.world_size)
        if missing:
            raise RuntimeError(f"{part}: the trainer wrote no {', '.join(missing)}")
        for path in files:
            sync(path)
        seal(part, files, {"step": step, "origin": vars(self.origin)})
        sync(part)
        final = part.with_suffix("")
        remove(final)
        part.rename(final)
        sync(self.folder)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Steps with a sealed checkpoint, ascending."""
        return sorted(step for step, _ in _steps_below(self.folder))

    def newest(self) -> Path | None:
        """The newest complete checkpoint of this origin; logs why others are not used."""
        for part in sorted(self.folder.glob("*.part")):
            logger.info("checkpoint %s: incomplete when the run ended, not used", part)
            shutil.rmtree(part, ignore_errors=True)
        newest = None
        for _, path in sorted(_steps_below(self.folder), reverse=True):
            problem = self._problem(path)
            if problem is None:
                newest = path
                break
            logger.warning("checkpoint %s: %s; not used", path, problem)
        if newest is None:
            self._explain_others()
        return newest

    def sound(self, step: int) -> Path:
        """The checkpoint of a step, verified.

        Raises:
            PipelineError: It is missing or damaged.
        """
        problem = self._problem(self.path(step))
        if problem is not None:
            raise PipelineError(
                f"{self.path(step)}: {problem}; its weights were to be kept; remove {self.folder} and run again"
            )
        return self.path(step)

    def _problem(self, path: Path) -> str | None:
        """Why a checkpoint cannot be resumed, or None."""
        try:
            origin = self._read_origin(path, verify=True)
        except PipelineError as error:
            return _shortened(error)
        if differences := self.origin.differences(origin):
            return f"made from {', '.join(differences)}"
        if self.origin.is_resized(origin):
            logger.warning(
                "checkpoint %s: of %s processes, resumed by %s: the same rows, but other random states",
                path,
                origin["world_size"],
                self.origin.world_size,
            )
        return None

    def _read_origin(self, path: Path, verify: bool) -> Mapping[str, Any]:
        """What a checkpoint is made from.

        Args:
            path: Its folder.
            verify: Also hash its files, not only look whether they are there and as long as they were.

        Raises:
            PipelineError: It is damaged, or lacks files.
        """
        manifest = read_manifest(path, verify=verify)
        origin: Mapping[str, Any] = manifest.get("origin", {})
        missing = self.missing(manifest["files"], origin.get("world_size", 1))
        if missing:
            raise PipelineError(f"its manifest does not list {', '.join(missing)}")
        return origin

    def _explain_others(self) -> None:
        """Log why runs of another origin are not resumed; where the newest checkpoint is damaged, by the one before."""
        for run in sorted(path for path in self.root.glob("*") if path.is_dir() and path != self.folder):
            for _, path in sorted(_steps_below(run), reverse=True):
                try:
                    differences = self.origin.differences(self._read_origin(path, verify=False))
                except PipelineError as error:
                    logger.info("checkpoint %s: %s; not used", path, _shortened(error))
                    continue
                logger.info("checkpoint %s: made from %s; not used", path, ", ".join(differences))
                break

    def finish(self, steps: int, is_last: bool = True) -> None:
        """After a successful run, keep its last and protected checkpoints and interrupted runs, and remove all others.

        Args:
            steps: Optimizer steps of this run.
            is_last: No phase follows; other finished runs stay as long as one does.
        """
        for step in self.steps()[:-1]:
            if step not in self.protected:
                remove(self.path(step))
        others = (path for path in self.root.glob("*") if path.is_dir() and path != self.folder)
        for run in sorted(others) if is_last else ():
            if _is_finished(run) and run.name not in self.companions:
                shutil.rmtree(run, ignore_errors=True)
        write_json(self.folder / FINISHED, {"steps": steps})


def _shortened(error: PipelineError) -> str:
    """What was found, in one line."""
    return str(error).replace("\n", " ").split("; ")[0]


def _is_finished(run: Path) -> bool:
    return (run / FINISHED).is_file()


def _steps_below(run: Path) -> Iterable[tuple[int, Path]]:
    for path in run.glob("step-*"):
        found = _STEP.fullmatch(path.name)
        if found and path.is_dir():
            yield int(found[1]), path


def remove(path: Path) -> None:
    """Remove a checkpoint, its manifest first, so that a partly removed one never passes as complete."""
    try:
        (path / NAME).unlink(missing_ok=True)
    except OSError as error:
        logger.warning("checkpoint %s: cannot be removed (%s), so it stays", path, error.strerror or error)
        return
    shutil.rmtree(path, ignore_errors=True)


def sync(path: Path) -> None:
    """Sync a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refusal(error: BaseException) -> str | None:
    """The reason of a failed write to disk; None for any other error.

    PyTorch and safetensors write from C++ and Rust and report a full disk with messages of their own.
    """
    if isinstance(error, PipelineError):
        found = re.search(r"cannot write \(([^)]*)\)", str(error))
        return found[1] if found else None
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)
    reported = re.search(r"I/O error: (.+?) \(os error", text)
    if reported:
        return reported[1]
    # PyTorch's writer only reports that the file is shorter than what it wrote.
    marks = ("PytorchStreamWriter", "file write failed", "inline_container")
    return "the disk refused it" if any(mark in text for mark in marks) else None
