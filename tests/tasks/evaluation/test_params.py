"""The section reads as documented and refuses gates that could never open."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.evaluation.params import Evaluation


def test_defaults_and_names_alone() -> None:
    short = Evaluation.model_validate({"metrics": ["loss", {"name": "rouge_l"}], "gate": {"primary": "loss"}})
    assert [metric.name for metric in short.metrics] == ["loss", "rouge_l"]
    assert Evaluation().metrics[0].name == Evaluation().gate.primary


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metrics": ["blue"]}, "'intent_accuracy', 'macro_f1', .*'loss', .*'rouge_l', .*'bleu'"),
        ({"metrics": ["loss", "loss"]}, "name each once"),
        ({"metrics": ["loss"]}, "intent_accuracy, rouge_l is not scored"),
        ({"items": 50}, "below gate.minimum_items"),
        ({"gate": {"must_not_worsen": {"loss": -0.1}}}, "greater than or equal to 0"),
        ({"gate": {"must_not_fal": {}}}, "Extra inputs"),
    ],
)
def test_refusals(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Evaluation.model_validate(values)
