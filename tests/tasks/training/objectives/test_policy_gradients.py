"""The losses and advantages are those of TRL's trainers, or of examples worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.objectives.objective import TokenValues
from tasks.training.objectives.reinforcement.grpo import Grpo
from tasks.training.objectives.reinforcement.ppo import Ppo
from tasks.training.objectives.reinforcement.rloo import Rloo
from tasks.training.objectives.rollouts import policy_gradients
from tasks.training.objectives.rollouts.running import Running

LENGTHS = (3, 1, 5, 2)
LONGEST, MOST = max(LENGTHS), 6


class FixedScorer:
    """A scorer whose log-probabilities are given."""

    token_loss, state, step, model = CrossEntropy(), {}, 1, None

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def at_tokens(self, inputs: Any, function: Any) -> TokenValues:
        sequences = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
        return TokenValues(self.values, sequences, len(LENGTHS))


def padded(flat: torch.Tensor) -> torch.Tensor:
    """(tokens,) as (answers, longest)."""
    return torch.nn.utils.rnn.pad_sequence(flat.split(list(LENGTHS)), batch_first=True)


@pytest.fixture
def drawn() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    old = -torch.rand(sum(LENGTHS)) * 3
    return {
        "old": old,
        "now": (old + torch.randn(len(old)) * 0.4).requires_grad_(),
        "reference": old + torch.randn(len(old)) * 0.3,
        "each": torch.tensor([0.9, -1.1, -0.4, 0.7]),
    }


def batch_of(drawn: dict[str, torch.Tensor], advantages: torch.Tensor) -> dict[str, torch.Tensor]:
    ones = torch.ones(len(LENGTHS))
    return {
        "old": drawn["old"],
        "reference": drawn["reference"],
        "advantages": advantages,
        "rewards": ones,
        "flat": ones,
        "entropy": ones,
        "unfinished": ones,
        "kl": ones,
        "answer_tokens": torch.tensor(LENGTHS),
    }


def trl_loss(trainer: Any, drawn: dict[str, torch.Tensor], inputs: dict[str, Any], **settings: Any) -> torch.Tensor:
    """What a trainer's own `_compute_loss` makes of the same log-probabilities."""
    mask = padded(torch.ones(sum(LENGTHS)))
    values = (padded(drawn["now"]), torch.zeros_like(mask), None)
    defaults: dict[str, Any] = {
        "_get_per_token_logps_and_entropies": lambda *_, **__: values,
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "use_vllm": False,
        "model": SimpleNamespace(training=True),
        "max_completion_length": MOST,
        "current_gradient_accumulation_steps": 1,
        "_entropy_bonus_enabled": False,
        "_metrics": {"train": defaultdict(list)},
        "accelerator": SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        "args": SimpleNamespace(
            use_bias_correction_kl=False,
            delta=settings.pop("delta", None),
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05,
            steps_per_generation=1,
        ),
    }
    empty = torch.zeros((len(LENGTHS), 0), dtype=torch.long)
    given = {
        "prompt_ids": empty,
        "prompt_mask": empty,
        "completion_ids": mask.long(),
        "completion_mask": mask,
        "advantages": drawn["each"],
        "old_per_token_logps": padded(drawn["old"]),
        "ref_per_token_logps": padded(drawn["reference"]),
        "num_items_in_batch": mask.sum(),
        **inputs,
    }
    loss: torch.Tensor = trainer._compute_loss(SimpleNamespace(**{**defaults, **settings}), None, given)
    return loss


