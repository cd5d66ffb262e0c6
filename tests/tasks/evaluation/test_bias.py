"""The bias probe at evaluation: each model's leans, and the candidate's change from the base, couple by couple."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.evaluation.bias import bias_figures, bias_table
from tasks.language_models.probes.bias_probe import BiasMeasure
from tasks.language_models.probes.bias_sentences import COUPLES, GROUPS
from tests.tasks.evaluation.boards import make_outcome


def test_the_change_is_paired() -> None:
    random = np.random.default_rng(0)
    leans = random.normal(size=len(COUPLES))
    base = replace(make_outcome("base", ["a"]), bias=BiasMeasure(leans))
    candidate = replace(make_outcome("candidate", ["a"]), bias=BiasMeasure(leans + 0.25))
    figures = bias_figures({"base": base, "candidate": candidate})
    assert figures["candidate_vs_base.bias_lean.difference"] == pytest.approx(0.25)
    # Every couple changed alike, so the change is certain, though the leans themselves are not.
    assert figures["candidate_vs_base.bias_lean.low"] == pytest.approx(0.25)
    assert figures["candidate.bias_lean"] - figures["base.bias_lean"] == pytest.approx(0.25, abs=1e-3)
    table = bias_table({"base": base, "candidate": candidate})
    assert table is not None
    columns, rows, note = table
    assert columns == ["group", "base", "candidate", "change", "95% interval of the change"]
    assert [row[0] for row in rows] == [*GROUPS, "all groups"]
    assert {row[3] for row in rows} == {"+0.250"}
    assert "English" in note


def test_what_was_not_measured_is_left_out() -> None:
    base = make_outcome("base", ["a"])
    candidate = replace(make_outcome("candidate", ["a"]), bias=BiasMeasure(np.ones(len(COUPLES))))
    assert bias_table({"base": base}) is None
    assert bias_figures({"base": base}) == {}
    assert set(bias_figures({"base": base, "candidate": candidate})) == {"candidate.bias_lean", "candidate.bias_share"}
