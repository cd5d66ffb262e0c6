"""Suites of safety, one file each; the union is part of that of all suites."""

from __future__ import annotations

from typing import Any, get_args

from tasks.evaluation.suites.safety.adversarial_demonstrations import AdversarialDemonstrations
from tasks.evaluation.suites.safety.adversarial_edits import AdversarialEdits
from tasks.evaluation.suites.safety.canary_exposure import CanaryExposure
from tasks.evaluation.suites.safety.fairness import Fairness
from tasks.evaluation.suites.safety.group_errors import GroupErrors
from tasks.evaluation.suites.safety.harmful_compliance import HarmfulCompliance
from tasks.evaluation.suites.safety.jailbreak import Jailbreak
from tasks.evaluation.suites.safety.machine_ethics import MachineEthics
from tasks.evaluation.suites.safety.memorisation import Memorisation
from tasks.evaluation.suites.safety.over_refusal import OverRefusal
from tasks.evaluation.suites.safety.stereotype import Stereotype
from tasks.evaluation.suites.safety.style_shift import StyleShift
from tasks.evaluation.suites.safety.swapped_names import SwappedNames
from tasks.evaluation.suites.safety.tone import Tone
from tasks.evaluation.suites.safety.toxicity import ToxicAnswers
from tasks.evaluation.suites.safety.unknown_answers import UnknownAnswers

AnySafetySuite = (
    OverRefusal
    | HarmfulCompliance
    | Jailbreak
    | ToxicAnswers
    | Stereotype
    | Memorisation
    | CanaryExposure
    | AdversarialEdits
    | AdversarialDemonstrations
    | StyleShift
    | UnknownAnswers
    | MachineEthics
    | Tone
    | Fairness
    | GroupErrors
    | SwappedNames
)

SAFETY: tuple[type[Any], ...] = get_args(AnySafetySuite)
