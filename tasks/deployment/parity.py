"""Proof that the release answers as the trained model does.

Held-out prompts are answered greedily three times, by the trained model, not merged, by the
exported folder loaded afresh, and by the gateway's engine serving that folder. Token ids of the rendered
prompt must be equal everywhere; token ids of the answers must be equal for at least
``minimum_match`` of the prompts. The largest difference of any logit is reported too, since equal
answers can hide damage that shows on another prompt. A reward model is held to its rewards instead
(`tasks.deployment.reward_parity`).
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json
from tasks.contracts.tables import read_examples
from tasks.deployment.reward_parity import compare_rewards
from tasks.language_models.encoding import encode_prompt
from tasks.language_models.generation import context_length, generate_answers
from tasks.language_models.templates.rendering import TemplateRefusal
from tasks.training.released import find_base, load_released
from tasks.training.reward_models import is_classifier
from tasks.training.tuned import load_tuned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

Turns = list[dict[str, str]]
Ids = list[int]
# Model folder, conversations, longest answer in tokens -> (prompt ids, answer ids without end of turn) each.
Serve = Callable[[Path, list[Turns], int], list[tuple[Ids, Ids]]]

DIFFERENCES_KEPT = 20
BEGINNING = 400


@dataclass(frozen=True)
class Difference:
    """An answer that differs between the three models.

    Attributes:
        item: Id of the held-out example.
        token: Position of the first token that differs, counted from 0.
        trained: Answer of the trained model.
        merged: Answer of the exported model.
        served: Answer of the gateway's engine.
    """

    item: str
    token: int
    trained: str
    merged: str
    served: str


@dataclass(frozen=True)
class ParityProof:
    """The result of the comparison.

    Attributes:
        prompts: Held-out prompts compared.
        left_out: Prompts skipped because the answer might not fit into the context.
        max_new_tokens: Maximum length of the compared answers.
        answer_tokens: Total tokens of the trained model's answers.
        minimum_match: Share of answers that must match.
        prompts_merged: Prompts with the same token ids in the export as in the trained model.
        prompts_served: The same for the gateway's engine.
        answers_merged: Answers of the export that equal the trained model's token for token.
        answers_served: The same for the gateway's engine.
        answers_all: Answers equal in all three.
        max_logit_difference: Largest of ``logit_differences``.
        logit_differences: Per prompt, the largest |trained - merged| over the vocabulary and all
            positions of the trained model's answer.
        differences: The first answers that differ.
    """

    prompts: int
    left_out: int
    max_new_tokens: int
    answer_tokens: int
    minimum_match: float
    prompts_merged: int
    prompts_served: int
    answers_merged: int
    answers_served: int
    answers_all: int
    max_logit_difference: float
    logit_differences: list[float]
    differences: list[Difference]

    @property
    def passed(self) -> bool:
        """Whether all prompts and enough answers are equal."""
        return (
            self.prompts > 0
            and self.prompts_merged == self.prompts_served == self.prompts
            and self.answers_all >= self.minimum_match * self.prompts
        )

    @property
    def figures(self) -> dict[str, float | int]:
        return {
            "parity_prompts": self.prompts,
            "parity_prompts_identical": min(self.prompts_merged, self.prompts_served),
            "parity_answers_merged": self.answers_merged,
            "parity_answers_served": self.answers_served,
            "parity_answers_identical": self.answers_all,
            "max_logit_difference": self.max_logit_difference,
        }


@dataclass(frozen=True)
class _Prompts:
    names: list[str]
    conversations: list[Turns]
    left_out: int


@dataclass(frozen=True)
class _Answers:
    prompts: list[Ids]
    answers: list[Ids]


def prove_parity(
    initial: Path,
    tuned: Path,
    exported: Path,
    test: Path,
    serve: Serve,
    prompts: int,
    max_new_tokens: int,
    minimum_match: float,
    proof: Path,
) -> ParityProof:
    """Answer held-out prompts with the trained, the exported and the served model, and compare.

    Args:
        initial: The base model's folder.
        tuned: Folder written by fine-tuning.
        exported: The exported model's folder.
        test: Held-out examples.
        serve: Function that answers through the gateway's engine.
        prompts: Number of prompts; all where there are fewer.
        max_new_tokens: Maximum length of an answer, tokens.
        minimum_match: Share of answers that must be identical.
        proof: ``parity.json``, written also when the proof fails.

    Raises:
        PipelineError: The models differ, or no prompt could be compared.
    """
    if is_classifier(exported):
        return _prove_rewards(initial, tuned, exported, test, prompts, minimum_match, proof)
    model, tokenizer = load_tuned(initial, tuned)
    chosen = choose_prompts(test, tokenizer, context_length(model.config), prompts, max_new_tokens)
    trained = _answer(model, tokenizer, chosen.conversations, max_new_tokens, "trained")
    expected = _logits(model, trained)
    del model
    gc.collect()

    # Computing in fp32 as the gateway's engine does, whatever the stored format.
    model = load_released(exported)
    merged_tokenizer = _load_tokenizer(find_base(exported))
    merged = _answer(model, merged_tokenizer, chosen.conversations, max_new_tokens, "merged")
    logit_differences = [_max_difference(a, b) for a, b in zip(expected, _logits(model, trained), strict=True)]
    del model
    gc.collect()

    served = _Answers(*_unzip(serve(exported, chosen.conversations, max_new_tokens)))
    comparison = compare_answers(chosen.names, trained, merged, served, tokenizer)
    result = replace(
        comparison,
        left_out=chosen.left_out,
        max_new_tokens=max_new_tokens,
        minimum_match=minimum_match,
        max_logit_difference=max(logit_differences),
        logit_differences=logit_differences,
    )
    write_json(proof, {**asdict(result), "passed": result.passed})
    require_parity(result, proof)
    return result


def _prove_rewards(
    initial: Path, tuned: Path, exported: Path, test: Path, prompts: int, minimum_match: float, proof: Path
) -> ParityProof:
    """The same of a reward model: held-out conversations get the same reward as from what was trained, not merged."""
    found = compare_rewards(initial, tuned, exported, test, prompts)
    by_export, by_reward = (found.count_equal(values) for values in (found.exported, found.served))
    result = ParityProof(
        prompts=len(found.names),
        left_out=found.left_out,
        max_new_tokens=0,
        answer_tokens=0,
        minimum_match=minimum_match,
        prompts_merged=len(found.names),
        prompts_served=found.same_tokens,
        answers_merged=by_export,
        answers_served=by_reward,
        answers_all=min(by_export, by_reward),
        max_logit_difference=max(found.differences),
        logit_differences=found.differences,
        differences=[],
    )
    write_json(proof, {**asdict(result), "passed": result.passed})
    require_parity(result, proof)
    return result


def require_parity(result: ParityProof, proof: Path) -> None:
    """Refuse a release that does not answer as the trained model does.

    Raises:
        PipelineError: A prompt is rendered differently, or too few answers are identical.
    """
    if result.passed:
        return
    first_difference = ""
    if result.differences:
        first = result.differences[0]
        first_difference = f"; first difference: item {first.item}, token {first.token}"
    raise PipelineError(
        f"parity: of {result.prompts} prompts {min(result.prompts_merged, result.prompts_served)} are rendered "
        f"identically, {result.answers_merged} answered identically by the export and {result.answers_served} by the "
        f"gateway's engine{first_difference}; expected all prompts and {result.minimum_match:.0%} of the answers; see "
        f"{proof}, then export fp32 or lower deployment.release.parity.minimum_match"
    )


def choose_prompts(test: Path, tokenizer: Any, context: int | None, count: int, max_new_tokens: int) -> _Prompts:
    """The first held-out conversations in the order of their ids, each prompt once; the beginnings of documents where
    there are no conversations.

    Ids are content hashes, so this is a random sample that hardly changes when rows are added.

    Raises:
        PipelineError: None fits into the context together with its answer.
    """
    chosen = _Prompts([], [], 0)
    seen: set[tuple[int, ...]] = set()
    left_out = 0
    rows = read_examples(test).select(["id", "messages"]).sort_by("id").to_pylist()
    has_prompts = any(len(row["messages"]) > 1 for row in rows)
    for row in rows:
        conversation: Turns = row["messages"][:-1]
        if not conversation:
            if has_prompts:
                continue
            conversation = [{"role": "assistant", "content": begin_document(row["messages"][0]["content"])}]
        try:
            ids = tuple(encode_prompt(tokenizer, conversation))
        except TemplateRefusal:
            # Training and evaluation count such rows with their reasons.
            continue
        if ids in seen:
            continue
        seen.add(ids)
        if context is not None and len(ids) + max_new_tokens > context:
            left_out += 1
            continue
        chosen.names.append(row["id"])
        chosen.conversations.append(conversation)
        if len(chosen.names) == count:
            break
    if not chosen.names:
        raise PipelineError(
            f"{test}: no prompt to compare answers on ({left_out} leave no room for {max_new_tokens} tokens in a "
            f"context of {context}); lower deployment.release.parity.max_new_tokens"
        )
    return replace(chosen, left_out=left_out)


def begin_document(text: str) -> str:
    """The first half of a document, at most `BEGINNING` characters, cut between words where it has any."""
    half = text[: min(len(text) // 2, BEGINNING)]
    return half.rpartition(" ")[0] or half


def compare_answers(
    names: Sequence[str], trained: _Answers, merged: _Answers, served: _Answers, tokenizer: Any
) -> ParityProof:
    """Count equal prompts and answers, and record the first that differ.

    Raises:
        PipelineError: A model did not return one answer per prompt.
    """
    for model, answers in (("merged", merged), ("served", served)):
        if not len(names) == len(answers.prompts) == len(answers.answers):
            raise PipelineError(
                f"parity: {len(names)} prompts went in, {len(answers.answers)} {model} answers came back; "
                "expected as many; check the engine"
            )
    rows = list(zip(names, trained.answers, merged.answers, served.answers, strict=True))
    differing = [(name, a, b, c) for name, a, b, c in rows if not a == b == c]
    return ParityProof(
        prompts=len(names),
        left_out=0,
        max_new_tokens=0,
        answer_tokens=sum(len(answer) for answer in trained.answers),
        minimum_match=1.0,
        prompts_merged=sum(a == b for a, b in zip(trained.prompts, merged.prompts, strict=True)),
        prompts_served=sum(a == b for a, b in zip(trained.prompts, served.prompts, strict=True)),
        answers_merged=sum(a == b for _, a, b, _ in rows),
        answers_served=sum(a == c for _, a, _, c in rows),
        answers_all=len(rows) - len(differing),
        max_logit_difference=0.0,
        logit_differences=[],
        differences=[
            Difference(name, min(_first(a, b), _first(a, c)), *(tokenizer.decode(ids) for ids in (a, b, c)))
            for name, a, b, c in differing[:DIFFERENCES_KEPT]
        ],
    )


def _first(left: Sequence[int], right: Sequence[int]) -> int:
    """Position of the first difference; past both ends when there is none."""
    shared = min(len(left), len(right))
    differing = (i for i in range(shared) if left[i] != right[i])
    return next(differing, shared if len(left) != len(right) else shared + 1)


def _answer(model: Any, tokenizer: Any, conversations: list[Turns], max_new_tokens: int, title: str) -> _Answers:
    answers = generate_answers(model, tokenizer, conversations, max_new_tokens, title=title)
    return _Answers([encode_prompt(tokenizer, c) for c in conversations], [list(a.tokens) for a in answers])


def _logits(model: Any, answers: _Answers) -> list[NDArray[np.float32]]:
    """Logits at each position that predicts a token of an answer or its end: (answer + 1, vocabulary)."""
    import torch

    all_logits = []
    with torch.inference_mode():
        for prompt, answer in zip(answers.prompts, answers.answers, strict=True):
            logits = model(input_ids=torch.tensor([[*prompt, *answer]], device=model.device), use_cache=False).logits
            all_logits.append(logits[0, len(prompt) - 1 :].float().cpu().numpy())
    return all_logits


def _max_difference(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    import numpy as np

    if left.shape != right.shape:
        return float("inf")
    return float(np.abs(left - right).max())


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _unzip(pairs: list[tuple[Ids, Ids]]) -> tuple[list[Ids], list[Ids]]:
    return [list(prompt) for prompt, _ in pairs], [list(answer) for _, answer in pairs]
