"""A sequence classifier in a local folder: the scores of its labels for texts of any length.

A text longer than the context of the model is scored in windows, and the highest score of each label counts. Only
safetensors are read, and no code of the folder is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Activation = Literal["auto", "sigmoid", "softmax"]
ACTIVATION = "sigmoid: multi-label; softmax: single label; auto: by the config of the classifier"

# Tokens that neighbouring windows share, and the maximum tokens of a window.
OVERLAP_TOKENS = 32
MAX_WINDOW_TOKENS = 512
# What transformers calls the labels of a config that names none.
UNNAMED = {"0": "LABEL_0", "1": "LABEL_1"}


@dataclass(frozen=True)
class TextClassifier:
    """An opened classifier.

    Attributes:
        labels: Names of its labels, in the order of its outputs.
        multi_label: Each label has a probability of its own; otherwise they share one.
    """

    labels: tuple[str, ...]
    multi_label: bool
    _model: Any = field(repr=False)
    _tokenizer: Any = field(repr=False)

    def score(self, texts: Sequence[str], batch_size: int = 32) -> NDArray[np.float64]:
        """Scores between 0 and 1, (texts, labels).

        Args:
            texts: The texts.
            batch_size: Windows of text in a forward pass.
        """
        import numpy as np
        import torch

        scores = np.zeros((len(texts), len(self.labels)))
        if not texts:
            return scores
        longest = min(
            self._tokenizer.model_max_length,
            getattr(self._model.config, "max_position_embeddings", MAX_WINDOW_TOKENS),
            MAX_WINDOW_TOKENS,
        )
        windows = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=longest,
            stride=min(OVERLAP_TOKENS, longest // 4),
            return_overflowing_tokens=True,
        )
        owner = windows.pop("overflow_to_sample_mapping")
        # Windows of similar length are batched, which minimizes padding.
        order = sorted(range(len(owner)), key=lambda place: (len(windows["input_ids"][place]), place))
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                places = order[start : start + batch_size]
                batch = self._tokenizer.pad(
                    {k: [v[p] for p in places] for k, v in windows.items()}, return_tensors="pt"
                )
                logits = self._model(**batch.to(self._model.device)).logits.double()
                found = logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)
                np.maximum.at(scores, [owner[place] for place in places], found.cpu().numpy())
        return scores


def open_classifier(
    folder: Path, user: str, wanted: Sequence[str], activation: Activation, device: str = "cpu"
) -> TextClassifier:
    """Load a classifier.

    Args:
        folder: Folder with ``config.json``, safetensors and a tokenizer.
        user: What needs it, named in errors.
        wanted: Labels that count; none: all, unless one of them always applies.
        activation: How outputs become scores.
        device: Where to compute.

    Raises:
        PipelineError: The classifier is missing or lacks a label, or its config does not determine the activation.
    """
    model, tokenizer = load_classifier(folder, user, "unitary/toxic-bert")
    labels = tuple(str(model.config.id2label[place]) for place in range(model.config.num_labels))
    multi_label = _is_multi_label(folder, user, model.config.problem_type, labels, wanted, activation)
    return TextClassifier(labels, multi_label, model.to(device), tokenizer)


def list_unknown(folder: Path, user: str, wanted: Sequence[str], labels: Sequence[str]) -> list[str]:
    """That wanted labels are none of a classifier; empty where all are there."""
    unknown = [label for label in wanted if label not in labels]
    return [f"{user}: {folder} has no label {unknown}; it has {list(labels)}"] if unknown else []


def _is_multi_label(
    folder: Path, user: str, problem: str | None, labels: Sequence[str], wanted: Sequence[str], activation: Activation
) -> bool:
    if unknown := list_unknown(folder, user, wanted, labels):
        raise PipelineError(unknown[0])
    if activation == "auto" and problem is None and len(labels) > 1:
        raise PipelineError(
            f"{user}: the config of {folder} does not state whether its labels {list(labels)} exclude "
            "each other; set activation to sigmoid (multi-label) or softmax (single label)"
        )
    multi_label = activation == "sigmoid" or (
        activation == "auto" and (problem == "multi_label_classification" or len(labels) == 1)
    )
    if not multi_label and not wanted:
        raise PipelineError(
            f"{user}: one of the labels {list(labels)} of {folder} always applies; name the toxic ones in labels"
        )
    return multi_label


def read_labels(folder: Path) -> list[str]:
    """The labels that a classifier's config names, in the order of its outputs; the classifier is not loaded.

    Raises:
        PipelineError: The config cannot be read.
    """
    import orjson

    path = folder / "config.json"
    try:
        named = orjson.loads(path.read_bytes()).get("id2label") or UNNAMED
        return [str(named[place]) for place in sorted(named, key=int)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise PipelineError(f"{path} is no config of a classifier ({error}); download the folder again") from error


def load_classifier(folder: Path, user: str, example: str) -> tuple[Any, Any]:
    """A sequence classifier in evaluation mode, and its tokenizer.

    Args:
        folder: Folder with ``config.json``, safetensors and a tokenizer.
        user: What needs it, named in errors.
        example: Name on the hub of such a classifier, for the error where there is none.

    Raises:
        PipelineError: The classifier is missing or cannot be loaded.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise PipelineError(
            f"{user}: no classifier in {folder}; put one there, e.g. hf download {example} --local-dir {folder}"
        )
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"{user}: {folder} is no sequence classifier with safetensors and a tokenizer ({error})".replace("\n", " ")
        ) from error
    return model.eval(), tokenizer
