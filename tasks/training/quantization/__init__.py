"""In how many bits the base is held, one file per quantisation; the union is the only registry.

`tasks.training.quantization.quantization` says what a quantisation has to answer, and
`tests/tasks/training/quantization/test_contract.py` holds every member of the union to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

from pydantic import Field

from tasks.training.quantization.int8 import Int8
from tasks.training.quantization.nf4 import Nf4
from tasks.training.quantization.none import Unquantized
from tasks.training.quantization.quantization import Abilities, Quantization

AnyQuantization = Annotated[Unquantized | Nf4 | Int8, Field(discriminator="name")]

QUANTIZATIONS: tuple[type[Quantization], ...] = get_args(get_args(AnyQuantization)[0])


def quantizations_where(fact: Callable[[Abilities], bool] = lambda _: True) -> list[str]:
    """Names of the quantisations of which a fact holds, as ``params.yaml`` takes them."""
    return [quantization().name for quantization in QUANTIZATIONS if fact(quantization.can)]
