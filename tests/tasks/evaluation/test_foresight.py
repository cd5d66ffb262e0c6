"""What the sizes of the splits allow is said before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.preflight import sizes
from tasks.contracts.power import detectable_share
from tasks.contracts.records import EXAMPLES, UNTRAINED
from tasks.contracts.tables import write_table
from tasks.evaluation.decisions.reuse import EarlierDecision, FrozenChampion, sketch_items
from tasks.evaluation.foresight import Foresight, HeldOut, count_held_out, foresee_use, foresee_verdicts
from tasks.evaluation.params import Evaluation
from tests.tiny import example_rows, write_examples

SMALL = HeldOut(rows=24, labelled=24, clusters=22, requests=24, labels=4, all_rows=240)


def foresee(found: HeldOut, test_share: float | None = 0.1, **evaluation: object) -> Foresight:
    return foresee_verdicts(found, Evaluation.model_validate(evaluation), test_share, 100)


def test_the_detectable_difference_is_that_of_the_formula() -> None:
    assert detectable_share(24) == pytest.approx(2.8016 * (0.5 / 24) ** 0.5, rel=1e-4)
    assert detectable_share(1570) == pytest.approx(0.05, abs=1e-4)
    assert detectable_share(1) == 1.0


def test_too_few_rows_for_the_gate_are_told_with_what_to_do() -> None:
    found = foresee(SMALL)
    assert found.problems == (
        "no candidate can be promoted: evaluation.gate.minimum_items is 100, and intent_accuracy is scored on 24 "
        "held-out rows; raise data_preparation.split.test from 0.1 to 0.46, or judge by fewer rows (evaluation.gate: "
        "{primary: loss, minimum_items: 24})",
        "no drift can be found: monitoring.drift.minimum_rows is 100, and the baseline, the answers to the held-out "
        "rows, has 24; raise data_preparation.split.test from 0.1 to 0.46",
    )
    assert found.notes == (
        "on 24 held-out rows an improvement of intent_accuracy by 0.42 is found with a probability of 80%, a smaller "
        "one less often",
    )
    # What it suggests does away with the problem.
    assert not foresee(SMALL, gate={"primary": "loss", "minimum_items": 24}).problems[1:]
    fewer = foresee(replace(SMALL, rows=6, labelled=6, requests=6)).problems[0]
    assert "add about 4,160 rows, or fewer with a larger data_preparation.split.test (now 0.1)" in fewer
    assert "; hold out 100 rows, or" in foresee(SMALL, None).problems[0]


def test_only_labelled_rows_count_for_intent_accuracy() -> None:
    many = HeldOut(rows=400, labelled=30, clusters=400, requests=400, labels=4, all_rows=4000)
    assert "intent_accuracy is scored on 30 held-out rows" in foresee(many).problems[0]
    none = replace(many, labelled=0, labels=0)
    told = foresee(none)
    assert not told.problems
    assert told.notes[0] == (
        "intent_accuracy does not apply (the training split has fewer than two labels), so loss decides about promotion"
    )
    alone = foresee(none, metrics=["intent_accuracy"], gate={"must_not_worsen": {}})
    assert alone.problems[0].startswith("no model can be compared: the training split has fewer than two labels; add")


def test_documents_and_rewards_are_foreseen_as_evaluation_scores_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of texts alone 120 are items of continued pre-training, and none of anything else; a reward model has no loss."""
    monkeypatch.chdir(tmp_path)
    texts = [{**row, "messages": row["messages"][1:], "label": None} for row in example_rows(120)]  # type: ignore[index]
    for place in (artifacts.TRAIN, artifacts.TEST):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_examples(place, texts)

    def told(objective: str, **more: object) -> str:
        evaluation = {"metrics": ["loss"], "gate": {"primary": "loss", "must_not_worsen": {}}}
        setup = {"objective": {"name": objective}, **more}
        found = sizes.foresee(Params.model_validate({"evaluation": evaluation, "training_setup": setup}))
        return " ".join([*found.problems, *found.notes])

    assert "no candidate can be promoted" not in told("pretraining")
    assert "loss is scored on 0 held-out rows" in told("supervised")
    phases = [{"objective": {"name": "pretraining"}, "epochs": 1.0}, {"objective": {"name": "supervised"}}]
    assert "loss is scored on 0 held-out rows" in told("supervised", phases=phases)
    write_examples(artifacts.TEST, example_rows(120))
    assert "an improvement of reward_accuracy by" in told("reward_model")
    assert "an improvement of step_accuracy by" in told("process_reward_model")
    assert "loss" not in told("reward_model")


