"""Open ``models/initial``: a pinned copy, or a reference whose files still are what they were.

The folder's ``manifest.json`` says under ``reference`` where the files are: null for a copy, else
``{"folder": ...}`` or ``{"hub": ..., "revision": ...}``. Beside it may lie a ``chat_template.jinja`` and a
``generation_config.json`` that stand in for the model's own.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import NAME, hash_file, read_manifest

logger = logging.getLogger(__name__)

CHAT_TEMPLATE = "chat_template.jinja"
GENERATION_CONFIG = "generation_config.json"
ALLOWED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.md", "LICENSE*", "NOTICE*")


def resolve_model(initial: Path) -> Path:
    """The folder to load the base model from, every file hashed again.

    Args:
        initial: Folder written by model initialisation.

    Raises:
        PipelineError: The folder is not complete, or the files it refers to are gone or changed.
    """
    return _resolve(read_manifest(initial, verify=True), initial)


def load_tokenizer(initial: Path) -> Any:
    """The tokenizer of the base model, with the chat template that is used for inference.

    It is opened as the class that model initialisation found: asking `AutoTokenizer` again would give the same one,
    but imports PyTorch.

    Args:
        initial: Folder written by model initialisation.

    Raises:
        PipelineError: The folder is not complete, or its manifest names no tokenizer class that transformers has.
    """
    import transformers

    manifest = read_manifest(initial, verify=True)
    name = manifest.get("tokenizer_class")
    tokenizer_class = getattr(transformers, str(name), None)
    if tokenizer_class is None:
        raise PipelineError(
            f"{initial / NAME}: tokenizer_class is {name}, which transformers {transformers.__version__} has not; "
            "run model_initialisation again"
        )
    tokenizer = tokenizer_class.from_pretrained(_resolve(manifest, initial))
    supplied = initial / CHAT_TEMPLATE
    if supplied.is_file():
        tokenizer.chat_template = supplied.read_text(encoding="utf-8")
    return tokenizer


def set_generation_config(model: Any, initial: Path) -> Any:
    """Give a model the generation config that model initialisation wrote, where it wrote one."""
    if (initial / GENERATION_CONFIG).is_file():
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig.from_pretrained(initial)
    return model


def load_model(folder: Path, dtype: Any = None, **options: Any) -> Any:
    """A causal language model from safetensors, without code of its own.

    Args:
        folder: Folder with ``config.json`` and weights, as `resolve_model` gives it.
        dtype: PyTorch's type of the weights; fp32 by default.
        options: More arguments of ``from_pretrained``.
    """
    import torch
    from transformers import AutoModelForCausalLM

    _spare_deepspeed()
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype or torch.float32, trust_remote_code=False, use_safetensors=True, **options
    )


def _spare_deepspeed() -> None:
    """Keep accelerate from importing DeepSpeed, which takes seconds, to ask whether a model is one of its engines.

    None is, as long as nobody has imported it.
    """
    from accelerate.utils import other

    other.is_deepspeed_available = lambda: "deepspeed" in sys.modules


def open_on_meta(folder: Path) -> Any:
    """The model's modules on PyTorch's meta device: names and shapes of everything, no memory.

    Args:
        folder: Folder with ``config.json``, as `resolve_model` gives it.

    Raises:
        PipelineError: transformers knows no causal language model of this type.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_utils import set_zero3_state

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        # Under ZeRO's third stage, as if inside its split already: nothing here is to be split.
        with torch.device("meta"), set_zero3_state():
            auto: Any = AutoModelForCausalLM
            return auto.from_config(config, trust_remote_code=False)
    except (ValueError, OSError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise PipelineError(
            f"{folder / 'config.json'}: no causal language model that transformers knows ({reason}); expected a "
            "model_type of AutoModelForCausalLM; set another model_initialisation.source"
        ) from error


def _resolve(manifest: dict[str, Any], initial: Path) -> Path:
    reference = manifest.get("reference")
    if reference is None:
        return initial
    folder = _referenced_folder(reference, initial)
    _verify(folder, manifest["referenced_files"])
    return folder


def _referenced_folder(reference: dict[str, str], initial: Path) -> Path:
    if "folder" in reference:
        folder = Path(reference["folder"])
        if not folder.is_dir():
            raise PipelineError(f"{folder}: gone, though {initial} refers to it; put it back or set reference: false")
        return folder
    from httpx2 import HTTPError  # the hub client's own HTTP library, whose errors it lets through
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    hub, revision = reference["hub"], reference["revision"]
    try:
        return Path(snapshot_download(hub, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        logger.info("%s@%s: not in the local cache, downloading", hub, revision[:12])
    try:
        return Path(snapshot_download(hub, revision=revision, allow_patterns=list(ALLOWED)))
    except (HTTPError, OSError) as error:
        raise PipelineError(
            f"{hub}@{revision[:12]}: not in the local cache and the hub does not answer ({type(error).__name__}); "
            "go online once or set model_initialisation.reference: false to keep a copy"
        ) from error


def _verify(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    problems = []
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: missing; put it back or run model_initialisation again")
        elif path.stat().st_size != entry["bytes"] or hash_file(path) != entry["sha256"]:
            problems.append(f"{path}: changed since it was pinned; put it back or run model_initialisation again")
    raise_all(problems, str(folder))
