"""Each update rule is what its paper says: held against an oracle, against a simpler rule, or against the formula."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.optimization import Adafactor as TransformersAdafactor

from tasks.language_models.folder.model_folder import load_model
from tasks.training.optimizers import OPTIMIZERS
from tasks.training.optimizers.adalomo import AdaLomo
from tasks.training.optimizers.apollo import Apollo
from tasks.training.optimizers.galore import GaLore
from tasks.training.optimizers.groups import group_weights
from tasks.training.optimizers.lion import Lion
from tasks.training.optimizers.lomo import Lomo
from tasks.training.optimizers.mezo import MeZO
from tasks.training.optimizers.muon import Muon
from tasks.training.optimizers.optimizer import Optimizer
from tasks.training.optimizers.paged_adamw import PagedAdamW

MEMBERS = pytest.mark.parametrize("optimizer", [member() for member in OPTIMIZERS], ids=lambda one: one.name)
RATE, DECAY = 0.01, 0.1
Weights = list[torch.nn.Parameter]


def make_weights() -> Weights:
    """A wide matrix, a tall one and a vector."""
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(size)) for size in ((6, 10), (12, 5), (7,))]


def make_groups(weights: Weights, decay: float = 0.0) -> list[dict[str, Any]]:
    return [
        {"params": weights[:2], "lr": RATE, "weight_decay": decay, "part": "matrix"},
        {"params": weights[2:], "lr": RATE, "weight_decay": 0.0, "part": "vector"},
    ]


def loss_of(weights: Weights) -> torch.Tensor:
    """Not the same gradient twice, and of full rank."""
    wide, tall, vector = weights
    return ((wide @ wide.T - 1) ** 2).mean() + (tall.tanh() @ tall.T).square().mean() + (vector**4).sum()


def descend(weights: Weights, optimizer: torch.optim.Optimizer, steps: int = 5) -> list[torch.Tensor]:
    for _ in range(steps):
        loss_of(weights).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [one.detach() for one in weights]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float = 1e-6) -> None:
    start = make_weights()
    for one, other, before in zip(found, expected, start, strict=True):
        assert not torch.allclose(one, before, atol=1e-4), "it did not move"
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_lomo_is_sgd() -> None:
    weights, others = make_weights(), make_weights()
    found = descend(weights, Lomo().build(make_groups(weights, DECAY), 0))
    assert_same(found, descend(others, torch.optim.SGD(make_groups(others, DECAY))))


def test_lomo_keeps_one_gradient_at_a_time() -> None:
    weights = make_weights()
    optimizer = Lomo(clip_value=1e-2).build(make_groups(weights), 0)
    alive: list[int] = []
    for one in weights:
        one.register_hook(lambda _: alive.append(sum(other.grad is not None for other in weights)))
    before = [one.detach().clone() for one in weights]
    loss_of(weights).backward()
    assert (alive, [one.grad for one in weights]) == ([0, 0, 0], [None, None, None])
    largest = max((one - old).abs().max().item() for one, old in zip(weights, before, strict=True))
    assert largest == pytest.approx(RATE * 1e-2, rel=0.01)
    optimizer.step()


def test_adalomo_is_adafactor_with_steps_in_proportion_to_the_weights() -> None:
    weights, others = make_weights(), make_weights()
    oracle: Any = TransformersAdafactor
    expected = oracle(make_groups(others), scale_parameter=True, relative_step=False)
    assert_same(descend(weights, AdaLomo().build(make_groups(weights), 0)), descend(others, expected))


def test_lion_is_that_of_bitsandbytes() -> None:
    from bitsandbytes.optim import Lion as Oracle

    weights, others = make_weights(), make_weights()
    found = descend(weights, Lion().build(make_groups(weights, DECAY), 0))
    assert_same(found, descend(others, Oracle(make_groups(others, DECAY), betas=(0.9, 0.99))))


def test_paged_adamw_of_32_bits_is_adamw() -> None:
    """Also where there is nothing to page, without a warning for every weight."""
    weights, others = make_weights(), make_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = descend(weights, PagedAdamW().build(make_groups(weights, DECAY), 0))
    assert_same(found, descend(others, torch.optim.AdamW(make_groups(others, DECAY))), 1e-5)


@pytest.mark.parametrize("kind", [GaLore, Apollo])
def test_whole_matrices_get_adamw(kind: type[GaLore | Apollo]) -> None:
    weights, others = make_weights(), make_weights()
    found = descend(weights, kind(rank=6).build(make_groups(weights, DECAY), 0))
    assert_same(found, descend(others, torch.optim.AdamW(make_groups(others, DECAY))))


def test_galore_steps_within_the_largest_singular_vectors() -> None:
    weights = make_weights()
    optimizer = GaLore(rank=2, scale=0.5, refresh_every_steps=3).build(make_groups(weights), 0)
    before = [one.detach().clone() for one in weights]
    loss_of(weights).backward()
    gradients = [one.grad.clone() for one in weights if one.grad is not None]
    optimizer.step()
    left = torch.linalg.svd(gradients[0]).U[:, :2]
    right = torch.linalg.svd(gradients[1]).Vh[:2]
    # In the first step Adam's two means are the gradient and its square, so the update is the sign.
    torch.testing.assert_close(before[0] - weights[0], RATE * 0.5 * left @ (left.T @ gradients[0]).sign())
    torch.testing.assert_close(before[1] - weights[1], RATE * 0.5 * (gradients[1] @ right.T).sign() @ right)
    bases = [optimizer.state[one]["basis"].clone() for one in weights[:2]]
    for step in (2, 3, 4):
        descend(weights, optimizer, 1)
        same = [torch.equal(optimizer.state[one]["basis"], basis) for one, basis in zip(weights, bases, strict=False)]
        assert same == [step < 4] * 2


@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_apollo_sizes_the_gradient_and_lets_it_grow_slowly(per: str) -> None:
    weights = make_weights()
    optimizer = Apollo(rank=3, per=per, scale=4.0).build(make_groups(weights), 7)  # type: ignore[arg-type]
    before = weights[0].detach().clone()
    loss_of(weights).backward()
    assert weights[0].grad is not None
    gradient = weights[0].grad.clone()
    optimizer.step()
    space = torch.randn(6, 3, generator=torch.Generator().manual_seed(7)) / 3**0.5
    small = space.T @ gradient
    along = 0 if per == "channel" else None
    factors = torch.linalg.vector_norm(small.sign(), dim=along) / torch.linalg.vector_norm(small, dim=along)
    torch.testing.assert_close(before - weights[0], RATE * 2 * gradient * factors, rtol=1e-4, atol=1e-6)
    sizes = [torch.linalg.vector_norm(before - weights[0].detach()).item()]
    for _ in range(4):
        start = weights[0].detach().clone()
        weights[0].grad, weights[1].grad, weights[2].grad = (torch.randn_like(one) * 100 for one in weights)
        optimizer.step()
        sizes.append(torch.linalg.vector_norm(weights[0].detach() - start).item())
    assert all(later <= 1.0101 * earlier for earlier, later in pairwise(sizes))


def test_muon_is_two_optimizers_with_two_rates() -> None:
    weights, others = make_weights(), make_weights()
    optimizer = Muon(outer_rate=0.5).build(make_groups(weights, DECAY), 0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    assert [group["lr"] for group in optimizer.param_groups] == [RATE, RATE / 2]
    matrices = torch.optim.Muon(others[:2], lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    rest = torch.optim.AdamW(others[2:], lr=RATE / 2, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(4):
        descend(weights, optimizer, 1)
        scheduler.step()
        for one in (matrices, rest):
            one.param_groups[0]["lr"] = (RATE if one is matrices else RATE / 2) / (step + 1)
        loss_of(others).backward()
        matrices.step()
        rest.step()
        matrices.zero_grad()
        rest.zero_grad()
    assert_same([one.detach() for one in weights], [one.detach() for one in others])
    saved = optimizer.state_dict()
    again = Muon(outer_rate=0.5).build(make_groups(weights, DECAY), 0)
    again.load_state_dict(saved)
    assert [group["lr"] for group in again.param_groups] == [RATE / 5, RATE / 10]
    assert len(again.state) == 3


def test_mezo_moves_along_one_direction_by_the_slope_of_the_loss() -> None:
    weights = make_weights()
    optimizer = MeZO(shift=1e-3).build(make_groups(weights, DECAY), 3)
    before = [one.detach().clone() for one in weights]
    seen: list[list[torch.Tensor]] = []

    def half(scale: float) -> Any:
        def loss() -> torch.Tensor:
            assert not torch.is_grad_enabled()
            seen.append([one.detach().clone() for one in weights])
            return scale * loss_of(weights)

        return loss

    # Two batches, whose losses add up.
    total = optimizer.measure(half(0.25)) + optimizer.measure(half(0.75))
    for one, old in zip(weights, before, strict=True):
        torch.testing.assert_close(one.detach(), old, rtol=0, atol=1e-6)
    direction = [(above - below) / 2e-3 for above, below in zip(seen[0], seen[1], strict=True)]
    for one, other in zip(seen[0], seen[2], strict=True):  # the same direction for both batches
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    above, below = (loss_of([torch.nn.Parameter(one) for one in seen[n]]).item() for n in (0, 1))
    assert total.item() == pytest.approx((above + below) / 2, rel=1e-5)
    optimizer.step()
    slope = (above - below) / 2e-3
    for one, old, along, decay in zip(weights, before, direction, (DECAY, DECAY, 0.0), strict=True):
        expected = old * (1 - RATE * decay) - RATE * slope * along
        torch.testing.assert_close(one.detach(), expected, rtol=1e-3, atol=1e-3)
    optimizer.measure(half(1.0))
    assert not torch.allclose(seen[4][0] - seen[5][0], seen[0][0] - seen[1][0], atol=1e-3), (
        "the direction of the last step"
    )


def small_model(initial: Path) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(0)
    return load_model(initial).train(), torch.tensor([list(range(90, 120))])


def take_step(optimizer: Any, model: Any, ids: torch.Tensor) -> None:
    if hasattr(optimizer, "train"):
        optimizer.train()
    if hasattr(optimizer, "measure"):
        optimizer.measure(lambda: model(input_ids=ids, labels=ids).loss)
    else:
        model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()


@MEMBERS
def test_gradients_are_kept_by_those_that_say_so(optimizer: Optimizer, initial: Path) -> None:
    model, ids = small_model(initial)
    built = optimizer.build(group_weights(model, [], RATE, 0.0), 0)
    if optimizer.can.needs_backward:
        model(input_ids=ids, labels=ids).loss.backward()
    kept = [weights.grad is not None for weights in model.parameters()]
    assert all(kept) == any(kept) == optimizer.can.keeps_gradients
    assert hasattr(built, "measure") != optimizer.can.needs_backward


@MEMBERS
def test_groups_learn_at_their_own_rates(optimizer: Optimizer, initial: Path) -> None:
    """A group whose rate is 0 stays as it is, all others move."""
    model, ids = small_model(initial)
    groups = group_weights(model, [], RATE, DECAY)
    assert [group["part"] for group in groups] == ["embedding", "matrix", "vector"]
    groups[1]["lr"] = 0.0
    still = {id(weights) for weights in groups[1]["params"]}
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    built = optimizer.build(groups, 0)
    for _ in range(2):
        take_step(built, model, ids)
    for name, weights in model.named_parameters():
        assert torch.allclose(weights, before[name], rtol=0, atol=1e-6) == (id(weights) in still), name


@MEMBERS
def test_decay_pulls_matrices_towards_zero(optimizer: Optimizer, initial: Path) -> None:
    sizes = []
    for decay in (0.0, 5.0):
        model, ids = small_model(initial)
        decayed = [name for name, weights in model.named_parameters() if weights.ndim > 1]
        built = optimizer.build(group_weights(model, decayed, RATE, decay), 0)
        for _ in range(3):
            take_step(built, model, ids)
        sizes.append([torch.linalg.vector_norm(w).item() for w in model.parameters() if w.ndim > 1])
    assert all(small < large for large, small in zip(*sizes, strict=True))
