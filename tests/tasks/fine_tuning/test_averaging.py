"""The average of the weights is validated, kept and resumed; noise on the embeddings is for training alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.contracts.manifest import hash_folder
from tasks.fine_tuning.loss.batches import collate
from tasks.fine_tuning.loss.noise import conversation_lengths, noisy_embeddings
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer.averaging import WeightAverage
from tasks.training.distribution.single import Single
from tasks.training.losses.cross_entropy import CrossEntropy
from tests.tasks.fine_tuning.small import make_full_trainer, make_plan, make_splits

PLAN = {"ema_decay": 0.6, "neftune_alpha": 5.0, "packing": "bfd", "log_every_steps": 4}


class Interrupted(Exception):
    """Stands for the end of a machine."""


def run(initial: Path, folder: Path, until: int | None = None, **changes: object) -> Run:
    def on_metrics(step: int, _: Mapping[str, float]) -> None:
        if step == until:
            raise Interrupted

    plan = make_plan(**{**PLAN, **changes})
    return fine_tune(
        plan, make_splits(initial), initial, folder / "checkpoints", folder / "tuned", on_metrics=on_metrics
    )


def test_by_hand() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    weights = model.weight.detach().fill_(1.0)
    average = WeightAverage(Single(), model, 0.5)
    for step, value in ((1, 3.0), (2, 5.0), (20, 7.0)):
        weights.fill_(value)
        average.update(step)
    # Shares kept: 2/11, 3/12, and 0.5, which is less than 21/30.
    first = 2 / 11 * 1 + 9 / 11 * 3
    second = 0.25 * first + 0.75 * 5
    assert average.averages["weight"].item() == pytest.approx(0.5 * second + 0.5 * 7)
    with average.in_model():
        assert weights.item() == pytest.approx(0.5 * second + 0.5 * 7)
    assert weights.item() == 7.0


def test_averages_are_what_is_validated_saved_and_resumed(initial: Path, tmp_path: Path) -> None:
    whole = run(initial, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(initial, tmp_path / "halves", until=8)
    halves = run(initial, tmp_path / "halves")
    assert halves.resumed_at == 4
    assert halves.curve == whole.curve
    assert hash_folder(tmp_path / "halves/tuned") == hash_folder(tmp_path / "whole/tuned")
    checkpoint = next((tmp_path / "whole").glob("checkpoints/*/step-000012"))
    averages, weights = (load_file(checkpoint / f"{name}.safetensors") for name in ("averaged", "trained"))
    saved = load_file(tmp_path / "whole/tuned/adapter/adapter_model.safetensors")
    assert all(torch.equal(saved[name.replace(".default", "")], average) for name, average in averages.items())
    assert not any(torch.equal(average, weights[name]) for name, average in averages.items())
    # The training itself knows nothing of them: it is the one without averages.
    plain = run(initial, tmp_path / "plain", ema_decay=None)
    assert [p.loss for p in plain.curve] == [p.loss for p in whole.curve]
    assert plain.curve[-1].eval_loss != whole.curve[-1].eval_loss
    # Noise is for training alone, and changes it.
    quiet = run(initial, tmp_path / "quiet", ema_decay=None, neftune_alpha=None)
    assert quiet.curve[0].eval_loss == plain.curve[0].eval_loss
    assert quiet.curve[-1].loss != plain.curve[-1].loss


@pytest.mark.parametrize("packed", [False, True])
def test_noise_is_as_large_as_the_length_of_the_conversation_says(initial: Path, tmp_path: Path, packed: bool) -> None:
    trainer = make_full_trainer(initial, tmp_path)
    rows, embeddings = trainer.splits.train, trainer.model.get_input_embeddings()
    batch = [[0, 1], [2]] if packed else [[0], [1], [2]]
    inputs = collate(rows, batch, trainer.pad, packed)
    lengths = conversation_lengths(inputs)
    own = [int(rows.lengths[index]) for index in range(3)]
    assert lengths[0, 0] == own[0]
    assert lengths[0, own[0]] == own[1] if packed else lengths[1, 0] == own[1]
    assert lengths[-1, own[2] - 1] == own[2]
    plain = embeddings(inputs["input_ids"])
    torch.manual_seed(0)
    with noisy_embeddings(embeddings, 8.0, inputs):
        noise = embeddings(inputs["input_ids"]) - plain
    largest = 8.0 / math.sqrt(own[0] * plain.shape[-1])
    assert 0.9 * largest < noise[0, : own[0]].abs().max() <= largest
    assert torch.equal(embeddings(inputs["input_ids"]), plain)
    loss = trainer.batch_loss.sum(trainer.model, inputs, CrossEntropy(), 1)
    assert loss.total.item() == trainer.batch_loss.sum(trainer.model, inputs, CrossEntropy(), 1).total.item()
