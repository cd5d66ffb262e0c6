"""One rollout at work in a step: prompts to answers, rewards, and the batches that the objective then trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from tasks.language_models.encoding import IGNORED
from tasks.training.objectives.objective import Batch, Scorer, StepToMake
from tasks.training.objectives.rollouts.params import Rollout
from tasks.training.objectives.rollouts.prompts import Prompt, read_prompt
from tasks.training.objectives.rollouts.rollout import SampledAnswer, draw_samples
from tasks.training.objectives.rollouts.tools import OpenTools, Tools
from tasks.training.rewards import AnyReward
from tasks.training.rewards.scoring import Rewards, RewardSum
from tasks.training.rows import TokenizedRows

if TYPE_CHECKING:
    import torch

FIGURES: Mapping[str, str] = {
    "reward": "mean reward of the answers, all rewards with their weights",
    "flat": "share of prompts all of whose answers are worth the same",
    "entropy": "of the distributions that tokens were drawn from, nats per token",
    "answer_tokens": "tokens of an answer that the model wrote",
    "unfinished": "share of answers that were cut at max_new_tokens",
    "kl": "of the answers from the model before the first step, nats per answer",
    "clipped": "share of ratios beyond the clipping, which give no gradient",
}
FLAT = 1e-9  # largest difference of rewards that are the same


@dataclass
class Experience:
    """The answers of a step, those to a prompt together and in the order of the batches.

    Attributes:
        samples: The answers.
        rewards: What they are worth.
        totals: The same as one number each, which an objective may add to.
        sizes: Answers of each batch.
    """

    samples: list[SampledAnswer]
    rewards: RewardSum
    totals: list[float]
    sizes: list[int]

    def split(self, values: Sequence[Any]) -> list[Sequence[Any]]:
        """Values of all answers, cut into those of each batch."""
        import numpy as np

        ends = np.cumsum(self.sizes)
        return [values[end - size : end] for end, size in zip(ends, self.sizes, strict=True)]


@lru_cache(maxsize=2)
def _open_rewards(rewards: str, folder: Path) -> Rewards:
    return Rewards(TypeAdapter(tuple[AnyReward, ...]).validate_json(rewards), folder)


@lru_cache(maxsize=2)
def _open_tools(tools: str) -> OpenTools:
    return OpenTools(Tools.model_validate_json(tools))


def gather_experience(rollout: Rollout, batches: Sequence[Batch], step: StepToMake, rounds: int = 0) -> Experience:
    """Draw answers to the prompts of a step, and reward them.

    Args:
        rollout: As in params.
        batches: Of prompts.
        step: What the trainer gives.
        rounds: Times that prompts whose answers are all worth the same are replaced by others (DAPO).
    """
    import numpy as np

    items = [item for batch in batches for item in batch["items"].tolist()]
    groups: dict[int, tuple[list[SampledAnswer], RewardSum]] = {}
    _fill(groups, items, rollout, step)
    for number in range(rounds):
        places = [place for place, item in enumerate(items) if _is_flat(groups[item][1].total)]
        if not places:
            break
        # Of this step and rank alone, so that a resumed run replaces them by the same.
        draws = np.random.default_rng([*step.seed, number, *items]).permutation(len(step.rows))
        fresh = [int(item) for item in draws if int(item) not in groups][: len(places)]
        _fill(groups, fresh, rollout, step)
        for place, item in zip(places, fresh, strict=False):
            if not _is_flat(groups[item][1].total):
                items[place] = item
    samples = [sample for item in items for sample in groups[item][0]]
    totals = [value for item in items for value in groups[item][1].total]
    each = {
        title: [value for item in items for value in groups[item][1].each[title]] for title in groups[items[0]][1].each
    }
    sizes = [len(batch["items"]) * rollout.samples for batch in batches]
    return Experience(samples, RewardSum(totals, each), list(totals), sizes)


def _fill(
    groups: dict[int, tuple[list[SampledAnswer], RewardSum]], items: Sequence[int], rollout: Rollout, step: StepToMake
) -> None:
    samples = draw(rollout, items, step, range(rollout.samples))
    found = score(rollout, samples, step)
    for place, item in enumerate(dict.fromkeys(items)):
        span = slice(place * rollout.samples, (place + 1) * rollout.samples)
        each = {title: values[span] for title, values in found.each.items()}
        groups[item] = (samples[span], RewardSum(found.total[span], each))


def draw(rollout: Rollout, items: Sequence[int], step: StepToMake, numbers: Sequence[int]) -> list[SampledAnswer]:
    """Answers to some prompts, each prompt once."""
    tools = _open_tools(rollout.tools.model_dump_json()) if rollout.tools else None
    prompts: dict[int, tuple[Prompt, Sequence[int]]] = {}
    notes = step.rows.notes
    assert notes is not None, "prompts have notes"
    for item in items:
        prompts[item] = (read_prompt(notes[item]), step.rows.row(item)[0].tolist())
    return draw_samples(step.model, step.tokenizer, prompts, rollout, step.seed, tools, numbers)


def score(rollout: Rollout, samples: Sequence[SampledAnswer], step: StepToMake) -> RewardSum:
    """What answers are worth."""
    adapter: TypeAdapter[Any] = TypeAdapter(tuple[AnyReward, ...])
    rewards = _open_rewards(adapter.dump_json(rollout.rewards).decode(), step.folder / "rewards")
    return rewards.score([sample.as_attempt() for sample in samples])


def _is_flat(values: Sequence[float]) -> bool:
    return max(values) - min(values) <= FLAT


def flat_share(totals: Sequence[float], samples: int) -> list[float]:
    """Of each prompt, 1 where all answers to it are worth the same, else 0; empty where each has one answer."""
    if samples == 1:
        return []
    return [float(_is_flat(totals[start : start + samples])) for start in range(0, len(totals), samples)]


def collate_samples(samples: Sequence[SampledAnswer], step: StepToMake) -> dict[str, Any]:
    """Answers as a batch: a row each, what the model wrote supervised; ``old``: the log-probabilities of the draws."""
    import numpy as np
    import torch

    tokens = [np.array([*sample.prompt_ids, *sample.tokens], dtype=np.int64) for sample in samples]
    written = [np.array([*[False] * len(sample.prompt_ids), *sample.written], dtype=bool) for sample in samples]
    flat, wrote = np.concatenate(tokens), np.concatenate(written)
    rows = TokenizedRows(
        tokens=flat,
        labels=np.where(wrote, flat, IGNORED),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in tokens])]).astype(np.int64),
        columns={"answer_tokens": np.array([sample.own_tokens for sample in samples], dtype=np.int64)},
    )
    batch = step.collate(rows, range(len(samples)))
    old = [
        value for sample in samples for value, own in zip(sample.log_probabilities, sample.written, strict=True) if own
    ]
    batch |= {
        "old": torch.tensor(old),
        "unfinished": torch.tensor([float(not sample.finished) for sample in samples]),
        "entropy": torch.tensor([sum(sample.entropies) for sample in samples]),
    }
    device = next(step.model.parameters()).device
    return {name: value.to(device) for name, value in batch.items()}


def at_temperature(temperature: float) -> Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor]:
    """For `Scorer.at_tokens`: the log-probability of each token at a temperature."""
    import torch

    def function(logits: torch.Tensor, tokens: torch.Tensor, _: slice) -> torch.Tensor:
        return -torch.nn.functional.cross_entropy(logits / temperature, tokens, reduction="none")

    return function


def score_reference(scorer: Scorer, batch: Batch, temperature: float) -> torch.Tensor:
    """Log-probabilities of the answers' tokens under the model before the first step, shape (tokens,)."""
    with scorer.reference() as reference:
        return reference.at_tokens(batch, at_temperature(temperature)).values.detach()


