"""Every answer of every rollout, kept for reading: a Parquet file a step and process beside the checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.contracts.manifest import replacing
from tasks.contracts.records import MESSAGES
from tasks.training.objectives.rollouts.rollout import SampledAnswer
from tasks.training.rewards.scoring import RewardSum

FOLDER = "samples"
SAMPLES = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("row", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("answer", MESSAGES, nullable=False),
        pa.field("reference", pa.string()),
        pa.field("label", pa.string()),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("rewards", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("advantage", pa.float64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("finished", pa.bool_(), nullable=False),
    ]
)
SHOWN_STEPS = 3


def write_samples(
    folder: Path,
    step: int,
    rank: int,
    samples: Sequence[SampledAnswer],
    rewards: RewardSum,
    advantages: Sequence[float],
) -> Path:
    """Keep the answers of a step; the file's path.

    Args:
        folder: That of the run's checkpoints.
        step: Of the rollout.
        rank: Of the process.
        samples: The answers.
        rewards: What they are worth.
        advantages: Of each; for those that differ by token, their mean.
    """
    rows = [
        {
            "step": step,
            "row": sample.prompt.row,
            "number": sample.number,
            "prompt": [{key: turn[key] for key in ("role", "content")} for turn in sample.prompt.turns],
            "answer": sample.turns,
            "reference": sample.prompt.reference,
            "label": sample.prompt.label,
            "reward": rewards.total[place],
            "rewards": [(title, values[place]) for title, values in rewards.each.items()],
            "advantage": float(advantages[place]),
            "tokens": sample.own_tokens,
            "finished": sample.finished,
        }
        for place, sample in enumerate(samples)
    ]
    file = folder / FOLDER / f"step-{step:06d}-{rank}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as aside:
        pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), aside)
    return file


def list_steps(folder: Path) -> list[int]:
    """Steps of which there are answers, ascending."""
    return sorted({int(file.stem.split("-")[1]) for file in (folder / FOLDER).glob("step-*.parquet")})


def read_samples(folder: Path, step: int) -> pa.Table:
    """The answers of a step, schema `SAMPLES`, of all processes."""
    files = sorted((folder / FOLDER).glob(f"step-{step:06d}-*.parquet"))
    return pa.concat_tables([pq.read_table(file, schema=SAMPLES) for file in files])


@dataclass(frozen=True)
class ShownSample:
    """An answer on a page.

    Attributes:
        step: Of its rollout.
        why: ``best``, ``worst`` or ``random``.
        prompt: The last turn of the prompt.
        answer: Its turns as text.
        reward: What it was worth.
        advantage: How much better than expected.
    """

    step: int
    why: str
    prompt: str
    answer: str
    reward: float
    advantage: float


def choose_samples(folder: Path, last: int) -> list[ShownSample]:
    """The best, the worst and a random answer of the first, a middle and the last rollout, for a page.

    Args:
        folder: That of the run's checkpoints.
        last: Last step that counts.
    """
    steps = [step for step in list_steps(folder) if step <= last]
    chosen = sorted({steps[round(place)] for place in np.linspace(0, len(steps) - 1, SHOWN_STEPS)}) if steps else []
    shown = []
    for step in chosen:
        rows = read_samples(folder, step).to_pylist()
        order = sorted(range(len(rows)), key=lambda place: rows[place]["reward"])
        places = (order[-1], order[0], int(np.random.default_rng(step).integers(len(rows))))
        for why, place in zip(("best", "worst", "random"), places, strict=True):
            row = rows[place]
            answer = "\n".join(
                turn["content"] if turn["role"] == "assistant" else f"[{turn['role']}] {turn['content']}"
                for turn in row["answer"]
            )
            prompt = str(row["prompt"][-1]["content"])
            shown.append(ShownSample(step, why, prompt, answer, row["reward"], row["advantage"]))
    return shown
