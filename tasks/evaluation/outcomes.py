"""Answers and reference losses of each model on the held-out items; one model is in memory at a time."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, hash_file
from tasks.evaluation.answer_store import AnswerStore, make_key, make_probe_key, make_questions_key
from tasks.evaluation.asking.ask import AnswerWatch, Limits
from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.asking.turns import ask_conversations
from tasks.evaluation.items import Item, hash_items
from tasks.evaluation.probes.probe import Measured, Probe
from tasks.evaluation.retrieval import rank_partners
from tasks.evaluation.rewarding.scores import RewardScores, score_references_with
from tasks.evaluation.worse_answers import WorseAnswers, score_worse_answers
from tasks.language_models.bias_probe import BiasMeasure, probe_bias
from tasks.language_models.generation import Answer, generate_answers, score_references
from tasks.language_models.model_folder import load_tokenizer, resolve_model
from tasks.language_models.pooling import Pooling, read_pooling
from tasks.training.released import find_base, load_released
from tasks.training.reward_models import is_classifier, open_classifier
from tasks.training.text_pairs import PairKind
from tasks.training.tuned import load_tuned, merge_reward_model

logger = logging.getLogger(__name__)

# In the stage base, champion and candidate; elsewhere whatever a model is called.
ModelName = str
Precision = Literal["fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda"]
Suites = Mapping[str, Sequence[Question]]
NO_SUITES: Suites = MappingProxyType({})


@dataclass(frozen=True)
class Outcome:
    """Answers and reference losses of one model, in the order of the items.

    Attributes:
        model: Its name: in the stage ``base``, ``champion`` or ``candidate``.
        answers: Greedily decoded answers; empty for documents, which nothing is asked of.
        finished: Whether the model ended its turn within the limit.
        losses: Mean negative log-likelihood of the reference, nats per token.
        tokens: Tokens of the reference, its end of turn included.
        answer_tokens: Tokens of the answer.
        bias: Leans of the bias probe; None where it was not measured.
        worse: Losses of the items' worse answers; None where no item has one.
        ranks: Rank of each item's right text by the model's vectors, from 1; 0 where there is none; None where no
            vectors were asked for.
        items: Hash of the items, see `tasks.evaluation.items.hash_items`; empty where they are not known.
        replies: Key of a suite to the replies to its questions.
        rewards: What the model gives the references; None where no rewards were asked for.
        probes: Key of a probe to what it measured, see `tasks.evaluation.probes`.
        scored: Whether the answer to an item counts, (items,); None: all do.
    """

    model: ModelName
    answers: list[str] = field(repr=False)
    finished: NDArray[np.bool_] = field(repr=False)
    losses: NDArray[np.float64] = field(repr=False)
    tokens: NDArray[np.int64] = field(repr=False)
    answer_tokens: NDArray[np.int64] = field(repr=False)
    bias: BiasMeasure | None = None
    worse: WorseAnswers | None = None
    ranks: NDArray[np.int64] | None = field(default=None, repr=False)
    items: str = ""
    replies: Mapping[str, Sequence[Reply]] = field(default_factory=dict, repr=False)
    rewards: RewardScores | None = field(default=None, repr=False)
    probes: Mapping[str, Measured] = field(default_factory=dict, repr=False)
    scored: NDArray[np.bool_] | None = field(default=None, repr=False)

    @property
    def figures(self) -> dict[str, float]:
        return {
            "answers": float(len(self.answers)),
            "cut_off": float((~self.finished).sum()),
            "answer_tokens": float(self.answer_tokens.sum()),
            "reference_tokens": float(self.tokens.sum()),
        }


def answer_with_base(
    items: Sequence[Item],
    initial: Path,
    max_new_tokens: int,
    batch_size: int,
    precision: Precision,
    device: Device,
    store: AnswerStore | None = None,
    pairs: PairKind | None = None,
    suites: Suites = NO_SUITES,
    pooling: Pooling = "mean",
    rewards: bool = False,
    timeout_s: float | None = None,
    probes: Sequence[Probe] = (),
) -> Outcome:
    """Answers of the base model.

    Args:
        items: Items to answer.
        initial: Folder written by model initialisation.
        max_new_tokens: Longest answer, in tokens.
        batch_size: Items answered at once.
        precision: Number format of the weights.
        device: Where to compute; ``auto`` uses CUDA where available.
        store: Answers of earlier evaluations; None: always generate.
        pairs: Ask for vectors of these texts instead, and rank them; None: ask for answers.
        suites: Key of a suite to its questions.
        pooling: How the states of a text become its vector; that of an embedder's own folder goes first.
        rewards: Ask for rewards of the references instead; a base gives 0 to all.
        timeout_s: Longest time of an answer from its first token, in seconds; None: only tokens limit it.
        probes: What else is measured, for the metrics that need it.
    """
    if rewards:
        return _reward("base", lambda: None, items, batch_size, device)

    def load() -> tuple[Any, Any]:
        return load_folder(resolve_model(initial), precision)[0], load_tokenizer(initial)

    known = _Known(store, hash_file(initial / NAME))
    return _answer(
        "base",
        load,
        items,
        max_new_tokens,
        batch_size,
        precision,
        device,
        known,
        pairs,
        suites,
        pooling,
        timeout_s,
        probes,
    )


def answer_with_champion(
    items: Sequence[Item],
    folder: Path | None,
    max_new_tokens: int,
    batch_size: int,
    precision: Precision,
    device: Device,
    store: AnswerStore | None = None,
    pairs: PairKind | None = None,
    suites: Suites = NO_SUITES,
    pooling: Pooling = "mean",
    rewards: bool = False,
    timeout_s: float | None = None,
    probes: Sequence[Probe] = (),
) -> Outcome | None:
    """Answers of the champion; None when there is none. The arguments are those of `answer_with_base`."""
    if folder is None:
        return None
    if rewards:
        return _reward("champion", lambda: _open_reward_model(folder), items, batch_size, device)
    manifest = folder.parent / NAME
    return _answer(
        "champion",
        lambda: load_folder(folder, precision),
        items,
        max_new_tokens,
        batch_size,
        precision,
        device,
        _Known(store, hash_file(manifest)) if manifest.is_file() else None,
        pairs,
        suites,
        read_pooling(folder) or pooling,
        timeout_s,
        probes,
    )


def answer_with_candidate(
    items: Sequence[Item],
    initial: Path,
    tuned: Path,
    max_new_tokens: int,
    batch_size: int,
    precision: Precision,
    device: Device,
    store: AnswerStore | None = None,
    pairs: PairKind | None = None,
    suites: Suites = NO_SUITES,
    pooling: Pooling = "mean",
    rewards: bool = False,
    timeout_s: float | None = None,
    probes: Sequence[Probe] = (),
) -> Outcome:
    """Answers of the fine-tuned model. The arguments are those of `answer_with_base`."""
    if rewards:
        return _reward("candidate", lambda: merge_reward_model(initial, tuned), items, batch_size, device)
    known = _Known(store, f"{hash_file(initial / NAME)} {hash_file(tuned / NAME)}")
    return _answer(
        "candidate",
        lambda: load_tuned(initial, tuned),
        items,
        max_new_tokens,
        batch_size,
        precision,
        device,
        known,
        pairs,
        suites,
        pooling,
        timeout_s,
        probes,
    )


def answer_with_model(
    name: ModelName,
    load: Callable[[], tuple[Any, Any]],
    identity: str,
    items: Sequence[Item],
    max_new_tokens: int,
    batch_size: int,
    precision: Precision,
    device: Device,
    store: AnswerStore | None = None,
    suites: Suites = NO_SUITES,
    timeout_s: float | None = None,
    probes: Sequence[Probe] = (),
) -> Outcome:
    """Answers of any model, under a name; the arguments are those of `answer_with_base`, and:

    Args:
        name: What the model is called.
        load: Gives the model and its tokenizer.
        identity: Hash of the model's files; empty where they have none, and then nothing is taken from the store.
    """
    known = _Known(store, identity) if identity else None
    return _answer(
        name,
        load,
        items,
        max_new_tokens,
        batch_size,
        precision,
        device,
        known,
        suites=suites,
        timeout_s=timeout_s,
        probes=probes,
    )


def load_folder(folder: Path, precision: Precision) -> tuple[Any, Any]:
    """A causal language model and its tokenizer from a plain transformers folder or the model of a release.

    Raises:
        PipelineError: transformers cannot load the folder.
    """
    import torch
    from transformers import AutoTokenizer

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    try:
        return load_released(folder, dtype), AutoTokenizer.from_pretrained(find_base(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(f"{folder}: not a model folder that transformers can load ({reason})") from error


@dataclass(frozen=True)
class _Known:
    """Where a model's answers may already be.

    Attributes:
        store: The store; None for none.
        model: Hash of the model's files.
    """

    store: AnswerStore | None
    model: str


def _answer(
    name: ModelName,
    load: Callable[[], tuple[Any, Any]],
    items: Sequence[Item],
    max_new_tokens: int,
    batch_size: int,
    precision: Precision,
    device: Device,
    known: _Known | None = None,
    pairs: PairKind | None = None,
    suites: Suites = NO_SUITES,
    pooling: Pooling = "mean",
    timeout_s: float | None = None,
    probes: Sequence[Probe] = (),
) -> Outcome:
    import torch

    target = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    store, model_hash = (known.store, known.model) if known else (None, "")
    settings = {
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "precision": precision,
        "device": target,
        "threads": torch.get_num_threads() if target == "cpu" else torch.cuda.get_device_name(),
    } | ({} if timeout_s is None else {"timeout_s": timeout_s})
    limits = Limits(max_new_tokens, batch_size, timeout_s)
    found: dict[str, Any] | None = None
    replies: dict[str, Sequence[Reply]] = {}
    measured: dict[str, Measured] = {}
    key, keys, places = "", dict[str, str](), dict[str, str]()
    if store and not pairs:
        key = make_key(model_hash, items, settings)
        keys = {suite: make_questions_key(model_hash, questions, settings) for suite, questions in suites.items()}
        found = store.find(key, len(items))
        kept = {suite: store.find_replies(keys[suite], len(questions)) for suite, questions in suites.items()}
        replies = {suite: known_replies for suite, known_replies in kept.items() if known_replies is not None}
        places = {probe.key: make_probe_key(model_hash, items, settings, probe.key) for probe in probes}
        seen = {name: store.find_probe(place) for name, place in places.items()}
        measured = {name: values for name, values in seen.items() if values is not None}
    if found is not None:
        logger.info("%s: %s answers of an earlier evaluation are taken", name, len(items))
        if len(replies) == len(suites) and len(measured) == len(probes):
            return Outcome(name, **found, items=hash_items(items), replies=replies, probes=measured)
    model, tokenizer = load()
    model = model.to(device=target, dtype=torch.bfloat16 if precision == "bf16" else torch.float32).eval()
    if pairs:
        return _rank(name, model, tokenizer, items, pairs, batch_size, pooling)
    if found is not None:
        outcome = Outcome(name, **found, items=hash_items(items))
    else:
        outcome = _answer_items(name, model, tokenizer, items, limits)
        if store:
            store.keep(key, vars(outcome))
    for suite, questions in suites.items():
        if suite not in replies:
            replies[suite] = _ask(model, tokenizer, questions, limits, f"{name}, {suite}")
            if store:
                store.keep_replies(keys[suite], replies[suite])
    for probe in probes:
        if probe.key not in measured:
            logger.info("%s: %s", name, probe.key)
            measured[probe.key] = probe.measure(model, tokenizer, items, outcome.answers, max_new_tokens, batch_size)
            if store:
                store.keep_probe(places[probe.key], measured[probe.key])
    del model
    gc.collect()
    if target == "cuda":
        torch.cuda.empty_cache()
    return replace(outcome, replies=replies, probes=measured)


def _ask(model: Any, tokenizer: Any, questions: Sequence[Question], limits: Limits, title: str) -> Sequence[Reply]:
    """Replies to a suite; where asking fails as a whole, each of them has that problem, and the run goes on."""
    try:
        return ask_conversations(model, tokenizer, questions, limits, title)
    except Exception as error:
        logger.exception("%s: the questions could not be asked", title)
        return [Reply(problem=f"asking raised {type(error).__name__}: {error}")] * len(questions)


def _answer_items(name: ModelName, model: Any, tokenizer: Any, items: Sequence[Item], limits: Limits) -> Outcome:
    """Answers and losses on the held-out items, and the bias probe."""
    batch_size = limits.batch_size
    prompts = [item.prompt for item in items]
    losses = score_references(
        model, tokenizer, prompts, [i.reference for i in items], batch_size, f"{name}: scoring references", True
    )
    worse = score_worse_answers(model, tokenizer, items, batch_size, name)
    values = np.array([loss.mean for loss in losses])
    if not np.isfinite(values).all():
        raise PipelineError(
            f"{name}: the loss of {int((~np.isfinite(values)).sum())} of {len(items)} items is not a number, so its "
            "weights are damaged; fine-tune again with a lower learning rate or another base model"
        )
    asked = [place for place, prompt in enumerate(prompts) if prompt]
    answers = [Answer("", (), True) for _ in items]
    watch = None if limits.timeout_s is None else AnswerWatch(tokenizer, [()] * len(asked), limits.timeout_s)
    to_answer = [prompts[place] for place in asked]
    given = generate_answers(
        model, tokenizer, to_answer, limits.max_new_tokens, batch_size, f"{name}: answering", watch
    )
    for place, answer in zip(asked, given, strict=True):
        answers[place] = answer
    bias = probe_bias(model, tokenizer)
    truncated = sum(not answer.finished for answer in answers)
    logger.info("%s: %s items, mean loss %.4f, %s answers truncated", name, len(items), values.mean(), truncated)
    return Outcome(
        name,
        [answer.text for answer in answers],
        np.array([answer.finished for answer in answers]),
        values,
        np.array([loss.tokens for loss in losses]),
        np.array([len(answer.tokens) for answer in answers]),
        bias,
        worse,
        items=hash_items(items),
    )


def _rank(
    name: str, model: Any, tokenizer: Any, items: Sequence[Item], pairs: PairKind, batch: int, pooling: Pooling
) -> Outcome:
    """The ranks of the items' right texts; nothing is answered."""
    ranks, nothing = rank_partners(model, tokenizer, items, pairs, batch, pooling), np.zeros(len(items), dtype=np.int64)
    logger.info("%s: %s texts ranked", name, f"{int((ranks > 0).sum()):,}")
    finished = np.ones(len(items), dtype=np.bool_)
    return Outcome(
        name, [""] * len(items), finished, nothing.astype(float), nothing, nothing, ranks=ranks, items=hash_items(items)
    )


def _reward(
    name: str, load: Callable[[], tuple[Any, Any] | None], items: Sequence[Item], batch: int, device: Device
) -> Outcome:
    """The rewards of the items' references; nothing is answered."""
    found, nothing = score_references_with(load(), items, batch, device, name), np.zeros(len(items), dtype=np.int64)
    logger.info("%s: %s references rewarded", name, f"{len(items):,}")
    finished = np.ones(len(items), dtype=np.bool_)
    return Outcome(
        name,
        [""] * len(items),
        finished,
        nothing.astype(float),
        nothing,
        nothing,
        rewards=found,
        items=hash_items(items),
    )


def _open_reward_model(folder: Path) -> tuple[Any, Any] | None:
    """The champion, where it is a reward model; any other gives rewards as little as a base does."""
    from transformers import AutoTokenizer

    if is_classifier(folder):
        return open_classifier(folder), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    logger.warning("the champion is no reward model, so all its rewards are 0")
    return None
