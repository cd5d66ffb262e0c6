"""Write ``models/initial``: a copy of the base model, or a manifest that refers to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file, seal
from tasks.contracts.progress import track
from tasks.language_models.folder.model_folder import CHAT_TEMPLATE, GENERATION_CONFIG
from tasks.model_initialisation.chat_template import ChatTemplate
from tasks.model_initialisation.checks import CheckedModel
from tasks.model_initialisation.params import Source
from tasks.model_initialisation.sources.access import NO_ACCESS, Access

_FICLONE = 0x40049409


def fetch_model(source: Source, access: Access = NO_ACCESS) -> Path:
    """The folder of the base model's files on this machine, downloaded where necessary.

    Args:
        source: Where it comes from.
        access: What only a flow has.

    Raises:
        PipelineError: It is not there, or cannot be had.
    """
    return source.fetch(access)


def pin_model(
    base: CheckedModel,
    source: Source,
    reference: bool,
    template: ChatTemplate,
    generation_config: str | None,
    facts: Mapping[str, Any],
    out: Path,
) -> Path:
    """Write the initial model folder.

    Files keep their bytes. A hub file is shared by hard link, since the cache never changes it in place; a
    folder's file is cloned where the file system can (copy on write), else copied: an edit of the base
    must not reach a pinned copy.

    Args:
        base: The checked model.
        source: Where it came from.
        reference: Store only hashes and load the files from their source.
        template: The chat template; one that is not the model's own is written in its place.
        generation_config: A generation config to write in place of the model's own.
        facts: Facts for the manifest.
        out: Folder to write; an existing one is replaced.

    Returns:
        ``out``.

    Raises:
        PipelineError: The disk is full or not writable.
    """
    files = base.files
    try:
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
        written = [] if reference else [_copy_file(path, out / path.name, source.immutable) for path in files]
        for name, text in ((CHAT_TEMPLATE, template.supplied), (GENERATION_CONFIG, generation_config)):
            if text is not None:
                # The path may be a hard link to the model's own file, which must keep its bytes.
                (out / name).unlink(missing_ok=True)
                (out / name).write_text(text, encoding="utf-8")
                written.append(out / name)
    except OSError as error:
        raise PipelineError(f"{out}: cannot write ({error.strerror}); free some space and run again") from error
    manifest_facts: dict[str, Any] = {"source": source.origin(base.source_folder), "reference": None, **facts}
    if reference:
        manifest_facts["reference"] = source.reference(base.folder)
        manifest_facts["referenced_files"] = {
            path.name: {"sha256": hash_file(path), "bytes": path.stat().st_size} for path in track(files, "hashing")
        }
    seal(out, sorted(set(written)), manifest_facts)
    return out


def _copy_file(source: Path, target: Path, hard_link: bool) -> Path:
    """Link, clone or copy one file; symbolic links are followed."""
    real = source.resolve()
    if hard_link:
        try:
            os.link(real, target)
            return target
        except OSError:
            target.unlink(missing_ok=True)  # another file system: copy below
    if not _clone(real, target):
        shutil.copyfile(real, target)
    return target


def _clone(source: Path, target: Path) -> bool:
    """Copy on write, where the file system supports it."""
    try:
        import fcntl
    except ImportError:
        return False
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            return False
    return True
