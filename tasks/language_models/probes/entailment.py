"""A classifier of natural language inference in a local folder: how likely one text entails another.

Such classifiers are trained on pairs of premise and hypothesis (Williams et al., "MultiNLI", NAACL 2018); DeBERTa
trained so is on the hub as ``MoritzLaurer/DeBERTa-v3-base-mnli``. The label that says so is the one whose name in the
config begins with "entail". Of a pair that is longer than the context of the model the longer text is cut at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.language_models.probes.text_classifier import load_classifier, read_labels

EXAMPLE = "MoritzLaurer/DeBERTa-v3-base-mnli"


@dataclass(frozen=True)
class EntailmentClassifier:
    """An opened classifier.

    Attributes:
        label: Place of its label of entailment.
    """

    label: int
    _model: Any = field(repr=False)
    _tokenizer: Any = field(repr=False)

    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        """Probability that the first text of each pair entails the second.

        Args:
            pairs: Premise and hypothesis.
            batch_size: Pairs in a forward pass.
        """
        import torch

        model, tokenizer = self._model, self._tokenizer
        longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        found = [0.0] * len(pairs)
        # Pairs of similar length are batched, which minimizes padding.
        order = sorted(range(len(pairs)), key=lambda place: (-sum(map(len, pairs[place])), place))
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                places = order[start : start + batch_size]
                batch = tokenizer(
                    [pairs[place][0] for place in places],
                    [pairs[place][1] for place in places],
                    truncation="longest_first",
                    max_length=longest,
                    padding=True,
                    return_tensors="pt",
                )
                shares = model(**batch.to(model.device)).logits.double().softmax(dim=-1)[:, self.label].tolist()
                for place, share in zip(places, shares, strict=True):
                    found[place] = share
        return found


@lru_cache(maxsize=1)
def open_entailment(folder: Path, device: str = "cpu") -> EntailmentClassifier:
    """Load a classifier.

    Args:
        folder: Folder with ``config.json``, safetensors and a tokenizer.
        device: Where to compute.

    Raises:
        PipelineError: The folder holds no such classifier.
    """
    model, tokenizer = load_classifier(folder, "entailment", EXAMPLE)
    labels = [str(model.config.id2label[place]) for place in range(model.config.num_labels)]
    if (label := find_entailment(labels)) is None:
        raise PipelineError(describe_labels(folder, labels))
    return EntailmentClassifier(label, model.to(device), tokenizer)


def find_entailment(labels: Sequence[str]) -> int | None:
    """Place of the label of entailment; None where there is none."""
    return next((place for place, name in enumerate(labels) if name.lower().startswith("entail")), None)


def list_label_problems(folder: Path) -> list[str]:
    """What is wrong with the labels in a classifier's config, without loading it; the config has to be there."""
    try:
        labels = read_labels(folder)
    except PipelineError as error:
        return [f"entailment: {error}"]
    return [] if find_entailment(labels) is not None else [describe_labels(folder, labels)]


def describe_labels(folder: Path, labels: Sequence[str]) -> str:
    """That no label says entailment."""
    return (
        f"entailment: {folder} has the labels {', '.join(labels)}, expected one that begins with entail; give it a "
        "classifier of natural language inference"
    )
