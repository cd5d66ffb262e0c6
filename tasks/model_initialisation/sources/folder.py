"""A transformers folder on this machine, as `save_pretrained` writes it.

Example: ``source: {name: folder, path: models/base}``. Good for the embedded base, for air-gapped
machines and for a release of an earlier run. DVC tracks `models/base`; a change inside
another folder takes effect when the stage runs again (`dvc repro -f model_initialisation`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.model_initialisation.sources.access import NO_ACCESS, Access


class Folder(Section):
    """A local folder."""

    immutable: ClassVar[bool] = False

    name: Literal["folder"] = "folder"
    path: Annotated[Path, Reads("folder", holds="config.json")] = Field(
        default=Path("models/base"), description="folder with config.json, *.safetensors and the tokenizer"
    )

    def fetch(self, access: Access = NO_ACCESS) -> Path:
        """The folder itself.

        Raises:
            PipelineError: There is no such folder.
        """
        if self.path.is_dir():
            return self.path
        found = "a file" if self.path.exists() else "nothing"
        raise PipelineError(
            f"{self.path}: {found} there; expected a folder with config.json, *.safetensors and a tokenizer; "
            "set model_initialisation.source.path or use a hub source: {name: hub, id: ..., revision: ...}"
        )

    def origin(self, folder: Path) -> dict[str, str]:
        return {"folder": self.path.as_posix()}

    def reference(self, folder: Path) -> dict[str, str]:
        return {"folder": folder.resolve().as_posix()}

    def facts(self, folder: Path) -> dict[str, str]:
        return {}