GRPO = [
    ({"variant": "grpo"}, {"loss_type": "grpo"}),
    ({"variant": "grpo", "kl_weight": 0.3}, {"loss_type": "grpo", "beta": 0.3}),
    ({"variant": "grpo", "clip_most": 1.1}, {"loss_type": "grpo", "delta": 1.1}),
    ({"variant": "bnpo"}, {"loss_type": "bnpo"}),
    ({"variant": "dr_grpo"}, {"loss_type": "dr_grpo"}),
    ({"variant": "dapo", "clip_high": 0.28}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    ({"variant": "gspo"}, {"loss_type": "grpo", "importance_sampling_level": "sequence"}),
    ({"variant": "cispo", "clip_high": 1.2}, {"loss_type": "cispo", "epsilon_high": 1.2}),
    ({"variant": "sapo"}, {"loss_type": "sapo"}),
]


@pytest.mark.parametrize(("ours", "theirs"), GRPO, ids=[f"{o['variant']}-{len(o)}" for o, _ in GRPO])
def test_grpo_is_that_of_trl(ours: dict[str, Any], theirs: dict[str, Any], drawn: dict[str, torch.Tensor]) -> None:
    objective = Grpo.model_validate({**ours, "rollout": {"max_new_tokens": MOST}})
    advantages = drawn["each"].repeat_interleave(torch.tensor(LENGTHS))
    inputs = batch_of(drawn, advantages)
    loss = objective.loss(FixedScorer(drawn["now"]), inputs).total / objective.units(inputs)  # type: ignore[arg-type]
    expected = trl_loss(GRPOTrainer, drawn, {}, **theirs)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    (own,) = torch.autograd.grad(loss, drawn["now"], retain_graph=True)
    (other,) = torch.autograd.grad(expected, drawn["now"])
    assert torch.allclose(own, other, atol=1e-7)


def test_rloo_is_that_of_trl(drawn: dict[str, torch.Tensor]) -> None:
    objective, inputs = Rloo(), batch_of(drawn, drawn["each"])
    loss = objective.loss(FixedScorer(drawn["now"]), inputs).total / objective.units(inputs)  # type: ignore[arg-type]
    sums = padded(drawn["old"]).sum(1)
    expected = trl_loss(RLOOTrainer, drawn, {"old_logps": sums})
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    (own,) = torch.autograd.grad(loss, drawn["now"], retain_graph=True)
    (other,) = torch.autograd.grad(expected, drawn["now"])
    assert torch.allclose(own, other, atol=1e-7)


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    found = policy_gradients.group_advantages(rewards, 4, "group")
    assert found[:4].tolist() == pytest.approx([0.8659, -0.8659, -0.8659, 0.8659], abs=1e-4)
    assert found[4:].tolist() == [0, 0, 0, 0]  # nothing is learned of a group without a difference
    assert policy_gradients.group_advantages(rewards, 4, "none")[:2].tolist() == [0.5, -0.5]
    assert policy_gradients.group_advantages(rewards, 4, "batch", 2.0)[:2].tolist() == pytest.approx(
        [0.25, -0.25], abs=1e-4
    )
    three = policy_gradients.leave_one_out_advantages(torch.tensor([1.0, 0.0, 0.5]), 3)
    assert three.tolist() == pytest.approx([0.75, -0.75, 0.0])


def test_generalised_advantages_by_hand() -> None:
    rewards, values = [torch.tensor([0.0, 1.0])], [torch.tensor([0.5, 0.2])]
    advantages, returns = policy_gradients.generalised_advantages(rewards, values, discount=1.0, trace=0.95)
    assert advantages[0].tolist() == pytest.approx([0.46, 0.8])
    assert returns[0].tolist() == pytest.approx([0.96, 1.0])
    # With lambda 1 the advantage is the return less the value, whatever the values; with 0 one step ahead.
    longer = [torch.tensor([0.1, -0.2, 2.0])], [torch.tensor([1.0, -3.0, 0.4])]
    every, _ = policy_gradients.generalised_advantages(*longer, discount=0.9, trace=1.0)
    sums = [0.1 + 0.9 * -0.2 + 0.81 * 2, -0.2 + 0.9 * 2, 2.0]
    assert every[0].tolist() == pytest.approx([s - v for s, v in zip(sums, [1.0, -3.0, 0.4], strict=True)])
    one, _ = policy_gradients.generalised_advantages(*longer, discount=0.9, trace=0.0)
    assert one[0].tolist() == pytest.approx([0.1 - 2.7 - 1.0, -0.2 + 0.36 + 3.0, 1.6])


def test_values_are_clipped_to_the_worse_error() -> None:
    values = torch.tensor([0.0, 1.0, 1.0], requires_grad=True)
    terms = policy_gradients.clipped_value_terms(
        values, torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 2.0, 0.0]), 0.2
    )
    assert terms.tolist() == pytest.approx([0.5, 0.5 * 1.8**2, 0.5])
    terms.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([-1.0, 0.0, 1.0])  # the second has moved far enough


