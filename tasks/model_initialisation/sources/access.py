"""What a source may need that only a flow has: a secret of the environment, and the model registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Access:
    """Passed to every source; most need nothing of it.

    Attributes:
        token: Of the Hugging Face hub, from ``HF_TOKEN``.
        open_release: From what a source asks for (``alias champion``, ``version 3``) to the model folder of the release
            that was frozen for this run.
        deny: Licences that are refused, so that nothing of that kind is downloaded.
    """

    token: str | None = field(default=None, repr=False)
    open_release: Callable[[str], Path] | None = None
    deny: Sequence[str] = ()


NO_ACCESS = Access()
