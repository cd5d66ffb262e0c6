"""Tasks of lm-evaluation-harness, loaded without the network, and their questions."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.question import Question
from tasks.evaluation.suites.harness.files import FILES, OWN_TASKS
from tasks.evaluation.suites.harness.requests import make_question, write_turns
from tasks.evaluation.suites.suite import Measure, select_questions

# Seeds that `lm_eval.simple_evaluate` sets where it is not told others.
SEED, FEWSHOT_SEED = 0, 1234


class TaskChoice(Protocol):
    """What of the section `LmEval` says which questions there are."""

    @property
    def key(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def items(self) -> int: ...
    @property
    def files(self) -> str | None: ...
    @property
    def include(self) -> str | None: ...
    @property
    def fewshot(self) -> int | None: ...
    @property
    def chat_template(self) -> bool: ...
    @property
    def measure(self) -> str | None: ...
    @property
    def download(self) -> bool: ...


@dataclass(frozen=True)
class Document:
    """One document of a task and the harness's requests about it.

    Attributes:
        task: The task.
        doc: The document.
        requests: Its requests, in the order that the task scores them in.
    """

    task: Any = field(repr=False)
    doc: Any = field(repr=False)
    requests: list[Any] = field(repr=False)


@dataclass(frozen=True)
class LoadedTasks:
    """What a suite asks and measures.

    Attributes:
        questions: Of each document one, or one for each kind of request; ``facts`` hold its `Document` and the place of
            each option's request among its requests.
        measures: Those that can be compared, the decisive one first.
    """

    questions: tuple[Question, ...] = field(repr=False)
    measures: dict[str, Measure]


@lru_cache(maxsize=16)
def load_tasks(suite: TaskChoice) -> LoadedTasks:
    """Load the tasks of a suite and make its questions; the same suite is loaded once.

    Raises:
        PipelineError: The package is not installed, there is no such task, its data are not there, it cannot be
            answered greedily, or none of its measures can be compared.
    """
    from tasks.evaluation.suites.harness.scores import list_measures

    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise PipelineError(
            f"suite {suite.key}: the package lm_eval is not installed ({error}); pip install 'heptune[suites]'"
        ) from error
    with _fixed_seeds(), _offline(not suite.download), _errors_only():
        tasks = _load(suite)
        for task in tasks:
            _set_fewshot(task, suite.fewshot)
        measures = list_measures(suite.key, tasks, suite.measure)
        questions = _list_questions(suite, tasks)
    return LoadedTasks(tuple(questions), measures)


def _load(suite: TaskChoice) -> list[Any]:
    from lm_eval.tasks import TaskManager

    include = [str(OWN_TASKS), *([suite.include] if suite.include else [])]
    metadata: Any = {"files": suite.files or os.environ.get(FILES, "")}
    # The index of the harness's own tasks takes seconds.
    manager = TaskManager(include_path=include, include_defaults=False, metadata=metadata)
    if suite.task not in manager.all_tasks:
        manager = TaskManager(include_path=include, metadata=metadata)
    if suite.task not in manager.all_tasks:
        close = difflib.get_close_matches(suite.task, manager.all_tasks, 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise PipelineError(f"suite {suite.key}: lm_eval has no task {suite.task}{hint}")
    try:
        return list(manager.load([suite.task])["tasks"].values())
    except PipelineError as error:
        raise PipelineError(f"suite {suite.key}: {error}") from error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "" if suite.download else "; it is looked for on this machine only, unless download: true is set"
        raise PipelineError(f"suite {suite.key}: the data of {suite.task} cannot be loaded ({reason}){hint}") from error


def _set_fewshot(task: Any, fewshot: int | None) -> None:
    """As `lm_eval.simple_evaluate` does: a task that says 0 keeps it."""
    default = task.get_config("num_fewshot")
    if fewshot is not None and default != 0:
        task.set_config(key="num_fewshot", value=fewshot)
    elif default is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)


def _list_questions(suite: TaskChoice, tasks: Sequence[Any]) -> list[Question]:
    found = []
    for task in tasks:
        seen: dict[str, int] = {}
        for place, doc in enumerate(task.eval_docs):
            content = json.dumps(doc, sort_keys=True, default=str, ensure_ascii=False)
            name = f"{task.config.task} {hashlib.sha256(content.encode()).hexdigest()[:24]}"
            seen[name] = seen.get(name, 0) + 1
            found.append((task, place, name, f"{name} {seen[name]}" if seen[name] > 1 else name))
    chosen = select_questions(found, suite.items, lambda one: one[3])
    questions: list[Question] = []
    for task in tasks:
        mine = [one for one in chosen if one[0] is task]
        if not mine:
            continue
        task.build_all_requests(
            samples=[place for _, place, _, _ in mine],
            apply_chat_template=suite.chat_template,
            fewshot_as_multiturn=True,
            chat_template=write_turns if suite.chat_template else None,
        )
        requests: dict[int, list[Any]] = {}
        for one in task.instances:
            requests.setdefault(one.doc_id, []).append(one)
        for number, (_, _, name, key) in enumerate(mine):
            of_document = sorted(requests[number], key=lambda one: one.idx)
            document = Document(task, of_document[0].doc, of_document)
            cluster = document.doc.get("cluster") if isinstance(document.doc, dict) else None
            questions += _ask_about(document, key, str(cluster or name))
    return questions


def _ask_about(document: Document, key: str, cluster: str) -> Iterator[Question]:
    """One question for each kind of request about a document; answers are asked one by one."""
    groups: dict[tuple[str, int], list[int]] = {}
    for place, one in enumerate(document.requests):
        alone = place if one.request_type == "generate_until" else -1
        groups.setdefault((one.request_type, alone), []).append(place)
    for number, ((kind, _), places) in enumerate(groups.items()):
        made = make_question(
            f"{key} part {number + 1}" if number else key, kind, [document.requests[place].args for place in places]
        )
        texts = tuple(_list_texts(document.doc))
        yield replace(made, cluster=cluster, texts=texts, facts={"document": document, "places": places})


def _list_texts(value: Any) -> Iterator[str]:
    """All texts of a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _list_texts(one)


@contextmanager
def _fixed_seeds() -> Iterator[None]:
    """The seeds of the harness while tasks are loaded, and afterwards those that were."""
    import numpy as np

    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(SEED)
    np.random.seed(FEWSHOT_SEED)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


@contextmanager
def _errors_only() -> Iterator[None]:
    """Without the harness's remarks on every task that it loads."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Whether the hub's libraries use the network; they read the environment only when they are imported."""
    import datasets.config
    import huggingface_hub.constants

    places = ((huggingface_hub.constants, "HF_HUB_OFFLINE"), (datasets.config, "HF_HUB_OFFLINE"))
    before = [getattr(module, name) for module, name in places]
    if wanted:
        for module, name in places:
            setattr(module, name, True)
    try:
        yield
    finally:
        for (module, name), value in zip(places, before, strict=True):
            setattr(module, name, value)
