"""The loss is what it is said to be: answers only, packed as alone, TRL's own number, mean over tokens."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from trl import SFTTrainer

from tasks.contracts.balance import Balance
from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.loss.batches import collate, pack
from tasks.fine_tuning.origin import hash_rows, origin_of
from tasks.fine_tuning.rows import tokenize_splits, weights_without_costs
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer.start import make_trainer
from tasks.language_models.folder.model_folder import load_model
from tasks.training.distribution.whole import trained_weights
from tasks.training.losses import LOSSES
from tasks.training.losses.cross_entropy import CrossEntropy
from tests.tasks.fine_tuning.small import make_full_trainer, make_initial, make_plan, make_splits
from tests.tiny import LABELS, example_rows


def by_hand(model: Any, tokens: np.ndarray, labels: np.ndarray) -> float:
    """Sum of -log p of the supervised tokens of one conversation, seen alone."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(tokens)[None], use_cache=False).logits[0]
    chosen = torch.log_softmax(logits.double(), -1)
    return -sum(float(chosen[i - 1, label]) for i, label in enumerate(labels.tolist()) if label != -100)


def test_packed_is_alone(initial: Path, tmp_path: Path) -> None:
    """Loss and gradients of packed rows are those of the same conversations alone."""
    trainer = make_full_trainer(initial, tmp_path)
    rows, model = trainer.splits.train, trainer.model
    model.train()
    packed = [pack(rows.lengths.tolist(), 96)]
    alone = [[[index]] for index in range(len(rows))]
    results = []
    for batches, is_packed in ((packed, True), (alone, False)):
        model.zero_grad()
        total = 0.0
        for batch in batches:
            loss = trainer.batch_loss.sum(model, collate(rows, batch, trainer.pad, is_packed), CrossEntropy(), 1).total
            loss.backward()
            total += loss.item()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        results.append((total / rows.supervised, gradient / rows.supervised))
    assert len(packed[0]) < len(rows)
    assert max(len(row) for row in packed[0]) > 1
    assert results[0][0] == pytest.approx(results[1][0], abs=5e-7)
    assert torch.allclose(results[0][1], results[1][1], atol=5e-7)
    expected = sum(by_hand(model, *rows.row(i)) for i in range(len(rows))) / rows.supervised
    assert results[1][0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("packing", ["none", "bfd"])
def test_weights_multiply_the_loss_of_their_rows(initial: Path, tmp_path: Path, packing: str) -> None:
    trainer = make_full_trainer(initial, tmp_path, packing=packing)
    plain = trainer.splits.train
    weights = np.linspace(0, 3, len(plain), dtype=np.float32)
    rows = replace(plain, weights=weights)
    batch = pack(rows.lengths.tolist(), 128) if packing == "bfd" else [[index] for index in range(len(rows))]
    inputs = collate(rows, batch, trainer.pad, packing == "bfd")
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, inputs).item()
    each = [by_hand(trainer.model, *rows.row(index)) for index in range(len(rows))]
    assert loss == pytest.approx(float(np.dot(weights, each)) / rows.supervised, rel=1e-5)
    assert loss != pytest.approx(sum(each) / rows.supervised, rel=1e-2)
    assert "weights" not in collate(plain, batch, trainer.pad, packing == "bfd")
    # Other weights or classes are another run: its checkpoints are not gone on from.
    classes = np.zeros(len(plain), dtype=np.int64)
    assert len({hash_rows(plain), hash_rows(rows), hash_rows(replace(plain, classes=classes))}) == 3


def test_a_neighbour_in_the_row_changes_nothing(initial: Path, tmp_path: Path) -> None:
    trainer = make_full_trainer(initial, tmp_path)
    rows = trainer.splits.train
    inputs = collate(rows, [[0, 1]], trainer.pad, packed=True)
    first = int(rows.lengths[0])
    inputs["labels"][0, :first] = -100
    before = trainer.batch_loss.sum(trainer.model, inputs, CrossEntropy(), 1)
    inputs["input_ids"][0, :first] = inputs["input_ids"][0, :first].flip(0)
    after = trainer.batch_loss.sum(trainer.model, inputs, CrossEntropy(), 1)
    assert before.tokens > 0
    assert before.total.item() == pytest.approx(after.total.item(), abs=1e-6)
    assert before.total.item() == pytest.approx(by_hand(trainer.model, *rows.row(1)), abs=1e-4)


