"""A release: one complete and sealed folder, named by the hash of its contents.

::

    model/             transformers folder: merged weights, tokenizer, chat template, configs; of a method that does
                       not merge base/ and tuned/, see `tasks.training.released`
    README.md          model card
    parity.json        proof that trained = merged = served
    verdict.json       what evaluation decided, and why
    baseline.parquet   held-out requests and answers, the baseline of monitoring
    folds.parquet      with cross-validation: what it answered to each training row before it had seen it
    manifest.json      hashes of all these, and the release hash over them

The verdict is in a file, not only in the manifest's facts, so that the release hash covers it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, read_json, read_manifest, seal

MODEL = "model"
CARD = "README.md"
PARITY = "parity.json"
VERDICT = "verdict.json"
BASELINE = "baseline.parquet"
FOLDS = "folds.parquet"


def hash_files(files: Mapping[str, Any]) -> str:
    """The release hash: SHA-256 of a manifest's listing of files, 64 hex digits."""
    return hashlib.sha256(orjson.dumps(dict(files), option=orjson.OPT_SORT_KEYS)).hexdigest()


def empty_release(folder: Path) -> Path:
    """Empty the release folder, so that no file of an earlier run is sealed into this release."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def keep_fold_answers(answers: Path, folder: Path) -> dict[str, int]:
    """Add evaluation's answers from folds, with which later candidates are compared; nothing where there are none.

    Args:
        answers: Evaluation's ``folds.parquet``.
        folder: The release folder.
    """
    import pyarrow.parquet as pq

    rows = int(pq.read_metadata(answers).num_rows)
    if rows:
        shutil.copyfile(answers, folder / FOLDS)
    return {"rows": rows}


def seal_release(folder: Path, verdict: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add evaluation's verdict, whatever it is, to a release folder and seal it.

    Args:
        folder: The release folder, with model, card, parity proof and baseline in it.
        verdict: Evaluation's ``verdict.json``.
        facts: Facts for the manifest besides the hashes.

    Returns:
        The manifest, with ``release`` and ``verdict`` in it.
    """
    shutil.copyfile(verdict, folder / VERDICT)
    sealed = seal(folder, (p for p in folder.rglob("*") if p.is_file() and p != folder / NAME), facts)
    decision = read_verdict(folder)["verdict"]
    return seal(
        folder,
        (folder / name for name in sealed["files"]),
        {**facts, "release": hash_files(sealed["files"]), "verdict": decision},
    )


def read_release(folder: Path) -> dict[str, Any]:
    """The manifest of a release, every file hashed again.

    Raises:
        PipelineError: The release is incomplete, or was changed after it was sealed.
    """
    manifest = read_manifest(folder, verify=True)
    release = manifest.get("release")
    if not release:
        raise PipelineError(f"{folder / NAME}: names no release; expected a folder written by the stage deployment")
    actual = hash_files(manifest["files"])
    if release != actual:
        raise PipelineError(
            f"{folder / NAME}: release {release[:12]} was tampered with (its files hash to {actual[:12]}); "
            "delete the folder and run deployment again"
        )
    unlisted = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path != folder / NAME and str(path.relative_to(folder)) not in manifest["files"]
    )
    if unlisted:
        raise PipelineError(
            f"{folder}: {len(unlisted)} files are not in the manifest ({', '.join(unlisted[:3])}); delete them"
        )
    return manifest


def read_verdict(folder: Path) -> dict[str, Any]:
    """Evaluation's verdict as the release carries it."""
    verdict: dict[str, Any] = read_json(folder / VERDICT)
    return verdict
