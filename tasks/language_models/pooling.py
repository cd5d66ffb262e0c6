"""How the last hidden states of a text's tokens become its one vector: said here for training, evaluation and releases.

``mean`` is the mean of all tokens' states. ``last`` is the state of the last token, the only one of a decoder that has
seen the whole text (Neelakantan et al. 2022, arXiv:2201.10005); untrained it mostly knows what comes next, so it pays
after training only. The files of a folder say it as ``sentence-transformers`` reads it.

Example: of the states (1, 0) and (0, 2) of two tokens the mean points along (1, 2), the last along (0, 1).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "last"]
FOLDER = "1_Pooling"
# As sentence-transformers calls them.
MODES: dict[Pooling, str] = {"mean": "mean", "last": "lasttoken"}


def pool_tokens(states: torch.Tensor, owners: torch.Tensor, count: int, pooling: Pooling) -> torch.Tensor:
    """Unit vectors of texts.

    Args:
        states: Last hidden states of the tokens of all texts, those of a text in its order, (tokens, width).
        owners: Which text each token is of, (tokens,).
        count: Texts, each of which has a token.
        pooling: How.

    Returns:
        Shape (texts, width).
    """
    import torch

    if pooling == "last":
        places = torch.arange(len(owners), device=owners.device)
        ends = places.new_zeros(count).scatter_reduce(0, owners, places, "amax", include_self=False)
        pooled = states[ends]
    else:
        pooled = states.new_zeros(count, states.shape[-1]).index_add(0, owners, states)
    return torch.nn.functional.normalize(pooled, dim=-1)


def read_pooling(folder: Path) -> Pooling | None:
    """How an embedder's folder makes vectors; None where it does not say.

    Raises:
        PipelineError: In a way that is not known here.
    """
    file = folder / FOLDER / "config.json"
    if not file.is_file():
        return None
    found = read_json(file).get("pooling_mode")
    for pooling, mode in MODES.items():
        if found == mode:
            return pooling
    raise PipelineError(f"{file}: pooling_mode {found}; expected {' or '.join(MODES.values())}")
