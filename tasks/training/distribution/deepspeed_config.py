"""A DeepSpeed configuration of the user's, held to what the installed DeepSpeed takes.

DeepSpeed leaves keys that it does not know where they are without a word, or finds them when each rank has loaded the
base. What it takes is in ``deepspeed_schema.json``, made of its own classes; a test holds it to the installed version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError

Json = dict[str, Any]

SCHEMA = Path(__file__).parent / "deepspeed_schema.json"

# What the params or this pipeline decide: what is trained, on which rows, at which rate, and how it is kept.
DECIDED = (
    "optimizer",
    "scheduler",
    "amp",
    "torch_autocast",
    "tensor_parallel",
    "pipeline",
    "expert_parallel",
    "use_data_before_expert_parallelism",
    "data_efficiency",
    "compression_training",
    "weight_quantization",
    "hybrid_engine",
    "autotuning",
    "gradient_allreduce_op",
    "managed_gradient_accumulation",
    "checkpoint",
    "datastates_ckpt",
)
_SIGNS = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "of at most"}


def read_configuration(path: Path) -> Json:
    """A file of DeepSpeed's configuration.

    Raises:
        PipelineError: It cannot be read, or is no JSON object.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise PipelineError(
            f"{path}: cannot be read ({error.strerror}); expected a JSON file of DeepSpeed's configuration"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{path}: not JSON ({error}); expected DeepSpeed's configuration") from error
    if not isinstance(found, dict):
        raise PipelineError(f"{path}: {type(found).__name__} found; expected a JSON object, DeepSpeed's configuration")
    return found


def find_misfits(config: Mapping[str, Any], where: str) -> list[str]:
    """Keys and values that the installed DeepSpeed does not take; a sentence each.

    Values may say ``auto``: who fills them in has to look for that.
    """
    from jsonschema import Draft202012Validator

    problems = [
        f"{where}: has {key}, which the params of training_setup decide; take it out"
        for key in DECIDED
        if key in config
    ]
    rest = {key: value for key, value in config.items() if key not in DECIDED}
    for error in Draft202012Validator(_read_schema()).iter_errors(rest):
        place = [str(step) for step in error.absolute_path]
        if error.validator == "additionalProperties":
            problems += _name_unknown(error.instance, error.schema["properties"], where, place)
        elif error.instance != "auto":
            problems.append(
                f"{where}: {'.'.join(place)} is {json.dumps(error.instance)}; expected {_word_expected(error)}; "
                "correct it, or take it out"
            )
    return problems


@cache
def _read_schema() -> Json:
    return dict(json.loads(SCHEMA.read_bytes()))


def _name_unknown(found: Mapping[str, Any], known: Mapping[str, Any], where: str, place: list[str]) -> Iterator[str]:
    from difflib import get_close_matches

    for key in found:
        if key not in known:
            near = get_close_matches(key, known, 1)
            expected = f"{near[0]}, which is the nearest that it has" if near else f"one of {', '.join(known)}"
            yield (
                f"{where}: {'.'.join([*place, key])} is no key of DeepSpeed's; expected {expected}; correct it, or "
                "take it out"
            )


def _word_expected(error: Any) -> str:
    if error.validator == "enum":
        return f"one of {', '.join(json.dumps(option) for option in error.validator_value)}"
    kinds = error.schema.get("type", "a number")
    kind = kinds if isinstance(kinds, str) else " or ".join(kinds)
    return f"{kind} {_SIGNS[error.validator]} {error.validator_value}" if error.validator in _SIGNS else kind