def test_positions_that_do_not_restart_let_neighbours_see_each_other(initial: Path, tmp_path: Path) -> None:
    """What the tests above guard against: with one run of positions, or a mask, a row is one conversation."""
    trainer = make_full_trainer(initial, tmp_path)
    rows = trainer.splits.train
    alone = sum(by_hand(trainer.model, *rows.row(index)) for index in (0, 1))
    inputs = collate(rows, [[0, 1]], trainer.pad, packed=True)
    right = trainer.batch_loss.sum(trainer.model, inputs, CrossEntropy(), 1).total.item()
    assert right == pytest.approx(alone, abs=1e-4)
    width = inputs["input_ids"].shape[1]
    for wrong in (
        {"position_ids": torch.arange(width)[None]},
        {"attention_mask": torch.ones(1, width, dtype=torch.long)},
    ):
        leaking = trainer.batch_loss.sum(trainer.model, {**inputs, **wrong}, CrossEntropy(), 1).total.item()
        assert abs(leaking - alone) > 1e-2


@pytest.mark.parametrize("packed", [False, True])
def test_loss_is_the_one_of_trl(initial: Path, tmp_path: Path, packed: bool) -> None:
    trainer = make_full_trainer(initial, tmp_path)
    rows = trainer.splits.train
    inputs = collate(rows, [[0, 3], [1], [2]] if packed else [[0], [1], [2]], trainer.pad, packed)
    trainer.model.eval()
    for count in (None, torch.tensor(50)):
        ours = trainer.compute_loss(trainer.model, dict(inputs), num_items_in_batch=count)
        theirs = SFTTrainer.compute_loss(trainer, trainer.model, dict(inputs), num_items_in_batch=count)
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


def test_validation_loss_is_a_mean_over_tokens(initial: Path, tmp_path: Path) -> None:
    trainer = make_full_trainer(initial, tmp_path)
    watched = trainer.splits.validation
    expected = sum(by_hand(trainer.model, *watched.row(i)) for i in range(len(watched))) / watched.supervised
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-5)


def test_accumulated_steps_are_one_large_batch(initial: Path, tmp_path: Path) -> None:
    """Two batches of 2 give the weights of one batch of 4, though they hold different numbers of tokens."""
    common = {
        "steps": 1,
        "warmup_steps": 0,
        "schedule": {"name": "constant"},
        "optimizer": {"name": "sgd"},
        "learning_rate": 0.5,
    }
    whole = make_full_trainer(initial, tmp_path / "a", batch_size=4, accumulation_steps=1, **common)
    halves = make_full_trainer(initial, tmp_path / "b", batch_size=2, accumulation_steps=2, **common)
    loader = whole.get_train_dataloader()
    four = loader.dataset[0]
    same = torch.utils.data.DataLoader([four[:2], four[2:]], batch_sampler=[[0], [1]], collate_fn=loader.collate_fn)
    halves.get_train_dataloader = lambda: same  # type: ignore[method-assign]
    weights = []
    for trainer in (whole, halves):
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    start = make_full_trainer(initial, tmp_path / "c")
    before = torch.cat([p.detach().flatten() for p in start.model.parameters()])
    assert not torch.allclose(weights[0], before, atol=1e-4)
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


