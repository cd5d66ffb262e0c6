"""A value for every token: a head on the model's last states, in the same pass as its logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.language_models.encoding import IGNORED
from tasks.training.objectives.objective import Batch, Scorer, TokenValues

if TYPE_CHECKING:
    import torch

HEAD = "value_head"


def add_value_head(model: Any) -> Any:
    """The model with a head that expects 0 everywhere, until it is trained."""
    import torch

    head = torch.nn.Linear(model.config.get_text_config().hidden_size, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    model.add_module(HEAD, head.to(next(model.parameters()).device))
    return model


def remove_value_head(model: Any) -> None:
    """Leave the model as it is served."""
    delattr(model, HEAD)


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
    head = getattr(plain, HEAD)
    positions = torch.nn.functional.pad(inputs["labels"][:, 1:].ne(IGNORED), (0, 1)).flatten().nonzero().squeeze(1)
    values: list[torch.Tensor] = []

    def read(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        states = arguments[0].flatten(0, 1).index_select(0, positions)
        values.append(head(states.detach() if detached else states)[:, 0].float())

    # Before what else looks at the output layer's input, while it is still that of all positions; inside the forward
    # pass of what wraps the model, which exchanges the head's gradient with all others.
    hook = plain.get_output_embeddings().register_forward_pre_hook(read)
    try:
        found = scorer.at_tokens(inputs, function)
    finally:
        hook.remove()
    return found, values[-1]
