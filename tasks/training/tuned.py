"""Open ``models/tuned`` through the method that trained it: ready to answer, or merged into one plain model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, hash_file, read_manifest
from tasks.language_models.folder.model_folder import load_tokenizer, resolve_model, set_generation_config
from tasks.training.methods import AnyMethod, names_where
from tasks.training.objectives import AnyObjective, objectives_where
from tasks.training.reward_models import build_classifier, read_head

_OBJECTIVE: TypeAdapter[AnyObjective] = TypeAdapter(AnyObjective)
_METHOD: TypeAdapter[AnyMethod] = TypeAdapter(AnyMethod)


def load_tuned(initial: Path, tuned: Path) -> tuple[Any, Any]:
    """The tuned model in fp32, not training, with the base's tokenizer; nothing is merged.

    Args:
        initial: Folder written by model initialisation.
        tuned: Folder written by fine-tuning.

    Raises:
        PipelineError: A folder is not complete, changed, or the two do not belong together.
    """
    model = read_method(initial, tuned).load(resolve_model(initial), tuned)
    return set_generation_config(model, initial).eval(), load_tokenizer(initial)


def merge_tuned(initial: Path, tuned: Path) -> tuple[Any, Any]:
    """The tuned model in fp32 as a plain model of the base's architecture, with the base's tokenizer.

    Args:
        initial: Folder written by model initialisation.
        tuned: Folder written by fine-tuning.

    Raises:
        PipelineError: As `load_tuned`, or what was trained cannot be merged.
    """
    method = read_method(initial, tuned)
    if not method.can.merging:
        others = " or ".join(names_where(lambda can: can.merging))
        raise PipelineError(f"{tuned}: {method.describe()} cannot be merged; train with method {others} for that")
    merged = method.merge(resolve_model(initial), tuned)
    return set_generation_config(merged, initial).eval(), load_tokenizer(initial)


def merge_reward_model(initial: Path, tuned: Path) -> tuple[Any, Any]:
    """The reward model that was trained, merged into one sequence classifier in fp32, with its tokenizer.

    Args:
        initial: Folder written by model initialisation.
        tuned: Folder written by fine-tuning.

    Raises:
        PipelineError: As `merge_tuned`.
    """
    model, tokenizer = merge_tuned(initial, tuned)
    return build_classifier(model, read_head(tuned), tokenizer), tokenizer


def read_objective(tuned: Path) -> AnyObjective:
    """What a complete folder was trained for.

    Args:
        tuned: Folder written by fine-tuning.

    Raises:
        PipelineError: The folder is not complete, or of an objective that is not known here.
    """
    found = read_manifest(tuned).get("objective", {"name": "supervised"})
    try:
        return _OBJECTIVE.validate_python(found)
    except ValidationError as error:
        raise PipelineError(
            f"{tuned / NAME}: its objective ({found}) is none of this version, which has "
            f"{', '.join(objectives_where())}; run training_setup and fine_tuning again"
        ) from error


def read_method(initial: Path, tuned: Path) -> AnyMethod:
    """The resolved method that a complete, unchanged folder was trained with.

    Args:
        initial: Folder written by model initialisation.
        tuned: Folder written by fine-tuning.

    Raises:
        PipelineError: The folder is not complete, of another base, or of a method that is not known here.
    """
    manifest = read_manifest(tuned, verify=True)
    if manifest["base"] != hash_file(initial / NAME):
        raise PipelineError(f"{tuned}: was trained on another base than {initial}; run fine_tuning again")
    return parse_method(manifest, tuned)


def parse_method(manifest: Mapping[str, Any], tuned: Path) -> AnyMethod:
    """The resolved method that a manifest names.

    Args:
        manifest: Of a folder with what was trained.
        tuned: The folder, for the message.

    Raises:
        PipelineError: It is none that is known here.
    """
    try:
        return _METHOD.validate_python(manifest.get("method"))
    except ValidationError as error:
        raise PipelineError(
            f"{tuned / NAME}: its method ({manifest.get('method')}) is none of this version, which has "
            f"{', '.join(names_where())}; run training_setup and fine_tuning again"
        ) from error
