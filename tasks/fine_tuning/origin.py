"""What a run is made from, hashed: data, plan, base, libraries, and the code that decides about the weights."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from tasks.contracts.manifest import NAME, hash_file
from tasks.fine_tuning.checkpoints import RunOrigin
from tasks.fine_tuning.rows import Splits
from tasks.language_models import document_rows, documents, encoding, generation, logits, long_rows, pooling, sampling
from tasks.training import (
    answer_costs,
    answer_steps,
    distribution,
    hard_negatives,
    losses,
    methods,
    mixture,
    objectives,
    optimizers,
    quantization,
    reward_models,
    rewards,
    rows,
    schedules,
    stopping,
    teachers,
    text_pairs,
)
from tasks.training.plan import Plan
from tasks.training.rows import TokenizedRows

DECIDING_MODULES = (
    "loss/batch_loss.py",
    "loss/batches.py",
    "loss/noise.py",
    "loss/output_layer.py",
    "loss/scorer.py",
    "rank.py",
    "rows.py",
    "train.py",
    "trainer/arguments.py",
    "trainer/averaging.py",
    "trainer/fine_tuner.py",
    "trainer/interrupts.py",
    "trainer/method_steps.py",
    "trainer/not_finite.py",
    "trainer/objective_run.py",
    "trainer/start.py",
    "trainer/watch.py",
)
DECIDING_FOLDERS = (
    distribution,
    losses,
    methods,
    objectives,
    optimizers,
    quantization,
    rewards,
    schedules,
    teachers,
)
DECIDING_SHARED = (
    answer_costs,
    answer_steps,
    document_rows,
    documents,
    encoding,
    generation,
    hard_negatives,
    logits,
    long_rows,
    mixture,
    pooling,
    reward_models,
    rows,
    sampling,
    stopping,
    text_pairs,
)
LIBRARIES = ("accelerate", "peft", "tokenizers", "torch", "transformers", "trl")
# Of the plan, what may differ where another number of ranks resumes a run.
LAYOUT = {"before", "accumulation_steps", "distribution", "made_for", "predicted_memory_bytes", "threads", "world_size"}


def origin_of(plan: Plan, splits: Splits, initial: Path, start: Path | None = None) -> RunOrigin:
    """Hashes of everything that decides about the weights and the curve of a run."""
    return hash_origin(plan, hash_rows(splits.train) + hash_rows(splits.validation), initial, start)


def hash_origin(plan: Plan, data: str, initial: Path, start: Path | None = None) -> RunOrigin:
    """The same, with the hash of the rows."""
    here = Path(__file__).parent
    code = hashlib.sha256()
    for file in (
        *(Path(str(module.__file__)) for module in DECIDING_SHARED),
        *(here / name for name in DECIDING_MODULES),
        *(file for folder in DECIDING_FOLDERS for file in sorted(Path(folder.__path__[0]).rglob("*.py"))),
    ):
        code.update(f"{file.parent.name}/{file.name} {hash_file(file)}\n".encode())
    for file in plan.objective.files():
        code.update(f"{file} {hash_file(file)}\n".encode())
    own = {"" if plan.quantization.can.trained_base else "bitsandbytes", plan.optimizer.can.library}
    own |= {"deepspeed" if plan.distribution.name == "zero" else ""}
    libraries = ",".join(f"{name}={version(name)}" for name in (*LIBRARIES, *sorted(own - {""})))
    return RunOrigin(
        data=data,
        plan=_hash(plan.model_dump(exclude={"before"})),
        model=hash_file(initial / NAME),
        code=code.hexdigest(),
        libraries=libraries,
        world_size=plan.world_size,
        work=_hash(_work(plan)),
        start=hash_file(start) if start else "",
        resizes=plan.distribution.can.resize,
    )


def _work(plan: Plan) -> dict[str, Any]:
    """The plan without how many ranks, on which machines, share it; the rows of a step stay the same."""
    values = plan.model_dump(exclude=LAYOUT)
    return {**values, "batches_per_step": plan.world_size * plan.accumulation_steps, "shared": plan.distribution.name}


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()


def hash_rows(rows: TokenizedRows) -> str:
    """SHA-256 over tokens, labels, boundaries, and weights, classes, costs, columns and notes if any, 64 hex digits."""
    digest = hashlib.sha256()
    costs = rows.costs.arrays if rows.costs is not None else ()
    own = (rows.tokens, rows.labels, rows.offsets, rows.weights, rows.classes, rows.tasks)
    for array in (*own, *costs, *rows.columns.values()):
        if array is not None:
            digest.update(array.tobytes())
            digest.update(b"\0")
    if rows.columns or rows.notes or rows.per_item > 1:
        digest.update(orjson.dumps([rows.per_item, list(rows.columns), list(rows.notes or ())]))
    return digest.hexdigest()
