"""A whole run: what comes out loads to the same model, the curve and figures are its own, refusals are clear."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest
from tasks.fine_tuning.diagnosis import describe_loss
from tasks.fine_tuning.report import write_report
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.model_folder import load_model
from tasks.training.plan import Plan
from tasks.training.tuned import load_tuned
from tests.tasks.fine_tuning.small import make_initial, make_plan, make_splits
from tests.tiny import make_tiny_model

PROBE = torch.tensor([[0, 4, 100, 101, 102, 2, 5, 90, 91]])


class Outcome:
    """One run, its folder and the figures it reported."""

    def __init__(self, initial: Path, folder: Path, **changes: Any) -> None:
        self.folder, self.plan = folder, make_plan(**changes)
        self.splits: Splits = make_splits(initial)
        self.reported: list[tuple[int, Mapping[str, float]]] = []
        self.run: Run = fine_tune(
            self.plan,
            self.splits,
            initial,
            folder / "checkpoints",
            folder / "tuned",
            on_metrics=lambda step, values: self.reported.append((step, values)),
        )


@pytest.fixture(scope="module")
def lora(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return Outcome(initial, tmp_path_factory.mktemp("lora"))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=PROBE).logits


def test_adapter_loads_and_has_learned(initial: Path, lora: Outcome) -> None:
    model, tokenizer = load_tuned(initial, lora.folder / "tuned")
    assert not model.training
    assert next(model.parameters()).dtype == torch.float32
    assert "generation" in tokenizer.chat_template
    assert type(model) is LlamaForCausalLM
    assert not torch.allclose(logits(model), logits(load_model(initial)), atol=1e-3)
    saved = load_file(lora.folder / "tuned/adapter/adapter_model.safetensors")
    kept = load_file(next(lora.folder.glob("checkpoints/*/step-000012/trained.safetensors")))
    kept = {name.replace(".default", ""): weights for name, weights in kept.items()}
    assert saved.keys() == kept.keys()
    assert all(torch.equal(saved[name], kept[name]) for name in saved)
    assert lora.run.trained == sum(tensor.numel() for tensor in saved.values())
    # 2 layers x rank 4 x ((64 + 64) for q, (64 + 64) for v, (128 + 64) for down)
    assert lora.run.trained == 2 * 4 * (128 + 128 + 192)


def test_validation_loss_of_the_loaded_model_is_the_reported_one(initial: Path, lora: Outcome) -> None:
    model, _ = load_tuned(initial, lora.folder / "tuned")
    watched, total = lora.splits.validation, 0.0
    for index in range(len(watched)):
        tokens, labels = (torch.from_numpy(part) for part in watched.row(index))
        with torch.no_grad():
            scores = model(input_ids=tokens[None]).logits[0]
        total += torch.nn.functional.cross_entropy(scores[:-1], labels[1:], reduction="sum").item()
    assert lora.run.curve[-1].eval_loss == pytest.approx(total / watched.supervised, abs=1e-5)
    assert lora.run.curve[-1].eval_loss < lora.run.curve[0].eval_loss - 0.1  # type: ignore[operator]


def test_curve_has_the_planned_points_and_metrics_are_passed_on(lora: Outcome) -> None:
    """Logged at 1, every 3 and with each checkpoint; validated before, every 5 and at the end."""
    assert [p.step for p in lora.run.curve if p.loss is not None] == [1, 3, 4, 6, 8, 9, 12]
    assert [p.step for p in lora.run.curve if p.eval_loss is not None] == [0, 5, 10, 12]
    by_step = {step: values for step, values in lora.reported if "train_loss" in values}
    for point in lora.run.curve:
        if point.loss is not None:
            assert by_step[point.step]["train_loss"] == point.loss
            assert by_step[point.step]["learning_rate"] == point.lr == lora.plan.learning_rate_at(point.step - 1)
            assert by_step[point.step]["tokens"] == point.step * 200.0
    assert [v["validation_loss"] for _, v in lora.reported if "validation_loss" in v] == [
        p.eval_loss for p in lora.run.curve if p.eval_loss is not None
    ]


def test_manifest_says_what_it_was_made_from(initial: Path, lora: Outcome) -> None:
    manifest = read_manifest(lora.folder / "tuned", verify=True)
    assert set(manifest["files"]) == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert manifest["steps"] == 12
    assert manifest["method"]["name"] == "lora"
    assert manifest["final_validation_loss"] == lora.run.curve[-1].eval_loss
    assert str(initial) not in (lora.folder / "tuned/adapter/adapter_config.json").read_text()


def test_report(lora: Outcome, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("curve.json", "index.html", "metrics.json")]
    figures = write_report(lora.run, lora.splits, *paths)
    first = [path.read_bytes() for path in paths]
    write_report(lora.run, lora.splits, *paths)
    assert [path.read_bytes() for path in paths] == first
    assert json.loads(first[2]) == figures
    assert figures["validation_loss_before"] == lora.run.curve[0].eval_loss
    assert figures["rows"] == 40
    points = json.loads(first[0])
    assert [point["step"] for point in points] == [0, 1, 3, 4, 5, 6, 8, 9, 10, 12]
    assert set(points[1]) == {"step", "loss", "lr", "grad_norm"}
    page = first[1].decode()
    assert page.count("<svg") >= 2
    assert f"Validation loss {describe_loss(figures['validation_loss_before'], figures['validation_loss'])}" in page


def test_the_page_says_what_else_shaped_the_run(lora: Outcome, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("curve.json", "index.html", "metrics.json")]

    def page(**changes: Any) -> str:
        plan = Plan.model_validate({**lora.plan.model_dump(), **changes})
        write_report(replace(lora.run, plan=plan), lora.splits, *paths)
        return paths[1].read_text()

    other = page(loss={"name": "focal"}, ema_decay=0.9)
    assert "Validation loss: cross-entropy of the moving average of the weights." in other
    assert "What is trained on is focal" in other
    shaped = page(
        ema_decay=0.9, neftune_alpha=5, gradient_checkpointing=True, keep="best", on_nan="skip", nan_limit=1,
        clip_norm=0, early_stopping={"patience": 1, "minimum_improvement": 0.01}, divergence={"factor": 3.0, "logs": 1},
        parameter_groups={"learning_rates": {"q_proj": 0.5}},
    )  # fmt: skip
    plain = page()
    assert "What is trained on" not in plain
    for words in (
        "of the best validation loss, their moving average (decay 0.9)",
        "Validation loss: of the moving average of the weights.",
        "noise on the embeddings (NEFTune)",
        "1 validation without an improvement by more than 0.01, or 1 loss above 3 times the best or no better than a "
        "guess among all tokens, or a loss that is not a number (after 1 skipped step)",
        "q_proj × 0.5",
        "norm not clipped",
    ):
        assert words in shaped
        assert words not in plain
    write_report(replace(lora.run, skipped=tuple(range(1, 11))), lora.splits, *paths)
    assert "was not a number: 1, 2, 3, 4, 5, 6, 7, 8 and others. The batches" in paths[1].read_text()
    assert "gradient checkpointing" in plain
    assert "cut at the end" in plain


def test_a_report_that_finds_no_space_is_told_in_one_line(
    lora: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    paths = [tmp_path / name for name in ("curve.json", "index.html", "metrics.json")]
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        with pytest.raises(PipelineError, match=r"curve\.json: cannot write \(No space left on device\); free some"):
            write_report(lora.run, lora.splits, *paths)
    assert list(tmp_path.iterdir()) == []
    write_report(lora.run, lora.splits, *paths)


def test_full_weights_load(initial: Path, tmp_path: Path) -> None:
    outcome = Outcome(initial, tmp_path, method={"name": "full"}, learning_rate=1e-3, steps=3)
    model, _ = load_tuned(initial, tmp_path / "tuned")
    saved = load_file(tmp_path / "tuned/weights/model.safetensors")
    (part,) = outcome.run.weights
    assert outcome.run.trained == part.weights == part.bytes // 4 == sum(p.numel() for p in model.parameters())
    assert torch.equal(saved["model.norm.weight"], model.model.norm.weight)
    assert str(initial) not in (tmp_path / "tuned/weights/config.json").read_text()


def test_another_base_is_refused(lora: Outcome, tmp_path: Path) -> None:
    other = make_initial(make_tiny_model(tmp_path / "other", seed=1))
    with pytest.raises(PipelineError, match="trained on another base"):
        load_tuned(other, lora.folder / "tuned")


def test_checkpoint_of_other_data_is_not_taken_up(
    initial: Path, lora: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run = fine_tune(
        lora.plan.model_copy(update={"steps": 1}),
        make_splits(initial, seed=5),
        initial,
        lora.folder / "checkpoints",
        lora.folder / "other",
    )
    assert run.resumed_at == 0
    assert "made from other data, another plan; not used" in caplog.text


def test_plan_for_another_machine_is_refused(initial: Path, tmp_path: Path) -> None:
    plan = make_plan(threads=4096, world_size=2, distribution={"name": "ddp"}, predicted_memory_bytes=1 << 60)
    with pytest.raises(PipelineError, match=r"2 problems(.|\n)*8192 CPU threads(.|\n)*GiB"):
        fine_tune(plan, make_splits(initial), initial, tmp_path / "checkpoints", tmp_path / "tuned")
