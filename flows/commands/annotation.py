"""``heptune annotate``: which texts people should label next, what they labelled, and rows for them to look at.

What people do is no function of files, so none of it is a stage: labels enter the pipeline as a file,
``data/raw/annotation/labels.jsonl``, which a source of kind ``jsonl`` reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.answers import Answer, command
from flows.wiring import artifacts
from flows.wiring.settings import configure

if TYPE_CHECKING:
    from tasks.annotation.rounds import ImportedLabels, WrittenTasks
    from tasks.corpus.agreement import Alpha


app = typer.Typer()
annotate = typer.Typer(no_args_is_help=True, help="Texts for people to label, and their labels.")
app.add_typer(annotate, name="annotate")


@command(annotate, "next")
def annotate_next(
    items: Annotated[int, typer.Option(min=1, help="How many texts.")] = 100,
) -> Answer:
    """Write the texts of the pool that are most worth a label, as tasks for Label Studio."""
    return describe_written(choose(items))


@command(annotate, "import")
def annotate_import(
    export: Annotated[Path, typer.Argument(resolve_path=True, help="Export of Label Studio: JSON, JSON-MIN or CSV.")],
) -> Answer:
    """Read what people labelled: agreement, one label per text, rows for a source."""
    found, alpha = bring_in(export)
    agreement = "not measurable" if alpha.value is None else f"alpha {alpha.value:.3f}"
    report = configure() / artifacts.report("annotation")
    values = {
        "texts": len(found.tasks),
        "labelled": found.new,
        "replaced": found.replaced,
        "rows": len(found.rows),
        "alpha": alpha.value,
        "labels": artifacts.ANNOTATION / "labels.jsonl",
        "report": report.as_uri(),
    }
    return Answer(
        values,
        f"{found.new:,} of {len(found.tasks):,} texts have a label, {found.replaced:,} another than before; "
        f"agreement {agreement}\n"
        "a source of params.yaml reads them: {name: jsonl, path: data/raw/annotation/labels.jsonl}\n"
        f"report: {report.as_uri()}",
    )


@command(annotate, "export")
def annotate_export(
    suspects: Annotated[bool, typer.Option("--suspects", help="Only rows whose label looks wrong.")] = False,
) -> Answer:
    """Write prepared rows as tasks for Label Studio, each with a suggested label."""
    return describe_written(take_out(suspects))


def describe_written(written: WrittenTasks) -> Answer:
    text = f"{written.path}: {written.rows:,} texts; label_config.xml beside it is the labelling configuration"
    values = {"path": written.path, "texts": written.rows, "notes": written.notes}
    return Answer(values, "\n".join([text, *written.notes]))


def choose(items: int) -> WrittenTasks:
    """Write the next texts to label.

    Raises:
        PipelineError: There is no pool or nothing in it is left to label.
    """
    from flows.wiring.lock import one_at_a_time
    from flows.wiring.params import read_params
    from tasks.annotation.rounds import write_next

    settings = read_params().annotation
    with one_at_a_time(wait=True):
        return write_next(settings, items, artifacts.PREPARED, artifacts.ANNOTATION, Path())


def bring_in(export: Path) -> tuple[ImportedLabels, Alpha]:
    """Read what people labelled, write the rows and the page.

    Raises:
        PipelineError: The file cannot be read or no text in it has a label.
    """
    from flows.wiring.lock import one_at_a_time
    from flows.wiring.overview import write_overview
    from flows.wiring.params import read_params
    from tasks.annotation.report import write_page
    from tasks.annotation.rounds import import_labels

    settings = read_params().annotation
    with one_at_a_time(wait=True):
        found = import_labels(settings, export, artifacts.ANNOTATION)
        alpha = write_page(found, export, artifacts.report("annotation"))
        write_overview()
        return found, alpha


def take_out(suspects: bool) -> WrittenTasks:
    """Write prepared rows, or those whose label looks wrong, for people to look at.

    Raises:
        PipelineError: Nothing is prepared, or there is no suspect.
    """
    from flows.wiring.lock import one_at_a_time
    from flows.wiring.params import read_params
    from tasks.annotation.rounds import export_rows
    from tasks.corpus.label_errors.params import Noise

    params = read_params()
    noise = params.data_preparation.noise or Noise()
    with one_at_a_time(wait=True):
        return export_rows(params.annotation, noise, artifacts.PREPARED, artifacts.ANNOTATION, suspects)
