"""Every distribution trains like one process on the same rows, resumes exactly, and shares what it says it shares."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.fine_tuning.launch.job import written
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.shape import read_shape
from tasks.training.distribution.distribution import Layout
from tasks.training.methods.half import Half
from tasks.training.plan import Plan
from tests.tasks.fine_tuning.small import make_plan, make_splits
from tests.tasks.training.distribution.cases import (
    CASES,
    CHANGES,
    CHECKPOINT,
    DISTRIBUTIONS,
    METHODS,
    MORE,
    OBJECTIVES,
    OTHERS,
    RANKS,
    SMALL,
)
from tests.tasks.training.objectives import rows

COMMON = {"steps": 6, "log_every_steps": 1, "checkpoint_every_steps": CHECKPOINT, "evaluate_every_steps": 3}


def plan_of(initial: Path, distribution: dict[str, Any], method: dict[str, Any], **changes: Any) -> Plan:
    """Two ranks, two accumulated batches of two rows."""
    plan = planned(
        initial,
        **changes,
        method=method,
        distribution=distribution,
        world_size=RANKS,
        batch_size=2,
        accumulation_steps=2,
    )
    layout = Layout(RANKS, 2, 2, plan.clip_norm, plan.precision, plan.device)
    return plan.model_copy(update={"distribution": plan.distribution.resolve(read_shape(initial), layout)})


def plan_alone(initial: Path, method: dict[str, Any], **changes: Any) -> Plan:
    """One process that sees the same rows a step."""
    return planned(initial, **changes, method=method, batch_size=2, accumulation_steps=2 * RANKS)


def planned(initial: Path, **values: Any) -> Plan:
    """A plan of which method and bits are resolved."""
    plan = make_plan(**{**COMMON, **values})
    method = plan.method.resolve(read_shape(initial))
    bits = plan.quantization.resolve(method.can.frozen_base, plan.precision)
    return plan.model_copy(update={"method": method, "quantization": bits})


@dataclass(frozen=True)
class Ranks:
    """What the two ranks left, a folder a case."""

    root: Path

    def weights(self, case: str, run: str) -> dict[str, torch.Tensor]:
        return load_file(self.root / case / f"{run}.safetensors")

    def history(self, case: str, run: str) -> list[dict[str, Any]]:
        history: list[dict[str, Any]] = json.loads((self.root / case / f"{run}.json").read_text())["history"]
        return [
            {key: value for key, value in entry.items() if not key.startswith(("train_", "total_flos"))}
            for entry in history
        ]

    def held(self, case: str) -> list[dict[str, int]]:
        held: list[dict[str, int]] = json.loads((self.root / case / "held.json").read_text())
        return held


@pytest.fixture(scope="module")
def splits(initial: Path) -> Splits:
    return make_splits(initial)


def judged(initial: Path, plan: Plan) -> Splits:
    """Answers that an objective other than supervised learning takes."""
    tables = rows.examples("train"), rows.examples("validation")
    return tokenize_splits(*tables, initial, plan.max_tokens, 8, objective=plan.objective, answers=rows.answers())


@contextmanager
def trained(root: Path, initial: Path, cases: Mapping[str, tuple[Plan, Splits]]) -> Iterator[Ranks]:
    """All cases, trained by the same two processes."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with ExitStack() as stack:
        for case, (plan, splits) in cases.items():
            origin = origin_of(plan, splits, initial)
            stack.enter_context(written(root / case, plan, splits, origin, initial, root / "checkpoints" / case, 3))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=RANKS,
            run_id="cases",
            max_restarts=0,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            logs_specs=DefaultLogsSpecs(log_dir=str(root / "output"), redirects=Std.ALL),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "tests.tasks.training.distribution.cases", str(root))
        except Exception as error:
            raise AssertionError("\n".join(path.read_text() for path in root.glob("error-*.json"))) from error
        yield Ranks(root)


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
def others(initial: Path, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    cases = {}
    for name in OTHERS:
        distribution, _, method = name.partition("-")
        cases[name] = plan_of(initial, DISTRIBUTIONS[distribution], SMALL[method]), splits
    with trained(tmp_path_factory.mktemp("others"), initial, cases) as found:
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
@pytest.mark.parametrize("case", OTHERS)
def test_methods_with_modules_of_their_own_are_those_of_one_process_too(
    others: Ranks, initial: Path, splits: Splits, tmp_path: Path, case: str
) -> None:
    """What is drawn is drawn alike on every rank; resumed exactly."""
    run = fine_tune(
        plan_alone(initial, SMALL[case.partition("-")[2]]),
        splits,
        initial,
        tmp_path / "checkpoints",
        tmp_path / "tuned",
    )
    history = others.history(case, "whole")
    losses = {(e["step"], key): e[key] for e in history for key in ("loss", "eval_loss") if key in e}
    expected = {(p.step, "loss"): p.loss for p in run.curve if p.loss is not None}
    expected |= {(p.step, "eval_loss"): p.eval_loss for p in run.curve if p.eval_loss is not None}
    assert losses == pytest.approx(expected, abs=1e-6)
    kept = load_file(next(tmp_path.glob("checkpoints/*/step-000006/trained.safetensors")))
    whole, resumed = others.weights(case, "whole"), others.weights(case, "resumed")
    assert whole.keys() == kept.keys()
    for name, weights in kept.items():
        torch.testing.assert_close(whole[name], weights, rtol=0, atol=2e-5)
        assert torch.equal(whole[name], resumed[name])
    assert history == others.history(case, "resumed")
