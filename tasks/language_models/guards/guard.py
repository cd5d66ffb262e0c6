"""The interface of a guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Protocol

from pydantic import Field

from tasks.contracts.params import Reads

if TYPE_CHECKING:
    from tasks.language_models.templates.rendering import Turns

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]
GuardPath = Annotated[str, Reads("folder", holds="config.json")]
Share = Annotated[float, Field(ge=0, le=1)]


class GuardedExchange(NamedTuple):
    """What a guard judges.

    Attributes:
        prompt: The turns before the answer, as ``{"role", "content"}``.
        answer: The answer; None: the last turn of the prompt is judged.
    """

    prompt: Turns
    answer: str | None


@dataclass(frozen=True)
class GuardVerdict:
    """What a guard says of an exchange.

    Attributes:
        unsafe: Whether it is unsafe; None where the guard does not judge that, or its verdict cannot be read.
        score: Probability that it is unsafe, 0 to 1; 0 or 1 of a guard that gives none; None as ``unsafe``.
        categories: Names of the guard's categories that it violates, as far as the guard names them.
        refusal: Whether the answer refuses; None where the guard does not judge that, or its verdict cannot be read.
    """

    unsafe: bool | None
    score: float | None = None
    categories: tuple[str, ...] = ()
    refusal: bool | None = None


@dataclass(frozen=True)
class GuardFacts:
    """What a guard can do.

    Attributes:
        title: Its name in the field.
        source: Where its format and its weights are published.
        harm: Says whether an exchange is unsafe.
        refusal: Says whether an answer refuses.
        categories: The categories that it was published with; empty where its labels are its own.
        reads: How its verdict is read.
    """

    title: str
    source: str
    harm: bool
    refusal: bool
    categories: tuple[str, ...]
    reads: str


AskGuard = Callable[[Sequence[GuardedExchange]], list[GuardVerdict]]


class Guard(Protocol):
    """A plug-in: a params section that opens a judge.

    Attributes:
        name: Its name in ``params.yaml``.
        can: What it can do at best.
    """

    can: ClassVar[GuardFacts]

    @property
    def name(self) -> str: ...

    @property
    def facts(self) -> GuardFacts:
        """What it can do with these params."""

    def problems(self) -> list[str]:
        """Everything that is wrong with its params and files, a line each."""

    def open(self) -> AskGuard:
        """Load it.

        Raises:
            PipelineError: It cannot be loaded, or it knows none of the labels that are looked for.
        """


def find_device(device: Device) -> str:
    """Where to compute: CUDA where available, unless the params say otherwise."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def folder_problems(name: str, path: str, example: str) -> list[str]:
    """What is missing in a guard's folder."""
    if (Path(path) / "config.json").is_file():
        return []
    found = "no such folder" if not Path(path).is_dir() else "it holds no config.json"
    return [f"guard {name}: {path}: {found}; put the model there, e.g. hf download {example} --local-dir {path}"]
