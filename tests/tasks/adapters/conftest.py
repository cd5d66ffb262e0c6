"""Two adapters of a tiny base, each trained for a task of its own, in a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.adapters.store import keep_adapter
from tasks.contracts.manifest import hash_file, seal
from tasks.language_models.encoding import encode_reference
from tasks.language_models.folder.model_folder import load_model, load_tokenizer
from tasks.training.methods.lora import Lora
from tests.tasks.fine_tuning.small import make_initial
from tests.tiny import example_rows, make_tiny_model, write_examples

TASKS = {"polite": "We will help you now.", "terse": "No."}


@dataclass(frozen=True)
class Shop:
    """The base, and the store with the adapters."""

    root: Path

    @property
    def initial(self) -> Path:
        return self.root / "initial"

    @property
    def store(self) -> Path:
        return self.root / "adapters"


def task_rows(task: str, seed: int) -> list[dict[str, Any]]:
    """Questions that begin with the task's name, and its one answer."""
    rows = example_rows(12, seed=seed)
    for row in rows:
        question, answer = row["messages"]  # type: ignore[misc]
        row["messages"] = [
            {**question, "content": f"{task}: {question['content']}"},
            {**answer, "content": TASKS[task]},
        ]
    return rows


def train_adapter(shop: Shop, task: str, method: Lora) -> Path:
    """What fine-tuning would leave: the adapter after some steps on the task's rows."""
    torch.manual_seed(1)
    model, tokenizer = method.adapt(load_model(shop.initial)), load_tokenizer(shop.initial)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 5e-3)
    encoded = []
    for row in task_rows(task, seed=1):
        prompt, answer = encode_reference(tokenizer, row["messages"][:1], row["messages"][1]["content"])
        encoded.append((torch.tensor([prompt + answer]), torch.tensor([[-100] * len(prompt) + answer])))
    for step in range(24):
        ids, labels = encoded[step % len(encoded)]
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    tuned = shop.root / f"tuned-{task}-{method.rank}"
    tuned.mkdir()
    facts = {"base": hash_file(shop.initial / "manifest.json"), "method": method.model_dump()}
    seal(tuned, method.save(model, tuned), facts)
    return tuned


def keep(shop: Shop, name: str, task: str, tuned: Path) -> None:
    """Put an adapter into the store, with rows of its task."""
    validation = write_examples(shop.root / f"{name}-validation.parquet", task_rows(task, seed=2))
    test = write_examples(shop.root / f"{name}-test.parquet", task_rows(task, seed=3))
    keep_adapter(shop.store, name, shop.initial, tuned, validation, test)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Read only but for new names in the store."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    make_initial(make_tiny_model(shop.initial))
    for task in TASKS:
        method = Lora(rank=4, alpha=8, targets=["q_proj", "v_proj", "down_proj"], rslora=task == "terse")
        keep(shop, task, task, train_adapter(shop, task, method))
    return shop