def spread(values: Sequence[Any], lengths: Sequence[int]) -> list[Any]:
    """A value of each answer, once for each of its tokens."""
    return [value for value, length in zip(values, lengths, strict=True) for _ in range(length)]


def describe(batch: Batch, totals: Sequence[float], samples: int) -> dict[str, torch.Tensor]:
    """What the figures of a batch need, (answers,) or (prompts,) each."""
    import torch

    device = batch["input_ids"].device
    return {
        "rewards": torch.tensor(list(totals), device=device),
        "flat": torch.tensor(flat_share(totals, samples), device=device),
    }


def make_figures(batch: Batch, **more: tuple[torch.Tensor, int]) -> dict[str, tuple[torch.Tensor, int]]:
    """The figures of a batch, sums and counts, by the names of `FIGURES`."""
    answers = len(batch["rewards"])
    figures = {
        "reward": (batch["rewards"].sum(), answers),
        "flat": (batch["flat"].sum(), len(batch["flat"])),
        "entropy": (batch["entropy"].sum(), int(batch["answer_tokens"].sum())),
        "answer_tokens": (batch["answer_tokens"].float().sum(), answers),
        "unfinished": (batch["unfinished"].sum(), answers),
    }
    return {**figures, **more}


def make_validation(rollout: Rollout, batches: Sequence[Batch], step: StepToMake) -> list[dict[str, Any]]:
    """One answer to each validation prompt and its reward; drawn as in training, always from the same numbers."""
    made = []
    for batch in batches:
        samples = draw(rollout, batch["items"].tolist(), step, range(1))
        found = score(rollout, samples, step)
        answers = collate_samples(samples, step)
        made.append({**answers, **describe(answers, found.total, 1)})
    return made


def number_tokens(batch: Batch) -> torch.Tensor:
    """Which answer of a batch each token that the model wrote is of, shape (tokens,)."""
    import torch

    lengths = batch["answer_tokens"]
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)


def find_kept(step: StepToMake, updates: int) -> list[Batch]:
    """The batches of the rollout that this step goes on with; none where it begins another."""
    return list(step.kept.get("batches", ())) if (step.seed[1] - 1) % updates else []


def keep_batches(step: StepToMake, batches: Sequence[Batch], updates: int) -> list[Batch]:
    """Keep the batches for the next steps, where they use them again, also after an interruption."""
    if updates > 1:
        step.kept["batches"] = [dict(batch) for batch in batches]
    return list(batches)


def keep_samples(step: StepToMake, experience: Experience, advantages: Sequence[float]) -> None:
    """Write the answers of a step beside the checkpoints."""
    from tasks.training.objectives.rollouts.samples_file import write_samples

    write_samples(step.folder, step.seed[1], rank_of(), experience.samples, experience.rewards, advantages)


def rank_of() -> int:
    """Number of this process among those that train together."""
    import torch

    return int(torch.distributed.get_rank()) if torch.distributed.is_initialized() else 0


def gather_values(values: Sequence[float]) -> list[float]:
    """The values of all processes."""
    import torch

    if not torch.distributed.is_initialized():
        return list(values)
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, list(values))
    return [value for part in found for value in part]
