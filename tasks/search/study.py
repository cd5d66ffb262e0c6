"""The trials of a search in its SQLite file, by optuna; whoever opens it again goes on where it was."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.errors import PipelineError
from tasks.search.params import ParamSearch
from tasks.search.space import Labels, distributions, list_changes
from tasks.search.trials import KILLED, SearchTrial, State

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

KEY, ORIGIN, AGAIN_OF, DEATHS, REASON, STEPS = "key", "origin", "again_of", "deaths", "reason", "steps"
FIGURES = "figures"
# What a search is made from, and how to say that it differs.
DIFFERENCES = {
    "space": "another space",
    "data": "other data",
    "base": "another base model",
    "params": "other params beside the space",
}
# Attempts of a trial whose process dies.
ATTEMPTS = 2


class TrialStore:
    """The trials of one search.

    Args:
        path: The SQLite file.
        settings: What is searched.
        origin: Hashes of what the trials are made from, by the names in `DIFFERENCES`.

    Attributes:
        key: What this search is known by, in every call of it.

    Raises:
        PipelineError: The file is of a search that was made from something else.
    """

    def __init__(self, path: Path, settings: ParamSearch, origin: Mapping[str, str]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.settings, self.path = settings, path
        self.space = distributions(settings.space)
        self.study: Study = optuna.create_study(
            storage=f"sqlite:///{path.resolve()}",
            study_name=settings.title,
            pruner=settings.pruning.make(),
            load_if_exists=True,
        )
        self._check(origin)
        self.key = f"search-{self.study.user_attrs[KEY]}"
        self._repeat_interrupted()
        self._enqueue_grid()

    def _check(self, origin: Mapping[str, str]) -> None:
        if ORIGIN not in self.study.user_attrs:
            self.study.set_user_attr(KEY, uuid.uuid4().hex[:12])
            self.study.set_user_attr(ORIGIN, dict(origin))
        check_origin(self.study, origin)

    def _repeat_interrupted(self) -> None:
        """Trials that were running when the search was killed, however often: they are not to blame for that."""
        for trial in self._list("RUNNING"):
            self.fail(trial.number, KILLED, again=True)

    def _enqueue_grid(self) -> None:
        every = self.settings.method.list_all(self.settings.space)
        if every is None:
            return
        begun = [trial.system_attrs.get("fixed_params", trial.params) for trial in self.study.get_trials()]
        for labels in every:
            if labels not in begun:
                self.study.enqueue_trial(labels)

    def ask(self) -> Trial | None:
        """The next trial, with its values; None when there are enough."""
        if not self.waiting:
            drawn = sum(AGAIN_OF not in trial.user_attrs for trial in self.study.get_trials())
            if drawn >= self.planned:
                return None
            self.study.sampler = self.settings.method.make(_seed(self.settings.seed, drawn))
        return self.study.ask(self.space)

    @property
    def planned(self) -> int:
        return count_planned(self.settings)

    @property
    def left(self) -> int:
        """Trials that have not begun."""
        return count_waiting(self.study.get_trials(), self.planned)

    @property
    def waiting(self) -> int:
        """Trials whose values are known and that have not begun."""
        return len(self._list("WAITING"))

    def enqueue(self, labels: Labels) -> None:
        """Name the next trial by its values."""
        self.study.enqueue_trial(labels)

    def finish(self, number: int, loss: float, steps: int, figures: Mapping[str, float]) -> None:
        self._note(number, STEPS, steps)
        self._note(number, FIGURES, dict(figures))
        self.study.tell(number, loss)

    def prune(self, number: int) -> None:
        self.study.tell(number, state=_state("PRUNED"))

    def fail(self, number: int, reason: str, died: bool = False, again: bool = False) -> bool:
        """End a trial without a loss.

        Args:
            number: Which.
            reason: Why, in one line.
            died: Its process died, maybe by chance: it is repeated once.
            again: It is repeated in any case.

        Returns:
            Whether it is repeated.
        """
        self._note(number, REASON, reason)
        self.study.tell(number, state=_state("FAIL"))
        trial = self.study.get_trials()[number]
        deaths = trial.user_attrs.get(DEATHS, 0) + died
        repeated = again or (died and deaths < ATTEMPTS)
        if repeated:
            first = trial.user_attrs.get(AGAIN_OF, number)
            # Killed while its values were drawn, it has some of them or none.
            values = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            self.study.enqueue_trial(values, user_attrs={AGAIN_OF: first, DEATHS: deaths})
        return repeated

    def first_of(self, number: int) -> int:
        """The trial that this one repeats, or itself."""
        found: int = self.study.get_trials(deepcopy=False)[number].user_attrs.get(AGAIN_OF, number)
        return found

    def changes_of(self, labels: Labels) -> dict[str, Any]:
        """The values of a trial as ``-S`` takes them."""
        return list_changes(self.settings.space, labels)

    def _note(self, number: int, key: str, value: Any) -> None:
        storage = self.study._storage
        trial = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        storage.set_trial_user_attr(trial, key, value)

    def _list(self, state: str) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self.study.get_trials(deepcopy=False, states=(_state(state),))
        return found

    def list_trials(self) -> list[SearchTrial]:
        """All trials that have ended, in the order in which they began."""
        return [self.show(trial.number) for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def show(self, number: int) -> SearchTrial:
        """One trial that has ended."""
        trial = self.study.get_trials(deepcopy=False)[number]
        states: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
        labels: Labels = dict(trial.params) if len(trial.params) == len(self.space) else {}
        reason = trial.user_attrs.get(REASON, "")
        took = trial.duration if reason != KILLED else None
        return SearchTrial(
            number=number,
            again_of=trial.user_attrs.get(AGAIN_OF),
            labels=labels,
            changes=self.changes_of(labels) if labels else {},
            state=states[trial.state.name],
            loss=trial.value,
            losses={step: loss for step, loss in sorted(trial.intermediate_values.items()) if math.isfinite(loss)},
            steps=trial.user_attrs.get(STEPS),
            seconds=took.total_seconds() if took else None,
            reason=reason,
            figures=trial.user_attrs.get(FIGURES, {}),
        )

    def importances(self) -> dict[str, float]:
        """Share of each key in what tells good from bad trials, the largest first; none where it cannot be told.

        PED-ANOVA: Watanabe, Bansal and Hutter, IJCAI 2023, arXiv:2304.10255.
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        finished = self._list("COMPLETE")
        varied = [key for key in self.space if len({trial.params[key] for trial in finished}) > 1]
        if len({trial.value for trial in finished}) < 2 or not varied:
            return {}
        found: dict[str, float] = get_param_importances(
            self.study, evaluator=PedAnovaImportanceEvaluator(), params=varied
        )
        return found


