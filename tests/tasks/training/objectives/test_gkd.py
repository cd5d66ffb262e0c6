"""A student is taught on answers of its own: the loss is TRL's, and a run goes on to the same bytes."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.loss.batches import collate
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.report import write_report
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.fine_tuning.trainer.start import make_trainer
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.templates.chat import chat_of
from tasks.training.objectives.data import Tokenization, split_tables
from tasks.training.objectives.rollouts.prompts import NO_PROMPT, NO_ROOM
from tasks.training.objectives.rollouts.samples_file import list_steps, read_samples
from tasks.training.objectives.teaching.gkd import Gkd, StudentAnswers
from tasks.training.quantization.none import Unquantized
from tests.tasks.fine_tuning.small import make_plan
from tests.tasks.training.objectives.halves import run_whole_and_halves
from tests.tiny import example_rows

ROWS, LONGEST = 12, 5


def objective_of(teacher: Path, **params: Any) -> Gkd:
    answers = StudentAnswers(max_new_tokens=LONGEST)
    return Gkd(**{"teacher": str(teacher), "on_policy": 1.0, "answers": answers, **params})


def splits_of(initial: Path, objective: Gkd) -> Splits:
    train, validation = (pa.Table.from_pylist(example_rows(ROWS, seed), schema=EXAMPLES) for seed in (0, 100))
    return tokenize_splits(train, validation, initial, 128, ROWS, objective=objective)


def trainer_of(initial: Path, folder: Path, objective: Gkd) -> Any:
    plan = make_plan(method={"name": "full"}, objective=objective)
    splits = splits_of(initial, objective)
    return make_trainer(plan, splits, initial, Checkpoints(folder, origin_of(plan, splits, initial), 1))


@pytest.mark.parametrize("divergence", ["jensen_shannon", "reverse_kl"])
def test_the_loss_on_answers_of_its_own_is_that_of_trl(
    initial: Path, teacher: Path, tmp_path: Path, divergence: Any
) -> None:
    from transformers import AutoModelForCausalLM
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    beta = 0.3
    trainer = trainer_of(initial, tmp_path, objective_of(teacher, divergence=divergence, beta=beta, temperature=2.0))
    width = len(load_tokenizer(initial))
    inputs = collate(trainer.splits.train, [[0], [3]], trainer.pad, packed=False)
    (made,) = trainer.objective.make([inputs])
    found = trainer.plan.objective.loss(trainer.objective.scorer(trainer.model), made)
    # By TRL's function, of the whole batch, from the logits of both models as transformers gives them.
    asked = {name: made[name] for name in ("input_ids", "attention_mask")}
    logits = []
    for folder in (initial, teacher):
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            logits.append(model(**asked).logits[:, :-1, :width])
    labels = made["labels"][:, 1:]
    named = {"jensen_shannon": beta, "reverse_kl": 1}[divergence]
    expected = GKDTrainer.generalized_jsd_loss(*logits, labels, beta=named, temperature=2.0, reduction="sum")
    assert found.total.item() == pytest.approx(4 * expected.item(), rel=1e-4)
    # What is trained on are the prompts with what the student wrote, and nothing of the data's answers.
    written = (labels != -100).sum().item()
    assert 2 <= written <= 2 * LONGEST
    chat = chat_of(load_tokenizer(initial))
    asked_first = chat.prompt_ids(example_rows(ROWS)[0]["messages"][:1])  # type: ignore[index]
    assert made["input_ids"][0, : len(asked_first)].tolist() == asked_first
    figures = {name: float(total) / count for name, (total, count) in found.figures.items()}
    assert figures["on_policy"] == 1.0
    # The reward is what the teacher gives the tokens, the advantage that less what the student gives them.
    wrote = labels != -100
    student, taught = (
        logs.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0].where(wrote, 0.0).sum(1) / wrote.sum(1)
        for logs in logits
    )
    assert figures["reward"] == pytest.approx(taught.mean().item(), rel=1e-4)
    assert figures["advantage"] == pytest.approx((taught - student).mean().item(), rel=1e-4)


def test_steps_on_data_train_its_answers_and_validation_does(initial: Path, teacher: Path, tmp_path: Path) -> None:
    trainer = trainer_of(initial, tmp_path, objective_of(teacher, on_policy=0.5))
    objective = trainer.plan.objective
    drawn = [objective.is_on_policy((3, step)) for step in range(1, 2001)]
    assert sum(drawn) / 2000 == pytest.approx(0.5, abs=4 * (0.25 / 2000) ** 0.5)
    inputs = collate(trainer.splits.train, [[0], [3]], trainer.pad, packed=False)
    for step, own in enumerate(drawn[:8], start=1):
        trainer.state.global_step = step - 1
        (made,) = trainer.objective.make([inputs])
        assert ("taught" in made) == own
        if not own:
            assert made["labels"].equal(inputs["labels"])
    (validated,) = trainer.objective.make([inputs], "validation")
    assert validated["labels"].equal(inputs["labels"])


def test_weights_of_rows_multiply_the_loss_of_their_answers(initial: Path, teacher: Path, tmp_path: Path) -> None:
    trainer = trainer_of(initial, tmp_path, objective_of(teacher))

    def total(batch: list[list[int]]) -> float:
        (made,) = trainer.objective.make([collate(trainer.splits.train, batch, trainer.pad, packed=False)])
        return float(trainer.plan.objective.loss(trainer.objective.scorer(trainer.model), made).total)

    plain = [total([[n]]) for n in (0, 1)]
    weights = np.array([3.0, 0.5, *[1.0] * (ROWS - 2)], dtype=np.float32)
    trainer.splits = Splits(replace(trainer.splits.train, weights=weights), trainer.splits.validation)
    assert total([[0], [1]]) == pytest.approx(3 * plain[0] + 0.5 * plain[1], rel=1e-4)


def test_a_student_comes_nearer_on_its_own_answers_and_resumes_to_the_same_bytes(
    initial: Path, teacher: Path, tmp_path: Path
) -> None:
    objective = objective_of(teacher, on_policy=0.5)
    steps = 16
    plan = make_plan(
        method={"name": "full"}, objective=objective, steps=steps, learning_rate=0.02, log_every_steps=1,
        evaluate_every_steps=steps, checkpoint_every_steps=6,
    )  # fmt: skip
    splits = splits_of(initial, objective)
    whole = run_whole_and_halves(plan, splits, initial, tmp_path, until=9, checkpoint=6)
    validated = [point.figures for point in whole.curve if point.eval_loss is not None]
    assert validated[-1]["eval_divergence"] < 0.95 * validated[0]["eval_divergence"]
    logged = {name for point in whole.curve for name in point.figures}
    assert set(objective.figures) <= logged
    own = [step for step in range(1, steps + 1) if objective.is_on_policy((plan.seed, step))]
    assert 3 <= len(own) <= 13
    (folder,) = (tmp_path / "whole/checkpoints").glob("*")
    assert list_steps(folder) == own
    samples = read_samples(folder, own[0])
    assert samples.num_rows == plan.batch_size
    assert all(reward < 0 for reward in samples["reward"].to_pylist())
    write_report(whole, splits, *(tmp_path / name for name in ("curve.json", "index.html", "metrics.json")))
    page = (tmp_path / "index.html").read_text()
    assert "Answers while it was trained" in page
    assert objective.figures["reward"] in html.unescape(page)


def test_an_adapter_on_a_base_in_16_bits_answers_and_learns(initial: Path, teacher: Path, tmp_path: Path) -> None:
    """Its norms stay in fp32, so that only autocast brings the two together."""
    halved = {"quantization": Unquantized(weights="bf16"), "precision": "bf16"}
    plan = make_plan(objective=objective_of(teacher), **halved)
    splits = splits_of(initial, plan.objective)
    trainer = make_trainer(plan, splits, initial, Checkpoints(tmp_path, origin_of(plan, splits, initial), 1))
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32, torch.bfloat16}
    (made,) = trainer.objective.make([collate(splits.train, [[0], [3]], trainer.pad, packed=False)])
    assert made["reward"].isfinite().all()
    assert made["taught"].dtype == torch.float32


def test_rows_that_leave_no_room_are_left_out(initial: Path, shape: ModelShape, teacher: Path) -> None:
    rows = example_rows(3)
    rows.append({**rows[0], "id": "d" * 16, "messages": [{"role": "assistant", "content": "A document."}]})
    tables = split_tables(pa.Table.from_pylist(rows, schema=EXAMPLES), None, "train")
    tokenizer = load_tokenizer(initial)
    found = objective_of(teacher).tokenize(tables, Tokenization(tokenizer, 128))
    assert (len(found), dict(found.dropped)) == (3, {NO_PROMPT: 1})
    assert found.notes is not None
    assert '"reference": "We will help' in found.notes[0]
    long = StudentAnswers(max_new_tokens=120)
    found = objective_of(teacher, answers=long).tokenize(tables, Tokenization(tokenizer, 128))
    assert (len(found), dict(found.dropped)) == (0, {NO_PROMPT: 1, NO_ROOM: 3})
    too_long = StudentAnswers(max_new_tokens=shape.context or 0)
    assert "leaves no room for a prompt" in objective_of(teacher, answers=too_long).problems(shape)[0]
