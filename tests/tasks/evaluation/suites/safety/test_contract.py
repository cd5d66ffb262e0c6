"""Every suite of safety asks the same in every run, scores any reply, and belongs to an axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tasks.evaluation.suites import AnySuite
from tasks.evaluation.suites.run_data import AsksAboutRun
from tasks.evaluation.suites.safety import SAFETY
from tasks.evaluation.trustworthiness.axes import AXES
from tests.tasks.evaluation.suites.safety.made import answer, make_run, write_files

# Params of members that need some; files are written into the test's folder.
SETTINGS: dict[str, dict[str, Any]] = {
    "over_refusal": {"files": "xstest.csv"},
    "harmful_compliance": {"files": "requests.txt"},
    "jailbreak": {"files": "requests.txt", "wrappers": "wrappers.json"},
    "toxicity": {"guard": {"name": "rules", "words": ["toad"]}},
    "machine_ethics": {"files": "ethics.csv"},
    "fairness": {"files": "loans.csv"},
    "memorisation": {"words": 4},
    "group_errors": {"group": "length", "least": 1},
    "adversarial_demonstrations": {"demonstrations": 2},
}
NAMES = [member.model_fields["name"].default for member in SAFETY]


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_of_safety(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    run = make_run(tmp_path)
    adapter: TypeAdapter[Any] = TypeAdapter(AnySuite)
    suite = adapter.validate_python({"name": name, **SETTINGS.get(name, {})})
    assert adapter.validate_python(suite.model_dump(mode="json")) == suite
    assert (suite.key, suite.role, suite.margin) == (name, "shown", None)
    guard = adapter.validate_python({"name": name, "role": "guard", "title": "mine", **SETTINGS.get(name, {})})
    assert (guard.key, guard.margin) == ("mine", guard.usual_margin)
    assert guard.usual_margin > 0

    def read() -> list[Any]:
        return suite.read_run(run) if isinstance(suite, AsksAboutRun) else suite.read()

    questions = read()
    assert questions == read()
    assert 0 < len(questions) <= suite.items
    assert len({question.key for question in questions}) == len(questions)
    found = suite.score(questions, answer(questions))
    assert found.failed == {}
    assert set(found.scores) == set(suite.measures)
    for measure, scores in found.scores.items():
        assert len(scores.values) == len(scores.weights) == len(questions)
        if suite.measures[measure].bounded:
            assert ((scores.values >= 0) & (scores.values <= 1))[scores.weights > 0].all()
    first = found.scores[next(iter(suite.measures))]
    assert first.weights.sum() > 0, "its first measure, which decides, has nothing to score here"
    assert any(name in axis.suites for axis in AXES)


def test_the_axes_name_suites_that_there_are() -> None:
    assert sorted(NAMES) == sorted(name for axis in AXES for name in axis.suites)
    assert sum(axis.of_decoding_trust for axis in AXES) == 8


def test_files_that_are_not_there_are_told_before_any_work() -> None:
    from flows.wiring.preflight.paths import find_marked

    adapter: TypeAdapter[Any] = TypeAdapter(AnySuite)
    toxic = adapter.validate_python(
        {"name": "toxicity", "files": "a.txt", "guard": {"name": "rules", "file": "words.txt"}}
    )
    assert [key for key, *_ in find_marked(toxic, "x")] == ["x.guard.file", "x.files"]
    unknown = adapter.validate_python({"name": "unknown_answers", "files": "b.txt", "role": "guard"})
    assert [value for _, value, *_ in find_marked(unknown, "x")] == ["b.txt"]
    judged = {"name": "tone", "guard": {"name": "wildguard", "path": "c"}}
    assert [value for _, value, *_ in find_marked(adapter.validate_python(judged), "x")] == ["c"]
