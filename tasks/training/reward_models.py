"""Reward models as transformers has them: the trunk of a language model and one number at the last token of a text.

Training keeps the number's weights in a head of its own, `REWARD_HEAD`, and leaves them beside what the method saves.
`tasks.training.tuned.merge_reward_model` puts both into a sequence classifier with one output, which is what is
released, what ``rewards: [{name: model, path: ...}]`` reads and what `AutoModelForSequenceClassification` loads.

The last token is what those classifiers take for it: the last one that is not padding. Where a tokenizer has no padding
of its own, that is its end of text, so sequences are read up to the token before.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np

REWARD_HEAD = "reward_head"
HEAD_FILE = "reward_head.safetensors"
WEIGHT = "score.weight"  # as the classifiers of transformers call it
CLASSIFIER = "ForSequenceClassification"


def add_reward_head(model: Any) -> Any:
    """The model with a head that gives 0 everywhere, until it is trained.

    Raises:
        PipelineError: transformers has no sequence classifier of this architecture.
    """
    import torch

    find_classifier_class(model.config)
    head = torch.nn.Linear(model.config.get_text_config().hidden_size, 1, bias=False)
    torch.nn.init.zeros_(head.weight)
    model.add_module(REWARD_HEAD, head.to(next(model.parameters()).device))
    return model


def take_reward_head(model: Any, folder: Path) -> list[Path]:
    """Write the head into a folder, and leave the model as the method saves it."""
    from safetensors.torch import save_file

    head = getattr(model, REWARD_HEAD)
    file = folder / HEAD_FILE
    save_file({WEIGHT: head.weight.detach().float().cpu().contiguous()}, file)
    delattr(model, REWARD_HEAD)
    return [file]


def find_classifier_class(config: Any) -> Any:
    """The sequence classifier of an architecture.

    Raises:
        PipelineError: transformers has none.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    try:
        return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    except KeyError as error:
        raise PipelineError(
            f"transformers has no sequence classifier of the architecture {config.model_type}, which a reward model "
            "is released as; take a base of another one, such as a Llama or Qwen"
        ) from error


def padding_of(tokenizer: Any) -> int:
    """The id that a classifier takes for padding."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(found)


def last_place(tokens: Sequence[int], padding: int) -> int:
    """Where a classifier reads the score of a sequence: at its last token that is not padding."""
    return next((place for place in range(len(tokens) - 1, -1, -1) if tokens[place] != padding), len(tokens) - 1)


def read_head(tuned: Path) -> Any:
    """Weights of the head, (1, width), that fine-tuning left."""
    from safetensors.torch import load_file

    return load_file(tuned / HEAD_FILE)[WEIGHT]


def build_classifier(model: Any, weight: Any, tokenizer: Any) -> Any:
    """A plain language model and a head as one sequence classifier, not training.

    Args:
        model: With its own weights, nothing beside them.
        weight: Of the head, (1, width).
        tokenizer: Of the model; it gets a padding token where it has none.
    """
    import copy

    config = copy.deepcopy(model.config)
    config.num_labels = 1
    config.architectures = None  # what is saved says its own class
    config.get_text_config().pad_token_id = padding_of(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    classifier = find_classifier_class(model.config)._from_config(config, dtype=weight.dtype)
    getattr(classifier, classifier.base_model_prefix).load_state_dict(
        getattr(model, model.base_model_prefix).state_dict()
    )
    classifier.score.weight.data.copy_(weight)
    return classifier.to(model.device).eval()


def is_classifier(folder: Path) -> bool:
    """Whether a model folder is of a sequence classifier, and so answers nothing."""
    from tasks.contracts.manifest import find_json

    names = find_json(folder / "config.json").get("architectures") or []
    return any(str(name).endswith(CLASSIFIER) for name in names)


def open_classifier(folder: Path) -> Any:
    """The classifier of a folder, not training."""
    from transformers import AutoModelForSequenceClassification

    auto: Any = AutoModelForSequenceClassification
    return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_safetensors=True).eval()


def score_places(
    classifier: Any, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]], batch_size: int, title: str = ""
) -> list[np.ndarray]:
    """What a reward model says at some tokens of each row.

    Args:
        classifier: With one output.
        rows: Token ids.
        places: Of each row, at least one.
        batch_size: Rows read at once.
        title: Name beside the progress bar; without one there is none.

    Returns:
        Rewards of each row, (places,), fp32.
    """
    import numpy as np
    import torch

    from tasks.contracts.progress import Advance, progress

    trunk, padding = getattr(classifier, classifier.base_model_prefix), classifier.config.get_text_config().pad_token_id
    found: list[np.ndarray] = [np.zeros(0, np.float32)] * len(rows)
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
    silent: AbstractContextManager[Advance] = nullcontext(lambda _: None)
    with torch.inference_mode(), progress(title, len(rows)) if title else silent as advance:
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            width = len(rows[part[0]])
            ids = torch.full((len(part), width), padding)
            mask = torch.zeros((len(part), width), dtype=torch.long)
            for number, row in enumerate(part):
                ids[number, : len(rows[row])] = torch.tensor(rows[row])
                mask[number, : len(rows[row])] = 1
            inputs = {"input_ids": ids.to(classifier.device), "attention_mask": mask.to(classifier.device)}
            states = trunk(**inputs, use_cache=False).last_hidden_state
            for number, row in enumerate(part):
                own = classifier.score(states[number, list(places[row])])[:, 0]
                found[row] = own.float().cpu().numpy()
            advance(len(part))
    return found
