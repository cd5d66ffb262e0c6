"""Estimated calls, tokens and cost of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tasks.language_models.writers.answers import Turns
from tasks.language_models.writers.cost import compute_cost, estimate_tokens
from tasks.synthesis import answers, critique, instructions, rewrite, topics
from tasks.synthesis.calls import find_price
from tasks.synthesis.drafts import Draft, Known, Seed
from tasks.synthesis.params import Synthesis
from tasks.synthesis.rounds import read_wording
from tasks.synthesis.seeds import choose_examples

# Assumed tokens where there are no seeds to measure.
PROMPT_TOKENS, ANSWER_TOKENS, VERDICT_TOKENS, TOPIC_TOKENS = 30, 150, 60, 8
SAMPLED_SEEDS = 50


@dataclass(frozen=True)
class CostEstimate:
    """CostEstimate for a step.

    Attributes:
        step: Name of the step.
        calls: Number of calls.
        prompt_tokens: Tokens of all prompts.
        completion_tokens: Tokens of all answers.
        cost: Cost in the currency of the prices.
    """

    step: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


def estimate(
    settings: Synthesis, seeds: Sequence[Seed], known: Known, root: Path, accepted: float
) -> list[CostEstimate]:
    """Calls, tokens and cost per step.

    Args:
        settings: Settings of the run.
        seeds: Examples.
        known: Labels.
        root: Folder that relative paths are relative to.
        accepted: Assumed share of the proposed prompts, and of the answers, that is accepted; the other answers are
            assumed to be rewritten as often as allowed, without success.
    """
    wording = read_wording(settings, root, known.labels)
    sample = choose_examples(seeds, SAMPLED_SEEDS, settings.seed, "estimate")
    prompt = round(fmean(map(count_tokens, (seed.prompt for seed in sample)))) if sample else PROMPT_TOKENS
    answer = round(fmean(map(count_tokens, (seed.answer for seed in sample)))) if sample else ANSWER_TOKENS
    examples = sample[: settings.examples_per_call]
    draft = Draft("x" * 30, tuple(seed.id for seed in examples), "x " * (2 * prompt), answer="x " * (2 * answer))
    answered = math.ceil(settings.rows / accepted)
    proposals = math.ceil(answered / accepted / settings.instructions_per_call)
    rewritten = (answered - settings.rows) * settings.rewrites if settings.least_score else 0
    user_turns: list[Turns] = [
        [{"role": "user", "content": text}]
        for text in (
            topics.write_prompt(settings, seeds, wording, 0, [], settings.topics_wanted),
            instructions.write_prompt(settings, draft.topic, examples, known.labels, {}, wording),
            critique.write_prompt(settings, draft, wording),
        )
    ]
    rewrite_turns = answers.add_system(settings, rewrite.write_prompt(settings, draft, wording))
    answer_turns = answers.write_prompt(settings, draft, {seed.id: seed for seed in examples}, wording)
    planned = [
        ("topics", 0 if settings.topics else 1, user_turns[0], TOPIC_TOKENS * settings.topics_wanted),
        ("instructions", proposals, user_turns[1], (prompt + TOPIC_TOKENS) * settings.instructions_per_call),
        ("answers", answered, answer_turns, answer),
        ("critique", answered + rewritten if settings.least_score else 0, user_turns[2], VERDICT_TOKENS),
        ("rewrite", rewritten, rewrite_turns, answer),
    ]
    estimates = []
    for step, calls, turns, answer_tokens in planned:
        prompt_tokens, completion_tokens = calls * estimate_tokens(turns), calls * answer_tokens
        cost = compute_cost(prompt_tokens, completion_tokens, find_price(settings, step))
        estimates.append(CostEstimate(step, calls, prompt_tokens, completion_tokens, cost))
    return estimates


def count_tokens(text: str) -> int:
    """Tokens of a text, estimated."""
    return estimate_tokens([{"content": text}])
