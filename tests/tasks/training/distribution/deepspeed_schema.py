"""What the installed DeepSpeed takes in its configuration, as a JSON Schema.

``python -m tests.tasks.training.distribution.deepspeed_schema`` writes it to
``tasks/training/distribution/deepspeed_schema.json`` after an update of DeepSpeed.
"""

from __future__ import annotations

import enum
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from tasks.training.distribution.deepspeed_config import DECIDED, SCHEMA

TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
TYPES |= {Path: "string", type(None): "null"}


def make_schema() -> dict[str, Any]:
    """Keys that DeepSpeed asks a configuration for, without those that it has dropped and those the plan decides."""
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.compile.config import CompileConfig
    from deepspeed.monitor.config import CometConfig, CSVConfig, TensorBoardConfig, WandbConfig
    from deepspeed.runtime.config import (
        _REMOVED_TOP_LEVEL_CONFIG_KEYS as DROPPED,
    )
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.utils.config import DeepSpeedThroughputTimerConfig

    asked = _list_asked()
    keys = {key: _describe_default(default) for key, default in asked.items()}
    for section in ("activation_checkpointing", "aio", "flops_profiler", "data_types"):
        found = _list_asked(section)
        keys[section] = _describe_object({key: _describe_default(default) for key, default in found.items()})
    keys |= {
        "bf16": _describe_model(DeepSpeedBF16Config),
        "comet": _describe_model(CometConfig),
        "comms_logger": _describe_model(CommsLoggerConfig),
        "compile": _describe_model(CompileConfig),
        "csv_monitor": _describe_model(CSVConfig),
        "fp16": _describe_model(DeepSpeedFP16Config),
        "tensorboard": _describe_model(TensorBoardConfig),
        "timers": _describe_object({"throughput": _describe_model(DeepSpeedThroughputTimerConfig)}),
        "wandb": _describe_model(WandbConfig),
        "zero_optimization": _describe_model(DeepSpeedZeroConfig),
    }
    # An older name of bf16, which would stand beside the plan's.
    return _describe_object({key: keys[key] for key in keys if key not in {*DROPPED, *DECIDED, "bfloat16"}})


class _Asked(dict[str, Any]):
    """A mapping that notes what it is asked for, with the value taken where there is none."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self.asked: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.setdefault(key, default)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.setdefault(str(key), None)
        return super().__contains__(key)

    def keys(self) -> Any:
        return self

    def __copy__(self) -> _Asked:
        return self


def _list_asked(section: str | None = None) -> dict[str, Any]:
    """Keys that DeepSpeed asks a configuration, or a section of it, for, and their defaults."""
    from deepspeed.runtime.config import DeepSpeedConfig

    inner = _Asked({})
    outer = _Asked({"train_batch_size": 1} | ({section: inner} if section else {}))
    DeepSpeedConfig(outer)
    return inner.asked if section else outer.asked


def _describe_default(default: Any) -> dict[str, Any]:
    return {} if default is None else {"type": TYPES[type(default)]}


def _describe_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(sorted(properties.items()))}


def _describe_model(model: type[BaseModel]) -> dict[str, Any]:
    """A section that pydantic reads, by the names that it is written with, without those that are deprecated."""
    described = {}
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if not (isinstance(extra, dict) and extra.get("deprecated")):
            described[field.alias or name] = _describe_type(field.annotation) | {
                word: getattr(bound, sign)
                for bound in field.metadata
                for sign, word in (("ge", "minimum"), ("gt", "exclusiveMinimum"), ("le", "maximum"))
                if hasattr(bound, sign)
            }
    return _describe_object(described)


def _describe_type(annotation: Any) -> dict[str, Any]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        options = [_describe_type(option) for option in get_args(annotation)]
        if any("type" not in option for option in options):
            return {}
        merged: dict[str, Any] = {}
        for option in options:
            merged |= option
        return merged | {"type": sorted({option["type"] for option in options})}
    if origin is Literal:
        return {"enum": list(get_args(annotation))}
    if origin is not None:
        return _describe_type(origin)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _describe_model(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        kinds = sorted({TYPES[type(member.value)] for member in annotation})
        return {"enum": [member.value for member in annotation]} | ({"type": kinds[0]} if len(kinds) == 1 else {})
    return {"type": TYPES[annotation]} if annotation in TYPES else {}


if __name__ == "__main__":
    typing.cast("Path", SCHEMA).write_text(json.dumps(make_schema(), indent=1) + "\n", encoding="utf-8")
