"""Losses of pairs and of marked answers are TRL's, to the last digit of fp64, and so are their gradients."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

from tasks.training.objectives.objective import TokenValues
from tasks.training.objectives.preferences.cpo import Cpo
from tasks.training.objectives.preferences.dpo import REFERENCE, Dpo
from tasks.training.objectives.preferences.ipo import Ipo
from tasks.training.objectives.preferences.kto import Kto
from tasks.training.objectives.preferences.orpo import Orpo
from tasks.training.objectives.preferences.pair_losses import PairLossName
from tasks.training.objectives.preferences.simpo import Simpo

PAIRS, WIDTH = 3, 7
ACCELERATOR = SimpleNamespace(
    gather_for_metrics=lambda values: values, gather=lambda values: values, device=torch.device("cpu")
)


class Given:
    """A scorer of log-probabilities that were drawn."""

    def __init__(self, sequences: int = 2 * PAIRS, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> torch.Tensor:
            return -torch.rand(shape, generator=generator, dtype=dtype) * 2 - 0.1

        self.lengths = torch.randint(2, WIDTH, (sequences,), generator=generator)
        self.mask = torch.arange(WIDTH)[None] < self.lengths[:, None]
        self.likelihoods = (draw(sequences, WIDTH) * self.mask).requires_grad_()
        self.likeness = draw(sequences, WIDTH) * self.mask  # log of the sum of squared probabilities
        self.reference = (draw(sequences, WIDTH) * self.mask).sum(1)

    @property
    def inputs(self) -> dict[str, Any]:
        return {REFERENCE: self.reference, "items": torch.arange(len(self.lengths) // 2)}

    def _values(self, of: torch.Tensor) -> TokenValues:
        sequences = torch.arange(len(self.lengths)).repeat_interleave(self.lengths)
        return TokenValues(of[self.mask], sequences, len(self.lengths))

    def log_probabilities(self, _: Any) -> TokenValues:
        return self._values(self.likelihoods)

    def at_tokens(self, _: Any, __: Any) -> TokenValues:
        return self._values(torch.stack([self.likelihoods, self.likeness], -1))


def interleaved_to_halves(of: torch.Tensor) -> torch.Tensor:
    """TRL has all better answers before all worse ones."""
    return torch.cat([of[0::2], of[1::2]])


def trl_dpo(given: Given, objective: Dpo) -> torch.Tensor:
    """The mean loss that TRL computes of the same log-probabilities."""
    mask = interleaved_to_halves(given.mask)
    zeros = torch.zeros(2 * PAIRS, WIDTH)
    outputs = SimpleNamespace(
        log_probs=interleaved_to_halves(given.likelihoods), log_sum_sq_probs=interleaved_to_halves(given.likeness),
        entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(),
    )  # fmt: skip
    reference = interleaved_to_halves(given.reference)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=ACCELERATOR, aux_loss_enabled=False,
        ld_alpha=None if objective.length_share == 1 else objective.length_share, precompute_ref_logps=True,
        f_divergence_type=objective.divergence, f_alpha_divergence_coef=objective.alpha, beta=objective.beta,
        loss_types=objective.losses, loss_weights=objective.each_weight, label_smoothing=objective.label_smoothing,
        args=SimpleNamespace(discopop_tau=objective.temperature), use_weighting=objective.weighting,
        _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    # One prompt token, which is no part of an answer.
    completion = torch.cat([torch.zeros(2 * PAIRS, 1), mask], 1).long()
    inputs = {
        "input_ids": completion, "attention_mask": torch.ones_like(completion), "completion_mask": completion,
        "ref_chosen_logps": reference[:PAIRS], "ref_rejected_logps": reference[PAIRS:],
    }  # fmt: skip
    loss: torch.Tensor = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    return loss


DPO_CASES = [
    *(Dpo(losses=(name,), label_smoothing=0.1 if name in ("exo_pair", "robust", "aot", "aot_unpaired") else 0.0)
      for name in get_args(PairLossName)),
    Dpo(losses=("sigmoid", "sft"), weights=(1.0, 0.3)),
    *(Dpo(divergence=name) for name in ("forward_kl", "js_divergence", "alpha_divergence")),
    Dpo(divergence="alpha_divergence", alpha=1.0),
    Dpo(length_share=0.3, beta=0.5),
    Dpo(losses=("sigmoid", "ipo"), weighting=True),
]  # fmt: skip


@pytest.mark.parametrize("objective", DPO_CASES, ids=lambda one: f"{one.describe()} {one.divergence}"[29:])
def test_dpo_and_its_kin(objective: Dpo) -> None:
    # TRL computes the alpha-divergence, and the logarithm of exo_pair's label smoothing, in fp32.
    is_rough = objective.divergence == "alpha_divergence" or "exo_pair" in objective.losses
    given, exact = Given(dtype=torch.float32 if is_rough else torch.float64), 1e-6 if is_rough else 1e-12
    found = objective.loss(given, given.inputs).total
    expected = trl_dpo(given, objective)
    assert found.item() / PAIRS == pytest.approx(expected.item(), abs=exact)
    own, theirs = (torch.autograd.grad(loss, given.likelihoods)[0] for loss in (found / PAIRS, expected))
    torch.testing.assert_close(own, theirs * given.mask, rtol=0, atol=exact)


def test_conservative_dpo_and_one_without_a_reference_by_hand() -> None:
    given = Given()
    sums = given.likelihoods.detach().sum(1)
    difference = 0.1 * (sums - given.reference).view(PAIRS, 2) @ torch.tensor([1.0, -1.0], dtype=torch.float64)
    expected = -0.8 * difference.sigmoid().log() - 0.2 * (-difference).sigmoid().log()
    assert Dpo(label_smoothing=0.2).loss(given, given.inputs).total.item() == pytest.approx(expected.sum().item())
    free = Dpo(reference_free=True)
    assert free.reference == "none"
    expected = -(0.1 * (sums[0::2] - sums[1::2])).sigmoid().log()
    assert free.loss(given, {"items": torch.arange(PAIRS)}).total.item() == pytest.approx(expected.sum().item())


def test_ipo_is_dpo_with_its_loss() -> None:
    given = Given()
    found = Ipo(tau=0.3).loss(given, given.inputs).total.item()
    assert found / PAIRS == pytest.approx(trl_dpo(given, Dpo(losses=("ipo",), beta=0.3)).item(), abs=1e-12)


def test_orpo() -> None:
    given, beta = Given(), 0.25
    means = given.likelihoods.detach().sum(1) / given.lengths
    trainer = SimpleNamespace(beta=beta, accelerator=ACCELERATOR)
    # TRL casts to fp32.
    ratios = ORPOTrainer.odds_ratio_loss(trainer, means[0::2], means[1::2])[0]
    expected = -means[0::2] - ratios.double()
    assert Orpo(beta=beta).loss(given, {}).total.item() == pytest.approx(expected.sum().item(), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["sigmoid", "hinge", "ipo", "simpo"])
def test_cpo_and_simpo(kind: str, alpha: float) -> None:
    given = Given()
    sums = given.likelihoods.detach().sum(1)
    means = sums / given.lengths
    scores = means if kind == "simpo" else sums
    trainer = SimpleNamespace(
        loss_type=kind, alpha=alpha, beta=0.7, simpo_gamma=0.4, label_smoothing=0.1, accelerator=ACCELERATOR
    )
    expected = CPOTrainer.cpo_loss(trainer, scores[0::2], scores[1::2])[0] - 0.5 * means[0::2]
    common: dict[str, Any] = {"alpha": alpha, "beta": 0.7, "label_smoothing": 0.1, "nll_weight": 0.5}
    objective = Simpo(gamma=0.4, **common) if kind == "simpo" else Cpo.model_validate({"loss_type": kind, **common})
    assert objective.loss(given, {}).total.item() == pytest.approx(expected.sum().item(), abs=1e-11)


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_kto(kind: str) -> None:
    answers = 5
    given = Given(sequences=2 * answers)
    good = torch.tensor([True, False, True, True, False])
    mask = given.mask[0::2]
    zeros = torch.zeros(answers, WIDTH)
    outputs = SimpleNamespace(log_probs=given.likelihoods[0::2], entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=ACCELERATOR, aux_loss_enabled=False, beta=0.4,
        precompute_ref_logps=True, calculate_KL=kind == "kto", loss_type=kind, desirable_weight=1.5,
        undesirable_weight=0.5, _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1,
        _compute_kl_logps=lambda *_: given.likelihoods[1::2].sum(1),
    )  # fmt: skip
    completion = torch.cat([torch.zeros(answers, 1), mask], 1).long()
    inputs = {
        "input_ids": completion, "attention_mask": torch.ones_like(completion), "completion_mask": completion,
        "label": good, "ref_logps": given.reference[0::2], "ref_KL_logps": given.reference[1::2],
    }  # fmt: skip
    expected = KTOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    objective = Kto.model_validate({"loss_type": kind, "beta": 0.4, "good_weight": 1.5, "bad_weight": 0.5})
    own = {**given.inputs, "desirable": good.double().repeat_interleave(2)}
    found = objective.loss(given, own).total
    assert found.item() / answers == pytest.approx(expected.item(), abs=1e-12)
    own_gradient, theirs = (torch.autograd.grad(loss, given.likelihoods)[0] for loss in (found / answers, expected))
    torch.testing.assert_close(own_gradient, theirs * given.mask, rtol=0, atol=1e-12)


# Some lower both answers or none by design; these have to raise the better one and lower the worse one.
POINTED = [
    *(Dpo(losses=(name,), label_smoothing=0.1) for name in ("sigmoid", "hinge", "ipo", "robust", "bco_pair")),
    Dpo(losses=("sppo_hard",)), Dpo(losses=("apo_zero",)), Dpo(losses=("nca_pair",)), Ipo(), Orpo(), Cpo(), Simpo(),
]  # fmt: skip


@pytest.mark.parametrize("objective", POINTED, ids=lambda one: one.describe())
def test_a_step_downhill_raises_the_better_answer_and_lowers_the_worse_one(objective: Any) -> None:
    given = Given()
    given.reference = given.likelihoods.detach().sum(1)  # as before the first step
    objective.loss(given, given.inputs).total.backward()
    assert given.likelihoods.grad is not None
    gradient = given.likelihoods.grad.sum(1)
    assert (gradient[0::2] < 0).all()
    assert (gradient[1::2] >= 0).all()
    if not isinstance(objective, Dpo) or objective.losses != ("nca_pair",):
        assert (gradient[1::2] > 0).all()
