"""How adapters of several tasks disturb one another: the loss of every model on every task's rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.adapters.combining import Mixer
from tasks.contracts.errors import PipelineError
from tasks.contracts.tables import read_examples
from tasks.language_models.encoding import encode_reference
from tasks.language_models.generation import context_length, score_references
from tasks.language_models.templates.rendering import TemplateRefusal
from tasks.training.stored_adapter import StoredAdapter

Measure = Callable[[Any], dict[str, float]]
# A mixture whose loss on a task is further above the best one than this disturbs the task.
WORSE = 0.05


@dataclass(frozen=True)
class TaskRows:
    """The rows that a task is measured on.

    Attributes:
        task: Name of the adapter that was trained for it.
        prompts: Conversations before the answer.
        references: Their answers.
    """

    task: str
    prompts: list[list[dict[str, str]]]
    references: list[str]


def read_tasks(adapters: Sequence[StoredAdapter], split: str, rows: int, tokenizer: Any, config: Any) -> list[TaskRows]:
    """The first rows of every adapter's task, in the order of their ids.

    Args:
        adapters: Adapters with rows of their own.
        split: `tasks.training.stored_adapter.VALIDATION` or `TEST`.
        rows: At most so many of a task.
        tokenizer: The base's.
        config: The base's.

    Raises:
        PipelineError: A task has no row that fits into the context.
    """
    context = context_length(config)
    return [_read_task(adapter, adapter.folder / split, rows, tokenizer, context) for adapter in adapters]


def _read_task(adapter: StoredAdapter, file: Path, rows: int, tokenizer: Any, context: int | None) -> TaskRows:
    found = TaskRows(adapter.name, [], [])
    for row in read_examples(file).select(["id", "messages"]).sort_by("id").to_pylist():
        *prompt, answer = row["messages"]
        if len(found.references) == rows or not prompt:
            continue
        try:
            tokens = sum(map(len, encode_reference(tokenizer, prompt, answer["content"])))
        except TemplateRefusal:
            continue
        if context is None or tokens <= context:
            found.prompts.append(prompt)
            found.references.append(answer["content"])
    if not found.references:
        raise PipelineError(f"{file}: no row of the task {adapter.name} fits into the context of {context} tokens")
    return found


def measure_losses(model: Any, tokenizer: Any, tasks: Sequence[TaskRows]) -> dict[str, float]:
    """Mean loss of a model on each task, nats per token of the answers."""
    losses = {}
    for task in tasks:
        scored = score_references(model, tokenizer, task.prompts, task.references, title=f"scoring {task.task}")
        losses[task.task] = sum(s.mean * s.tokens for s in scored) / sum(s.tokens for s in scored)
    return losses


@dataclass(frozen=True)
class Interference:
    """Losses of several models on several tasks.

    Attributes:
        losses: Model to task to loss; ``base``, each adapter by its name, and ``mixture``.
        rows: Task to the number of rows it was measured on.
    """

    losses: Mapping[str, Mapping[str, float]]
    rows: Mapping[str, int]

    def excess(self, model: str, task: str) -> float:
        """How much worse a model is on a task than the adapter that was trained for it; nats per token."""
        return self.losses[model][task] - self.losses[task][task]

    def kept(self, model: str, task: str) -> float | None:
        """The share of the adapter's gain over the base that a model has too; None where there is no gain."""
        gain = self.losses["base"][task] - self.losses[task][task]
        return None if gain <= 0 else 1 - self.excess(model, task) / gain

    def disturbed(self, model: str) -> list[str]:
        """Tasks on which a model is noticeably worse than their own adapter."""
        return [task for task in self.rows if self.excess(model, task) > WORSE]


def measure_interference(
    mixer: Mixer,
    adapters: Sequence[StoredAdapter],
    tasks: Sequence[TaskRows],
    tokenizer: Any,
    mixtures: Mapping[str, Callable[[], Any]],
) -> Interference:
    """Score the base, each adapter alone and every mixture on every task.

    Args:
        mixer: The base with the adapters.
        adapters: The adapters.
        tasks: What they are measured on.
        tokenizer: The base's.
        mixtures: Name to a function that gives the model.
    """
    losses = {}
    with mixer.plain() as base:
        losses["base"] = measure_losses(base, tokenizer, tasks)
    for adapter in adapters:
        losses[adapter.name] = measure_losses(mixer.only(adapter.name), tokenizer, tasks)
    for name, model in mixtures.items():
        losses[name] = measure_losses(model(), tokenizer, tasks)
    return Interference(losses, {task.task: len(task.references) for task in tasks})
