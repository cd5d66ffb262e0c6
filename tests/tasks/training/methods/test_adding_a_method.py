"""A method is added by following the docs: one file, its name in the union, the contract test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT

SECTION = (ROOT / "docs/extending.md").read_text()
STEPS = [" ".join(step.split()) for step in re.findall(r"^\d\. (.*?)(?=^\d\. |^$)", SECTION, re.MULTILINE | re.DOTALL)]

ONE_LAYER = '''"""One kind of linear layer is trained, everything else is as it was.

Good for showing how a method is added. Example: ``method: {name: one_layer, layer: down_proj}``; on a model of
two blocks with layers of 64 x 128 that is 2 x 64 x 128 = 16,384 trained weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.method import Can, Rates

FILE = "one_layer.safetensors"


class OneLayer(Section):
    """Train the linear layers of one name."""

    can: ClassVar[Can] = Can(
        frozen_base=False,
        quantized_base=False,
        checkpointing=True,
        reads_gradients=False,
        packing=True,
        merging=True,
        low_rank=False,
    )

    name: Literal["one_layer"] = "one_layer"
    layer: str = Field(default="down_proj", description="last part of the layers' name")

    def problems(self, shape: ModelShape) -> list[str]:
        known = ", ".join(shape.linear)
        return [] if self.layer in shape.linear else [f"method.layer: no {self.layer}; expected one of: {known}"]

    def unusual(self, shape: ModelShape) -> list[str]:
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return (1e-5, 3e-3)

    def resolve(self, shape: ModelShape) -> Self:
        return self

    def trainable(self, shape: ModelShape) -> int:
        return sum(out * inner for out, inner in shape.linear.get(self.layer, ()))

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return list(shape.linear.get(self.layer, ()))

    def own_bytes(self, shape: ModelShape) -> int:
        return 0

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def describe(self) -> str:
        return f"training of {self.layer} alone"

    def adapt(self, model: Any) -> Any:
        for name, weights in model.named_parameters():
            weights.requires_grad_(name.endswith(f".{self.layer}.weight"))
        return model

    def save(self, model: Any, folder: Path) -> list[Path]:
        from safetensors.torch import save_file

        trained = {name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad}
        save_file(trained, folder / FILE)
        return [folder / FILE]

    def load(self, base: Path, tuned: Path) -> Any:
        from safetensors.torch import load_file

        model = load_model(base)
        model.load_state_dict(load_file(tuned / FILE), strict=False)
        return model

    def merge(self, base: Path, tuned: Path) -> Any:
        return self.load(base, tuned)
'''


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code and its tests, to add a method to."""
    for name in ("tasks", "tests", "flows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "docs").mkdir()
    for name in ("docs/extending.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def follow_the_docs(folder: Path, source: str) -> list[str]:
    """Do the first two steps; gives the words of the third one's command."""
    write, name_it, check = STEPS
    (file,) = re.findall(r"Write `(\S+)<name>\.py`", write)
    (folder / file / "one_layer.py").write_text(source)
    registry, union = re.findall(r"`(\S+)`", name_it)
    text = (folder / registry).read_text()
    text = text.replace("\nfrom tasks", "\nfrom tasks.training.methods.one_layer import OneLayer\nfrom tasks", 1)
    assert text.count(f"{union} = Annotated[") == 1
    (folder / registry).write_text(text.replace(f"{union} = Annotated[", f"{union} = Annotated[OneLayer | "))
    (command,) = re.findall(r"`python ([^`]*) -k <name>`", check)
    return [*command.split(), "-k", "one_layer"]


@pytest.mark.slow
def test_a_method_in_one_file_passes_the_contract(copy: Path) -> None:
    command = follow_the_docs(copy, ONE_LAYER)
    done = python(copy, *command, "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    assert done.returncode == 0, done.stdout + done.stderr
    # GPT-2 has no such layer.
    assert re.search(r"\b8 passed, 1 skipped\b", done.stdout), done.stdout
    read = "from tasks.training_setup.params import TrainingSetup as S; "
    named = python(copy, "-c", read + "print(S(method={'name': 'one_layer', 'layer': 'q_proj'}).method.layer)")
    assert named.stdout == "q_proj\n", named.stderr
    wrong = python(copy, "-c", read + "S(method={'name': 'oen_layer'})")
    assert "'one_layer', 'full', 'lora'" in wrong.stderr


@pytest.mark.slow
def test_the_contract_notices_a_method_that_is_not_what_it_says(copy: Path) -> None:
    source = ONE_LAYER
    for right, wrong in (
        ("frozen_base=False,", "frozen_base=True,"),
        ("sum(out * inner for", "sum(out + inner for"),
        ("        model.load_state_dict(load_file(tuned / FILE), strict=False)\n", ""),
    ):
        assert source.count(right) == 1
        source = source.replace(right, wrong)
    command = follow_the_docs(copy, source)
    command[-1] += " and (memory or steps or saved)"
    done = python(copy, *command, "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    assert done.returncode == 1, done.stdout + done.stderr
    assert sorted(re.findall(r"^FAILED \S+::(\w+)", done.stdout, re.MULTILINE)) == [
        "test_memory_is_what_torch_holds",
        "test_steps_change_what_is_trainable_and_nothing_else",
        "test_what_is_saved_loads_to_the_same_logits",
    ]


def test_params_of_methods_are_read_without_the_libraries_that_train() -> None:
    heavy = ("torch", "peft", "transformers", "numpy", "pyarrow", "polars")
    code = (
        f"import sys, tasks.training.methods, tasks.training.choices; print([m for m in {heavy} if m in sys.modules])"
    )
    assert python(ROOT, "-c", code).stdout == "[]\n"
