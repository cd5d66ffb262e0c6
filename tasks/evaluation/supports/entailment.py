"""Support by entailment: a classifier of natural language inference says that the text entails the claim.

Honovich et al., "TRUE: Re-evaluating Factual Consistency Evaluation", NAACL 2022. The folder holds a sequence
classifier of pairs with a label that begins with "entail", such as those trained on MNLI. A text longer than the
model's context is read from its beginning only.

Example: ``by: {name: entailment, path: models/deberta-v3-base-mnli}``
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.evaluation.supports.support import TextAndClaim


class EntailmentSupport(Section):
    """A classifier says that the text entails the claim."""

    name: Literal["entailment"] = "entailment"
    path: Annotated[str, Reads("folder", holds="config.json")] = Field(description="folder of a sequence classifier")
    least: float = Field(
        default=0.5, gt=0, lt=1, description="probability of entailment from which a claim is supported"
    )
    batch_size: int = Field(default=32, ge=1, description="pairs per batch")

    def find(self, questions: Sequence[TextAndClaim], folder: Path | None) -> list[bool]:
        import torch

        model, tokenizer, label = open_entailment(str(Path(self.path).absolute()))
        found = [False] * len(questions)
        order = sorted(range(len(questions)), key=lambda place: (-sum(map(len, questions[place])), place))
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                places = order[start : start + self.batch_size]
                batch = tokenizer(
                    [questions[place][0] for place in places],
                    [questions[place][1] for place in places],
                    truncation="only_first",
                    max_length=min(tokenizer.model_max_length, model.config.max_position_embeddings),
                    padding=True,
                    return_tensors="pt",
                )
                shares = model(**batch).logits.double().softmax(dim=-1)[:, label].tolist()
                for place, share in zip(places, shares, strict=True):
                    found[place] = share >= self.least
        return found


@lru_cache(maxsize=1)
def open_entailment(path: str) -> tuple[Any, Any, int]:
    """The classifier, its tokenizer and the place of its label of entailment.

    Raises:
        PipelineError: The folder holds no such classifier.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise PipelineError(f"entailment: {path} cannot be loaded ({why}); give it a sequence classifier") from error
    labels = {str(name).lower(): place for place, name in model.config.id2label.items()}
    label = next((place for name, place in labels.items() if name.startswith("entail")), None)
    if label is None:
        raise PipelineError(
            f"entailment: {path} has the labels {', '.join(labels)}, expected one that begins with entail; give it a "
            "classifier of natural language inference"
        )
    return model.eval(), tokenizer, int(label)
