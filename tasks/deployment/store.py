"""The local store of releases: one complete folder per release, named by its hash."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME
from tasks.deployment.release import read_release


def is_stored(store: Path, release: str) -> bool:
    """Whether a release is in the store; its files are not verified."""
    return (store / release / NAME).is_file()


def check_release(folder: Path, release: str) -> None:
    """Verify the hashes of a release.

    Raises:
        PipelineError: It is incomplete, changed, or not the expected release.
    """
    actual = read_release(folder)["release"]
    if actual != release:
        raise PipelineError(f"{folder}: is release {actual[:12]}; expected {release[:12]}; delete it")


def store_release(store: Path, release: str, fetch: Callable[[Path], Path]) -> Path:
    """Add a release to the store: fetched aside, verified, renamed. One caller at a time.

    Args:
        store: The store's folder.
        release: The release hash.
        fetch: Called with an empty folder; puts the release in or below it and returns its path.

    Returns:
        The release's folder in the store.

    Raises:
        PipelineError: The fetched folder is not that release, or cannot be written.
    """
    target, aside = store / release, store / f".{release}.part"
    if is_stored(store, release):
        check_release(target, release)
        return target
    try:
        # A killed process may have left one.
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        fetched = fetch(aside)
        check_release(fetched, release)
        fetched.rename(target)
    except OSError as error:
        raise PipelineError(
            f"{target}: cannot write ({error.strerror or error}); free some space and try again"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target
