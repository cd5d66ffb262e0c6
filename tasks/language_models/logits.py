"""What architectures do to their logits after the output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def scale_logits(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """What a model makes of its output layer's result, by the names that transformers' configurations have for it.

    Gemma caps logits softly; Cohere, Falcon-H1 and Muse multiply them, Granite and MiniCPM divide them.
    """
    import torch

    text = config.get_text_config()
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if (factor := getattr(text, name, None)) is not None:
            logits = logits * factor
    if (divisor := getattr(text, "logits_scaling", None)) is not None:
        logits = logits * divisor if text.model_type == "hyperclovax" else logits / divisor
    if (cap := getattr(text, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits
