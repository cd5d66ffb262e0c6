"""Groups of weights that an optimizer treats alike: the same learning rate, the same decay, the same part of the model.

Weight decay acts on matrices and embeddings; norms and biases, whose size is no measure of complexity, are left out of
it, as is usual (Loshchilov & Hutter 2019, arXiv:1711.05101; transformers does the same by name).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

Part = Literal["matrix", "embedding", "vector"]


def group_weights(
    model: Any, decayed: Collection[str], learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """The trained weights of a model in groups, as PyTorch's optimizers take them.

    Args:
        model: What the method returned; weights that require no gradient are left out.
        decayed: Names of the weights that weight decay acts on.
        learning_rate: Peak.
        weight_decay: Of the decayed ones.

    Returns:
        Groups with ``params``, ``lr``, ``weight_decay`` and ``part``; none is empty.
    """
    parts = _parts(model)
    groups: dict[tuple[Part, bool], list[Any]] = {}
    for name, weights in model.named_parameters():
        if weights.requires_grad:
            groups.setdefault((parts[name], name in decayed), []).append(weights)
    return [
        {"params": weights, "lr": learning_rate, "weight_decay": weight_decay if decays else 0.0, "part": part}
        for (part, decays), weights in groups.items()
    ]


def _parts(model: Any) -> Mapping[str, Part]:
    """Whether a weight is a matrix inside the blocks, one of an embedding or the output layer, or neither."""
    import torch

    head = model.get_output_embeddings()
    outer = {
        id(weights)
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding) or module is head
        for weights in module.parameters(recurse=False)
        if len(_size(weights)) > 1
    }
    return {
        name: "embedding" if id(weights) in outer else "matrix" if len(_size(weights)) == 2 else "vector"
        for name, weights in model.named_parameters()
    }


def _size(weights: Any) -> tuple[int, ...]:
    """The size of a weight, also where DeepSpeed has spread it over the processes and left an empty one behind."""
    return tuple(getattr(weights, "ds_shape", weights.shape))
