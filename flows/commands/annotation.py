"""``heptune annotate``: which texts people should label next, what they labelled, and rows for them to look at.

What people do is no function of files, so none of it is a stage: labels enter the pipeline as a file,
``data/raw/annotation/labels.jsonl``, which a source of kind ``jsonl`` reads.
"""

from __future__ import annotations

from pathlib import Path

from flows.pipeline import one_at_a_time
from flows.wiring import artifacts
from flows.wiring.params import read_params
from tasks.annotation.agreement import Alpha
from tasks.annotation.report import write_page
from tasks.annotation.rounds import Imported, Written, export_rows, import_labels, write_next
from tasks.corpus.label_errors import Noise


def choose(items: int) -> Written:
    """Write the next texts to label.

    Raises:
        PipelineError: There is no pool or nothing in it is left to label.
    """
    settings = read_params().annotation
    with one_at_a_time(wait=True):
        return write_next(settings, items, artifacts.PREPARED, artifacts.ANNOTATION, Path())


def bring_in(export: Path) -> tuple[Imported, Alpha]:
    """Read what people labelled, write the rows and the page.

    Raises:
        PipelineError: The file cannot be read or no text in it has a label.
    """
    settings = read_params().annotation
    with one_at_a_time(wait=True):
        found = import_labels(settings, export, artifacts.ANNOTATION)
        return found, write_page(found, export, artifacts.report("annotation"))


def take_out(suspects: bool) -> Written:
    """Write prepared rows, or those whose label looks wrong, for people to look at.

    Raises:
        PipelineError: Nothing is prepared, or there is no suspect.
    """
    params = read_params()
    noise = params.data_preparation.noise or Noise()
    with one_at_a_time(wait=True):
        return export_rows(params.annotation, noise, artifacts.PREPARED, artifacts.ANNOTATION, suspects)
