"""Which part of a base is trained when, and that a part that is not is what it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.layout import WeightLayout, count_weights, describe_layout
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.gradual_unfreezing import GradualUnfreezing
from tasks.training.methods.half import Half
from tasks.training.methods.hooks import RunFacts
from tasks.training.methods.last_layers import LastLayers
from tasks.training.methods.lisa import Lisa
from tasks.training.methods.parts import Changing, describe_part
from tests.tasks.fine_tuning.small import make_full_trainer, make_plan, make_splits

BLOCK = {
    **{f"self_attn.{name}_proj.weight": (8, 8) for name in "qkvo"},
    **{f"mlp.{name}_proj.weight": (16, 8) for name in ("gate", "up", "down")},
    "input_layernorm.weight": (8,),
    "post_attention_layernorm.weight": (8,),
}
LAYOUT = WeightLayout(
    "model.layers", (BLOCK,) * 6, {"model.embed_tokens.weight": (32, 8)}, {}, {"model.norm.weight": (8,)}
)
UNTIED = replace(LAYOUT, head={"lm_head.weight": (32, 8)})
BLOCK_WEIGHTS = 4 * 64 + 3 * 128 + 2 * 8
RUN = RunFacts(steps=300, steps_per_epoch=100, seed=5)


def shape_of(layout: WeightLayout, shape: ModelShape) -> ModelShape:
    total = count_weights({**layout.within, **layout.outside})
    return replace(shape, layout=layout, layers=len(layout.blocks), parameters=total, vocabulary=32, hidden=8)


def count(layout: WeightLayout, names: frozenset[str]) -> int:
    sizes = {**layout.within, **layout.outside}
    return count_weights({name: sizes[name] for name in names})


def kinds_in(names: frozenset[str], block: int) -> Counter[str]:
    prefix = f"model.layers.{block}."
    modules = [name.removeprefix(prefix).split(".") for name in names if name.startswith(prefix)]
    return Counter(parts[0] if parts[0] in ("self_attn", "mlp") else "norm" for parts in modules)


@pytest.mark.parametrize("strategy", ["category", "layer", "model", "bernoulli"])
def test_a_round_trains_about_half_and_never_more_than_predicted(strategy: Any, shape: ModelShape) -> None:
    method = Half(strategy=strategy, outside="frozen")
    halves = [method.parts(LAYOUT, replace(RUN, seed=seed)).trained(1) for seed in range(60)]
    numbers = [count(LAYOUT, half) for half in halves]
    largest, matrices = method.trained_at_once(shape_of(LAYOUT, shape))
    assert max(numbers) <= largest
    assert sum(rows * columns for rows, columns in matrices) <= largest
    assert sum(numbers) / len(numbers) == pytest.approx(3 * BLOCK_WEIGHTS, rel=0.05)
    assert largest <= 3 * BLOCK_WEIGHTS * (1.5 if strategy == "bernoulli" else 1.0)
    assert len(set(halves)) > 10
    assert method.parts(LAYOUT, RUN).trained(300) == method.parts(LAYOUT, RUN).trained(1), "one round"


def test_halves_by_category_and_by_layer() -> None:
    half = Half().parts(LAYOUT, RUN).trained(1)
    assert LAYOUT.outside.keys() <= half
    taken = [kinds_in(half, block) for block in range(6)]
    assert {(kinds["self_attn"], kinds["norm"]) for kinds in taken} == {(2, 1)}
    assert Counter(kinds["mlp"] for kinds in taken) == {1: 3, 2: 3}
    half = Half(strategy="layer", outside="frozen").parts(LAYOUT, RUN).trained(1)
    assert sorted(len(kinds_in(half, block)) for block in range(6)) == [0, 0, 0, 3, 3, 3]


def test_rounds_begin_where_they_should_and_draw_anew() -> None:
    hooks = Half.model_validate({"every": {"epochs": 1}}).parts(LAYOUT, RUN)
    assert list(hooks.begins) == [1, 101, 201]
    rounds = [hooks.trained(step) for step in (1, 100, 101, 200, 201, 300)]
    assert rounds[0] == rounds[1]
    assert rounds[2] == rounds[3]
    assert rounds[4] == rounds[5]
    assert len(set(rounds)) == 3


def test_lisa_draws_as_likely_as_it_is_told_and_always_trains_what_is_outside(shape: ModelShape) -> None:
    run = replace(RUN, steps=2000)
    drawn = Lisa.model_validate({"layers": 1, "every": {"steps": 1}, "probabilities": [5, 1, 1, 1, 1, 1]})
    hooks = drawn.parts(UNTIED, run)
    found = Counter(block for step in range(1, 2001) for block in range(6) if kinds_in(hooks.trained(step), block))
    assert sum(found.values()) == 2000
    assert found[0] == pytest.approx(1000, abs=90)  # four standard deviations
    assert all(found[block] == pytest.approx(200, abs=54) for block in range(1, 6))
    hooks = Lisa(layers=2).parts(UNTIED, RUN)
    for step in range(1, 301):
        part = hooks.trained(step)
        assert sum(bool(kinds_in(part, block)) for block in range(6)) == 2
        assert UNTIED.outside.keys() <= part
        assert count(UNTIED, part) == Lisa(layers=2).trained_at_once(shape_of(UNTIED, shape))[0]
    assert all((hooks.trained(a) != hooks.trained(b)) <= (b % 20 == 1) for a, b in pairwise(range(1, 301)))


def test_groups_join_from_the_top_and_learn_slower_below() -> None:
    hooks = GradualUnfreezing(groups=3).parts(UNTIED, RUN)
    assert hooks.begins == [1, 101, 201]
    assert [hooks.describe(UNTIED, number) for number in range(3)] == [
        "blocks 5-6, output layer, last norm",
        "blocks 3-6, output layer, last norm; the lowest of them at 0.385 of the learning rate",
        "blocks 1-6, embeddings, output layer, last norm; the lowest of them at 0.148 of the learning rate",
    ]
    assert hooks.trained(100) < hooks.trained(101) < hooks.trained(201)
    assert hooks.rate_factor("lm_head.weight") == hooks.rate_factor("model.layers.5.mlp.up_proj.weight") == 1
    assert hooks.rate_factor("model.layers.2.mlp.up_proj.weight") == pytest.approx(1 / 2.6)
    # Seven blocks do not divide: none is left out.
    odd = replace(LAYOUT, blocks=(BLOCK,) * 7)
    assert GradualUnfreezing().parts(odd, RUN).trained(300) == {*odd.within, *odd.outside}


def test_the_optimizer_has_a_group_for_each_rate(initial: Path, tmp_path: Path) -> None:
    trainer = make_full_trainer(initial, tmp_path, method={"name": "gradual_unfreezing", "groups": 2})
    groups = trainer.create_optimizer().param_groups
    names = {id(weights): name for name, weights in trainer.model.named_parameters()}
    rates = {names[id(weights)]: group["lr"] for group in groups for weights in group["params"]}
    assert rates["model.layers.1.mlp.up_proj.weight"] == rates["model.norm.weight"] == 1e-2
    assert rates["model.layers.0.mlp.up_proj.weight"] == rates["model.embed_tokens.weight"] == pytest.approx(1e-2 / 2.6)
    assert groups[0]["lr"] == 1e-2, "is the one that is logged"


def test_a_tied_output_layer_is_trained_only_where_it_is_asked_for(shape: ModelShape) -> None:
    tied, own = shape_of(LAYOUT, shape), shape_of(UNTIED, shape)
    two = 2 * BLOCK_WEIGHTS + 8
    for method in (LastLayers(), LastLayers().resolve(tied)):
        assert (method.trainable(tied), method.reached_layers(tied)) == (two, 2)
    for method in (LastLayers(), LastLayers().resolve(own), LastLayers(output_layer=True)):
        assert (method.trainable(own), method.reached_layers(own)) == (two + 32 * 8, 2)
    asked = LastLayers(output_layer=True)
    assert (asked.trainable(tied), asked.reached_layers(tied)) == (two + 32 * 8, 6)
    assert LastLayers(layers=1, output_layer=True).describe() == (
        "training of the last block with the last norm and the output layer"
    )


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (LastLayers(layers=7), "method.layers: 7, but the model has 6 blocks"),
        (Lisa(layers=7), "method.layers: 7, but the model has 6 blocks"),
        (Lisa(probabilities=[1.0, 2.0]), "method.probabilities: 2 numbers, but the model has 6 blocks"),
        (GradualUnfreezing(groups=7), "method.groups: 7, but the model has 6 blocks"),
    ],
)
def test_what_does_not_fit_the_blocks_is_refused(method: Any, words: str, shape: ModelShape) -> None:
    (problem,) = method.problems(shape_of(LAYOUT, shape))
    assert problem.startswith(words)
    (unknown,) = method.problems(replace(shape, layout=WeightLayout()))
    assert "take method: {name: full}" in unknown


def test_parts_in_words() -> None:
    names = [name for block in (0, 1, 2, 5) for name in LAYOUT.block(block)]
    assert describe_part(LAYOUT, names) == "blocks 1-3, 6"
    assert describe_part(LAYOUT, ["model.layers.3.mlp.up_proj.weight", "model.norm.weight"]) == (
        "some weights of blocks 4, last norm"
    )
    assert Half.model_validate({"every": {"epochs": 1}}).describe() == (
        "half fine-tuning (by category, another half every epoch)"
    )


class Stopped(Exception):
    pass


def test_a_round_rolls_back_what_it_does_not_train(initial: Path, tmp_path: Path) -> None:
    """Also in a run that was stopped just before the rounds change."""
    splits = make_splits(initial, rows=12)
    method = {"name": "half", "every": {"steps": 2}, "outside": "frozen"}

    def run(folder: Path, every: int, stop_at: int = -1) -> Run:
        def on_metrics(step: int, _: Mapping[str, float]) -> None:
            if step == stop_at:
                raise Stopped

        plan = make_plan(method=method, steps=6, log_every_steps=1, checkpoint_every_steps=every)
        return fine_tune(plan, splits, initial, folder / "checkpoints", folder / "tuned", on_metrics=on_metrics)

    whole = run(tmp_path / "whole", 6)
    assert isinstance(whole.plan.method, Changing)
    base, tuned = (dict(model.named_parameters()) for model in (
        load_model(initial), whole.plan.method.load(initial, tmp_path / "whole/tuned")
    ))  # fmt: skip
    hooks = Half.model_validate(method).parts(
        describe_layout(load_model(initial)), RunFacts(6, whole.plan.steps_per_epoch, 3)
    )
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert changed == hooks.trained(6)
    assert hooks.trained(4) - changed, "the round before trained what is the base's again"
    with pytest.raises(Stopped):
        run(tmp_path / "halves", 4, stop_at=5)
    assert run(tmp_path / "halves", 4).resumed_at == 4
    again = whole.plan.method.load(initial, tmp_path / "halves/tuned")
    assert all(torch.equal(weights, tuned[name]) for name, weights in again.named_parameters())