def test_what_answers_no_requests_has_no_drift_to_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards and vectors are no answers, documents no requests; more rows would change nothing of either."""
    monkeypatch.chdir(tmp_path)
    for place in (artifacts.TRAIN, artifacts.TEST):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_examples(place, example_rows(24))

    def told(objective: str) -> Foresight:
        return sizes.foresee(Params.model_validate({"training_setup": {"objective": {"name": objective}}}))

    assert any("no drift can be found" in problem for problem in told("supervised").problems)
    for objective, gives in (
        ("contrastive", "vectors"),
        ("reward_model", "rewards"),
        ("process_reward_model", "rewards"),
    ):
        found = told(objective)
        assert not any("drift" in problem for problem in found.problems)
        assert f"the release gives {gives} and answers no requests" in found.notes[-1]
    texts = [{**row, "messages": row["messages"][1:], "label": None} for row in example_rows(120)]  # type: ignore[index]
    write_examples(artifacts.TEST, texts)
    found = told("pretraining")
    assert not any("drift" in problem for problem in found.problems)
    assert "documents are no requests" in found.notes[-1]


def test_enough_rows_are_no_problem() -> None:
    found = foresee(HeldOut(rows=1000, labelled=1000, clusters=1000, requests=1000, labels=9, all_rows=9000), items=400)
    assert not found.problems
    assert found.notes[0].startswith(
        "on 400 held-out rows an improvement of intent_accuracy by 0.099 is found with a probability of 80%"
    )


def test_what_earlier_decisions_leave_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    test = write_examples(tmp_path / "test.parquet", example_rows(120))
    settings = Evaluation.model_validate({"gate": {"reuse": {"decisions": 3}}})
    assert foresee_use(test, FrozenChampion(None), settings) is None
    sketch = sketch_items(str(row["id"]) for row in example_rows(120))
    many = HeldOut(rows=120, labelled=120, clusters=120, requests=120, labels=4, all_rows=1200)
    told = []
    for count in (1, 3):
        decisions = tuple(EarlierDecision(candidate=str(n), items=sketch) for n in range(count))
        told.append(
            foresee_verdicts(many, settings, 0.1, 100, foresee_use(test, FrozenChampion("abc", decisions), settings))
        )
    first, worn = told
    assert not first.problems
    # At 97.5% instead of 95% the smallest detectable difference is (2.241 + 0.842) / (1.960 + 0.842) times as large.
    assert detectable_share(120, 0.975) == pytest.approx(detectable_share(120) * 1.1, rel=0.01)
    assert f"by {detectable_share(120, 0.975):.2g} is found" in first.notes[0]
    assert first.notes[1].startswith("these items have made 1 earlier decision (one had 100% of them): decision 2 of 3")
    assert "the set is worn out" in worn.problems[0]


def test_rows_are_counted_as_evaluation_counts_them(tmp_path: Path) -> None:
    def row(number: int, turns: int, label: str | None, cluster: str) -> dict[str, object]:
        messages = [{"role": role, "content": "x"} for role in ("user", "assistant")[:turns]]
        return {
            "id": str(number),
            "messages": messages,
            "source": "s",
            "row": number,
            "label": label,
            "cluster": cluster,
        }

    rows = [row(1, 2, "a", "p"), row(2, 2, None, "p"), row(3, 1, "a", "q"), row(4, 2, "b", "r")]
    for name in ("train", "test"):
        write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), tmp_path / f"{name}.parquet", EXAMPLES)
    found = count_held_out(tmp_path / "train.parquet", tmp_path / "test.parquet")
    assert found == HeldOut(rows=3, labelled=2, clusters=2, requests=3, labels=2, all_rows=8)
    # Splits with answers that carry no loss have a column more.
    marked = EXAMPLES.append(UNTRAINED)
    write_table(pa.Table.from_pylist(rows, schema=marked), tmp_path / "test.parquet", marked)
    assert count_held_out(tmp_path / "train.parquet", tmp_path / "test.parquet") == found
    # With folds training rows are items too, but for variants of others and for sources that are only trained on.
    more = [
        {**row(10 + place, 2, "a", f"t{place}"), "source": source}
        for place, source in enumerate(["s", "augmented by swap", "generated"])
    ]
    write_table(pa.Table.from_pylist(more, schema=EXAMPLES), tmp_path / "train.parquet", EXAMPLES)
    folded = count_held_out(tmp_path / "train.parquet", tmp_path / "test.parquet", 3, ["generated"])
    assert folded == HeldOut(rows=4, labelled=3, clusters=3, requests=4, labels=1, all_rows=7)


def test_folds_need_more_items_for_the_same_improvement() -> None:
    many = HeldOut(rows=400, labelled=400, clusters=400, requests=400, labels=4, all_rows=440)
    (plain, *_), (wide, *_) = (foresee(many, folds=folds).notes for folds in (None, 5))
    assert f"by {detectable_share(400):.2g} is found" in plain
    assert f"by {1.5 * detectable_share(400):.2g} is found" in wide
