"""Answers of the model: drawn a chunk of prompts at a time, and stored, so that a run goes on where it was.

A local model draws as the rollouts of reinforcement learning do, many at once, each answer from the seed, its prompt
and its number alone. Which prompts share a chunk does not depend on what was stored, so that a run that was interrupted
gives the bytes of one that was not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from tasks.contracts.manifest import write_bytes
from tasks.contracts.progress import progress
from tasks.language_models.encoding import encode_prompt
from tasks.language_models.writers.answers import CUT_OFF, EMPTY, ask_fully
from tasks.language_models.writers.local import load_model
from tasks.language_models.writers.openai import OpenAi
from tasks.synthesis.sampling.params import AnswerSampling, LocalSampler
from tasks.training.objectives.rollouts.params import Rollout
from tasks.training.objectives.rollouts.prompts import Prompt
from tasks.training.objectives.rollouts.rollout import draw_samples

ESTIMATED_BYTES = 4  # of a token, where a server does not count


@dataclass(frozen=True)
class Draw:
    """One answer.

    Attributes:
        text: Its text; of a server's answer that was cut off or refused it is empty.
        tokens: Tokens that the model wrote, the end included.
        unusable: Why it can be no row; empty where it can.
    """

    text: str
    tokens: int
    unusable: str


def draw_all(settings: AnswerSampling, prompts: Sequence[Prompt], folder: Path) -> list[list[Draw]]:
    """The answers to each prompt, in the order of their numbers.

    Args:
        settings: Model, number and seed.
        prompts: The prompts.
        folder: Where they are stored.

    Raises:
        PipelineError: The model cannot be opened, does not answer, or a prompt leaves no room in its context.
    """
    found: list[list[Draw]] = []
    with progress("sampling", len(prompts)) as advance:
        for start in range(0, len(prompts), settings.chunk):
            chunk = prompts[start : start + settings.chunk]
            path = folder / f"{_name(settings, chunk)}.json"
            if path.is_file():
                drawn = [[Draw(**one) for one in each] for each in orjson.loads(path.read_bytes())]
            else:
                drawn = _draw(settings, chunk, folder)
                write_bytes(path, orjson.dumps([[asdict(one) for one in each] for each in drawn]))
            found += drawn
            advance(len(chunk))
    return found


def _name(settings: AnswerSampling, prompts: Sequence[Prompt]) -> str:
    """Hash of all that decides about the answers of a chunk."""
    facts = [settings.model.identity, settings.model.name, settings.samples, settings.seed, [p.row for p in prompts]]
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _draw(settings: AnswerSampling, prompts: Sequence[Prompt], folder: Path) -> list[list[Draw]]:
    if isinstance(settings.model, OpenAi):
        return _ask(settings, settings.model, prompts, folder)
    return _sample(settings, settings.model, prompts)


def _sample(settings: AnswerSampling, model: LocalSampler, prompts: Sequence[Prompt]) -> list[list[Draw]]:
    opened, tokenizer = load_model(model.path, "sampling")
    rollout = Rollout(
        samples=settings.samples,
        max_new_tokens=model.max_tokens,
        temperature=model.temperature,
        top_p=model.top_p,
        batch_size=model.batch_size,
    )
    # By the hash of a prompt, not by its place, so that more prompts leave the answers to these as they are.
    asked = {int(prompt.row, 16): (prompt, encode_prompt(tokenizer, prompt.turns)) for prompt in prompts}
    drawn = draw_samples(opened, tokenizer, asked, rollout, (settings.seed, 0), None, range(settings.samples))
    each = [
        Draw(one.answer, one.own_tokens, CUT_OFF if not one.finished else "" if one.answer.strip() else EMPTY)
        for one in drawn
    ]
    return [each[start : start + settings.samples] for start in range(0, len(each), settings.samples)]


def _ask(settings: AnswerSampling, model: OpenAi, prompts: Sequence[Prompt], folder: Path) -> list[list[Draw]]:
    asked = [[{"role": str(turn["role"]), "content": str(turn["content"])} for turn in p.turns] for p in prompts]
    numbers = range(settings.seed * settings.samples, (settings.seed + 1) * settings.samples)
    rounds = [ask_fully(model.reseed(number), asked, folder / "answers") for number in numbers]
    return [
        [
            Draw(
                one.text or "",
                one.completion_tokens or len((one.text or "").encode()) // ESTIMATED_BYTES,
                "" if one.text else one.why,
            )
            for one in answers
        ]
        for answers in zip(*rounds, strict=True)
    ]
