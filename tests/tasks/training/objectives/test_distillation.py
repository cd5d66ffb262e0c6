"""A student comes nearer to its teacher, running beside it or kept on disk, and both say the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.loss.batches import collate
from tasks.fine_tuning.origin import hash_rows, origin_of
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.fine_tuning.trainer.start import make_trainer
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.language_models.folder.shape import ModelShape
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.objectives.data import Tokenization, split_tables
from tasks.training.objectives.teaching.distillation import Distillation
from tasks.training.teachers import kept
from tasks.training.teachers.teacher import count_teacher_bytes
from tests.tasks.fine_tuning.small import make_plan
from tests.tasks.training.objectives.halves import run_whole_and_halves
from tests.tiny import example_rows

ROWS = 12


@pytest.fixture(autouse=True)
def _fresh() -> None:
    kept.open_kept.cache_clear()


def splits_of(initial: Path, objective: Distillation) -> Splits:
    train, validation = (pa.Table.from_pylist(example_rows(ROWS, seed), schema=EXAMPLES) for seed in (0, 100))
    return tokenize_splits(train, validation, initial, 128, ROWS, objective=objective)


def trainer_of(initial: Path, folder: Path, objective: Distillation, **changes: Any) -> Any:
    plan = make_plan(method={"name": "full"}, objective=objective, **changes)
    splits = splits_of(initial, objective)
    return make_trainer(plan, splits, initial, Checkpoints(folder, origin_of(plan, splits, initial), 1))


def loss_of(trainer: Any, batch: list[list[int]], packed: bool = False) -> Any:
    inputs = collate(trainer.splits.train, batch, trainer.pad, packed)
    return trainer.plan.objective.loss(trainer.objective.scorer(trainer.model), inputs)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_kept_and_live_say_the_same_and_it_is_the_formula(
    initial: Path, teacher: Path, tmp_path: Path, packed: bool
) -> None:
    from transformers import AutoModelForCausalLM

    width = json.loads((initial / "config.json").read_text())["vocab_size"]
    common: Any = {"teacher": str(teacher), "temperature": 2.0, "share": 0.25, "store": str(tmp_path / "kept")}
    live = trainer_of(initial, tmp_path / "live", Distillation(**common))
    batch = [[0, 1], [2]] if packed else [[0], [1], [2]]
    found = loss_of(live, batch, packed)
    # By hand, each sequence by itself.
    model, taught = (AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32).eval() for f in (initial, teacher))
    total = divergence = 0.0
    for index in range(3):
        tokens, labels = (torch.from_numpy(array) for array in live.splits.train.row(index))
        here = labels[1:] != -100
        with torch.no_grad():
            student = model(tokens[None]).logits[0, :-1][here]
            wanted = taught(tokens[None]).logits[0, :-1][here][:, :width]
        p, q = (wanted / 2).log_softmax(-1), (student / 2).log_softmax(-1)
        each = float((p.exp() * (p - q)).sum())
        surprise = float(torch.nn.functional.cross_entropy(student, labels[1:][here], reduction="sum"))
        total, divergence = total + 0.25 * 4 * each + 0.75 * surprise, divergence + each
    assert found.total.item() == pytest.approx(total, rel=1e-4)
    sums = {name: float(value) / count for name, (value, count) in found.figures.items()}
    assert sums["divergence"] == pytest.approx(divergence / found.figures["divergence"][1], rel=1e-4)
    # All tokens but one kept: the rest is that one.
    whole = trainer_of(initial, tmp_path / "whole", Distillation(**common, keep=width - 1))
    assert loss_of(whole, batch, packed).total.item() == pytest.approx(total, rel=1e-3)
    few = trainer_of(initial, tmp_path / "few", Distillation(**common, keep=4))
    assert 0 < float(loss_of(few, batch, packed).figures["divergence"][0]) < divergence
    # Validation is the cross-entropy of supervised training.
    inputs = collate(live.splits.validation, [[0], [1]], live.pad, False)
    scorer = live.objective.scorer(live.model)
    assert live.plan.objective.validation_loss(scorer, inputs).total.item() == pytest.approx(
        scorer.sum(inputs, CrossEntropy()).total.item(), rel=1e-5
    )


@pytest.mark.parametrize("keep", [8, None], ids=["kept", "live"])
def test_a_student_learns_and_resumes_to_the_same_bytes_and_the_teacher_is_asked_once(
    initial: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int | None
) -> None:
    objective = Distillation(teacher=str(teacher), keep=keep, store=str(tmp_path / "kept"))
    plan = make_plan(
        method={"name": "full"}, objective=objective, steps=12, learning_rate=0.02, evaluate_every_steps=12,
        checkpoint_every_steps=5, log_every_steps=1, packing="none" if keep else "bfd",
    )  # fmt: skip
    whole = run_whole_and_halves(plan, splits_of(initial, objective), initial, tmp_path, until=8, checkpoint=5)
    validated = [point.figures for point in whole.curve if point.eval_loss is not None]
    assert validated[-1]["eval_divergence"] < 0.75 * validated[0]["eval_divergence"]
    logged = {name for point in whole.curve for name in point.figures}
    assert {"divergence", "cross_entropy", "agreement", "eval_agreement"} <= logged
    if keep is None:
        return
    # All that was computed is on disk: the teacher is not opened again.
    kept.open_kept(Path(objective.store), teacher, 8, 1.0, "float32", "cpu").write()
    kept.open_kept.cache_clear()
    monkeypatch.setattr("tasks.training.teachers.teacher.open_teacher", lambda *_: pytest.fail("computed again"))
    again = loss_of(trainer_of(initial, tmp_path / "again", objective), [[0], [5], [11]])
    assert again.total.isfinite()


def test_weights_of_rows_multiply_both_parts(initial: Path, teacher: Path, tmp_path: Path) -> None:
    trainer = trainer_of(initial, tmp_path / "run", Distillation(teacher=str(teacher), share=0.5))
    plain = [loss_of(trainer, [[n]]).total.item() for n in (0, 1)]
    weights = np.array([3.0, 0.5, *[1.0] * (ROWS - 2)], dtype=np.float32)
    trainer.splits = Splits(replace(trainer.splits.train, weights=weights), trainer.splits.validation)
    assert loss_of(trainer, [[0], [1]]).total.item() == pytest.approx(3 * plain[0] + 0.5 * plain[1], rel=1e-4)


def test_another_teacher_is_another_run(initial: Path, teacher: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(teacher, changed)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    hashes = {hash_rows(splits_of(initial, Distillation(teacher=str(folder))).train) for folder in (teacher, changed)}
    assert len(hashes) == 2


def test_what_cannot_work_is_said(initial: Path, shape: ModelShape, teacher: Path, tmp_path: Path) -> None:
    assert "keep fewer" in Distillation(teacher=str(teacher), keep=shape.vocabulary).problems(shape)[0]
    assert Distillation(teacher=str(teacher), keep=4).problems(shape) == []
    tables = split_tables(pa.Table.from_pylist(example_rows(2), schema=EXAMPLES), None, "train")
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    tokens = json.loads((other / "tokenizer.json").read_text())
    tokens["added_tokens"].append({**tokens["added_tokens"][-1], "id": 700, "content": "<|new|>"})
    (other / "tokenizer.json").write_text(json.dumps(tokens))
    how = Tokenization(load_tokenizer(initial), 128)
    with pytest.raises(PipelineError, match=r"another vocabulary than the student .*1 is its own, such as '<\|new\|>'"):
        Distillation(teacher=str(other)).tokenize(tables, how)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="expected a transformers folder"):
        Distillation(teacher=str(tmp_path / "empty")).tokenize(tables, how)


def test_the_memory_of_the_teacher_is_that_of_its_weights(teacher: Path, shape: ModelShape) -> None:
    weights = shape.parameters + 8 * shape.hidden
    assert Distillation(teacher=str(teacher)).held_bytes() == 4 * weights
    assert (
        Distillation(teacher=str(teacher), precision="bf16").held_bytes()
        == count_teacher_bytes(teacher, 2)
        == 2 * weights
    )
