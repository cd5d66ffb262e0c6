"""Every method as it is without any argument, and some with other params."""

from __future__ import annotations

from tasks.training.interval import Interval
from tasks.training.methods import METHODS, names_where
from tasks.training.methods.adapters.road import Road
from tasks.training.methods.half import Half
from tasks.training.methods.lisa import Lisa
from tasks.training.methods.lora import Lora
from tasks.training.methods.memory_tuning import MemoryTuning
from tasks.training.methods.method import Method
from tasks.training.methods.mixture_of_experts import MixtureOfExperts

# Members with other params than by default, where those change what is trained, kept or opened.
VARIANTS: dict[str, Method] = {
    "dora": Lora(dora=True, rslora=True),
    "pissa": Lora(rank=8, start="pissa"),
    "pissa_fast": Lora(rank=8, start="pissa", start_iterations=4),
    "olora": Lora(rank=8, start="olora"),
    "orthogonal": Lora(rank=8, start="orthogonal"),
    "frozen_a": Lora(rank=8, start="gaussian", freeze_a=True),
    "patterns": Lora(targets=["*_proj"], blocks=[1], ranks={"down_proj": 4}, alphas={"q_proj": 8}),
    "embeddings": Lora(rank=8, embeddings=True),
    "road_4": Road(variant=4),
    "lisa_drawn": Lisa(layers=1, every=Interval(steps=2)),
    "half_rounds": Half(strategy="layer", every=Interval(steps=2)),
    # In the place of the one by default, which takes many texts of the base's.
    "memory_tuning": MemoryTuning(experts=32, texts=4),
    "few_experts": MixtureOfExperts(experts=2, top_k=1, trained="experts"),
}
MEMBERS: dict[str, Method] = {**dict(zip(names_where(), (method() for method in METHODS), strict=True)), **VARIANTS}
