"""``heptune evaluate``, ``heptune leaderboard``: any models on the same held-out items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.answers import Answer, command
from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from flows.wiring.releases.named_models import NamedEndpoint, NamedModel, NamedWriter
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.metric import Metric
    from tasks.evaluation.outcomes import AnswerSettings, Outcome
    from tasks.evaluation.report.differences import OriginChange

app = typer.Typer()

ITEMS = Annotated[int | None, typer.Option(min=2, help="Most items; as many as the params say by default.")]
METRICS = Annotated[
    list[str] | None,
    typer.Option("--metric", help="A metric of the params' kinds, again for another; those of the params by default."),
]

SUITES = Annotated[bool, typer.Option("--suites", help="Ask all models the params' suites too.")]


@command(app)
def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="base, tuned, emulated, champion, a version's number, a folder, URL#MODEL of a server, or a mixture's "
            "params in braces; base and tuned by default."
        ),
    ] = None,
    metric: METRICS = None,
    items: ITEMS = None,
    suites: SUITES = False,
) -> Answer:
    """Score models on the same held-out items, and compare each with the first one named; nothing is decided."""
    from flows.commands.overrides import read_value
    from flows.wiring.params import read_params
    from flows.wiring.releases.named_models import find_endpoint, find_model, read_writer

    precision = read_params().evaluation.generation.precision
    found = [
        read_writer(name, read_value(f"model={name}"))
        if name.startswith("{")
        else find_endpoint(name) or find_model(name, precision)
        for name in dict.fromkeys(models or ["base", "tuned"])
    ]
    return rank(found, metric, items, "Models compared", "model_comparison", suites)


def compare_models(
    names: Sequence[str], metrics: Sequence[str] | None, items: int | None, suites: bool = False
) -> Answer:
    """Compare models with the first one named, with what differs behind them and the answers that changed.

    Raises:
        PipelineError: Fewer than two models, or one of them is not there.
    """
    from flows.wiring.params import read_params
    from flows.wiring.releases.named_models import find_endpoint, find_model

    precision = read_params().evaluation.generation.precision
    found = {model.name: model for name in names for model in [find_endpoint(name) or find_model(name, precision)]}
    if len(found) < 2:
        raise PipelineError(
            f"found one model to compare, {', '.join(names)}; give two or more, such as `heptune compare base tuned`"
        )
    return rank(list(found.values()), metrics, items, "Models compared", "model_differences", suites, in_detail=True)


@command(app)
def leaderboard(metric: METRICS = None, items: ITEMS = None, suites: SUITES = False) -> Answer:
    """Score the base and every registered version on the same held-out items, the best first.

    Where the gateway's params emulate a tuned large model, it is among them.
    """
    from flows.commands.state.mlflow_store import open_store
    from flows.wiring.params import read_params
    from flows.wiring.releases.named_models import emulates, find_model, open_version

    params = read_params()
    precision = params.evaluation.generation.precision
    versions = open_store().read_versions(params.deployment.release.model)
    found = [find_model("base", precision), *(open_version(None, one.version, precision) for one in versions)]
    if emulates(params):
        found.append(find_model("emulated", precision))
    return rank(found, metric, items, "Leaderboard", "leaderboard", suites)


def rank(
    models: Sequence[NamedModel | NamedEndpoint | NamedWriter],
    metrics: Sequence[str] | None,
    items: int | None,
    title: str,
    stage: str,
    suites: bool = False,
    in_detail: bool = False,
) -> Answer:
    """Answer, score, and write the page; the params' judges score too, unless metrics are named.

    Args:
        models: The models, the first being the reference.
        metrics: Metrics as a person writes them; None for those of the params.
        items: Most items; None for as many as the params say.
        title: Heading of the page.
        stage: Folder of the page.
        suites: Ask the params' suites too.
        in_detail: Show what else differs between the reference and each model, origins and answers.
    """
    from dataclasses import replace

    from flows.wiring import artifacts
    from flows.wiring.params import read_params
    from flows.wiring.preflight.paths import check_section
    from flows.wiring.releases.named_models import NamedModel
    from flows.wiring.settings import configure
    from tasks.evaluation.answer_store import AnswerStore
    from tasks.evaluation.intents import fit_intent_classifier
    from tasks.evaluation.items import select_items_of
    from tasks.evaluation.judges.judged import describe_judges, judge_answers
    from tasks.evaluation.metrics.judged.by_judge import as_metric
    from tasks.evaluation.metrics.metric import Evidence
    from tasks.evaluation.outcomes import AnswerSettings
    from tasks.evaluation.probes.probe import list_probes
    from tasks.evaluation.ranking import rank_models
    from tasks.evaluation.report.calibration import describe_calibration
    from tasks.evaluation.report.differences import find_differences
    from tasks.evaluation.report.ranking import describe_ranking, write_ranking
    from tasks.evaluation.report.suite_block import describe_suites
    from tasks.evaluation.slices.groups import group_items
    from tasks.evaluation.suites.run_data import RunData
    from tasks.evaluation.suites.scoring import read_suites, score_suites
    from tasks.evaluation.verdict import check_metrics

    settings = read_params().evaluation
    wanted = read_metrics(metrics) if metrics else settings.metrics
    judges = () if metrics else settings.judges
    asked_suites = settings.suites if suites else ()
    if suites and not asked_suites:
        raise PipelineError("--suites: evaluation.suites of params.yaml names none; add some, or leave --suites out")
    reads = {"metrics": wanted, "judges": judges, "suites": asked_suites}
    check_section(settings.model_copy(update=reads), "evaluation")
    local = [model for model in models if isinstance(model, NamedModel)]
    if not local:
        raise PipelineError(
            "found only models behind URLs; name one that is here too, such as base: its tokenizer chooses the items"
        )
    selected = select_items_of(artifacts.TEST, items or settings.items, [model.folder for model in local])
    intents = fit_intent_classifier(artifacts.TRAIN, selected.items)
    evidence = Evidence(selected.items, intents, kept=artifacts.JUDGED)
    check_metrics(evidence, wanted, selected.same_tokens)
    questions = read_suites(asked_suites, RunData(selected.items, artifacts.TRAIN, artifacts.EXTRA))
    how = AnswerSettings(
        **settings.generation.model_dump(),
        store=AnswerStore(artifacts.EVALUATED),
        suites=questions.questions,
        probes=list_probes(wanted),
    )
    outcomes = [answer_with(one, selected.items, how) for one in models]
    judged = judge_answers(judges, selected.items, outcomes, artifacts.JUDGED, outcomes[0].model)
    fit = [as_metric(one) for one in settings.judges if (found := judged.by_judge.get(one.name)) and not found.unfit]
    bootstrap = settings.bootstrap.model_dump()
    ranking = rank_models(replace(evidence, judged=judged.by_judge), outcomes, (*wanted, *fit), **bootstrap)
    board = score_suites(questions, outcomes, **bootstrap, reference=outcomes[0].model)
    blocks = [*describe_suites(board), *describe_calibration(evidence, ranking)]
    page = configure() / artifacts.report(stage)
    notes = [
        f"{len(selected.items):,} of {selected.held_out:,} held-out rows, selected by a hash of their content; all "
        "models answered the same ones, greedily.",
        "A score of many models is that of the luckiest too: the best of ten equal models looks better than it is.",
        *describe_judges(judged.by_judge),
    ]
    differences = []
    if in_detail:
        groupings = group_items(selected.items, settings.slices, artifacts.EXTRA)
        differences = find_differences(ranking, compare_models_origins(models), groupings, settings.examples)
    write_ranking(ranking, title, notes, page, page.with_name("metrics.json"), differences, blocks)
    values = {"models": list(ranking.models), "report": page.as_uri(), **ranking.figures}
    if suites:
        values["suites"] = board.figures
    if differences:
        values["differences"] = [one.values for one in differences]
    return Answer(values, f"{describe_ranking(ranking)}\nreport: {page.as_uri()}")


def answer_with(model: NamedModel | NamedEndpoint | NamedWriter, items: Sequence[Item], how: AnswerSettings) -> Outcome:
    """The answers of a model, opened here or asked where it is.

    Args:
        model: The model.
        items: The held-out items.
        how: The settings; a writer has its own.
    """
    from flows.wiring import artifacts
    from flows.wiring.releases.named_models import NamedModel, NamedWriter
    from tasks.evaluation.outcomes import answer_with_model
    from tasks.evaluation.remote.answers import answer_with_endpoint
    from tasks.evaluation.remote.by_writer import answer_with_writer

    if isinstance(model, NamedModel):
        return answer_with_model(model.name, model.load, model.identity, items, how)
    if isinstance(model, NamedWriter):
        return answer_with_writer(model.name, model.writer, items, artifacts.EVALUATED / "writers", how.suites)
    return answer_with_endpoint(model.name, model.endpoint, items, how.max_new_tokens, how.suites)


def compare_models_origins(
    models: Sequence[NamedModel | NamedEndpoint | NamedWriter],
) -> dict[str, tuple[list[OriginChange], str]]:
    """What is not the same behind each model and the first one, and a note."""
    from flows.wiring.releases.origins import compare_origins, read_origin

    reference, *others = models
    before = read_origin(reference)
    return {one.name: compare_origins(before, read_origin(one)) for one in others}


def read_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Metrics as the params take them: by name, or with their own params in braces.

    Raises:
        PipelineError: There is no such metric, or its params are wrong.
    """
    from flows.commands.overrides import read_value
    from flows.wiring.params import validate

    values = [read_value(f"metric={name}") for name in names]
    first = values[0]["name"] if isinstance(values[0], dict) and "name" in values[0] else values[0]
    gate = {"primary": str(first), "must_not_worsen": {}}
    return validate({"evaluation": {"metrics": values, "gate": gate}}, "--metric").evaluation.metrics
