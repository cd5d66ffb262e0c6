"""The command line: ``heptune COMMAND``, collected from the groups beside this module.

Expected failures print one line and exit with 1. A group imports what its commands need when they run, so that
``heptune --help`` is quick.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows import describe_missing
from flows.commands import (
    adapters,
    annotation,
    compare,
    evaluation,
    gate,
    gateway,
    judging,
    models,
    pipeline,
    plan,
    run,
    search,
    status,
    synthesis,
    up,
    upkeep,
)
from flows.commands.answers import VERBOSE, say_error
from flows.commands.doctor import command as doctor
from flows.wiring.settings import be_verbose, log_to_terminal
from flows.wiring.stopping import COMMAND_GRACE_S, Stopped, listen, say_last_words
from tasks.contracts.errors import PipelineError

GROUPS = (
    run,
    plan,
    pipeline,
    search,
    compare,
    status,
    doctor,
    gate,
    evaluation,
    judging,
    models,
    adapters,
    gateway,
    annotation,
    synthesis,
    upkeep,
    up,
)


class Commands(TyperGroup):
    """The commands; one that is stopped says so, before typer takes that for an abort."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            ctx.fail(describe_unknown(args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

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


def describe_unknown(word: str, commands: Sequence[str]) -> str:
    """What was typed instead of a command, and the nearest that there is; stages, too, are looked for."""
    from flows.wiring.staleness import STAGES, VERBS

    stages = {stage: stage for stage in STAGES} | VERBS
    known = {name: f"run {stage}" for name, stage in stages.items()} | {name: name for name in commands}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), known, 1) or difflib.get_close_matches(
        word, known, 1
    )
    hint = f"did you mean `heptune {known[near[0]]}`? " if near else ""
    return f'no command "{word}"; {hint}`heptune --help` lists all'


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
    log_to_terminal()
    try:
        app()
    except PipelineError as error:
        say_error(error)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("flows", "tasks"):
            raise
        print(f"heptune: {describe_missing(error.name)}", file=sys.stderr)
        sys.exit(1)
