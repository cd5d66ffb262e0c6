"""Models by name: what there is not is one line, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.releases.named_models import find_model
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file, write_json


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "nowhere",
            r'"nowhere": no such folder; expected base, tuned, emulated, champion, .* run that made one, or a model',
        ),
        ("empty", '"empty": no config.json there; expected base'),
        ("base", "models/initial: missing or not complete; `heptune run` makes it"),
        ("tuned", "models/initial: missing"),
        ("emulated", "models/initial: missing"),
    ],
)
def test_what_there_is_not(asked: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match=said):
        find_model(asked, "fp32")


def test_the_hash_of_a_model_is_that_of_its_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (artifacts.INITIAL, artifacts.TUNED, Path("plain")):
        folder.mkdir(parents=True)
        write_json(folder / "manifest.json", {"of": str(folder)})
    write_json(Path("plain/config.json"), {})
    initial, tuned = (hash_file(folder / "manifest.json") for folder in (artifacts.INITIAL, artifacts.TUNED))
    assert find_model("base", "fp32").identity == initial
    assert find_model("tuned", "fp32").identity == f"{initial} {tuned}"
    assert find_model("plain", "fp32").identity == "", "a folder that anybody may change"

    def emulate(decoding: dict[str, object]) -> str:
        params = Params.model_validate({"deployment": {"gateway": {"engine": {"decoding": decoding}}}})
        monkeypatch.setattr("flows.wiring.releases.named_models.read_params", lambda: params)
        return find_model("emulated", "fp32").identity

    with pytest.raises(PipelineError, match=r"engine\.decoding says how, and is another; set it to {name: emulated"):
        emulate({"name": "plain"})
    asked = {"name": "emulated", "large": "plain", "small": "plain", "strength": 0.5}
    with pytest.raises(PipelineError, match=r"decoding\.large: other: no config\.json there"):
        emulate({**asked, "large": "other"})
    first = emulate(asked)
    assert first.startswith(f"{initial} {tuned} ")
    write_json(Path("plain/config.json"), {"changed": 1})
    assert emulate(asked) != first, "another large base"
