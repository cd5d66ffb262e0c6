"""Guards, one file each: what says whether a request or an answer is unsafe, and whether an answer refuses.

They stand on this floor because the evaluation asks them about answers and a server may ask them about traffic.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from tasks.language_models.guards.classifier import ClassifierGuard
from tasks.language_models.guards.llama_guard_2 import LlamaGuard2
from tasks.language_models.guards.llama_guard_3 import LlamaGuard3
from tasks.language_models.guards.rules import RuleGuard
from tasks.language_models.guards.shieldgemma import ShieldGemma
from tasks.language_models.guards.wildguard import WildGuard

AnyGuard = Annotated[
    LlamaGuard2 | LlamaGuard3 | ShieldGemma | WildGuard | ClassifierGuard | RuleGuard, Field(discriminator="name")
]

GUARDS: tuple[type, ...] = get_args(get_args(AnyGuard)[0])
