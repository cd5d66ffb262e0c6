"""How worn a held-out set is, and at which confidence its next decision is made.

Each retrain that is judged on the same items has a chance to be promoted by luck; over many the luck is certain. A
later decision has another candidate and, after a promotion, another champion: it is a new hypothesis on the same data,
not a further look at an old one. Group sequential bounds (Lan and DeMets, Biometrika 1983) spend an error rate over
looks at one hypothesis whose data grow, and have nothing to measure progress by here. What holds for any hypotheses, in
any dependence, is alpha spending: the levels of all decisions sum to at most alpha (Foster and Stine, JRSS B 2008; Tian
and Ramdas, "Online control of the familywise error rate", Statistical Methods in Medical Research 2021)::

    alpha = 1 - confidence                     5% at 95%
    alpha(1) = alpha / 2                       2.5%: the side of the two-sided interval that promotes
    alpha(k) = alpha / 2 / (decisions - 1)     0.28% each for k = 2 .. 10

so the first decision on a set is the one of a gate without memory, and all that a set makes promote a candidate that is
not better with a probability of at most alpha. Decision k computes every interval, also those of the margins, at
``1 - 2 alpha(k)``. After the last one the set is worn out, and what it says is undecided: a fresh one is due.

That is for candidates that do not depend on the earlier verdicts. Who looks at single items and changes the training
until they come out right learns the set, and no level helps (Dwork et al., "The reusable holdout", Science 2015).

**The same set.** New rows change the set a little at each retrain. Items are taken in the order of a hash, so the first
256 hashes are a random sample of the set that is small enough to be kept with each verdict (a bottom-k sketch: Cohen
and Kaplan, PODC 2007), and two of them tell which share of the items an earlier decision had. One that had ``overlap``
of them counts.

**Memory.** A decision is a release that was registered, with its verdict, in the model registry. A retrain freezes them
into ``models/champion.json`` together with the champion, so that the stage is a function of its files. Evaluating the
same candidate again is no new decision.

Example:
    The second retrain on the sample's items: 98% of them had been used once, so it is decision 2 of 10, at 99.44%.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json
from tasks.contracts.record import Record
from tasks.evaluation.decisions.params import HeldOutReuse

KEPT = 256
DIGITS = 8


class EarlierDecision(Record):
    """A registered release and what it was judged on.

    Attributes:
        candidate: Hash of its trained weights' manifest.
        items: Sketch of its held-out items.
    """

    candidate: str
    items: str


class HeldOutUse(Record):
    """What one decision takes of its held-out set.

    Attributes:
        decision: The how many-th decision on these items it is, from 1.
        decisions: How many they may make; None: any number.
        confidence: Level of all intervals of this decision.
        false_promotion: Probability with which it may promote a candidate that is not better; 0: worn out.
        left: The same for all later decisions together; None: not limited.
        shared: Largest share of the items that one earlier decision had.
        overlap: From which share on it counted.
        candidate: Hash of the candidate's manifest.
        items: Sketch of the items.
    """

    decision: int
    decisions: int | None
    confidence: float
    false_promotion: float
    left: float | None
    shared: float
    overlap: float
    candidate: str
    items: str

    @property
    def worn_out(self) -> bool:
        return self.false_promotion <= 0

    @property
    def figures(self) -> dict[str, float]:
        return {"decision": float(self.decision), "confidence": self.confidence}

    def summarize(self) -> str:
        """Where the set stands after this decision, in a line."""
        if self.decisions is None:
            return f"decision {self.decision}, not limited (evaluation.gate.reuse.spending: none)"
        if self.worn_out:
            return f"worn out by {self.decision - 1} decisions; a fresh set is due"
        left = max(0, self.decisions - self.decision)
        return (
            f"decision {self.decision} of {self.decisions} at {show_level(self.confidence)}, "
            f"{f'{left} left' if left else 'the last: a fresh set is due'}"
        )

    def describe(self) -> str:
        """A sentence without its point; empty where nothing was used before."""
        if self.decision == 1 or self.decisions is None:
            return ""
        earlier = f"{self.decision - 1:,} earlier decision{'s' if self.decision > 2 else ''}"
        used = f"these items have made {earlier} (one had {self.shared:.0%} of them)"
        if self.worn_out:
            return (
                f"{used}, as many as evaluation.gate.reuse.decisions allows, so the set is worn out and proves nothing "
                f"more; add rows to data_preparation.sources until fewer than {self.overlap:.0%} of the items are old"
            )
        last = "; this was the last, and a fresh set is due" if self.decision == self.decisions else ""
        return (
            f"{used}: decision {self.decision} of {self.decisions} is judged by intervals of "
            f"{show_level(self.confidence)}{last}"
        )


@dataclass(frozen=True)
class FrozenChampion:
    """The champion and the earlier decisions, as a retrain froze them.

    Attributes:
        release: Hash of the champion's release; None: there is no champion.
        decisions: Registered ones, the oldest first.
    """

    release: str | None
    decisions: tuple[EarlierDecision, ...] = ()


def read_frozen_champion(path: Path) -> FrozenChampion:
    """Read ``models/champion.json``.

    Raises:
        PipelineError: It is missing or something else.
    """
    values = read_json(path)
    try:
        release = values["release"]
        decisions = tuple(EarlierDecision.model_validate(one) for one in values.get("decisions", ()))
        if not (release is None or (isinstance(release, str) and release)):
            raise ValueError(f"release is {release!r}")
    except (KeyError, TypeError, AttributeError, ValueError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(
            f'{path}: does not say who is champion ({reason}); expected {{"release": a hash or null, "version": a '
            "number or null}; `heptune retrain` writes it anew from the registry"
        ) from error
    return FrozenChampion(release, decisions)


def list_decision(verdict: Mapping[str, Any]) -> EarlierDecision | None:
    """The decision that a release's verdict is; None of one from before decisions were counted."""
    use = verdict.get("held_out")
    return EarlierDecision(candidate=use["candidate"], items=use["items"]) if use else None


