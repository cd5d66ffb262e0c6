"""A licence is found wherever a model states it, and a denied one is named in the refusal."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json
from tasks.model_initialisation.checks import check_folder
from tasks.model_initialisation.licences import check_licence, find_licence


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\ntags: [a]\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama3.2\n---\n", "llama3.2"),
        ("---\nlicense: [mit, 'apache-2.0']\n---\n", "mit, apache-2.0"),
        ("---\nlicense:\n  - cc-by-nc-4.0\n  - mit\nlanguage: en\n---\n", "cc-by-nc-4.0, mit"),
        ("---\nlicense: other\n---\n", "other"),
        ("# Model\nlicense: mit\n", "not stated"),
        ('---\ntitle: "license: mit"\n---\n', "not stated"),
    ],
)
def test_the_licence_of_a_card(tmp_path: Path, card: str, licence: str) -> None:
    (tmp_path / "README.md").write_text(card)
    assert find_licence(tmp_path, {}) == licence


def test_other_places_of_a_licence(tmp_path: Path) -> None:
    assert find_licence(tmp_path, {"license": "mit"}) == "mit"
    (tmp_path / "LICENSE.txt").write_text("You may.")
    assert find_licence(tmp_path, {}) == "see LICENSE.txt"


def test_a_release_has_its_card_above_the_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert find_licence(tmp_path / "model", {}) == "not stated"
    write_json(tmp_path / "manifest.json", {"release": "ab" * 32})
    assert find_licence(tmp_path / "model", {}) == "mit"


def test_a_denied_licence_stops_and_is_named(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    (model / "README.md").write_text("---\nlicense: [mit, CC-BY-NC-4.0]\n---\n")
    base = check_folder(model)
    assert check_licence(base, ("llama2",)) == "mit, CC-BY-NC-4.0"
    with pytest.raises(PipelineError, match=r"its licence is CC-BY-NC-4\.0, which .*\(cc-by-nc-\*\) rules out"):
        check_licence(base, ("llama2", "cc-by-nc-*"))
    (model / "README.md").unlink()
    with caplog.at_level(logging.WARNING):
        assert check_licence(base, ()) == "not stated"
        assert not caplog.records
        check_licence(base, ("mit",))
    assert "its licence is not stated, so" in caplog.text
