"""``heptune compare``: the choices of one kind on the same task, budget and seeds, with what each costs.

The trainings are those of a search over a grid: they read the prepared data and the initial model, lie beside the
pipeline in ``.heptune/search``, and no out of DVC is touched. The page is ``reports/comparison``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flows.wiring.settings import configure

configure()

from prefect import flow  # noqa: E402 - the engines read their settings on import
from prefect.states import Failed  # noqa: E402

from flows.pipeline import end_recording, environment, server_watched  # noqa: E402
from flows.retraining import step  # noqa: E402
from flows.search import RecordedTrial, TrialTrainer, check_inputs, database, read_candidates, set_aside  # noqa: E402
from flows.wiring import artifacts  # noqa: E402
from flows.wiring.lock import one_at_a_time  # noqa: E402
from flows.wiring.overview import write_overview  # noqa: E402
from flows.wiring.params import validate  # noqa: E402
from flows.wiring.processes import leading  # noqa: E402
from flows.wiring.runs.recording import REASON, Recorder  # noqa: E402
from flows.wiring.servers.flow_runs import note_run  # noqa: E402
from flows.wiring.servers.server import ensure_server, prefect_at  # noqa: E402
from flows.wiring.trainings.candidates import Candidates  # noqa: E402
from flows.wiring.yaml_file import read_yaml  # noqa: E402
from tasks.contracts.errors import PipelineError, full_disk  # noqa: E402
from tasks.contracts.machine import find_machine  # noqa: E402
from tasks.language_models.folder.shape import read_shape  # noqa: E402
from tasks.search.comparison import (  # noqa: E402
    BY_ANSWERS,
    BY_LOSS,
    BY_PREFERENCES,
    RATE,
    SEED,
    ChoiceComparison,
    ChoiceFacts,
    RankedBy,
    compare_choices,
)
from tasks.search.comparison import write_comparison as write_page  # noqa: E402
from tasks.search.rates import choose_training, list_rates  # noqa: E402
from tasks.search.run import run_trials  # noqa: E402
from tasks.search.space import Labels, to_label  # noqa: E402
from tasks.search.study import TrialStore  # noqa: E402
from tasks.search.trials import SearchTrial  # noqa: E402
from tasks.training.methods import METHODS  # noqa: E402
from tasks.training.objectives import OBJECTIVES  # noqa: E402
from tasks.training.objectives.contrastive import Contrastive  # noqa: E402
from tasks.training.objectives.reward_models.reward_objective import RewardObjective  # noqa: E402
from tasks.training.optimizers import OPTIMIZERS  # noqa: E402
from tasks.training.weights import list_trained_at_once  # noqa: E402
from tasks.training_setup.resolve import resolve_plan  # noqa: E402

PARAM = {
    "methods": "training_setup.method",
    "optimizers": "training_setup.optimizer",
    "objectives": "training_setup.objective",
}
KNOWN: Mapping[str, Sequence[str]] = {
    "methods": [one().name for one in METHODS],
    "optimizers": [one().name for one in OPTIMIZERS],
    # Those that are for answers; models for vectors or rewards have none to be compared by.
    "objectives": [one().name for one in OBJECTIVES if not issubclass(one, (Contrastive, RewardObjective))],
}
# A step of these is an epoch, so that the same number of steps is no budget in common; by name they are compared.
NOT_IN_ALL = [one().name for one in OPTIMIZERS if one().can.full_batch]
MANY_EPOCHS = 1_000.0  # so that the steps decide


@dataclass(frozen=True)
class ComparisonOrder:
    """What is compared.

    Attributes:
        kind: ``methods``, ``optimizers`` or ``objectives``.
        names: The choices; that of the params as it is there, the others as they are without any argument.
        steps: Optimizer steps of each training.
        seeds: Number of seeds.
        rates: Learning rates that are tried for each choice; empty: the one of the params.
        search_rates: Look for the best rate of each choice instead, beginning at the one of ``rates`` or of the params.
        validation_rows: Rows on which the loss is measured; None: as the params say.
        watts: Power of the machine while it trains; None: energy is not shown.
    """

    kind: str
    names: Sequence[str]
    steps: int
    seeds: int
    rates: Sequence[float] = ()
    search_rates: bool = False
    validation_rows: int | None = None
    watts: float | None = None

    @property
    def param(self) -> str:
        return PARAM[self.kind]

    def ladder(self, usual: float) -> list[float]:
        """The learning rates that a choice may be trained with.

        Args:
            usual: That of the params.

        Raises:
            PipelineError: A search is asked to begin at several.
        """
        if not self.search_rates:
            return list(self.rates)
        if len(self.rates) > 1 or 0 in self.rates:
            raise PipelineError(
                f"--rate: found {', '.join(f'{rate:g}' for rate in self.rates)} beside --search-rates; expected one "
                "above 0 at which the search begins, or none"
            )
        return list_rates(next(iter(self.rates), usual))


def list_names(kind: str, words: str) -> list[str]:
    """The choices that a list of names, or ``all``, stands for.

    Raises:
        PipelineError: A name is none.
    """
    if words == "all":
        return [name for name in KNOWN[kind] if name not in NOT_IN_ALL]
    names = list(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    unknown = [name for name in names if name not in KNOWN[kind]]
    if unknown or not names:
        raise PipelineError(
            f"--{kind}: {', '.join(unknown) or 'nothing'}; expected all, or some of {', '.join(KNOWN[kind])}"
        )
    return names


def read_order(order: ComparisonOrder) -> Candidates:
    """The grid of a comparison, with every key and value checked.

    Raises:
        PipelineError: Some cannot be.
    """
    values: dict[str, Any] = dict(read_yaml(artifacts.PARAMS))
    rates = order.ladder(validate(values, str(artifacts.PARAMS)).training_setup.learning_rate)
    space: dict[str, Any] = {
        order.param: list_sections(order, values),
        SEED: list(range(order.seeds)),
        **({RATE: rates} if rates else {}),
    }
    setup = {
        key: value for key, value in values.get("training_setup", {}).items() if f"training_setup.{key}" not in space
    }
    budget = {"max_steps": order.steps, "epochs": MANY_EPOCHS}
    every = {key: {"steps": order.steps} for key in ("checkpoint_every", "evaluate_every")}
    tuning = dict(values.get("fine_tuning") or {})
    if order.validation_rows is not None:
        tuning["validation_rows"] = order.validation_rows
    values |= {
        "training_setup": {**setup, **budget, **every},
        "fine_tuning": tuning,
        "search": {
            "title": title_of(order), "space": space, "method": {"name": "random" if order.search_rates else "grid"},
            "pruning": {"name": "none"},
        },
    }  # fmt: skip
    return read_candidates(values=values)


def title_of(order: ComparisonOrder) -> str:
    """What keeps the trainings of one comparison apart from those of another: choices, seeds, rates and budget."""
    decides = [order.names, order.seeds, order.rates, order.steps, order.validation_rows]
    decides += ["search"] if order.search_rates else []
    return f"compare-{order.kind}-{hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:8]}"


def list_sections(order: ComparisonOrder, values: Mapping[str, Any]) -> list[Any]:
    """The choices as sections of params."""
    section, _, key = order.param.partition(".")
    present = (values.get(section) or {}).get(key)
    kept = present.get("name") if isinstance(present, Mapping) else None
    return [dict(present) if name == kept and present else {"name": name} for name in order.names]


def sections_of(order: ComparisonOrder, candidates: Candidates) -> list[Any]:
    """The choices as the grid has them, that of the params with its arguments."""
    choices = candidates.settings.space[order.param]
    assert isinstance(choices, list)
    return choices


def compare(order: ComparisonOrder, fresh: bool = False) -> ChoiceComparison:
    """Run what is left of a comparison; finished trainings are kept.

    Args:
        order: What is compared.
        fresh: Set the trainings of earlier calls aside and begin anew.

    Raises:
        PipelineError: The data or the base are not up to date, a pipeline is at work, or earlier trainings are of
            something else.
    """
    os.chdir(configure())
    candidates = read_order(order)
    url = ensure_server()
    with prefect_at(url), server_watched():
        state: Any = compare_flow(order, candidates, fresh, return_state=True)
    if not state.is_completed():
        raise PipelineError(state.message or "the comparison failed")
    found: ChoiceComparison = state.result()
    return found


@flow(
    name="comparison",
    flow_run_name="comparison",
    persist_result=False,
    validate_parameters=False,
    on_running=[note_run],
)
def compare_flow(order: Any, candidates: Any, fresh: bool) -> Any:
    """Trainings one after the other, each in a process of its own, then the page."""
    try:
        with one_at_a_time(wait=False), leading():
            check_inputs()
            if fresh:
                step(set_aside)(candidates.settings.title)
            store = TrialStore(database(candidates.settings.title), candidates.settings, candidates.describe_origin())
            return run_comparison(order, candidates, store)
    except PipelineError as error:
        return Failed(message=str(error))
    except OSError as error:
        if full := full_disk(error):
            return Failed(message=full)
        raise


def run_comparison(order: ComparisonOrder, candidates: Candidates, store: TrialStore) -> ChoiceComparison:
    """The trainings, and what they say so far after each."""
    trainer = TrialTrainer(candidates, with_answers=order.kind == "objectives")
    ranked_by = BY_LOSS
    if trainer.answers is not None:
        ranked_by = BY_PREFERENCES if len(trainer.answers.pairs) else BY_ANSWERS
    planned = {one["name"]: foresee(order, candidates, trainer, one) for one in sections_of(order, candidates)}
    facts = {name: said for name, said in planned.items() if said is not None}
    propose = partial(propose_trial, order, candidates, facts) if order.search_rates else None
    with environment(**{REASON: f"comparison of {order.kind}"}):
        whole = Recorder("comparison", store.key, {"heptune.kind": "comparison"}, whole=True)
        try:
            begin = partial(RecordedTrial, store.key)
            step(run_trials)(store, trainer.train, begin, partial(publish, order, store, facts, ranked_by), propose)
        except BaseException:
            whole.finish("KILLED")
            raise
        found = publish(order, store, facts, ranked_by)
        whole.figures(found.figures)
        whole.artifact(artifacts.report("comparison"))
        whole.finish("FINISHED")
    end_recording()
    return found


def propose_trial(
    order: ComparisonOrder,
    candidates: Candidates,
    facts: Mapping[str, ChoiceFacts],
    trials: Sequence[SearchTrial],
) -> Labels | None:
    """The next training of a comparison that looks for rates, choice by choice; one without a plan is tried once.

    A rate is judged by the validation loss of the choice itself, whatever choices are ranked by: a share of some dozen
    pairs differs between rates by chance, and is high for some models that no longer write a sentence.
    """
    ladder = candidates.settings.space[RATE]
    assert isinstance(ladder, list)
    for section in sections_of(order, candidates):
        found: dict[int, dict[int, float]] = defaultdict(dict)
        for trial in trials:
            if trial.changes.get(order.param) == section:
                result = trial.loss if trial.state == "finished" and trial.loss is not None else math.inf
                results = found[ladder.index(trial.changes[RATE])]
                seed = trial.changes[SEED]
                results[seed] = min(result, results.get(seed, math.inf))
        if found and section["name"] not in facts:
            continue
        if (training := choose_training(found, order.seeds)) is not None:
            rung, seed = training
            values = {order.param: section, SEED: seed, RATE: ladder[rung]}
            return {key: to_label(value) for key, value in values.items()}
    return None


def foresee(order: ComparisonOrder, candidates: Candidates, trainer: TrialTrainer, section: Any) -> ChoiceFacts | None:
    """What the plan of a choice says; None where there is no plan, which its trial will tell."""
    rates = candidates.settings.space.get(RATE)
    begins_at = {RATE: rates[len(rates) // 2]} if isinstance(rates, list) else {}
    try:
        settings = candidates.params_with({order.param: section, **begins_at}).training_setup
        counts, _ = trainer.data.of(settings)
        shape = read_shape(artifacts.INITIAL)
        plan = resolve_plan(settings, shape, counts, find_machine()).plan
    except PipelineError:
        return None
    return ChoiceFacts(list_trained_at_once(plan.method, shape).total, plan.predicted_memory_bytes)


def publish(
    order: ComparisonOrder, store: TrialStore, facts: Mapping[str, ChoiceFacts], ranked_by: RankedBy = BY_LOSS
) -> ChoiceComparison:
    """Write the page and the table."""
    found = compare_choices(order.param, store.list_trials(), facts, order.seeds, order.steps, order.watts, ranked_by)
    write_page(found, artifacts.report("comparison"), artifacts.metrics("comparison"))
    write_overview()
    return found
