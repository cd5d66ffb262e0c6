"""What a run would ask and cost, before it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tasks.corpus.writers.answers import Turns
from tasks.synthesis import answers, critique, instructions, rewrite, topics
from tasks.synthesis.calls import compute_cost, estimate_tokens, find_price
from tasks.synthesis.drafts import Draft, Known, Seed
from tasks.synthesis.params import Synthesis
from tasks.synthesis.rounds import read_wording
from tasks.synthesis.seeds import choose_examples

# Tokens of what is not known yet, where no seed shows it.
PROMPT, ANSWER, VERDICT, TOPIC = 30, 150, 60, 8
SAMPLED = 50


@dataclass(frozen=True)
class StepEstimate:
    """What a step would take.

    Attributes:
        step: Its name.
        calls: Number of calls.
        prompt_tokens: Of all its questions.
        completion_tokens: Of all its answers.
        cost: In the currency of the prices.
    """

    step: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


def estimate(
    settings: Synthesis, seeds: Sequence[Seed], known: Known, root: Path, accepted: float
) -> list[StepEstimate]:
    """Calls, tokens and cost per step.

    Args:
        settings: As for the run.
        seeds: Examples.
        known: Labels.
        root: What relative paths are relative to.
        accepted: Share of the proposed prompts, and of the answers, that is accepted; the rest of the answers is
            rewritten as often as it may be, in vain.
    """
    wording = read_wording(settings, root, known.labels)
    shown = choose_examples(seeds, SAMPLED, settings.seed, "estimate")
    prompt = round(fmean(map(count_tokens, (seed.prompt for seed in shown)))) if shown else PROMPT
    answer = round(fmean(map(count_tokens, (seed.answer for seed in shown)))) if shown else ANSWER
    examples = shown[: settings.examples_per_call]
    draft = Draft("x" * 30, tuple(seed.id for seed in examples), "x " * (2 * prompt), answer="x " * (2 * answer))
    answered = math.ceil(settings.rows / accepted)
    proposals = math.ceil(answered / accepted / settings.instructions_per_call)
    rewritten = (answered - settings.rows) * settings.rewrites if settings.least_score else 0
    user: list[Turns] = [
        [{"role": "user", "content": text}]
        for text in (
            topics.write_prompt(settings, seeds, wording, 0, [], settings.topics_wanted),
            instructions.write_prompt(settings, draft.topic, examples, known.labels, {}, wording),
            critique.write_prompt(settings, draft, wording),
        )
    ]
    again = answers.add_system(settings, rewrite.write_prompt(settings, draft, wording))
    respond = answers.write_prompt(settings, draft, {seed.id: seed for seed in examples}, wording)
    planned = [
        ("topics", 0 if settings.topics else 1, user[0], TOPIC * settings.topics_wanted),
        ("instructions", proposals, user[1], (prompt + TOPIC) * settings.instructions_per_call),
        ("answers", answered, respond, answer),
        ("critique", answered + rewritten if settings.least_score else 0, user[2], VERDICT),
        ("rewrite", rewritten, again, answer),
    ]
    found = []
    for step, calls, turns, come in planned:
        sent, came = calls * estimate_tokens(turns), calls * come
        found.append(StepEstimate(step, calls, sent, came, compute_cost(sent, came, find_price(settings, step))))
    return found


def count_tokens(text: str) -> int:
    """Tokens of a text, estimated."""
    return estimate_tokens([{"content": text}])
