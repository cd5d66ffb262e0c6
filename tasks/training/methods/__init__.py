"""What is trained, one file per method; the union is the only registry.

`tasks.training.methods.method` says what a method has to answer, and `tests/tasks/training/methods/test_contract.py`
holds every member of the union to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

from pydantic import Field

from tasks.training.methods.bottleneck import Bottleneck
from tasks.training.methods.dylora import DyLora
from tasks.training.methods.full import Full
from tasks.training.methods.gradual_unfreezing import GradualUnfreezing
from tasks.training.methods.half import Half
from tasks.training.methods.last_layers import LastLayers
from tasks.training.methods.lisa import Lisa
from tasks.training.methods.lora import Lora
from tasks.training.methods.method import Can, Method

AnyMethod = Annotated[
    Full | Lora | LastLayers | GradualUnfreezing | Half | Lisa | Bottleneck | DyLora, Field(discriminator="name")
]

METHODS: tuple[type[Method], ...] = get_args(get_args(AnyMethod)[0])


def names_where(fact: Callable[[Can], bool] = lambda _: True) -> list[str]:
    """Names of the methods of which a fact holds, as ``params.yaml`` takes them; for refusals that name a way out."""
    return [method().name for method in METHODS if fact(method.can)]
