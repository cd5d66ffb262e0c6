"""Answers and reference losses of each model on the held-out items; one model is in memory at a time."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, hash_file
from tasks.evaluation.answer_store import AnswerStore, make_key, make_probe_key, make_questions_key
from tasks.evaluation.asking.ask import AnswerLimits, AnswerWatch, ask_questions
from tasks.evaluation.asking.question import Question, Reply
from tasks.evaluation.asking.turns import ask_conversations
from tasks.evaluation.items import Item, hash_items
from tasks.evaluation.probes.probe import AnswerProbe, Measured
from tasks.evaluation.retrieval import rank_partners
from tasks.evaluation.rewarding.scores import RewardScores, score_references_with
from tasks.evaluation.worse_answers import WorseAnswers, score_worse_answers
from tasks.language_models.folder.model_folder import load_tokenizer, resolve_model
from tasks.language_models.generation import GreedyAnswer, generate_answers, score_references
from tasks.language_models.pooling import Pooling, read_pooling
from tasks.language_models.probes.bias_probe import BiasMeasure, probe_bias
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


@dataclass(frozen=True)
class AnswerSettings:
    """What models are asked beside the items, and how they answer; the same for all models of a comparison.

    Attributes:
        max_new_tokens: Longest answer, in tokens.
        batch_size: Items answered at once.
        precision: Number format of the weights.
        device: Where to compute; ``auto`` uses CUDA where available.
        timeout_s: Longest time of an answer from its first token, in seconds; None: only tokens limit it.
        store: Answers of earlier evaluations; None: always generate.
        suites: Key of a suite to its questions.
        probes: What else is measured, for the metrics that need it.
        pairs: Ask for vectors of these texts instead, and rank them; None: ask for answers.
        pooling: How the states of a text become its vector; that of an embedder's own folder goes first.
        rewards: Ask for rewards of the references instead; a base gives 0 to all.
    """

    max_new_tokens: int
    batch_size: int
    precision: Precision = "fp32"
    device: Device = "auto"
    timeout_s: float | None = None
    store: AnswerStore | None = None
    suites: Suites = field(default_factory=dict)
    probes: Sequence[AnswerProbe] = ()
    pairs: PairKind | None = None
    pooling: Pooling = "mean"
    rewards: bool = False

    @property
    def limits(self) -> AnswerLimits:
        return AnswerLimits(self.max_new_tokens, self.batch_size, self.timeout_s)


def answer_with_base(items: Sequence[Item], initial: Path, how: AnswerSettings) -> Outcome:
    """Answers of the base model.

    Args:
        items: Items to answer.
        initial: Folder written by model initialisation.
        how: The settings.
    """
    if how.rewards:
        return _reward("base", lambda: None, items, how)

    def load() -> tuple[Any, Any]:
        return load_folder(resolve_model(initial), how.precision)[0], load_tokenizer(initial)

    return _answer("base", load, hash_file(initial / NAME), items, how)


def answer_with_champion(items: Sequence[Item], folder: Path | None, how: AnswerSettings) -> Outcome | None:
    """Answers of the champion in its folder; None when there is none."""
    if folder is None:
        return None
    if how.rewards:
        return _reward("champion", lambda: _open_reward_model(folder), items, how)
    manifest = folder.parent / NAME
    identity = hash_file(manifest) if manifest.is_file() else ""
    how = replace(how, pooling=read_pooling(folder) or how.pooling)
    return _answer("champion", lambda: load_folder(folder, how.precision), identity, items, how)


def answer_with_candidate(items: Sequence[Item], initial: Path, tuned: Path, how: AnswerSettings) -> Outcome:
    """Answers of the fine-tuned model.

    Args:
        items: Items to answer.
        initial: Folder written by model initialisation.
        tuned: Folder written by fine-tuning.
        how: The settings.
    """
    if how.rewards:
        return _reward("candidate", lambda: merge_reward_model(initial, tuned), items, how)
    identity = f"{hash_file(initial / NAME)} {hash_file(tuned / NAME)}"
    return _answer("candidate", lambda: load_tuned(initial, tuned), identity, items, how)


def answer_with_model(
    name: ModelName, load: Callable[[], tuple[Any, Any]], identity: str, items: Sequence[Item], how: AnswerSettings
) -> Outcome:
    """Answers of any model.

    Args:
        name: What the model is called.
        load: Gives the model and its tokenizer.
        identity: Hash of the model's files; empty where they have none, and then nothing is taken from the store.
        items: Items to answer.
        how: The settings.
    """
    return _answer(name, load, identity, items, how)


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


def _answer(
    name: ModelName, load: Callable[[], tuple[Any, Any]], identity: str, items: Sequence[Item], how: AnswerSettings
) -> Outcome:
    import torch

    target = ("cuda" if torch.cuda.is_available() else "cpu") if how.device == "auto" else how.device
    store = how.store if identity and not how.pairs else None
    settings = {
        "max_new_tokens": how.max_new_tokens,
        "batch_size": how.batch_size,
        "precision": how.precision,
        "device": target,
        "threads": torch.get_num_threads() if target == "cpu" else torch.cuda.get_device_name(),
    } | ({} if how.timeout_s is None else {"timeout_s": how.timeout_s})
    found: dict[str, Any] | None = None
    replies: dict[str, Sequence[Reply]] = {}
    measured: dict[str, Measured] = {}
    key, keys, places = "", dict[str, str](), dict[str, str]()
    if store:
        key = make_key(identity, items, settings)
        keys = {suite: make_questions_key(identity, questions, settings) for suite, questions in how.suites.items()}
        found = store.find(key, len(items))
        kept = {suite: store.find_replies(keys[suite], len(questions)) for suite, questions in how.suites.items()}
        replies = {suite: known_replies for suite, known_replies in kept.items() if known_replies is not None}
        kept_probes = [probe.key for probe in how.probes if probe.repeats]
        places = {probe: make_probe_key(identity, items, settings, probe) for probe in kept_probes}
        seen = {name: store.find_probe(place) for name, place in places.items()}
        measured = {name: values for name, values in seen.items() if values is not None}
    if found is not None:
        logger.info("%s: %s answers of an earlier evaluation are taken", name, len(items))
        if len(replies) == len(how.suites) and len(measured) == len(how.probes):
            return Outcome(name, **found, items=hash_items(items), replies=replies, probes=measured)
    model, tokenizer = load()
    model = model.to(device=target, dtype=torch.bfloat16 if how.precision == "bf16" else torch.float32).eval()
    if how.pairs:
        return _rank(name, model, tokenizer, items, how.pairs, how)
    if found is not None:
        outcome = Outcome(name, **found, items=hash_items(items))
    else:
        outcome = _answer_items(name, model, tokenizer, items, how.limits)
        if store:
            store.keep(key, vars(outcome))
    for suite, questions in how.suites.items():
        if suite not in replies:
            replies[suite] = _ask(model, tokenizer, questions, how.limits, f"{name}, {suite}")
            if store:
                store.keep_replies(keys[suite], replies[suite])
    for probe in how.probes:
        if probe.key not in measured:
            logger.info("%s: %s", name, probe.key)
            measured[probe.key] = probe.measure(
                model, tokenizer, items, outcome.answers, how.max_new_tokens, how.batch_size
            )
            if store and probe.repeats:
                store.keep_probe(places[probe.key], measured[probe.key])
    del model
    gc.collect()
    if target == "cuda":
        torch.cuda.empty_cache()
    return replace(outcome, replies=replies, probes=measured)


def _ask(
    model: Any, tokenizer: Any, questions: Sequence[Question], limits: AnswerLimits, title: str
) -> Sequence[Reply]:
    """Replies to a suite; where asking fails as a whole, each of them has that problem, and the run goes on."""
    try:
        return ask_conversations(
            lambda asked, name: ask_questions(model, tokenizer, asked, limits, name), questions, title
        )
    except Exception as error:
        logger.exception("%s: the questions could not be asked", title)
        return [Reply(problem=f"asking raised {type(error).__name__}: {error}")] * len(questions)


def _answer_items(name: ModelName, model: Any, tokenizer: Any, items: Sequence[Item], limits: AnswerLimits) -> Outcome:
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
    answers = [GreedyAnswer("", (), True) for _ in items]
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
    name: str, model: Any, tokenizer: Any, items: Sequence[Item], pairs: PairKind, how: AnswerSettings
) -> Outcome:
    """The ranks of the items' right texts; nothing is answered."""
    ranks = rank_partners(model, tokenizer, items, pairs, how.batch_size, how.pooling)
    logger.info("%s: %s texts ranked", name, f"{int((ranks > 0).sum()):,}")
    return replace(_answer_nothing(name, items), ranks=ranks)


def _reward(
    name: str, load: Callable[[], tuple[Any, Any] | None], items: Sequence[Item], how: AnswerSettings
) -> Outcome:
    """The rewards of the items' references; nothing is answered."""
    found = score_references_with(load(), items, how.batch_size, how.device, name)
    logger.info("%s: %s references rewarded", name, f"{len(items):,}")
    return replace(_answer_nothing(name, items), rewards=found)


def _answer_nothing(name: str, items: Sequence[Item]) -> Outcome:
    """The outcome of a model that was not asked for answers."""
    nothing, finished = np.zeros(len(items), dtype=np.int64), np.ones(len(items), dtype=np.bool_)
    return Outcome(name, [""] * len(items), finished, nothing.astype(float), nothing, nothing, items=hash_items(items))


def _open_reward_model(folder: Path) -> tuple[Any, Any] | None:
    """The champion, where it is a reward model; any other gives rewards as little as a base does."""
    from transformers import AutoTokenizer

    if is_classifier(folder):
        return open_classifier(folder), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    logger.warning("the champion is no reward model, so all its rewards are 0")
    return None
