"""Toxic rows, by a text classifier in a local folder.

Any sequence classifier with safetensors does. Those of Detoxify (Hanu and Unitary 2020,
https://github.com/unitaryai/detoxify) are on the hub as ``unitary/toxic-bert``, ``unitary/unbiased-toxic-roberta`` and
``unitary/multilingual-toxic-xlm-roberta``; its Python package is not used because it unpickles the weights it
downloads. The threshold 0.5 is where those models were trained to decide (Jigsaw's challenges).

A text longer than the model's context is read in windows, and the worst one counts.

Example:
    ``{name: toxicity, classifier: models/toxic-bert}`` drops a threat as "toxic over 0.5".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.corpus.rows.roles import ROLES, Of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVERLAP = 32
LONGEST = 512


class Toxicity(Section):
    """Drops rows that a classifier finds toxic."""

    name: Literal["toxicity"] = "toxicity"
    classifier: str = Field(
        description="folder of a sequence classifier with its tokenizer; relative to the repository"
    )
    threshold: float = Field(default=0.5, ge=0, le=1, description="score from which on a row goes")
    labels: tuple[str, ...] = Field(
        default=(),
        description="labels that count; all when empty, which a classifier with a label for clean text forbids",
    )
    activation: Literal["auto", "sigmoid", "softmax"] = Field(
        default="auto", description="sigmoid: several labels may hold at once; softmax: one; auto: as its config says"
    )
    of: Of = Field(default="conversation", description="what is judged")
    batch_size: int = Field(default=32, gt=0, description="windows of text in a forward pass")

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.rows import Listing, column_messages, join_turns
        from tasks.corpus.rows.texts import Cleaned

        texts = join_turns(column_messages(table), ROLES[self.of])
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
        return Cleaned(table, reasons, listings=(Listing(heading, ("label", "rows over", "mean score"), over),))

    def score(self, texts: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
        """The classifier's labels, and texts x labels scores between 0 and 1.

        Raises:
            PipelineError: No classifier there, labels it has not, or a choice it leaves open.
        """
        import numpy as np
        import torch

        model, tokenizer = _load(Path(self.classifier))
        names = [str(model.config.id2label[place]) for place in range(model.config.num_labels)]
        several = self._may_hold_together(model.config.problem_type, names)
        longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", LONGEST), LONGEST)
        windows = tokenizer(
            list(texts),
            truncation=True,
            max_length=longest,
            stride=min(OVERLAP, longest // 4),
            return_overflowing_tokens=True,
        )
        owner = windows.pop("overflow_to_sample_mapping")
        scores = np.zeros((len(texts), len(names)))
        # Windows of like length together, so that little is padded.
        order = sorted(range(len(owner)), key=lambda place: (len(windows["input_ids"][place]), place))
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                places = order[start : start + self.batch_size]
                batch = tokenizer.pad({k: [v[p] for p in places] for k, v in windows.items()}, return_tensors="pt")
                logits = model(**batch).logits.double()
                found = (logits.sigmoid() if several else logits.softmax(dim=-1)).numpy()
                np.maximum.at(scores, [owner[place] for place in places], found)
        return names, scores

    def _may_hold_together(self, problem: str | None, names: Sequence[str]) -> bool:
        if unknown := [label for label in self.labels if label not in names]:
            raise PipelineError(f"toxicity: {self.classifier} has no label {unknown}; it has {list(names)}")
        if self.activation == "auto" and problem is None and len(names) > 1:
            raise PipelineError(
                f"toxicity: the config of {self.classifier} does not say whether its labels {list(names)} may hold "
                "together; set activation to sigmoid (they may) or softmax (one holds)"
            )
        several = self.activation == "sigmoid" or (
            self.activation == "auto" and (problem == "multi_label_classification" or len(names) == 1)
        )
        if not several and not self.labels:
            raise PipelineError(
                f"toxicity: of the labels {list(names)} of {self.classifier} one always holds; "
                "name the bad ones in labels"
            )
        return several


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
