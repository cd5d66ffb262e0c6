"""Every distribution trains like one process on the same rows, resumes exactly, and shares what it says it shares."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.shape import read_shape
from tasks.training.methods.half import Half
from tasks.training.plan import Plan
from tests.tasks.fine_tuning.small import make_splits
from tests.tasks.training.distribution.cases import (
    CASES,
    CHANGES,
    CHECKPOINT,
    DISTRIBUTIONS,
    METHODS,
    MORE,
    OBJECTIVES,
    RANKS,
)
from tests.tasks.training.distribution.ranks import Ranks, plan_alone, plan_of, trained
from tests.tasks.training.objectives import rows


@pytest.fixture(scope="module")
def splits(initial: Path) -> Splits:
    return make_splits(initial)


def judged(initial: Path, plan: Plan) -> Splits:
    """Answers that an objective other than supervised learning takes."""
    tables = rows.examples("train"), rows.examples("validation")
    return tokenize_splits(*tables, initial, plan.max_tokens, 8, objective=plan.objective, answers=rows.answers())


@pytest.fixture(scope="module")
def ranks(initial: Path, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    plans = {
        f"{name}-{method}": plan_of(initial, DISTRIBUTIONS[name], METHODS[method], **CHANGES[method])
        for name, method in CASES
    }
    cases = {name: (plan, splits) for name, plan in plans.items()}
    for name, (distribution, objective, changes) in OBJECTIVES.items():
        plan = plan_of(initial, DISTRIBUTIONS[distribution], METHODS["lora"], objective=objective, **changes)
        cases[name] = plan, judged(initial, plan)
    with trained(tmp_path_factory.mktemp("ranks"), initial, cases) as found:
        yield found


@pytest.fixture(scope="module")
def more(initial: Path, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    plans = {name: plan_of(initial, method=METHODS["lora"], **changes) for name, changes in MORE.items()}
    cases = {name: (plan, splits) for name, plan in plans.items()}
    with trained(tmp_path_factory.mktemp("more"), initial, cases) as found:
        yield found


@pytest.fixture(scope="module")
def alone(initial: Path, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Run, Path]]:
    """Each method in one process, on the same rows a step."""
    found = {}
    for method, values in METHODS.items():
        folder = tmp_path_factory.mktemp(f"alone-{method}")
        plan = plan_alone(initial, values, **CHANGES[method])
        found[method] = fine_tune(plan, splits, initial, folder / "checkpoints", folder / "tuned"), folder
    return found


@pytest.mark.parametrize(("distribution", "method"), CASES)
def test_losses_and_weights_are_those_of_one_process(
    ranks: Ranks, alone: dict[str, tuple[Run, Path]], distribution: str, method: str
) -> None:
    run, folder = alone[method]
    history = ranks.history(f"{distribution}-{method}", "whole")
    losses = {(e["step"], key): e[key] for e in history for key in ("loss", "eval_loss", "grad_norm") if key in e}
    expected = {(p.step, "loss"): p.loss for p in run.curve if p.loss is not None}
    expected |= {(p.step, "eval_loss"): p.eval_loss for p in run.curve if p.eval_loss is not None}
    expected |= {(p.step, "grad_norm"): p.grad_norm for p in run.curve if p.grad_norm is not None}
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        assert losses[key] == pytest.approx(value, abs=1e-6 if key[1] != "grad_norm" else 1e-5), key
    # With averages those are what is left behind.
    file = "averaged" if "ema_decay" in CHANGES[method] else "trained"
    kept = load_file(next(folder.glob(f"checkpoints/*/step-000006/{file}.safetensors")))
    trained = ranks.weights(f"{distribution}-{method}", "whole")
    assert trained.keys() == kept.keys()
    for name, weights in kept.items():
        torch.testing.assert_close(trained[name], weights, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("distribution", "method"), CASES)
def test_a_resumed_run_is_exact(ranks: Ranks, distribution: str, method: str) -> None:
    case = f"{distribution}-{method}"
    assert json.loads((ranks.root / case / "resumed.json").read_text())["resumed_at"] == CHECKPOINT
    whole, resumed = ranks.weights(case, "whole"), ranks.weights(case, "resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert ranks.history(case, "whole") == ranks.history(case, "resumed")


@pytest.mark.parametrize("case", [f"{name}-{method}" for name, method in CASES if name.startswith("zero")])
def test_a_share_that_is_put_together_by_name_is_the_one_that_was_written(ranks: Ranks, case: str) -> None:
    """As a rank of another number of ranks reads it: weights, the optimizer's states and counts, to the bit."""
    assert json.loads((ranks.root / case / "by_name.json").read_text())["resumed_at"] == CHECKPOINT
    whole, by_name = ranks.weights(case, "whole"), ranks.weights(case, "by_name")
    assert whole.keys() == by_name.keys()
    assert all(torch.equal(whole[name], by_name[name]) for name in whole)
    assert ranks.history(case, "whole") == ranks.history(case, "by_name")


