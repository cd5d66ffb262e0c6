"""Which of the answers to a prompt become rows, by their rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError, raise_all
from tasks.synthesis.sampling.draws import Draw
from tasks.synthesis.sampling.params import AnswerSampling
from tasks.training.objectives.rollouts.prompts import Prompt
from tasks.training.rewards.reward import AnswerAttempt, Reference, RowFacts
from tasks.training.rewards.scoring import Rewards, list_reward_problems

REPEATED = "the same as an earlier one"
NONE_USABLE = "no answer is finished and says something"
BELOW = "no answer is worth sampling.least"
ALIKE = "its answers are worth the same, or but one is usable"


@dataclass(frozen=True)
class RewardedDraw:
    """An answer with its reward.

    Attributes:
        draw: The answer.
        number: Which of those to its prompt.
        reward: The weighted sum; None for an answer that cannot be used.
        each: Title of each reward to its value.
    """

    draw: Draw
    number: int
    reward: float | None
    each: dict[str, float]

    @property
    def worth(self) -> float:
        """The reward of a usable answer."""
        assert self.reward is not None, "a usable answer has a reward"
        return self.reward


@dataclass(frozen=True)
class SampledPrompt:
    """A prompt with its answers.

    Attributes:
        prompt: The prompt.
        answers: All, in the order of their numbers.
        kept: Those that become a row or rows, the best first.
        left_out: Why none does; empty where some do.
    """

    prompt: Prompt
    answers: tuple[RewardedDraw, ...]
    kept: tuple[RewardedDraw, ...] = ()
    left_out: str = ""


def check_rewards(settings: AnswerSampling, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Refuse rewards that cannot work on these prompts, before anything is drawn.

    Raises:
        PipelineError: All that cannot work.
    """
    having: dict[Reference, int] = {
        "answer": sum(prompt.reference is not None for prompt in prompts),
        "label": sum(prompt.label is not None for prompt in prompts),
    }
    problems = list_reward_problems(settings.rewards, RowFacts(len(prompts), having))
    told = [one.replace("objective.rollout.", "sampling.") for one in problems]
    raise_all(told, "the rewards do not fit the prompts")
    return {"prompts": len(prompts), "rewards": len(settings.rewards)}


def reward_all(
    settings: AnswerSampling, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Draw]], folder: Path
) -> list[SampledPrompt]:
    """Reward all answers, and choose.

    Args:
        settings: Rewards, and what is kept.
        prompts: The prompts.
        drawn: The answers to each.
        folder: In which rewards keep what was paid for.

    Raises:
        PipelineError: A reward failed, or gave what is none; or no prompt has an answer to keep.
    """
    rewards = Rewards(settings.rewards, folder)
    places, attempts = [], []
    for number, (prompt, answers) in enumerate(zip(prompts, drawn, strict=True)):
        for place, one in enumerate(answers):
            if not one.unusable:
                places.append((number, place))
                known = prompt.reference, prompt.label, prompt.row
                attempts.append(AnswerAttempt(prompt.turns, one.text, one.tokens, True, *known))
    found = rewards.score(attempts)
    values = {
        where: (total, {title: each[index] for title, each in found.each.items()})
        for index, (where, total) in enumerate(zip(places, found.total, strict=True))
    }
    sampled = []
    for number, (prompt, answers) in enumerate(zip(prompts, drawn, strict=True)):
        rewarded = tuple(
            RewardedDraw(one, place, *values.get((number, place), (None, {}))) for place, one in enumerate(answers)
        )
        sampled.append(choose(settings, prompt, rewarded))
    if not any(one.kept for one in sampled):
        reasons = "; ".join(f"{count:,} x {why}" for why, count in Counter(one.left_out for one in sampled).items())
        raise PipelineError(
            f"sampling: none of {len(sampled):,} prompts has an answer to keep ({reasons}); draw more samples, lower "
            "least, or take another model"
        )
    return sampled


def choose(settings: AnswerSampling, prompt: Prompt, answers: tuple[RewardedDraw, ...]) -> SampledPrompt:
    """What is kept of the answers to a prompt; of equal rewards that which was drawn first."""
    distinct: dict[str, RewardedDraw] = {}
    for one in answers:
        if one.reward is not None:
            distinct.setdefault(one.draw.text.strip(), one)
    ranked = sorted(distinct.values(), key=lambda one: (-one.worth, one.number))
    if not ranked:
        return SampledPrompt(prompt, answers, left_out=NONE_USABLE)
    if settings.least is not None and ranked[0].worth < settings.least:
        return SampledPrompt(prompt, answers, left_out=BELOW)
    if settings.keep == "best":
        return SampledPrompt(prompt, answers, tuple(ranked[:1]))
    if settings.keep == "accepted":
        return SampledPrompt(prompt, answers, tuple(one for one in ranked if one.worth >= (settings.least or 0.0)))
    if ranked[0].worth - ranked[-1].worth <= settings.least_gap:
        return SampledPrompt(prompt, answers, left_out=ALIKE)
    return SampledPrompt(prompt, answers, (ranked[0], ranked[-1]) if settings.keep == "pair" else tuple(ranked))


def describe_rows(settings: AnswerSampling, sampled: SampledPrompt) -> list[dict[str, Any]]:
    """The rows of a prompt, in shapes that stage 1 recognises: ``messages``, or ranked answers with their scores."""
    turns = [dict(turn) for turn in sampled.prompt.turns]
    about: dict[str, Any] = {} if sampled.prompt.label is None else {"label": sampled.prompt.label}
    about["model"] = settings.model.describe()
    if settings.keep in ("best", "accepted"):
        return [
            {
                "messages": [*turns, {"role": "assistant", "content": one.draw.text.strip()}],
                **about,
                "reward": one.worth,
                "samples": len(sampled.answers),
            }
            for one in sampled.kept
        ]
    if not sampled.kept:
        return []
    answers = [one.draw.text.strip() for one in sampled.kept]
    return [{"prompt": turns, "answers": answers, "scores": [one.worth for one in sampled.kept], **about}]


def list_samples(sampled: SampledPrompt) -> list[dict[str, Any]]:
    """Every answer to a prompt, for reading."""
    kept = {one.number for one in sampled.kept}
    return [
        {
            "row": sampled.prompt.row,
            "prompt": [dict(turn) for turn in sampled.prompt.turns],
            "reference": sampled.prompt.reference,
            "number": one.number,
            "answer": one.draw.text,
            "tokens": one.draw.tokens,
            "unusable": one.draw.unusable or None,
            "reward": one.reward,
            "rewards": one.each,
            "kept": one.number in kept,
        }
        for one in sampled.answers
    ]
