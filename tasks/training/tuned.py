"""Open ``models/tuned``: the base with what was trained, ready to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, hash_file, read_manifest
from tasks.language_models.model_folder import load_tokenizer, resolve_model


def load_tuned(initial: Path, tuned: Path) -> tuple[Any, Any]:
    """The tuned model in fp32, not training, with the base's tokenizer.

    An adapter stays beside the base's weights; nothing is merged.

    Args:
        initial: Folder written by model initialisation.
        tuned: Folder written by fine-tuning.

    Raises:
        PipelineError: A folder is not complete, changed, or the two do not belong together.
    """
    import torch
    from transformers import AutoModelForCausalLM

    manifest = read_manifest(tuned, verify=True)
    if manifest["base"] != hash_file(initial / NAME):
        raise PipelineError(f"{tuned}: was trained on another base than {initial}; run fine_tuning again")
    options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False, "use_safetensors": True}
    model: Any
    if (tuned / "weights").is_dir():
        model = AutoModelForCausalLM.from_pretrained(tuned / "weights", **options)
    else:
        from peft import PeftModel

        base = AutoModelForCausalLM.from_pretrained(resolve_model(initial), **options)
        model = PeftModel.from_pretrained(base, tuned / "adapter")
    return model.eval(), load_tokenizer(initial)
