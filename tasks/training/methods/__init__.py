"""What is trained, one file per method; the union is the only registry.

`tasks.training.methods.method` says what a method has to answer, and `tests/tasks/training/methods/test_contract.py`
holds every member of the union to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

from pydantic import Field

from tasks.training.methods.adapters.adalora import AdaLora
from tasks.training.methods.adapters.boft import Boft
from tasks.training.methods.adapters.c3a import C3a
from tasks.training.methods.adapters.deft import Deft
from tasks.training.methods.adapters.delora import DeLora
from tasks.training.methods.adapters.fourierft import FourierFt
from tasks.training.methods.adapters.glora import GLora
from tasks.training.methods.adapters.gralora import GraLora
from tasks.training.methods.adapters.hira import Hira
from tasks.training.methods.adapters.hra import Hra
from tasks.training.methods.adapters.ia3 import Ia3
from tasks.training.methods.adapters.loha import LoHa
from tasks.training.methods.adapters.lokr import LoKr
from tasks.training.methods.adapters.miss import Miss
from tasks.training.methods.adapters.norms import Norms
from tasks.training.methods.adapters.oft import Oft
from tasks.training.methods.adapters.peanut import Peanut
from tasks.training.methods.adapters.psoft import Psoft
from tasks.training.methods.adapters.randlora import RandLora
from tasks.training.methods.adapters.road import Road
from tasks.training.methods.adapters.shira import Shira
from tasks.training.methods.adapters.super_tuning import SuperTuning
from tasks.training.methods.adapters.tinylora import TinyLora
from tasks.training.methods.adapters.tokens import TrainableTokens
from tasks.training.methods.adapters.unilora import UniLora
from tasks.training.methods.adapters.vblora import VbLora
from tasks.training.methods.adapters.vera import Vera
from tasks.training.methods.adapters.waveft import WaveFt
from tasks.training.methods.bottleneck import Bottleneck
from tasks.training.methods.dylora import DyLora
from tasks.training.methods.full import Full
from tasks.training.methods.gradual_unfreezing import GradualUnfreezing
from tasks.training.methods.half import Half
from tasks.training.methods.last_layers import LastLayers
from tasks.training.methods.lisa import Lisa
from tasks.training.methods.lora import Lora
from tasks.training.methods.memory_tuning import MemoryTuning
from tasks.training.methods.method import Can, Method
from tasks.training.methods.mixture_of_experts import MixtureOfExperts
from tasks.training.methods.prompts.p_tuning import PTuning
from tasks.training.methods.prompts.prefix_tuning import PrefixTuning
from tasks.training.methods.prompts.prompt_tuning import PromptTuning

AnyMethod = Annotated[
    Full
    | Lora
    | LastLayers
    | GradualUnfreezing
    | Half
    | Lisa
    | Bottleneck
    | DyLora
    | MemoryTuning
    | MixtureOfExperts
    | AdaLora
    | Boft
    | C3a
    | Deft
    | DeLora
    | FourierFt
    | GLora
    | GraLora
    | Hira
    | Hra
    | Ia3
    | LoHa
    | LoKr
    | Miss
    | Norms
    | Oft
    | Peanut
    | Psoft
    | RandLora
    | Road
    | Shira
    | SuperTuning
    | TinyLora
    | UniLora
    | TrainableTokens
    | VbLora
    | Vera
    | WaveFt
    | PrefixTuning
    | PromptTuning
    | PTuning,
    Field(discriminator="name"),
]

METHODS: tuple[type[Method], ...] = get_args(get_args(AnyMethod)[0])


def names_where(fact: Callable[[Can], bool] = lambda _: True) -> list[str]:
    """Names of the methods of which a fact holds, as ``params.yaml`` takes them; for refusals that name a way out."""
    return [method().name for method in METHODS if fact(method.can)]