def test_small_parts_by_hand() -> None:
    # Half of max_new_tokens 16 is free, from there it falls to -1 at the end (DAPO, equation 13).
    assert [policy_gradients.overlong_penalty(n, 16, 8) for n in (8, 12, 16, 17)] == [0, -0.5, -1, -1]
    assert policy_gradients.adapt_kl_weight(0.1, 12, 6, 0.1) == pytest.approx(0.102)  # the error is cut at 0.2
    assert policy_gradients.adapt_kl_weight(0.1, 5.4, 6, 0.1) == pytest.approx(0.099)
    kl = policy_gradients.estimate_kl(torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -1.0]))
    assert kl.tolist() == pytest.approx([0.0, 2.718282 - 2])
    numbers = [3.0, 5.0, 8.0, 1.0]
    running = Running(0, 0.0, 0.0).add(numbers[:1]).add(numbers[1:])
    assert (running.mean, running.deviation) == pytest.approx((4.25, torch.tensor(numbers).std().item()))


def test_the_kl_weight_of_ppo_follows_the_kl_of_a_rollout() -> None:
    objective = Ppo.model_validate({"target_kl": 2.0, "kl_weight": 0.1, "rollout": {"updates": 2}})
    state = objective.next_state({}, {"kl": 4.0})
    assert state["kl_weight"] == 0.1  # in the midst of a rollout
    state = objective.next_state(state, {"kl": 4.0})
    assert state["kl_weight"] == pytest.approx(0.102)


def test_the_kl_is_taken_off_the_rewards_of_rloo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four answers to one prompt, all worth 1: what tells them apart is how far they are from the reference."""
    lengths = torch.tensor(LENGTHS)
    old = torch.full((sum(LENGTHS),), -1.0)
    found = SimpleNamespace(samples=list(range(4)), totals=[1.0] * 4, split=lambda values: [list(values)])
    batch = {"old": old, "answer_tokens": lengths}
    places = torch.repeat_interleave(torch.arange(4), lengths)
    stands = {
        "find_kept": lambda *_: [],
        "gather_experience": lambda *_: found,
        "collate_samples": lambda *_: dict(batch),
        "describe": lambda _, own, samples: {"rewards": torch.tensor(own)},
        # The reference gives every token 0.5 nats less than the policy did.
        "score_reference": lambda *_: old - 0.5,
        "number_tokens": lambda _: places,
        "keep_samples": lambda *_: None,
        "keep_batches": lambda _, made, updates: made,
    }
    for name, stand in stands.items():
        monkeypatch.setattr(f"tasks.training.objectives.reinforcement.rloo.{name}", stand)
    objective = Rloo.model_validate({"kl_weight": 0.1, "rollout": {"samples": 4}})
    (made,) = objective.make([], SimpleNamespace(split="train", scorer=None))  # type: ignore[arg-type]
    kl = [0.5 * length for length in LENGTHS]
    assert made["kl"].tolist() == pytest.approx(kl, abs=1e-6)
    worth = [1 - 0.1 * each for each in kl]
    expected = [each - (sum(worth) - each) / 3 for each in worth]
    assert made["advantages"].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_kl_is_taken_off_the_rewards_of_ppo_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = torch.tensor(LENGTHS)
    old = torch.full((sum(LENGTHS),), -1.0)
    places = torch.repeat_interleave(torch.arange(4), lengths)
    monkeypatch.setattr(
        "tasks.training.objectives.reinforcement.ppo.value_tokens", lambda *_, **__: (None, torch.zeros_like(old))
    )
    monkeypatch.setattr("tasks.training.objectives.reinforcement.ppo.score_reference", lambda *_: old - 0.5)
    monkeypatch.setattr("tasks.training.objectives.reinforcement.ppo.number_tokens", lambda _: places)
    objective = Ppo.model_validate({"kl_weight": 0.1, "discount": 1.0, "trace": 1.0})
    batch: dict[str, Any] = {"old": old, "answer_tokens": lengths}
    advantages = objective._estimate(batch, [1.0] * 4, 0.2, None)  # type: ignore[arg-type]
    # With values of 0 and nothing discounted: the reward at the end, less 0.2 x 0.5 nats of each token still to come.
    for each, length in zip(advantages, LENGTHS, strict=True):
        assert each.tolist() == pytest.approx([1 - 0.1 * (length - place) for place in range(length)], abs=1e-6)
    assert batch["kl"].tolist() == pytest.approx([0.5 * length for length in LENGTHS], abs=1e-6)