@pytest.mark.parametrize("loss", [member() for member in LOSSES], ids=lambda loss: loss.name)
def test_a_step_is_the_same_however_it_is_split(initial: Path, tmp_path: Path, loss: Any) -> None:
    """Over accumulated batches and over processes, whose gradients are averaged: the gradient of one large batch."""
    trainer = make_full_trainer(initial, tmp_path, loss=loss.model_dump())
    rows, plan = trainer.splits.train, trainer.plan
    weighted = replace(rows, weights=np.linspace(0.5, 2.0, len(rows), dtype=np.float32))
    items = torch.tensor(float((rows.labels[: rows.offsets[6]] != -100).sum()))

    def gradient(batches: list[list[list[int]]], ranks: int) -> torch.Tensor:
        trainer.plan = plan.model_copy(update={"world_size": ranks})
        trainer.model.zero_grad()
        for batch in batches:
            inputs = collate(weighted, batch, trainer.pad, packed=False)
            trainer.compute_loss(trainer.model, inputs, num_items_in_batch=items).backward()
        return torch.cat([p.grad.flatten() for p in trainer.model.parameters()]) / ranks

    # The parts hold different numbers of tokens, so a mean of their means would be another number.
    halves = [[[0]], [[1], [2], [3], [4], [5]]]
    whole = gradient([[*halves[0], *halves[1]]], 1)
    torch.testing.assert_close(gradient(halves, 1), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient(halves, 2), whole, rtol=0, atol=1e-6)


def test_recomputed_activations_give_the_same_gradients(initial: Path, tmp_path: Path) -> None:
    results = []
    for checkpointing in (False, True):
        trainer = make_full_trainer(initial, tmp_path / str(checkpointing), gradient_checkpointing=checkpointing)
        trainer.model.train()
        inputs = collate(trainer.splits.train, [[0, 1], [2]], trainer.pad, packed=True)
        loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in trainer.model.parameters())])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-7)


def test_a_batch_without_a_supervised_token_is_refused(initial: Path, tmp_path: Path) -> None:
    """Such rows are dropped long before; were one to come through, its loss of 0 would pass for learned."""
    trainer = make_full_trainer(initial, tmp_path)
    inputs = collate(trainer.splits.train, [[0], [1]], trainer.pad, packed=False)
    inputs["labels"][:] = -100
    with pytest.raises(PipelineError, match="step 1: a batch of 2 rows has no supervised token"):
        trainer.compute_loss(trainer.model, inputs, num_items_in_batch=torch.tensor(9))
    # One such row among others is refused before the first step.
    rows = trainer.splits.train
    labels = rows.labels.copy()
    labels[rows.offsets[4] : rows.offsets[5]] = -100
    trainer.splits = replace(trainer.splits, train=replace(rows, labels=labels))
    with pytest.raises(PipelineError, match="1 of 12 training rows have no supervised token, the first is row 4;"):
        trainer.train()


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_a_frozen_base_in_bf16_gives_the_losses_of_one_in_fp32(
    initial: Path, tmp_path: Path, stored: torch.dtype
) -> None:
    """To the last bit where the base is stored in bf16; one stored in fp32 is rounded."""
    base = tmp_path / "base"
    shutil.copytree(initial, base)
    load_model(base, stored).save_pretrained(base)
    make_initial(base)
    splits, losses = make_splits(base, rows=12), []
    start: dict[str, torch.Tensor] = {}
    for weights in ("bf16", "fp32"):
        plan = make_plan(precision="bf16", quantization={"name": "none", "weights": weights})
        trainer = make_trainer(plan, splits, base, Checkpoints(tmp_path, origin_of(plan, splits, base), 1))
        model = trainer.model.base_model.model
        layer, dtype = model.model.layers[0], torch.bfloat16 if weights == "bf16" else torch.float32
        assert layer.self_attn.k_proj.weight.dtype == model.lm_head.weight.dtype == dtype
        assert layer.self_attn.q_proj.lora_A["default"].weight.dtype == layer.input_layernorm.weight.dtype
        assert layer.input_layernorm.weight.dtype == torch.float32
        assert model.lm_head.weight is model.model.embed_tokens.weight, "no longer tied"
        for name, trained in trained_weights(trainer.model).items():
            trained.copy_(start.setdefault(name, trained.clone()))  # PEFT rounds where updates begin to the base's type
        trainer.train()
        losses.append([e[name] for e in trainer.state.log_history for name in ("loss", "eval_loss") if name in e])
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert (losses[0] == losses[1]) == (stored == torch.bfloat16)


