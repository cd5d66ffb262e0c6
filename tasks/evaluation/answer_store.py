"""Answers of earlier evaluations, so that a base or a champion does not answer the same items again.

Only a whole set is taken, in the same order, and only where everything that decides about the answers is the same:
the model, the items, the limits, the device, the libraries and the code that encodes and generates. So what is taken is
what would have been generated, to the last digit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tasks import language_models
from tasks.contracts.manifest import hash_file, write_bytes
from tasks.evaluation import asking, probes
from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.items import Item
from tasks.evaluation.worse_answers import WorseAnswers
from tasks.language_models.probes.bias_probe import BiasMeasure
from tasks.training import methods

logger = logging.getLogger(__name__)

KEPT = 12
# Folder of the replies to the questions of suites, and how many sets of them are kept.
REPLIES, KEPT_REPLIES = "replies", 60
# The same for what probes measured.
PROBES, KEPT_PROBES = "probes", 24
LIBRARIES = ("numpy", "peft", "tokenizers", "torch", "transformers")
WORSE = ("losses", "tokens")
ARRAYS = {"finished": np.bool_, "losses": np.float64, "tokens": np.int64, "answer_tokens": np.int64}


class AnswerStore:
    """A folder with one file per model and set of items, the newest `KEPT` of them.

    Args:
        folder: Made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str, count: int) -> dict[str, Any] | None:
        """The fields of an outcome, its model's name aside; None where there is none that can be read.

        Args:
            key: What `make_key` gave.
            count: Number of items.
        """
        path = self.folder / f"{key}.json"
        try:
            values = orjson.loads(path.read_bytes())
            found: dict[str, NDArray[Any]] = {name: np.array(values[name], dtype=kind) for name, kind in ARRAYS.items()}
            answers = [str(answer) for answer in values["answers"]]
            bias = values["bias"] and BiasMeasure(np.array(values["bias"], dtype=np.float64))
            worse = values["worse"] and [np.array(values["worse"][name], dtype=ARRAYS[name]) for name in WORSE]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            logger.warning("%s cannot be read, so the answers are generated again", path)
            return None
        if {len(answers), *map(len, found.values()), *map(len, worse or ())} != {count}:
            return None
        path.touch()
        return {"answers": answers, "bias": bias or None, "worse": WorseAnswers(*worse) if worse else None, **found}

    def keep(self, key: str, fields: Mapping[str, Any]) -> None:
        """Keep the fields of an outcome; a disk that is full keeps nothing and stops nothing."""
        bias, worse = fields["bias"], fields["worse"]
        values = {name: fields[name].tolist() for name in ARRAYS} | {
            "answers": fields["answers"],
            "bias": None if bias is None else bias.leans.tolist(),
            "worse": None if worse is None else {name: getattr(worse, name).tolist() for name in WORSE},
        }
        _keep_newest(self.folder, key, values, KEPT)

    def find_replies(self, key: str, count: int) -> list[Reply] | None:
        """Replies to the questions of a suite; None where there are none that can be read.

        Args:
            key: What `make_questions_key` gave.
            count: Number of questions.
        """
        path = self.folder / REPLIES / f"{key}.json"
        try:
            values = orjson.loads(path.read_bytes())
            found = [Reply(**{name: _as_tuple(value) for name, value in one.items()}) for one in values["replies"]]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            logger.warning("%s cannot be read, so the questions are asked again", path)
            return None
        if len(found) != count:
            return None
        path.touch()
        return found

    def keep_replies(self, key: str, replies: Sequence[Reply]) -> None:
        """Keep replies, unless one of them has a problem that may not be there the next time."""
        if not any(reply.problem for reply in replies):
            values = {"replies": [asdict(reply) for reply in replies]}
            _keep_newest(self.folder / REPLIES, key, values, KEPT_REPLIES)

    def find_probe(self, key: str) -> dict[str, Any] | None:
        """What a probe measured; None where there is nothing that can be read.

        Args:
            key: What `make_probe_key` gave.
        """
        path = self.folder / PROBES / f"{key}.json"
        try:
            values: dict[str, Any] = orjson.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            logger.warning("%s cannot be read, so it is measured again", path)
            return None
        path.touch()
        return values

    def keep_probe(self, key: str, measured: Mapping[str, Any]) -> None:
        """Keep what a probe measured."""
        _keep_newest(self.folder / PROBES, key, measured, KEPT_PROBES)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _keep_newest(folder: Path, key: str, values: Mapping[str, Any], kept: int) -> None:
    """Write a file, and remove all but the newest; a disk that is full keeps nothing and stops nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / f"{key}.json", orjson.dumps(values), private=True)
        files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[kept:]:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s: the answers are not kept (%s)", folder, error)


def make_key(model: str, items: Sequence[Item], settings: Mapping[str, Any]) -> str:
    """Hash of everything that decides about the answers, 64 hex digits.

    Args:
        model: Hash of the model's files.
        items: The items in their order.
        settings: Limits, number format and device.
    """
    return _hash_all(model, settings, [[item.prompt, item.reference, item.worse] for item in items], ())


def make_probe_key(model: str, items: Sequence[Item], settings: Mapping[str, Any], probe: str) -> str:
    """Hash of everything that decides about what a probe measures: the arguments of `make_key`, and its key."""
    asked = [[item.prompt, item.reference, item.label] for item in items]
    return _hash_all(model, {**settings, "probe": probe}, asked, (probes,))


def make_questions_key(model: str, questions: Sequence[Question], settings: Mapping[str, Any]) -> str:
    """Hash of everything that decides about the replies to questions; the arguments are those of `make_key`."""
    return _hash_all(model, settings, [question.asked for question in questions], (asking,))


def _hash_all(
    model: str, settings: Mapping[str, Any], asked: Sequence[list[Any]], packages: Sequence[ModuleType]
) -> str:
    digest = hashlib.sha256(orjson.dumps([model, settings, [version(name) for name in LIBRARIES]]))
    for one in asked:
        digest.update(orjson.dumps(one))
    folders = (Path(package.__path__[0]) for package in (language_models, methods, *packages))
    code = (path for folder in folders for path in sorted(folder.rglob("*.py")))
    for path in (*code, Path(__file__).with_name("outcomes.py")):
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()
