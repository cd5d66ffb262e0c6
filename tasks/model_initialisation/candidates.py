"""Several bases, each asked the same held-out rows before any training, and which of them to take.

What compares across tokenizers is the loss per byte: bits that a model needs for the reference answer, given the
conversation before it by its own chat template, divided by the answer's UTF-8 bytes. Rows that some candidate cannot
read are left out for all, so differences are paired, and their intervals are a bootstrap's over rows (Efron and
Tibshirani 1993). Recommended is the smallest candidate that is not proven worse than the best: a model twice as large
has to earn its cost. A low loss before training is a good start; what training makes of it, evaluation says.

Example: ``candidates: [{name: gguf, path: models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}]`` beside the embedded base,
and ``choose: recommended`` to take what wins; by default ``source`` is taken and the page says what was found.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.contracts.errors import PipelineError
from tasks.language_models.generation import score_references
from tasks.language_models.templates.chat import chat_of
from tasks.language_models.templates.rendering import TemplateRefusal, Turns
from tasks.model_initialisation.chat_template import choose_template
from tasks.model_initialisation.checks import CheckedModel, check_folder, open_tokenizer
from tasks.model_initialisation.describe import find_context_of
from tasks.model_initialisation.licences import check_licence
from tasks.model_initialisation.measure import open_base, take_evenly
from tasks.model_initialisation.params import Source
from tasks.model_initialisation.sources.access import Access
from tasks.model_initialisation.template_trial import try_template
from tasks.model_initialisation.tokenizer_trial import try_tokenizer
from tasks.pages.text import plural

logger = logging.getLogger(__name__)

# Of fewer rows all may lie on one side by chance alone in more than 5% of cases.
FEWEST_ROWS = 6
_RESAMPLES = 4000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class CandidateScore:
    """A base among others.

    Attributes:
        name: What params call it.
        parameters: Weights; 0 where it could not be opened.
        bits_per_byte: Loss on the common rows; None where it was not measured.
        low: Lower end of the 95% interval of its difference to the best, bits per byte.
        high: Upper end.
        problem: Why it was not measured; empty where it was.
    """

    name: str
    parameters: int
    bits_per_byte: float | None = None
    low: float = 0.0
    high: float = 0.0
    problem: str = ""

    @property
    def is_worse(self) -> bool:
        """Whether it is proven worse than the best."""
        return self.low > 0


@dataclass(frozen=True)
class BaseChoice:
    """The base to take, and how the candidates compare.

    Attributes:
        source: Source to go on with.
        taken: Its name; empty without candidates.
        recommended: Name of the recommended candidate; empty without candidates, and where the rows are too few.
        scores: All candidates, the best first, those not measured last.
        rows: Rows that all of them answered.
    """

    source: Source
    taken: str = ""
    recommended: str = ""
    scores: tuple[CandidateScore, ...] = ()
    rows: int = 0

    @property
    def figures(self) -> dict[str, float | int]:
        if not self.scores:
            return {}
        return {"candidates": len(self.scores), "candidate_rows": self.rows}


@dataclass(frozen=True)
class _Opened:
    """A candidate with its tokenizer, and the rows that it can read."""

    name: str
    source: Source
    base: CheckedModel
    tokenizer: Any
    readable: frozenset[int]


def choose_base(
    source: Source,
    candidates: Sequence[Source],
    choose: Literal["source", "recommended"],
    access: Access,
    validation: pa.Table,
    rows: int,
    limit: int,
) -> BaseChoice:
    """Rank the source and the other candidates; without candidates the source is taken unseen.

    Args:
        source: ``model_initialisation.source``.
        candidates: ``model_initialisation.candidates``.
        choose: ``model_initialisation.choose``.
        access: What only a flow has.
        validation: Validation split, schema `EXAMPLES`.
        rows: Maximum number of rows to answer.
        limit: Larger models are not loaded.

    Raises:
        PipelineError: No candidate can be measured, or no row is read by all.
    """
    if not candidates:
        return BaseChoice(source)
    items = _answered(take_evenly(validation, rows))
    opened: list[_Opened] = []
    failed: list[CandidateScore] = []
    for each in [source, *candidates]:
        try:
            opened.append(_open(each, access, validation, items))
        except PipelineError as error:
            failed.append(CandidateScore(_name(each), 0, problem=" ".join(str(error).split())))
            logger.warning("%s: not compared: %s", _name(each), failed[-1].problem)
    common = sorted(frozenset.intersection(*(one.readable for one in opened))) if opened else []
    if not common:
        reasons = (
            "; ".join(score.problem for score in failed) or f"no validation row of {len(items)} is read by all of them"
        )
        raise PipelineError(f"candidates: none can be compared ({reasons}); correct model_initialisation.candidates")
    measured: dict[int, NDArray[np.float64]] = {}
    for number, one in enumerate(opened):
        model = open_base(one.base, limit)
        if model is None:
            reason = "larger than measure_up_to_parameters or the free memory"
            failed.append(CandidateScore(one.name, one.base.weights.parameters, problem=reason))
            continue
        losses = score_references(
            model, one.tokenizer, [items[row][0] for row in common], [items[row][1] for row in common], title=one.name
        )
        measured[number] = np.array([loss.mean * loss.tokens for loss in losses])
        del model
        gc.collect()
    if not measured:
        raise PipelineError("candidates: none is small enough to be measured; raise measure_up_to_parameters")
    sizes = np.array([len(items[row][1].encode()) for row in common], dtype=np.float64)
    scores = _rank([opened[number] for number in measured], list(measured.values()), sizes)
    fitting = [score for score in scores if not score.is_worse]
    recommended = min(fitting, key=lambda score: score.parameters).name
    if len(common) < FEWEST_ROWS:
        found = (
            f"candidates: {plural(len(common), 'validation row')} that all of them read; expected {FEWEST_ROWS} or more"
        )
        if choose == "recommended":
            raise PipelineError(f"{found} to choose by; add rows, or set model_initialisation.choose: source")
        logger.warning("%s, so nothing is proven and none is recommended", found)
        recommended = ""
    names = {one.name: one.source for one in opened}
    taken = recommended if choose == "recommended" else _name(source)
    logger.info("candidates: %s is recommended, %s is taken", recommended or "none", taken)
    return BaseChoice(
        names[taken] if choose == "recommended" else source,
        taken,
        recommended,
        (*scores, *failed),
        len(common),
    )


def _open(source: Source, access: Access, validation: pa.Table, items: Sequence[tuple[Turns, str]]) -> _Opened:
    """Fetch and check a candidate as the base is, and look which rows it reads.

    Raises:
        PipelineError: It is not usable.
    """
    base = check_folder(source.fetch(access))
    check_licence(base, access.deny)
    try_tokenizer(base.folder, validation)
    tokenizer = open_tokenizer(base.folder)
    wanted: Literal["own", "chatml"] = "own" if tokenizer.chat_template else "chatml"
    try_template(tokenizer, wanted, validation)
    choose_template(tokenizer, wanted)
    context = find_context_of(base.config) or 4096
    readable = frozenset(n for n, (prompt, answer) in enumerate(items) if _reads(tokenizer, prompt, answer, context))
    return _Opened(_name(source), source, base, tokenizer, readable)


def _reads(tokenizer: Any, prompt: Turns, answer: str, context: int) -> bool:
    try:
        before, after = chat_of(tokenizer).answer_ids([*prompt, {"role": "assistant", "content": answer}])
    except TemplateRefusal:
        return False
    return bool(after) and len(before) + len(after) <= context


def _answered(examples: pa.Table) -> list[tuple[Turns, str]]:
    """Prompt and answer of the rows that end with an answer."""
    conversations: list[list[Mapping[str, Any]]] = examples["messages"].to_pylist()
    return [
        (turns[:-1], turns[-1]["content"])
        for turns in conversations
        if len(turns) > 1 and turns[-1]["role"] == "assistant" and turns[-1]["content"]
    ]


def _rank(
    opened: Sequence[_Opened], nats: Sequence[NDArray[np.float64]], sizes: NDArray[np.float64]
) -> list[CandidateScore]:
    """Scores, the best first, with the interval of each one's difference to it.

    Args:
        opened: The candidates.
        nats: Of each, the loss of every row.
        sizes: UTF-8 bytes of every row's answer.
    """
    losses = np.stack(nats) / math.log(2)
    totals = losses.sum(axis=1) / sizes.sum()
    best = int(totals.argmin())
    counts = np.random.default_rng(0).multinomial(sizes.size, np.full(sizes.size, 1 / sizes.size), size=_RESAMPLES)
    drawn = (counts @ losses.T) / (counts @ sizes)[:, None]
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(drawn - drawn[:, [best]], [tail, 1 - tail], axis=0)
    if sizes.size < FEWEST_ROWS:
        low = high = np.zeros(len(opened))
    return [
        CandidateScore(
            opened[number].name,
            opened[number].base.weights.parameters,
            round(float(totals[number]), 4),
            round(float(low[number]), 4),
            round(float(high[number]), 4),
        )
        for number in np.argsort(totals, kind="stable").tolist()
    ]


def _name(source: Source) -> str:
    return next(iter(source.origin(Path()).values()))
