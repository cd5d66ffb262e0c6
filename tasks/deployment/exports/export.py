"""The shape of an export, and what the rest of the pipeline asks it for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol


@dataclass(frozen=True)
class ExportCan:
    """What an export can; refusals before anything is trained are made of it.

    Attributes:
        beside: Leave a base whose modules the method's own can be put into when it is opened. A format that holds
            a fixed graph, or is read by programs that know no methods, cannot.
    """

    beside: bool


def why_not_exported(export: Export, method: str, merges: bool, exports: Sequence[Export], merging: str) -> str:
    """Why a release cannot have this form, with the way out; empty where it can.

    Args:
        export: The export.
        method: Name of the training method.
        merges: Whether what the method trains becomes a part of the base's own weights.
        exports: All exports there are.
        merging: The methods that merge, as the middle of a sentence.
    """
    if merges or export.can.beside:
        return ""
    others = " or ".join(other.name for other in exports if other.can.beside)
    return (
        f"deployment.release.export: {export.name} holds plain weights, and what method {method} trains does not merge "
        f"into them; take export {others}, or method {merging}"
    )


class Export(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument."""

    can: ClassVar[ExportCan]

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def write(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write an fp32 model, so that the gateway can serve the folder.

        Args:
            model: A transformers model; it may be cast in place.
            tokenizer: Its tokenizer, with the chat template.
            folder: An empty folder.
        """
        ...