def count_left(path: Path, settings: ParamSearch, origin: Mapping[str, str]) -> int:
    """Trials that a call of a search has left to do, those that a killed one was at among them; nothing is changed.

    Args:
        path: The SQLite file; without it nothing was done yet.
        settings: What is searched.
        origin: As `TrialStore` takes it.

    Raises:
        PipelineError: The file is of a search that was made from something else.
    """
    planned = count_planned(settings)
    if not path.is_file():
        return planned
    import optuna

    storage = f"sqlite:///{path.resolve()}"
    if settings.title not in optuna.get_all_study_names(storage):
        return planned
    study = optuna.load_study(study_name=settings.title, storage=storage)
    check_origin(study, origin)
    trials = study.get_trials()
    return count_waiting(trials, planned) + sum(trial.state.name == "RUNNING" for trial in trials)


def check_origin(study: Study, origin: Mapping[str, str]) -> None:
    """Refuse trials that were made from something else.

    Raises:
        PipelineError: They were.
    """
    known = study.user_attrs.get(ORIGIN, origin)
    if different := [words for key, words in DIFFERENCES.items() if known.get(key) != origin[key]]:
        raise PipelineError(
            f'search "{study.study_name}" has trials of {", ".join(different)}, which are not comparable; give '
            "search.title another name, or begin anew with --fresh"
        )


def count_planned(settings: ParamSearch) -> int:
    """Trials in all, without those that repeat another one."""
    every = settings.method.list_all(settings.space)
    return settings.trials if every is None else len(every)


def count_waiting(trials: Sequence[FrozenTrial], planned: int) -> int:
    """Trials that have not begun, of a study with these."""
    drawn = sum(AGAIN_OF not in trial.user_attrs for trial in trials)
    return sum(trial.state.name == "WAITING" for trial in trials) + max(0, planned - drawn)


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _seed(seed: int, drawn: int) -> int:
    import numpy as np

    return int(np.random.SeedSequence([seed, drawn]).generate_state(1)[0])
