"""Stage 3: the training plan, resolved for this machine and refused when it cannot work."""

from __future__ import annotations

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.stage import run, stage, task
from tasks.contracts.machine import find_machine
from tasks.contracts.tables import read_answers, read_examples
from tasks.language_models.folder.shape import read_shape
from tasks.training_setup.environment import read_environment
from tasks.training_setup.phases import count_phases, resolve_phases
from tasks.training_setup.report import write_plan, write_report


@stage
def training_setup(params: Params) -> None:
    """Look at the machine, the base and the data; resolve the plan or say everything that is in its way."""
    settings = params.training_setup
    train = read_examples(artifacts.TRAIN)
    validation = read_examples(artifacts.VALIDATION)
    machine = task(find_machine)()
    environment = task(read_environment)()
    shape = task(read_shape)(artifacts.INITIAL)
    answers = read_answers(artifacts.ANSWERS)
    counts = task(count_phases)(settings, train, validation, artifacts.INITIAL, answers)
    resolution = task(resolve_phases)(settings, shape, counts.each, machine)
    task(write_plan)(resolution, environment, artifacts.INITIAL, artifacts.PLAN)
    task(write_report)(
        resolution,
        shape,
        counts.last,
        environment,
        artifacts.report("training_setup"),
        artifacts.metrics("training_setup"),
    )


if __name__ == "__main__":
    run(training_setup)
