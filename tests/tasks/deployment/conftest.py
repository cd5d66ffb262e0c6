"""A tiny base, an adapter that changes its answers, and what the other stages say about them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.contracts.machine import Machine
from tasks.contracts.manifest import hash_file, seal, write_json
from tasks.contracts.records import PREDICTIONS
from tasks.contracts.tables import write_table
from tasks.training.distribution.single import Single
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.methods import AnyMethod
from tasks.training.methods.full import Full
from tasks.training.methods.lora import Lora
from tasks.training.optimizers.adamw import AdamW
from tasks.training.optimizers.groups import ParameterGroups
from tasks.training.plan import Plan
from tasks.training.quantization.none import Unquantized
from tasks.training.schedules.cosine import Cosine
from tests.tiny import example_rows, write_examples

ROWS = 40


@dataclass(frozen=True)
class World:
    """Folders and files as the stages before deployment leave them."""

    root: Path

    @property
    def prepared(self) -> Path:
        return self.root / "prepared"

    @property
    def test(self) -> Path:
        return self.prepared / "test.parquet"

    @property
    def initial(self) -> Path:
        return self.root / "initial"

    @property
    def plan(self) -> Path:
        return self.root / "plan"

    @property
    def tuned(self) -> Path:
        return self.root / "tuned"

    @property
    def full(self) -> Path:
        return self.root / "full"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.parquet"

    @property
    def verdict(self) -> Path:
        return self.root / "verdict.json"


def make_world(root: Path, tiny_model: Path, scale: float = 0.5) -> World:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    world = World(root)
    rows = example_rows(ROWS, seed=3)
    write_examples(world.test, rows)
    write_json(
        world.prepared / "manifest.json",
        {
            "version": 1,
            "files": {"test.parquet": {"sha256": hash_file(world.test), "bytes": world.test.stat().st_size}},
            "counts": {"train": 300, "test": ROWS, "answers": 0},
            "sources": [
                {"title": "a|b", "kind": "jsonl", "place": "data/raw/a.jsonl", "shape": "messages",
                 "files": {"a.jsonl": "ab" * 32}, "rows": 400, "weight": 1.0},
            ],
        },
    )  # fmt: skip
    shutil.copytree(tiny_model, world.initial)
    seal(
        world.initial,
        list(world.initial.iterdir()),
        {"source": {"folder": "models/base"}, "reference": None, "licence": "apache-2.0",
         "architecture": "LlamaForCausalLM", "parameters": 111, "context": 256,
         "tokenizer_class": "TokenizersBackend"},
    )  # fmt: skip
    facts = {"base": hash_file(world.initial / "manifest.json"), "final_loss": 1.5, "final_validation_loss": None}
    model = AutoModelForCausalLM.from_pretrained(world.initial, dtype=torch.float32)
    torch.manual_seed(1)
    # Large updates, so that the tuned model answers otherwise than its base.
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"]))
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=scale)
    adapted.save_pretrained(world.tuned / "adapter")
    method = Lora(rank=4, alpha=8, targets=["down_proj", "q_proj", "v_proj"])
    seal(world.tuned, (p for p in world.tuned.rglob("*") if p.is_file()), {**facts, "method": method.model_dump()})
    adapted.merge_and_unload().save_pretrained(world.full / "weights")
    seal(world.full, (p for p in world.full.rglob("*") if p.is_file()), {**facts, "method": Full().model_dump()})
    write_plan(world.plan, method)
    write_predictions(world.predictions, rows)
    one = {"mean_a": 0.9, "mean_b": 0.25, "difference": 0.65, "low": 0.6, "high": 0.7, "detectable": 0.05,
           "higher_is_better": True}  # fmt: skip
    write_json(
        world.verdict,
        {"verdict": "promote", "reasons": ["rouge_l rose"], "opponent": "base", "champion": None, "items": ROWS,
         "comparisons": {"candidate_vs_base": {"rouge_l": one}}, "intent_ceiling": 0.98,
         "intent_abstained": {"base": 7, "candidate": 1}},
    )  # fmt: skip
    return world


def write_plan(folder: Path, method: AnyMethod) -> None:
    plan = Plan(
        method=method, quantization=Unquantized(weights="fp32"), loss=CrossEntropy(), seed=1, learning_rate=1e-3,
        schedule=Cosine(), warmup_steps=2, weight_decay=0.0, clip_norm=1.0,
        optimizer=AdamW(), parameter_groups=ParameterGroups(),
        batch_size=4, accumulation_steps=2, max_tokens=256, long_rows="truncate_right",
        packing="bfd", precision="fp32",
        neftune_alpha=None, ema_decay=None,
        on_nan="stop", nan_limit=10, divergence=None, early_stopping=None, keep="last",
        gradient_checkpointing=False, release_freed_memory=False,
        epochs=2.0, steps=50, threads=2, world_size=1, device="cpu",
        distribution=Single(),
        checkpoint_every_steps=10, evaluate_every_steps=10, log_every_steps=1, examples=300, rows=100, tokens=9000,
        supervised_tokens=4000, steps_per_epoch=25, trainable_parameters=1234, predicted_memory_bytes=10**8,
        made_for=Machine(device="cpu", cores=2, memory_bytes=2**33, bf16=True),
    )  # fmt: skip
    write_json(folder / "plan.json", plan.model_dump())
    seal(folder, [folder / "plan.json"], {})


def write_predictions(path: Path, rows: list[dict[str, object]]) -> None:
    table = [
        {
            "item": row["id"],
            "model": model,
            "source": "tiny",
            "label": row["label"],
            "prompt": row["messages"][:-1],  # type: ignore[index]
            "reference": row["messages"][-1]["content"],  # type: ignore[index]
            "answer": f"{model} answers {row['row']}",
            "loss": 1.0,
            "tokens": 5,
            "scores": [{"metric": "rouge_l", "value": 0.5}],
        }
        for model in ("base", "candidate")
        for row in rows
    ]
    write_table(pa.Table.from_pylist(table, schema=PREDICTIONS), path, PREDICTIONS)


@pytest.fixture(scope="session")
def world(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Read only."""
    return make_world(tmp_path_factory.mktemp("deployment"), tiny_model)
