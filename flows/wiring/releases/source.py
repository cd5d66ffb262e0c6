"""The releases that model initialisation starts from, frozen as a file that DVC watches.

``models/source.json`` holds for each version or alias that params name what it is, such as ``{"alias champion":
{"release": ..., "version": ...}}``. A retrain writes it anew, a run only what it lacks, so that a promotion alone makes
nothing stale.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from flows.wiring import artifacts
from flows.wiring.params import Params, read_params
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json
from tasks.model_initialisation.sources.access import Access
from tasks.model_initialisation.sources.registry import RegisteredVersion
from tasks.training.released import is_unmerged

MODEL = "model"  # the model's folder in a release
TOKEN = "HF_TOKEN"


def freeze_source(anew: bool = False) -> None:
    """Look up the releases that ``model_initialisation`` starts from; without such a source nothing is done.

    Args:
        anew: Also those that are frozen already, whose alias may have moved.

    Raises:
        PipelineError: There is no such version, or MLflow does not answer.
    """
    asked = list(_registered(read_params()))
    frozen = read_json(artifacts.SOURCE) if artifacts.SOURCE.is_file() else {}
    if not asked or (not anew and all(source.asked in frozen for source in asked)):
        return
    from flows.wiring.releases.registry import open_registry

    registry = open_registry()
    found = {
        source.asked: frozen[source.asked]
        if source.asked in frozen and not anew
        else registry.find_version(source.alias, source.version)._asdict()
        for source in asked
    }
    if found != frozen:
        write_json(artifacts.SOURCE, found)


def source_access(params: Params) -> Access:
    """What the sources of base models may need: the hub's token, and the frozen releases."""
    return Access(os.environ.get(TOKEN) or None, open_release, params.model_initialisation.licenses.deny)


def open_release(asked: str) -> Path:
    """The model folder of a frozen release, verified, and fetched if it is not stored locally.

    Args:
        asked: ``alias champion`` or ``version 3``.

    Raises:
        PipelineError: It is not frozen, or cannot be had.
    """
    frozen = read_json(artifacts.SOURCE).get(asked)
    if frozen is None:
        raise PipelineError(
            f"{artifacts.SOURCE}: says nothing of {asked}, which model_initialisation.source names; `heptune run` "
            "looks it up in the registry and writes it there (`dvc repro` alone does not)"
        )
    from flows.wiring.releases.registry import open_registry

    folder = open_registry().fetch_release(frozen["release"]) / MODEL
    if is_unmerged(folder):
        raise PipelineError(
            f"{asked}: release {frozen['release'][:12]} is a base with what was trained beside it, not one model that "
            "another training could begin from; name a merged release in model_initialisation.source, or the base"
        )
    return folder


def _registered(params: Params) -> Iterator[RegisteredVersion]:
    settings = params.model_initialisation
    for source in (settings.source, *settings.candidates):
        if isinstance(source, RegisteredVersion):
            yield source
