"""Agreement of a judge with people, on pairs of answers of which people said which is better.

The pairs are those of LLMBar (Zeng et al., ICLR 2024, arXiv:2310.07641) and files like them: rows of ``input``,
``output_1``, ``output_2`` and ``label`` (1 or 2). A row may also hold the verdicts of a judge that was asked before, as
LLMBar publishes them (``results``: of each ``swap = False`` and ``swap = True`` the ``winner``), which are then counted
in its place.

Accuracy is the share of pairs on which the verdict of both orders together is that of people, a tie being half right.
The reliability curve holds how sure the judge is against how often it is right (DeGroot and Fienberg, The Statistician
1983); its summary is the expected calibration error, the mean distance of the two by bin (Guo et al., ICML 2017).
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.evaluation.judges.asking import Panel
from tasks.evaluation.judges.verdicts import (
    AnswerPair,
    MeasuredShare,
    PairVerdict,
    Three,
    combine,
    find_value,
    measure_consistency,
    measure_length,
    measure_position,
    measure_share,
)

if TYPE_CHECKING:
    from tasks.evaluation.judges import AnyJudge
    from tasks.language_models.writers.cost import CallUsage

BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
EXPECTED = "expected rows of input, output_1, output_2 and label, 1 or 2"


@dataclass(frozen=True)
class LabelledPair:
    """A pair of which people said which answer is better.

    Attributes:
        pair: The answers.
        first_is_better: What people said.
        recorded: The verdict of a judge that was asked before; None where the file holds none.
    """

    pair: AnswerPair
    first_is_better: bool
    recorded: PairVerdict | None = None


@dataclass(frozen=True)
class ReliabilityBin:
    """The pairs on which the judge is about equally sure.

    Attributes:
        low: Least confidence.
        high: Highest confidence.
        confidence: Their mean confidence.
        right: How often it is right, a tie being half.
    """

    low: float
    high: float
    confidence: float
    right: MeasuredShare


@dataclass(frozen=True)
class PeopleAgreement:
    """A judge held against people.

    Attributes:
        judge: Who judged.
        pairs: Pairs in all.
        unjudged: Pairs without a verdict.
        accuracy: Share that the verdict of both orders together gets right, ties half.
        forward: The same for the first order alone.
        backward: And for the second.
        position: Share of the answer that is shown first; 0.5 without a bias.
        consistency: Share of pairs with the same verdict in both orders.
        longer: Share of decided pairs in which the longer answer wins.
        people_longer: The same, of what people said about the same pairs.
        kappa: Cohen's kappa of judge and people, over the decided pairs; None where there is none.
        reliability: How often it is right by how sure it is.
        calibration_error: Expected calibration error.
        unfit: Why the judge may decide nothing; None where it may, or nothing is asked of it.
        usage: What asking each model about the pairs took; none for verdicts of before.
    """

    judge: str
    pairs: int
    unjudged: int
    accuracy: MeasuredShare
    forward: MeasuredShare
    backward: MeasuredShare
    position: MeasuredShare
    consistency: MeasuredShare
    longer: MeasuredShare
    people_longer: MeasuredShare
    kappa: float | None
    reliability: tuple[ReliabilityBin, ...] = field(repr=False)
    calibration_error: float
    unfit: str | None = None
    usage: tuple[CallUsage, ...] = ()

    @property
    def figures(self) -> dict[str, float]:
        shares = {
            "accuracy": self.accuracy,
            "first_order": self.forward,
            "second_order": self.backward,
            "first_shown": self.position,
            "consistent": self.consistency,
            "longer": self.longer,
            "people_longer": self.people_longer,
        }
        figures = {"pairs": float(self.pairs), "unjudged": float(self.unjudged)}
        for name, share in shares.items():
            if share.pairs:
                figures |= {name: share.value, f"{name}.low": share.low, f"{name}.high": share.high}
        if self.kappa is not None:
            figures["kappa"] = self.kappa
        return figures | {"calibration_error": self.calibration_error}


def measure_people(
    judge: AnyJudge, file: Path, items: int, folder: Path | None, at_least: float | None = None
) -> PeopleAgreement:
    """Ask a judge about labelled pairs and compare.

    Args:
        judge: The judge.
        file: The pairs.
        items: Most pairs, selected by a hash of their content.
        folder: Where verdicts are kept; None keeps none.
        at_least: Accuracy that the lower end of the interval must reach; None: any.

    Raises:
        PipelineError: The file holds no such pairs.
    """
    labelled = read_labelled_pairs(file, items)
    panel = Panel.of(judge, folder)
    verdicts = [combine(list(one)) for one in zip(*judge.prefer([one.pair for one in labelled], panel), strict=True)]
    found = compare_with_people(" and ".join(panel.names), labelled, verdicts)
    found = replace(found, usage=tuple(panel.usage))
    if at_least is None or found.accuracy.low >= at_least:
        return found
    failed = next((one.reason for one in panel.failures if one.reason), "")
    why = f"it is right on {found.accuracy.describe()} pairs of {file}, and at least {at_least:.0%} is wanted"
    if not found.accuracy.pairs:
        why = f"it gave no verdict about the {found.pairs:,} pairs of {file}{f' ({failed})' if failed else ''}"
    return replace(found, unfit=why)


def compare_with_people(
    judge: str, labelled: Sequence[LabelledPair], verdicts: Sequence[PairVerdict | None]
) -> PeopleAgreement:
    """Hold verdicts against what people said.

    Args:
        judge: Who judged.
        labelled: The pairs.
        verdicts: About each of them; None where there is none.
    """
    from sklearn.metrics import cohen_kappa_score

    given = [(one, verdict) for one, verdict in zip(labelled, verdicts, strict=True) if verdict is not None]
    only = [verdict for _, verdict in given]
    right = [_is_right(verdict.value, one) for one, verdict in given]
    decided = [(one.first_is_better, verdict.value == 1) for one, verdict in given if verdict.value != 0.5]
    pairs = [one.pair for one, _ in given]
    kappa = None
    if len({side for both in decided for side in both}) > 1:
        kappa = float(cohen_kappa_score([people for people, _ in decided], [own for _, own in decided]))
    bins = _find_bins([verdict.confidence for verdict in only], right)
    error = sum(abs(one.confidence - one.right.value) * one.right.pairs for one in bins) / max(1, len(given))
    return PeopleAgreement(
        judge,
        len(labelled),
        len(labelled) - len(given),
        measure_share(right),
        measure_share([_is_right(find_value(verdict.forward), one) for one, verdict in given]),
        measure_share([_is_right(find_value(verdict.backward), one) for one, verdict in given]),
        measure_position(only),
        measure_consistency(only),
        measure_length([verdict.value for verdict in only], pairs),
        measure_length([float(one.first_is_better) for one, _ in given], pairs),
        kappa,
        tuple(bins),
        error,
    )


def _is_right(value: float, one: LabelledPair) -> float:
    return value if one.first_is_better else 1 - value


def _find_bins(confidences: Sequence[float], right: Sequence[float]) -> list[ReliabilityBin]:
    places = np.clip(np.digitize(confidences, BINS[1:-1]), 0, len(BINS) - 2)
    found = []
    for number, (low, high) in enumerate(pairwise(BINS)):
        inside = [place for place, own in enumerate(places) if own == number]
        if inside:
            mean = float(np.mean([confidences[place] for place in inside]))
            found.append(ReliabilityBin(low, high, mean, measure_share([right[place] for place in inside])))
    return found


def read_labelled_pairs(file: Path, items: int | None = None) -> list[LabelledPair]:
    """Pairs of a file, at most so many, in the order of a hash of their content.

    Raises:
        PipelineError: The file cannot be read, or a row is no such pair.
    """
    import orjson

    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError) as error:
        raise PipelineError(f"{file}: cannot be read ({error}); {EXPECTED}") from error
    try:
        rows: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            rows = [orjson.loads(line) for line in data.splitlines() if line.strip()]
        except orjson.JSONDecodeError as error:
            raise PipelineError(f"{file}: neither JSON nor JSON Lines ({error}); {EXPECTED}") from error
    if not isinstance(rows, list) or not rows:
        raise PipelineError(f"{file}: no rows; {EXPECTED}")
    found = [_read_pair(file, number, row) for number, row in enumerate(rows)]
    found.sort(key=lambda one: _selection_key(one.pair))
    return found[:items]


def _selection_key(pair: AnswerPair) -> bytes:
    import orjson

    return hashlib.sha256(orjson.dumps([list(pair.prompt), pair.first, pair.second])).digest()


def _read_pair(file: Path, number: int, row: Any) -> LabelledPair:
    fields = row if isinstance(row, dict) else {}
    texts = [text for name in ("input", "output_1", "output_2") if isinstance(text := fields.get(name), str)]
    label = str(fields.get("label"))
    if len(texts) < 3 or label not in ("1", "2"):
        raise PipelineError(f"{file}: row {number + 1}: {EXPECTED}; fix the row")
    pair = AnswerPair(({"role": "user", "content": texts[0]},), texts[1], texts[2])
    return LabelledPair(pair, label == "1", _read_recorded(fields.get("results")))


def _read_recorded(results: Any) -> PairVerdict | None:
    """The verdict that LLMBar's files hold: winners by the answers' own numbers, whatever order they were shown in."""
    try:
        orders = [results[0][f"swap = {swap}"]["winner"] for swap in (False, True)]
    except (TypeError, LookupError):
        return None
    shares: dict[str, Three] = {"1": (1.0, 0.0, 0.0), "2": (0.0, 0.0, 1.0)}
    forward, backward = (shares.get(str(winner), (0.0, 1.0, 0.0)) for winner in orders)
    return PairVerdict(forward, backward)