@pytest.mark.parametrize("case", OBJECTIVES)
def test_other_objectives_are_those_of_one_process_too(ranks: Ranks, initial: Path, tmp_path: Path, case: str) -> None:
    """The reference, the figures and the weights; resumed exactly."""
    _, objective, changes = OBJECTIVES[case]
    plan = plan_alone(initial, METHODS["lora"], objective=objective, **changes)
    run = fine_tune(plan, judged(initial, plan), initial, tmp_path / "checkpoints", tmp_path / "tuned")
    history = ranks.history(case, "whole")
    names = ("loss", "eval_loss", *(f"{prefix}{name}" for name in plan.objective.figures for prefix in ("", "eval_")))
    found = {(entry["step"], name): entry[name] for entry in history for name in names if name in entry}
    expected = {(point.step, name): value for point in run.curve for name, value in point.figures.items()}
    expected |= {(point.step, "loss"): point.loss for point in run.curve if point.loss is not None}
    expected |= {(point.step, "eval_loss"): point.eval_loss for point in run.curve if point.eval_loss is not None}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-5), key
    kept = load_file(next(tmp_path.glob("checkpoints/*/step-000006/trained.safetensors")))
    whole, resumed = ranks.weights(case, "whole"), ranks.weights(case, "resumed")
    for name, weights in kept.items():
        torch.testing.assert_close(whole[name], weights, rtol=0, atol=2e-5)
        assert torch.equal(whole[name], resumed[name])
    assert history == ranks.history(case, "resumed")


@pytest.mark.parametrize(("distribution", "method"), CASES)
def test_each_rank_holds_its_share_and_no_more(ranks: Ranks, initial: Path, distribution: str, method: str) -> None:
    """As PyTorch's FSDP through accelerate does not, on a CPU, without a word."""
    case = f"{distribution}-{method}"
    total = states = sum(weights.numel() for weights in ranks.weights(case, "whole").values())
    if method == "half":  # the states of the other half are freed
        states, _ = Half.model_validate(METHODS[method]).trained_at_once(read_shape(initial))
    held = ranks.held(case)
    shares_weights = distribution in ("fsdp", "zero-3")
    shares_states = distribution != "ddp"
    for kind, is_shared, least in (("weights", shares_weights, total), ("optimizer", shares_states, states)):
        assert [rank[kind] <= 0.6 * least for rank in held] == [is_shared] * RANKS, (kind, held, least)
        assert sum(rank[kind] for rank in held) >= least
    if method == "half":
        assert [rank["optimizer"] for rank in held] == [states] * RANKS


@pytest.mark.slow
@pytest.mark.parametrize("case", MORE)
def test_in_other_bits_and_with_recomputed_activations(
    more: Ranks, initial: Path, splits: Splits, tmp_path: Path, case: str
) -> None:
    """The same within what the bits round, and resumed exactly."""
    changes = {key: value for key, value in MORE[case].items() if key != "distribution"}
    plan = plan_alone(initial, METHODS["lora"], **changes)
    run = fine_tune(plan, splits, initial, tmp_path / "checkpoints", tmp_path / "tuned")
    losses = {e["step"]: e["loss"] for e in more.history(case, "whole") if "loss" in e}
    for point in run.curve:
        if point.loss is not None:
            assert losses[point.step] == pytest.approx(point.loss, abs=0.02 if plan.precision == "bf16" else 1e-5)
    whole, resumed = more.weights(case, "whole"), more.weights(case, "resumed")
    assert {weights.dtype for weights in whole.values()} == {torch.float32}
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
def test_a_base_in_4_bits_is_shared_out_too(more: Ranks) -> None:
    """Packed weights, the magnitudes of their blocks, embeddings; no rank holds all of it."""
    (whole, _), *shared = (
        [rank["frozen_bytes"] for rank in more.held(f"{name}-nf4")] for name in ("ddp", "fsdp", "zero-3")
    )
    assert all(max(shares) <= 0.55 * whole for shares in shared), (whole, shared)