def selection_key(identity: str) -> bytes:
    """Where an item stands in the selection; the smallest are taken first."""
    # The split is made from the content hash itself, so the selection needs an independent one.
    return hashlib.sha256(f"evaluation:{identity}".encode()).digest()


def sketch_items(ids: Iterable[str]) -> str:
    """The `KEPT` smallest hashes of a set of items, as hex digits."""
    return "".join(sorted({selection_key(one).hex()[:DIGITS] for one in ids})[:KEPT])


def measure_overlap(now: str, then: str) -> float:
    """Share of the items of one sketch that the set of another one has; 1 where they are too different in size to tell.

    Args:
        now: Sketch of the set in question.
        then: Sketch of the other one.
    """
    ours, theirs = _hashes(now), _hashes(then)
    # Below the smaller of the two largest hashes both sketches are complete; a short one is complete all over.
    bounds = [one[-1] for one in (ours, theirs) if len(one) == KEPT]
    limit = min(bounds, default="g")
    compared = [one for one in ours if one <= limit]
    return len(set(compared) & set(theirs)) / len(compared) if compared else 1.0


def _hashes(sketch: str) -> list[str]:
    return [sketch[start : start + DIGITS] for start in range(0, len(sketch), DIGITS)]


def count_earlier(items: str, candidate: str, earlier: Sequence[EarlierDecision], overlap: float) -> tuple[int, float]:
    """Number of earlier decisions on the same set, and the largest share of it that one of them had.

    Args:
        items: Sketch of the set.
        candidate: Hash of the candidate, whose own decision and all after it are not earlier.
        earlier: Registered decisions, the oldest first.
        overlap: From which share on a set is the same.
    """
    own = next((place for place, one in enumerate(earlier) if one.candidate == candidate), len(earlier))
    shares = [measure_overlap(items, one.items) for one in earlier[:own]]
    return sum(share >= overlap for share in shares), max(shares, default=0.0)


def use_held_out(
    ids: Iterable[str], candidate: str, earlier: Sequence[EarlierDecision], reuse: HeldOutReuse, confidence: float
) -> HeldOutUse:
    """At which level the next decision on these items is made.

    Args:
        ids: Ids of the held-out items.
        candidate: Hash of the candidate's manifest; empty where there is none yet.
        earlier: Registered decisions, the oldest first.
        reuse: How often a set may decide.
        confidence: Level of the intervals of a first decision.
    """
    sketch = sketch_items(ids)
    count, shared = count_earlier(sketch, candidate, earlier, reuse.overlap)
    half = (1 - confidence) / 2
    level, left = half, None
    later = half / (reuse.decisions - 1)
    if reuse.spending == "equal":
        level = half if not count else later if count < reuse.decisions else 0.0
        left = later * max(0, reuse.decisions - 1 - count)
    return HeldOutUse(
        decision=count + 1,
        decisions=reuse.decisions if reuse.spending == "equal" else None,
        # A worn-out set is still described, at the level of its last decision.
        confidence=confidence if level == half else 1 - 2 * later,
        false_promotion=level,
        left=left,
        shared=shared,
        overlap=reuse.overlap,
        candidate=candidate,
        items=sketch,
    )


def show_level(confidence: float) -> str:
    """A confidence level with as many digits as it needs: 95%, 99.4%, 99.98%."""
    digits = max(0, math.ceil(-math.log10(100 * (1 - confidence)) - 1e-9))
    return f"{confidence:.{digits}%}"
