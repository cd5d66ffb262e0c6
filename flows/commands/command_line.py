"""The command line: ``heptune COMMAND``, collected from the groups beside this module.

Expected failures print one line and exit with 1. A group imports what its commands need when they run, so that
``heptune --help`` is quick.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.commands import annotation, gate, gateway, models, pipeline, synthesis, up, upkeep
from flows.commands.answers import VERBOSE, say_error
from flows.wiring.settings import be_verbose, configure, log_to_terminal
from flows.wiring.stopping import COMMAND_GRACE_S, Stopped, listen, say_last_words
from tasks.contracts.errors import PipelineError

GROUPS = (pipeline, gate, models, gateway, annotation, synthesis, upkeep, up)


class Commands(TyperGroup):
    """The commands; one that is stopped says so, before typer takes that for an abort."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Stopped as stopped:
            say_last_words(stopped.signal)
            sys.exit(stopped.exit_code)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune language models in seven versioned stages, and keep them good after they ship.",
)
for group in GROUPS:
    app.add_typer(group.app)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"heptune {version('heptune')}")
        raise typer.Exit


@app.callback()
def options(
    verbose: VERBOSE = False,
    show: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if verbose:
        be_verbose()


def main() -> None:
    """Run a command; expected failures and signals end in one line."""
    listen(COMMAND_GRACE_S, last_words="what is finished is kept, the next run goes on from there")
    configure()
    log_to_terminal()
    try:
        app()
    except PipelineError as error:
        say_error(error)
        sys.exit(1)
