"""Verdicts of guards, kept by the exchange: a text that a guard has judged is not judged again.

Kept like a judge's verdicts and a teacher's answers (`tasks.language_models.writers.answers`), a file each, under a
hash of everything that decides: the files of the guard's folder, its params, the code that writes its prompt and
reads its verdict, the libraries, the device, and the exchange. What a base and a champion answered is so judged once,
whatever candidates come. A guard that costs nothing keeps nothing.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from tasks.contracts.manifest import hash_file
from tasks.language_models.guards.classifier import ClassifierGuard
from tasks.language_models.guards.guard import GuardedExchange, GuardVerdict, find_device
from tasks.language_models.guards.model_section import GuardModel
from tasks.language_models.guards.rules import RuleGuard
from tasks.language_models.writers.answers import AnswerCache, WriterAnswer
from tasks.language_models.writers.local import hash_model

if TYPE_CHECKING:
    from tasks.language_models.guards import AnyGuard

LIBRARIES = ("numpy", "tokenizers", "torch", "transformers")
# Params that do not decide what a verdict is.
HOW_FAST = {"path", "batch_size", "device"}


def judge_once(guard: AnyGuard, exchanges: Sequence[GuardedExchange], folder: Path) -> list[GuardVerdict]:
    """The verdicts about exchanges, in their order; the guard is loaded only where one of them is new.

    Args:
        guard: The guard.
        exchanges: What is judged; the same exchange is judged once.
        folder: Where verdicts are kept.

    Raises:
        PipelineError: The guard cannot be loaded.
    """
    if isinstance(guard, RuleGuard):
        return guard.open()(exchanges)
    cache = AnswerCache(folder, _identify(guard))
    turns = [_as_turns(exchange) for exchange in exchanges]
    names = [cache.name(one) for one in turns]
    known = {name: cache.find(one) for name, one in zip(names, turns, strict=True)}
    found = {name: _read(answer.text) for name, answer in known.items() if answer and answer.text}
    new = {name: place for place, name in enumerate(names) if name not in found}
    verdicts = guard.open()([exchanges[place] for place in new.values()]) if new else []
    for (name, place), verdict in zip(new.items(), verdicts, strict=True):
        found[name] = verdict
        cache.store(turns[place], WriterAnswer(orjson.dumps(asdict(verdict)).decode()))
    return [found[name] for name in names]


def _as_turns(exchange: GuardedExchange) -> list[dict[str, str]]:
    """The exchange as turns, the judged one told from the others."""
    turns = [{str(key): str(value) for key, value in turn.items()} for turn in exchange.prompt]
    return turns if exchange.answer is None else [*turns, {"role": "assistant", "judged": exchange.answer}]


def _read(text: str) -> GuardVerdict:
    values = orjson.loads(text)
    return GuardVerdict(**{**values, "categories": tuple(values["categories"])})


def _identify(guard: GuardModel | ClassifierGuard) -> dict[str, str | int | float]:
    """What determines a verdict besides the exchange."""
    device = find_device(guard.device)
    settings = orjson.dumps(guard.model_dump(mode="json", exclude=HOW_FAST), option=orjson.OPT_SORT_KEYS)
    return {
        "guard": settings.decode(),
        "model": hash_model(guard.path),
        "code": _hash_code(),
        "libraries": " ".join(version(name) for name in LIBRARIES),
        "device": f"{device} {platform.machine()}",
    }


@lru_cache(maxsize=1)
def _hash_code() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()
