"""A value for every token: a head on the model's last states, in the same pass as its logits, or a model of its own.

A value model of its own is a copy of the base's trunk with a head, all of whose weights are trained. What the values
learn then changes nothing of the policy, for the memory and the time of a second model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.contracts.errors import PipelineError
from tasks.language_models.encoding import IGNORED
from tasks.language_models.folder.layout import count_weights
from tasks.language_models.folder.shape import ModelShape
from tasks.training.objectives.objective import Batch, Scorer, TokenValues
from tasks.training.objectives.rollouts.rollout import unwrap

if TYPE_CHECKING:
    import torch

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")
HEAD = "value_head"
MODEL = "value_model"
# What adapters put around a base's module, in the names of its weights.
WRAPPED = (".base_layer", ".original_module")


def add_value_head(model: Any) -> Any:
    """The model with a head that expects 0 everywhere, until it is trained."""
    model.add_module(HEAD, _make_head(model))
    return model


def add_value_model(model: Any) -> Any:
    """The model with another one that expects 0 everywhere, until it is trained.

    Raises:
        PipelineError: The base's weights cannot be told from what a method put into it.
    """
    import copy

    import torch
    from transformers import AutoModel

    plain = unwrap(model)
    config = copy.deepcopy(plain.config)
    auto: Any = AutoModel
    trunk = auto.from_config(config).float()
    wanted, found = trunk.state_dict().keys(), dict[str, torch.Tensor]()
    for name, weights in getattr(plain, plain.base_model_prefix).state_dict().items():
        for part in WRAPPED:
            name = name.replace(part, "")
        if name in wanted:
            found[name] = weights
    if found.keys() != wanted:
        raise PipelineError(
            "objective.value: own copies the base's weights, and the method keeps "
            f"{len(wanted - found.keys())} of them elsewhere; set value: shared, or take method full or lora"
        )
    trunk.load_state_dict(found)
    both = torch.nn.ModuleDict({"trunk": trunk, "head": _make_head(model)})
    model.add_module(MODEL, both.to(next(model.parameters()).device).requires_grad_(True))
    return model


def _make_head(model: Any) -> Any:
    import torch

    head = torch.nn.Linear(model.config.get_text_config().hidden_size, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head.to(next(model.parameters()).device)


def remove_values(model: Any) -> None:
    """Leave the model as it is served."""
    for name in (HEAD, MODEL):
        if hasattr(model, name):
            delattr(model, name)


def count_trunk(shape: ModelShape) -> int:
    """Weights of a copy of the base without an output layer of its own."""
    return shape.parameters - count_weights(shape.layout.head)


def value_tokens(
    scorer: Scorer,
    inputs: Batch,
    function: Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor],
    detached: bool,
) -> tuple[TokenValues, torch.Tensor]:
    """What a function makes of the logits, and the value before each of the same tokens, shape (tokens,).

    Args:
        scorer: Of the model.
        inputs: Answers.
        function: As `Scorer.at_tokens` takes it.
        detached: The model below the head gets no gradient of the values.
    """
    import torch

    plain: Any = getattr(scorer.model, "module", scorer.model)
    own = getattr(plain, MODEL, None)
    head = getattr(plain, HEAD) if own is None else own["head"]
    positions = torch.nn.functional.pad(inputs["labels"][:, 1:].ne(IGNORED), (0, 1)).flatten().nonzero().squeeze(1)
    values: list[torch.Tensor] = []

    def read(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if own is None:
            hidden = arguments[0]
        else:
            given = {name: inputs[name] for name in MODEL_INPUTS if name in inputs}
            hidden = own["trunk"](**given, use_cache=False).last_hidden_state
        states = hidden.flatten(0, 1).index_select(0, positions)
        values.append(head(states.detach() if detached else states)[:, 0].float())

    # Before what else looks at the output layer's input, while it is still that of all positions; inside the forward
    # pass of what wraps the model, which exchanges the head's gradient with all others.
    hook = plain.get_output_embeddings().register_forward_pre_hook(read)
    try:
        found = scorer.at_tokens(inputs, function)
    finally:
        hook.remove()
    return found, values[-1]
