"""``heptune judge``: how far a judge may be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.answers import Answer, command

if TYPE_CHECKING:
    from tasks.evaluation.judges import AnyJudge

app = typer.Typer()

judge = typer.Typer(no_args_is_help=True, help="Language models that judge answers.")
app.add_typer(judge, name="judge")


@command(judge, "agreement")
def measure_agreement(
    file: Annotated[
        Path,
        typer.Argument(help="Pairs that people compared: rows of input, output_1, output_2 and label, 1 or 2."),
    ],
    name: Annotated[
        str | None,
        typer.Option("--judge", help="pairwise or scored; by default the verdicts in the file, or the params' first."),
    ] = None,
    items: Annotated[int | None, typer.Option(min=2, help="Most pairs; all by default.")] = None,
) -> Answer:
    """Hold a judge of the params against people, in both orders; a file with verdicts is counted as it is."""
    from flows.wiring import artifacts
    from flows.wiring.params import read_params
    from flows.wiring.settings import configure
    from tasks.evaluation.judges.page import describe_agreement, write_agreement
    from tasks.evaluation.judges.people import compare_with_people, measure_people, read_labelled_pairs

    labelled = read_labelled_pairs(file, items)
    if name is None and all(one.recorded for one in labelled):
        found = compare_with_people(f"the judge of {file.name}", labelled, [one.recorded for one in labelled])
        notes = ["The verdicts are those in the file; no judge was asked."]
    else:
        chosen = choose_judge(read_params().evaluation.judges, name)
        found = measure_people(chosen, file, len(labelled), artifacts.JUDGED)
        notes = [f"Good answers are, for the judge: {chosen.criteria}."]
    page = configure() / artifacts.report("judge_agreement")
    write_agreement(found, file, notes, page, page.with_name("metrics.json"))
    values = {"judge": found.judge, "report": page.as_uri(), **found.figures}
    return Answer(values, f"{describe_agreement(found)}\nreport: {page.as_uri()}")


def choose_judge(judges: tuple[AnyJudge, ...], name: str | None) -> AnyJudge:
    """A judge of the params, by name or the first.

    Raises:
        PipelineError: There is none.
    """
    from tasks.contracts.errors import PipelineError

    for one in judges:
        if name in (None, one.name):
            return one
    found = ", ".join(one.name for one in judges) or "none"
    raise PipelineError(
        f"evaluation.judges: found {found}, expected {name or 'a judge'}; add {{name: {name or 'pairwise'}, panel: "
        "[{writer: {name: openai, url: ..., model: ..., temperature: 0}}]} to params.yaml"
    )
