"""The shape of the base, from what stage 2 recorded or else from headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.releases.source import MODEL
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import find_json
from tasks.language_models.folder.headers import read_gguf_shape_of, read_shape_of
from tasks.language_models.folder.shape import ModelShape, read_shape
from tasks.model_initialisation.checks import check_folder
from tasks.model_initialisation.sources.folder import Folder
from tasks.model_initialisation.sources.gguf import Gguf, find_packaged_file
from tasks.model_initialisation.sources.hub import Hub
from tasks.model_initialisation.sources.registry import RegisteredVersion


@dataclass(frozen=True)
class FoundBase:
    """A base and where its shape is from.

    Attributes:
        shape: Its shape.
        name: What params call it.
        source: ``models/initial``, or the headers of its files.
    """

    shape: ModelShape
    name: str
    source: str


def find_base(params: Params) -> FoundBase:
    """The base of the params; the pinned copy in ``models/initial`` where it is of the same source.

    Raises:
        PipelineError: Its files are not on this machine, or are not a model.
    """
    source = params.model_initialisation.source
    origin = find_json(artifacts.INITIAL / "manifest.json").get("source")
    settings = params.model_initialisation
    possible = [source, *(settings.candidates if settings.choose == "recommended" else ())]
    if origin is not None and any(origin == each.origin(_release_of(each)) for each in possible):
        return FoundBase(read_shape(artifacts.INITIAL), _name(source), str(artifacts.INITIAL))
    if isinstance(source, Gguf):
        return FoundBase(_read_gguf(source), _name(source), "its header")
    folder = _find_folder(source)
    checked = check_folder(folder)
    return FoundBase(read_shape_of(checked.config, checked.weights.shapes), _name(source), "its headers")


def _name(source: Any) -> str:
    return str(
        getattr(source, "id", None)
        or getattr(source, "path", None)
        or getattr(source, "package", None)
        or getattr(source, "asked", "")
    )


def _release_of(source: Any) -> Path:
    """The model folder of the frozen release of a registered version; of any other source none."""
    if not isinstance(source, RegisteredVersion):
        return Path()
    frozen = find_json(artifacts.SOURCE).get(source.asked) or {}
    return artifacts.RELEASES / str(frozen.get("release")) / MODEL


def _find_folder(source: Any) -> Path:
    """The folder of a base, nothing downloaded.

    Raises:
        PipelineError: It is not on this machine.
    """
    if isinstance(source, Folder):
        return source.fetch()
    if isinstance(source, Hub):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(source.id, revision=source.revision, local_files_only=True))
        except LocalEntryNotFoundError as error:
            raise PipelineError(
                f"{source.id}@{source.revision[:12]}: not in the local cache, so its headers cannot be read; "
                "`heptune run model_initialisation` downloads it"
            ) from error
    if (_release_of(source) / "config.json").is_file():
        return _release_of(source)
    raise PipelineError(
        f"a base of the source {source.name} has no headers to read; `heptune run model_initialisation` describes it"
    )


def _read_gguf(source: Gguf) -> ModelShape:
    """From the file's own header."""
    from gguf import GGUFReader

    path = source.path if source.path is not None else find_packaged_file(str(source.package))
    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise PipelineError(f"{path}: not a GGUF file that can be read ({error}); download it again") from error
    wanted = ("architecture", "length", "count", "head_count", "head_count_kv", "key_length")
    fields: Mapping[str, Any] = {
        name: field.contents() for name, field in reader.fields.items() if name.rpartition(".")[2].endswith(wanted)
    }
    # The file has the sizes of a tensor from the innermost outwards.
    tensors = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    return read_gguf_shape_of(fields, tensors)
