"""The command line: ``heptune COMMAND``, collected from the groups beside this module.

Expected failures print one line and exit with 1. A group imports what its commands need when they run, so that
``heptune --help`` is quick.
"""

from __future__ import annotations

import sys

import typer

from flows.commands import annotation, gate, gateway, models, pipeline, synthesis, up, upkeep
from flows.wiring.settings import configure, log_to_terminal
from tasks.contracts.errors import PipelineError

GROUPS = (pipeline, gate, models, gateway, annotation, synthesis, upkeep, up)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune language models in seven versioned stages, and keep them good after they ship.",
)
for group in GROUPS:
    app.add_typer(group.app)


def main() -> None:
    """Run a command; expected failures end in one line."""
    configure()
    log_to_terminal()
    try:
        app()
    except PipelineError as error:
        print(f"heptune: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("heptune: stopped; finished stages are kept, the next run goes on from there", file=sys.stderr)
        sys.exit(130)
