"""Drops toxic rows, detected by a text classifier in a local folder.

Any sequence classifier with safetensors can be used. Those of Detoxify (Hanu and Unitary 2020,
https://github.com/unitaryai/detoxify) are on the hub as ``unitary/toxic-bert``, ``unitary/unbiased-toxic-roberta`` and
``unitary/multilingual-toxic-xlm-roberta``; its Python package is not used because it unpickles the weights it
downloads. The threshold 0.5 is the decision threshold of those models (Jigsaw's challenges).

A text longer than the context of the model is scored in windows, and the highest score counts.

Example:
    ``{name: toxicity, classifier: models/toxic-bert}`` drops a threat as "toxic over 0.5".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.corpus.rows.roles import ROLES, Of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Tokens that neighbouring windows share, and the maximum tokens of a window.
OVERLAP_TOKENS = 32
MAX_WINDOW_TOKENS = 512


class Toxicity(Section):
    """Drops rows that a classifier finds toxic."""

    name: Literal["toxicity"] = "toxicity"
    classifier: Annotated[str, Reads("folder", holds="config.json")] = Field(
        description="folder of a sequence classifier with its tokenizer; relative to the repository"
    )
    threshold: float = Field(default=0.5, ge=0, le=1, description="score from which a row is dropped")
    labels: tuple[str, ...] = Field(
        default=(),
        description="labels that count; empty: all, unless the classifier has a label for clean text",
    )
    activation: Literal["auto", "sigmoid", "softmax"] = Field(
        default="auto", description="sigmoid: multi-label; softmax: single label; auto: by the config of the classifier"
    )
    of: Of = Field(default="conversation", description="which turns are checked")
    batch_size: int = Field(default=32, gt=0, description="windows of text in a forward pass")

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.learned import learned_messages
        from tasks.corpus.rows.rows import Listing, join_turns
        from tasks.corpus.rows.texts import Cleaned

        texts = join_turns(learned_messages(table), ROLES[self.of])
        names, scores = self.score(texts)
        counted = [names.index(label) for label in self.labels] if self.labels else list(range(len(names)))
        chosen = scores[:, counted]
        worst = chosen.argmax(axis=1)
        reasons = [
            f"{names[counted[place]]} over {self.threshold:g}" if row[place] >= self.threshold else None
            for place, row in zip(worst.tolist(), chosen.tolist(), strict=True)
        ]
        over = tuple(
            (names[label], int((scores[:, label] >= self.threshold).sum()), round(float(scores[:, label].mean()), 4))
            for label in counted
        )
        heading = f"Toxicity, by {Path(self.classifier).name}"
        return Cleaned(
            table, reasons, listings=(Listing(heading, ("label", "rows over the threshold", "mean score"), over),)
        )

    def score(self, texts: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
        """The classifier's labels, and texts x labels scores between 0 and 1.

        Raises:
            PipelineError: The classifier is missing or lacks a label, or its config does not determine the activation.
        """
        import numpy as np
        import torch

        model, tokenizer = _load(Path(self.classifier))
        names = [str(model.config.id2label[place]) for place in range(model.config.num_labels)]
        multi_label = self._is_multi_label(model.config.problem_type, names)
        longest = min(
            tokenizer.model_max_length,
            getattr(model.config, "max_position_embeddings", MAX_WINDOW_TOKENS),
            MAX_WINDOW_TOKENS,
        )
        windows = tokenizer(
            list(texts),
            truncation=True,
            max_length=longest,
            stride=min(OVERLAP_TOKENS, longest // 4),
            return_overflowing_tokens=True,
        )
        owner = windows.pop("overflow_to_sample_mapping")
        scores = np.zeros((len(texts), len(names)))
        # Windows of similar length are batched, which minimizes padding.
        order = sorted(range(len(owner)), key=lambda place: (len(windows["input_ids"][place]), place))
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                places = order[start : start + self.batch_size]
                batch = tokenizer.pad({k: [v[p] for p in places] for k, v in windows.items()}, return_tensors="pt")
                logits = model(**batch).logits.double()
                found = (logits.sigmoid() if multi_label else logits.softmax(dim=-1)).numpy()
                np.maximum.at(scores, [owner[place] for place in places], found)
        return names, scores

    def _is_multi_label(self, problem: str | None, names: Sequence[str]) -> bool:
        if unknown := [label for label in self.labels if label not in names]:
            raise PipelineError(f"toxicity: {self.classifier} has no label {unknown}; it has {list(names)}")
        if self.activation == "auto" and problem is None and len(names) > 1:
            raise PipelineError(
                f"toxicity: the config of {self.classifier} does not state whether its labels {list(names)} exclude "
                "each other; set activation to sigmoid (multi-label) or softmax (single label)"
            )
        multi_label = self.activation == "sigmoid" or (
            self.activation == "auto" and (problem == "multi_label_classification" or len(names) == 1)
        )
        if not multi_label and not self.labels:
            raise PipelineError(
                f"toxicity: one of the labels {list(names)} of {self.classifier} always applies; "
                "name the toxic ones in labels"
            )
        return multi_label


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise PipelineError(
            f"toxicity: no classifier in {folder}; put one there, e.g. "
            f"hf download unitary/toxic-bert --local-dir {folder}"
        )
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"toxicity: {folder} is no sequence classifier with safetensors and a tokenizer ({error})".replace(
                "\n", " "
            )
        ) from error
    return model.eval(), tokenizer