def test_loss_that_is_no_number_stops_with_the_step_and_advice(initial: Path, tmp_path: Path) -> None:
    plan = make_plan(method={"name": "full"}, learning_rate=1e30, clip_norm=0.0, warmup_steps=0)
    with pytest.raises(PipelineError, match=r"step 2: the norm of the gradient is nan; lower .*learning_rate"):
        fine_tune(plan, make_splits(initial), initial, tmp_path / "checkpoints", tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
    assert not list(tmp_path.glob("checkpoints/*/step-*"))


def test_a_base_that_is_no_number_is_told_apart_from_a_rate_that_is_too_high(initial: Path, tmp_path: Path) -> None:
    trainer = make_full_trainer(initial, tmp_path)
    next(iter(trainer.model.parameters())).data.fill_(math.nan)
    with pytest.raises(PipelineError, match=r"step 0: .* is nan; no step has been taken yet, so the base is at"):
        trainer.train()


def test_the_scale_of_an_fp16_loss_is_resumed_and_skipped_steps_are_not_errors(initial: Path, tmp_path: Path) -> None:
    """fp16 itself needs a GPU; what a run does with its scaler does not."""
    trainer = make_full_trainer(initial, tmp_path)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.create_optimizer_and_scheduler(4)
    trainer._tr_loss, trainer._globalstep_last_logged = torch.tensor(0.0), 0
    trainer.write_state(tmp_path)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    trainer._load_scaler(str(tmp_path))
    assert trainer.accelerator.scaler.state_dict()["scale"] == 1024.0
    # The scaler leaves such a step out; its norm is not logged.
    assert trainer.guard.check_norm(torch.tensor(math.inf)) is None
    assert trainer.guard.check_norm(torch.tensor(2.0)).item() == 2.0
    trainer.accelerator.scaler = None
    with pytest.raises(PipelineError, match="the norm of the gradient is inf"):
        trainer.guard.check_norm(torch.tensor(math.inf))


COSTS = ("cost_places", "cost_tokens", "costs")


def test_expected_cost_of_real_answers(initial: Path, tmp_path: Path) -> None:
    """Costs of one label for another reach the very tokens at which its answer parts from the other's."""
    labels = sorted(LABELS)
    counts = dict.fromkeys(labels, 6)
    costs = [[0.0 if i == j else 1.0 for j in labels] for i in labels]
    costs[labels.index("late_fee")][labels.index("lost_item")] = 9.0
    balance = Balance(
        classes=labels, before=counts, after=counts, weighting="none", weights=dict.fromkeys(labels, 1.0), costs=costs,
        batches="any", vectors=None,
    )  # fmt: skip
    table = pa.Table.from_pylist(example_rows(24), schema=EXAMPLES)
    splits = tokenize_splits(table, table.slice(0, 2), initial, 128, 8, balance, needs_costs=True)
    rows = splits.train
    assert (rows.weights, rows.classes) == (None, None)
    trainer = make_full_trainer(initial, tmp_path, loss={"name": "expected_cost", "share": 2.0})
    index = table["label"].to_pylist().index("late_fee")
    other = table["label"].to_pylist().index("lost_item")
    answers = [rows.row(i)[1][rows.row(i)[1] != -100].tolist() for i in (index, other)]
    depth = next(n for n, (own, others) in enumerate(zip(*answers, strict=False)) if own != others)
    (first,) = np.flatnonzero(rows.row(index)[1] != -100)[:1]
    with torch.no_grad():
        logits = trainer.model(input_ids=torch.tensor(rows.row(index)[0])[None], use_cache=False).logits[0]
    p = torch.softmax(logits[first + depth - 1].double(), -1)
    inputs = [collate(rows, batch, trainer.pad, packed) for batch, packed in (([[index]], False), ([[0, index]], True))]
    alone = trainer.batch_loss.sum(trainer.model, inputs[0], trainer.plan.loss, 1).total.item()
    plain = trainer.batch_loss.sum(trainer.model, inputs[0], CrossEntropy(), 1).total.item()
    chosen = inputs[0]["cost_tokens"] == answers[1][depth]
    assert inputs[0]["costs"][chosen].tolist() == [9.0]
    expected = sum(
        torch.softmax(logits[place - 1].double(), -1)[token].item() * cost
        for place, token, cost in zip(*(inputs[0][name].tolist() for name in COSTS), strict=True)
    )
    assert expected >= 9 * p[answers[1][depth]].item()
    assert alone == pytest.approx(plain + 2 * expected, rel=1e-6)
    # Packed beside another row, the same costs at other places.
    pair = [
        trainer.batch_loss.sum(trainer.model, inputs[1], loss, 1).total.item()
        for loss in (trainer.plan.loss, CrossEntropy())
    ]
    first_row = collate(rows, [[0]], trainer.pad, packed=False)
    both = [
        trainer.batch_loss.sum(trainer.model, first_row, loss, 1).total.item()
        for loss in (trainer.plan.loss, CrossEntropy())
    ]
    assert pair[0] - pair[1] == pytest.approx(2 * expected + both[0] - both[1], abs=5e-5)
    # Other costs are another run.
    assert hash_rows(rows) != hash_rows(replace(rows, costs=None))
    with pytest.raises(PipelineError, match=r"expected_cost takes the costs .* set data_preparation\.balancing\.costs"):
        tokenize_splits(table, table, initial, 128, 8, balance.model_copy(update={"costs": None}), needs_costs=True)


def test_a_conversation_that_is_split_has_the_costs_of_its_first_answer_once(initial: Path) -> None:
    turns = (
        ["my card was stolen", "block it", "and my cash", "block it too"],
        ["i want a loan", "ask it", "how", "here"],
    )
    roles = ("user", "assistant") * 2
    rows = [
        {"id": name, "messages": [{"role": r, "content": c} for r, c in zip(roles, said, strict=True)], "source": "s",
         "row": 0, "cluster": "c", "label": name}
        for name, said in zip("ab", turns, strict=True)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=EXAMPLES)
    once = {"a": 1, "b": 1}
    balance = Balance(
        classes=["a", "b"], before=once, after=once, weighting="none", weights=None, costs=[[0, 5], [2, 0]],
        batches="any", vectors=None,
    )  # fmt: skip
    whole, split = (
        tokenize_splits(table, table, initial, size, 8, balance, "split", needs_costs=True).train for size in (256, 20)
    )
    assert len(whole) == 2
    assert split.later is not None
    assert split.later.tolist() == [False, True, False, True]
    found = []
    for rows_ in (whole, split):
        assert rows_.costs is not None
        places, tokens, costs = rows_.costs.between(0, len(rows_.tokens))
        found.append([(rows_.tokens[at], token, cost) for at, token, cost in zip(places, tokens, costs, strict=True)])
        of_row = np.searchsorted(rows_.offsets, places, side="right") - 1
        assert rows_.later is None or not rows_.later[of_row].any()
    assert found[0]
    assert found[0] == found[1]


def test_weights_are_taken_without_the_costs_that_expected_cost_has_itself() -> None:
    balance = Balance(
        classes=["a", "b"], before={"a": 3, "b": 1}, after={"a": 3, "b": 1}, weighting="inverse",
        # 1/3 x 1 and 1 x 6, their mean over the rows 1: divided by (1 + 6) / 4.
        weights={"a": (1 / 3) / 1.75, "b": 6 / 1.75}, costs=[[0, 1], [6, 0]], batches="any", vectors=None,
    )  # fmt: skip
    # 1/3 and 1, their mean over the rows 1: divided by 2/4.
    assert weights_without_costs(balance) == pytest.approx({"a": 2 / 3, "b": 2.0})
    assert weights_without_costs(balance.model_copy(update={"weighting": "none"})) is None
