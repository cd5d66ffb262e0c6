"""Reward models: their losses are TRL's and transformers', and what is released gives the rewards that were trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl.trainer.reward_trainer import RewardTrainer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json
from tasks.contracts.records import ANSWER_SETS, EXAMPLES, STEPS
from tasks.contracts.tables import write_table
from tasks.deployment.exports.safetensors import Safetensors
from tasks.deployment.merge import export_model
from tasks.deployment.parity import prove_parity
from tasks.evaluation.items import select_items
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.outcomes import AnswerSettings, answer_with_base, answer_with_candidate, answer_with_champion
from tasks.evaluation.reward_metrics.added import add_reward_metrics
from tasks.evaluation.scoring import score_outcomes
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.encoding import IGNORED
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.language_models.folder.shape import ModelShape
from tasks.training.answer_steps import find_step_ends
from tasks.training.objectives.data import Tokenization, split_tables
from tasks.training.objectives.reward_models.process_reward_model import ProcessRewards
from tasks.training.objectives.reward_models.reward_model import OutcomeRewards
from tasks.training.objectives.reward_models.steps import CHANGED, tokenize_steps
from tasks.training.plan import Plan
from tasks.training.released import load_released
from tasks.training.reward_models import REWARD_HEAD, last_place
from tasks.training.rewards.model import RewardModel
from tasks.training.rewards.reward import AnswerAttempt
from tasks.training.tuned import merge_reward_model
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan
from tests.tasks.training.methods.test_contract import Interrupted, hash_folder, interrupt_at
from tests.tasks.training.objectives import rows
from tests.tasks.training.objectives.test_contract import MACHINE, make_plan
from tests.tasks.training.objectives.toy import make_toy_plan, make_toy_splits

WIDTH = 8


class Given:
    """A scorer of states that were drawn, and of a head."""

    def __init__(self, positions: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.states = torch.randn(positions, WIDTH, generator=generator)
        head = torch.nn.Linear(WIDTH, 1, bias=False)
        torch.nn.init.normal_(head.weight, generator=generator)
        self.model = SimpleNamespace(**{REWARD_HEAD: head})
        self.rewards = self.states @ head.weight[0]

    def at_ends(self, _: Any, head: Any) -> torch.Tensor:
        found: torch.Tensor = head(self.states)
        return found

    def at_states(self, _: Any, places: torch.Tensor, head: Any) -> torch.Tensor:
        found: torch.Tensor = head(self.states[places])
        return found


@pytest.mark.parametrize(("centre", "margin"), [(0.0, 0.0), (0.1, 0.0), (0.05, 0.5)])
def test_the_loss_of_pairs_is_trls(centre: float, margin: float) -> None:
    given, scores = Given(6), torch.tensor([3.0, 1.0, 5.0, 4.0, 1.0, 0.0])
    objective = OutcomeRewards(centre=centre, margin=margin)
    found = objective.loss(given, {"score": scores, "items": torch.arange(3)})  # type: ignore[arg-type]
    logits = torch.cat([given.rewards[0::2], given.rewards[1::2]])[:, None]
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), args=SimpleNamespace(center_rewards_coefficient=centre or None),
        accelerator=SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x), _total_train_tokens=0,
        _tp_size=1, _metrics=defaultdict(lambda: defaultdict(list)),
    )  # fmt: skip
    inputs = {"attention_mask": torch.ones(6, 2)}
    if margin:
        inputs["margin"] = margin * (scores[0::2] - scores[1::2])
    theirs = RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=logits), inputs)
    assert found.total.item() / 3 == pytest.approx(theirs.item(), abs=1e-6)
    assert found.figures["accuracy"][0] / 3 == pytest.approx(trainer._metrics["train"]["accuracy"][0])
    assert found.figures["margin"][0] / 3 == pytest.approx(trainer._metrics["train"]["margin"][0])


def test_the_loss_of_steps_is_that_of_two_classes() -> None:
    """TRL's trainer of process rewards is transformers' token classifier with two labels."""
    given = Given(8)
    labels = torch.tensor([[IGNORED, 1, IGNORED, 0], [IGNORED, IGNORED, 1, 0]])
    found = ProcessRewards().loss(given, {"labels": labels})  # type: ignore[arg-type]
    logits = torch.stack([torch.zeros(8), given.rewards], -1)
    theirs = torch.nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    assert found.total.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert ProcessRewards().units({"labels": labels}) == 4


def test_examples_of_the_pages() -> None:
    given = SimpleNamespace(at_ends=lambda *_: torch.tensor([1.5, 0.5]), model=SimpleNamespace(reward_head=None))
    inputs = {"items": torch.arange(1), "score": torch.tensor([5.0, 3.0])}
    assert OutcomeRewards(centre=0.01).loss(given, inputs).total.item() == pytest.approx(0.313 + 0.04, abs=1e-3)  # type: ignore[arg-type]
    assert OutcomeRewards(centre=0, margin=0.5).loss(given, inputs).total.item() == pytest.approx(0.693, abs=1e-3)  # type: ignore[arg-type]
    steps = SimpleNamespace(at_states=lambda *_: torch.tensor([2.0, 1.0]), model=given.model)
    found = ProcessRewards().loss(steps, {"labels": torch.tensor([[1, 0]])}).total.item()  # type: ignore[arg-type]
    assert found == pytest.approx(0.127 + 1.313, abs=1e-3)


def test_a_step_ends_with_the_token_that_completes_it(initial: Path) -> None:
    tokenizer = load_tokenizer(initial)
    how = Tokenization(tokenizer, 96)
    found = tokenize_steps(split_tables(rows.examples("train"), rows.stepwise(), "train").answers, how)
    tokens, labels = found.row(0)
    places = np.flatnonzero(labels != IGNORED)
    assert labels[places].tolist() == [1, 0, 1]
    assert len(tokens) - 1 == places[-1], "the last step is read at the last token of the answer"
    whole = tokenizer.decode(tokens[: places[0] + 1])
    assert whole.endswith("up.")
    assert tokenizer.decode(tokens[: places[1] + 1]).rstrip().endswith(".")
    assert found.supervised == sum(map(len, [one for one in rows.stepwise()["steps"].to_pylist()[:40] if one]))
    # A cut answer keeps the steps that end before.
    short = tokenize_steps(rows.stepwise().slice(0, 1), Tokenization(tokenizer, int(places[1]) + 1))
    assert (len(short), short.cut, short.supervised) == (1, 1, 2)
    changed = rows.stepwise().slice(0, 1).to_pylist()
    changed[0]["steps"] = [True]
    table = pa.Table.from_pylist(changed, schema=ANSWER_SETS.append(STEPS))
    assert tokenize_steps(table, how).dropped == {CHANGED: 1}
    assert find_step_ends(tokenizer, tokenizer("other words").input_ids, ["these"], whole=True) == []


def test_the_last_token_is_that_of_the_classifiers(initial: Path) -> None:
    assert last_place([5, 6, 1, 1], 1) == 1
    tokenizer = load_tokenizer(initial)
    pairs = OutcomeRewards().tokenize(
        split_tables(rows.examples("train"), rows.answers(), "train"), Tokenization(tokenizer, 96)
    )
    end = pairs.row(0)[0][-1]
    tokenizer.pad_token_id = int(end)
    cut = OutcomeRewards().tokenize(
        split_tables(rows.examples("train"), rows.answers(), "train"), Tokenization(tokenizer, 96)
    )
    assert cut.row(0)[0].tolist() == pairs.row(0)[0][:-1].tolist()


def process_plan(initial: Path, shape: ModelShape, **changes: Any) -> tuple[Plan, Splits]:
    settings = TrainingSetup.model_validate(
        {
            "objective": {"name": "process_reward_model"}, "method": {"name": "lora", "rank": 4, "dropout": 0.1},
            "max_tokens": 96, "max_steps": 6, "batch_size": 2, "learning_rate": 1e-2, "precision": "fp32", "threads": 1,
            "checkpoint_every": {"steps": 4}, "evaluate_every": {"steps": 3}, "log_every_steps": 1, **changes,
        }
    )  # fmt: skip
    from tasks.training_setup.counts import count_tokens

    tables = rows.examples("train"), rows.examples("validation")
    how = {"objective": settings.objective, "answers": rows.stepwise()}
    plan = resolve_plan(settings, shape, count_tokens(*tables, initial, 96, **how), MACHINE).plan  # type: ignore[arg-type]
    splits = tokenize_splits(*tables, initial, 96, 8, **how)  # type: ignore[arg-type]
    return plan.model_copy(update={"predicted_memory_bytes": 2**20}), splits


def test_rewards_of_steps_are_learned_resumed_and_evaluated(initial: Path, shape: ModelShape, tmp_path: Path) -> None:
    plan, splits = process_plan(initial, shape, max_steps=16, learning_rate=2e-2, checkpoint_every={"steps": 8})

    def run(folder: str, on_metrics: Any = None) -> Run:
        places = tmp_path / folder / "checkpoints", tmp_path / folder / "tuned"
        return fine_tune(plan, splits, initial, *places, on_metrics=on_metrics)

    whole = run("whole")
    with pytest.raises(Interrupted):
        run("halves", interrupt_at(9))
    assert run("halves").curve == whole.curve
    assert hash_folder(tmp_path / "whole/tuned") == hash_folder(tmp_path / "halves/tuned")
    validated = [point.figures for point in whole.curve if point.eval_loss is not None]
    assert validated[0]["eval_right"] == 0.5
    assert validated[-1]["eval_right"] > 0.9
    assert validated[-1]["eval_good_reward"] > validated[-1]["eval_bad_reward"]
    # Evaluation takes wrong answers too, and gives the same rewards as training.
    write_table(rows.examples("test"), tmp_path / "test.parquet", EXAMPLES)
    write_table(rows.stepwise(), tmp_path / "answers.parquet", ANSWER_SETS.append(STEPS))
    selected = select_items(
        tmp_path / "test.parquet", 50, initial, None, answers=tmp_path / "answers.parquet", steps=True
    )
    assert len(selected.items) == 8
    assert not all(all(item.steps) for item in selected.items)
    board = judge(selected.items, initial, tmp_path / "whole/tuned", None)
    assert set(board.metrics) == {"step_accuracy", "reward_calibration"}
    assert board.estimates["base", "step_accuracy"].value == 0.5
    assert board.estimates["base", "reward_calibration"].value == pytest.approx(0.25)
    assert board.estimates["candidate", "step_accuracy"].value > 0.9
    assert board.estimates["candidate", "reward_calibration"].value < 0.25
    # Released, it rewards answers by all of their steps.
    released = export_model(initial, tmp_path / "whole/tuned", Safetensors(), tmp_path / "release/model").folder
    held_out = [row for row in rows.stepwise().to_pylist() if row["split"] == "test"]
    attempts = [
        AnswerAttempt(row["prompt"], row["answers"][0]["turns"][0]["content"], 0, True, None, None, row["id"])
        for row in held_out
    ]
    values = RewardModel(path=str(released), steps="product").open(None)(attempts)
    good = [all(row["steps"]) for row in held_out]
    assert min(value for value, right in zip(values, good, strict=True) if right) > max(
        value for value, right in zip(values, good, strict=True) if not right
    )


def judge(items: Any, initial: Path, tuned: Path, champion: Path | None) -> Any:
    how = AnswerSettings(8, 4, device="cpu", rewards=True)
    evidence = Evidence(items, None, rewards=True)
    outcomes = [
        answer_with_base(items, initial, how),
        answer_with_champion(items, champion, how),
        answer_with_candidate(items, initial, tuned, how),
    ]
    return score_outcomes(evidence, outcomes, add_reward_metrics((), evidence), 1000, 0.95, 0.8, 0)


def test_what_is_released_is_what_was_trained_and_a_reward_of_reinforcement(
    initial: Path, shape: ModelShape, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan, splits = make_plan(OutcomeRewards(), "lora", initial, shape)
    fine_tune(plan, splits, initial, tmp_path / "checkpoints", tmp_path / "tuned")
    write_table(rows.examples("test"), tmp_path / "test.parquet", EXAMPLES)
    write_table(rows.answers(), tmp_path / "answers.parquet", ANSWER_SETS)
    with caplog.at_level("INFO"):
        released = export_model(initial, tmp_path / "tuned", Safetensors(), tmp_path / "release/model").folder
    assert "AutoModelForSequenceClassification opens it" in caplog.text
    proof = prove_parity(
        initial,
        tmp_path / "tuned",
        released,
        tmp_path / "test.parquet",
        lambda *_: [],
        5,
        8,
        1.0,
        tmp_path / "parity.json",
    )
    assert proof.passed
    assert (proof.prompts, proof.answers_all) == (5, 5)
    assert 0 < max(proof.logit_differences) < 1e-4
    assert read_json(tmp_path / "parity.json")["passed"]
    with pytest.raises(PipelineError, match="a reward model, which gives numbers and no answers"):
        load_released(released)
    # Anybody's code: transformers alone, padded, several at once.
    tokenizer: Any = AutoTokenizer.from_pretrained(released)
    classifier = AutoModelForSequenceClassification.from_pretrained(released)
    conversations = [row["messages"] for row in rows.examples("test").to_pylist()[:3]]
    conversations[1] = [conversations[1][0], {"role": "assistant", "content": "You ask too often."}]
    texts = [tokenizer.apply_chat_template(turns, tokenize=False) for turns in conversations]
    inputs = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        plain = classifier(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, 0]
    attempts = [AnswerAttempt(turns[:-1], turns[-1]["content"], 0, True, None, None, "") for turns in conversations]
    reward = RewardModel(path=str(released))
    assert reward.open(None)(attempts) == pytest.approx(plain.tolist(), abs=1e-5)
    assert plain[1] < min(plain[0], plain[2])
    # It is evaluated as it was trained, also as a champion.
    items = select_items(tmp_path / "test.parquet", 8, initial, None, answers=tmp_path / "answers.parquet").items
    board = judge(items, initial, tmp_path / "tuned", released)
    assert set(board.metrics) == {"reward_accuracy", "reward_calibration"}
    scores = {model: board.estimates[model, "reward_accuracy"].value for model in ("base", "champion", "candidate")}
    assert scores["base"] == 0.5
    assert scores["champion"] == scores["candidate"] > 0.9
    # And closes the loop: the policy learns what it rewards.
    rollout = {"samples": 4, "rewards": [{"name": "model", "path": str(released)}]}
    toy = make_toy_plan({"name": "grpo"}, rollout, steps=10, evaluate_every_steps=10, learning_rate=6e-3)
    splits = make_toy_splits(initial, toy)
    run = fine_tune(toy, splits, initial, tmp_path / "c", tmp_path / "policy")
    drawn = [point.figures["reward"] for point in run.curve if "reward" in point.figures]
    assert sum(drawn[-3:]) / 3 > sum(drawn[:3]) / 3
    # Another reward model is another run.
    origin = origin_of(toy, splits, initial)
    weights = released / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert origin.differences(vars(origin_of(toy, splits, initial))) == ["other code"]


HEADS: Mapping[str, dict[str, Any]] = {
    "half": {"name": "half"},
    "lisa": {"name": "lisa", "layers": 1},
    "gradual_unfreezing": {"name": "gradual_unfreezing"},
    "last_layers": {"name": "last_layers", "layers": 1},
    "ia3": {"name": "ia3"},
    "lora": {"name": "lora", "rank": 4},
}


@pytest.mark.parametrize("method", HEADS)
def test_the_head_is_trained_by_every_kind_of_method(
    method: str, initial: Path, shape: ModelShape, tmp_path: Path
) -> None:
    """LoRA over four bits."""
    from safetensors.torch import load_file

    bits = "nf4" if method == "lora" else "none"
    plan, splits = process_plan(
        initial, shape, method=HEADS[method], max_steps=2, checkpoint_every={"steps": 9}, packing="bfd",
        quantization={"name": bits},
    )  # fmt: skip
    fine_tune(plan, splits, initial, tmp_path / "checkpoints", tmp_path / "tuned")
    head = load_file(tmp_path / "tuned/reward_head.safetensors")["score.weight"]
    assert head.abs().max() > 0
    classifier, _ = merge_reward_model(initial, tmp_path / "tuned")
    assert torch.equal(classifier.score.weight, head)


def test_methods_that_do_not_merge_are_refused(initial: Path, shape: ModelShape) -> None:
    with pytest.raises(PipelineError, match="a reward model is released as one plain classifier"):
        process_plan(initial, shape, method={"name": "prefix_tuning"}, packing="none")
