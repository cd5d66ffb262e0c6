"""Weights in 4 bits as plain parameters, which FSDP shares out among ranks: the packed numbers, and the magnitudes of
their blocks.

bitsandbytes keeps on the parameter itself what decodes it, and sharding replaces the parameter. What is left whole in
each rank are the 16 values of NF4 and what decodes the magnitudes, 0.002 bits a weight.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any


def make_plain(model: Any) -> set[Any]:
    """Hold packed weights and magnitudes as parameters without gradients, before they are sharded.

    Returns:
        The layers whose weights are held in 4 bits.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        return set()
    from bitsandbytes.nn.modules import Linear4bit
    from torch.nn import Parameter

    layers: set[Any] = {module for module in model.modules() if isinstance(module, Linear4bit)}
    for layer in layers:
        layer.quant_state = layer.weight.quant_state
        layer.weight = Parameter(layer.weight.data, requires_grad=False)
        layer.magnitudes = Parameter(layer.quant_state.absmax, requires_grad=False)
    return layers


def restore_when_fetched(unit: Any, layers: set[Any]) -> None:
    """Make packed weights bitsandbytes' own again whenever a sharded module has fetched its own for a forward pass.

    Args:
        unit: The module; each layer is restored by the innermost of them, the first that is given.
        layers: Those of `make_plain` that no other unit has taken; the unit's are taken out.
    """
    own = layers.intersection(unit.modules())
    layers -= own
    if own:
        unit.register_forward_pre_hook(partial(_restore, own))


def _restore(layers: set[Any], _unit: Any, _inputs: Any) -> None:
    from bitsandbytes.nn.modules import Params4bit

    for layer in layers:
        layer.quant_state.absmax = layer.magnitudes
        weight: Any = Params4bit(layer.weight, quant_storage=layer.quant_storage, bnb_quantized=True)
        weight.quant_state = layer.quant_state
        layer.weight = weight
