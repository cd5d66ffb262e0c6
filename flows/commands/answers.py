"""What a command answers: text for people or, with ``--json``, one JSON object on stdout for programs.

A command that answers something returns an `Answer`, and `command` gives it ``--json``; every command has
``--verbose``. While a command with ``--json`` is at work, all that it, the engines and the stages' processes print goes
to stderr, so that nothing can come between.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from flows.commands.terminal import console
from flows.wiring.settings import be_verbose, enter_checkout, is_verbose
from tasks.contracts.errors import PipelineError

P = ParamSpec("P")
R = TypeVar("R")

AS_JSON = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; everything else on stderr.")]
VERBOSE = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also log lines of the engines, and tracebacks of expected failures.")
]


@dataclass(frozen=True)
class Answer:
    """What a command found or did.

    Attributes:
        values: For programs; whatever JSON has a form for, and paths.
        text: For people, without a line break at its end.
        error: Why the command failed although it has an answer; None: it did not.
    """

    values: Mapping[str, Any]
    text: str = ""
    error: PipelineError | None = None


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a function as a command, at work in the root of the checkout, with the options that all commands have.

    Args:
        app: The group.
        name: The command's name; the function's by default.
    """

    def register(function: Callable[P, R]) -> Callable[P, R]:
        # With its annotations as values: typer would look for their names in this module.
        signature = inspect.signature(function, eval_str=True)
        options = {"verbose": VERBOSE}
        if signature.return_annotation is Answer:
            options["as_json"] = AS_JSON

        @functools.wraps(function)
        def run(*args: Any, verbose: bool = False, as_json: bool = False, **kwargs: Any) -> None:
            # Paths that a person typed are read by now, as seen from where they typed them (``resolve_path``).
            def work() -> Any:
                enter_checkout()
                return function(*args, **kwargs)

            if verbose:
                be_verbose()
            if as_json:
                answer_in_json(work)
            else:
                answer_in_text(work)

        extra = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
            for option, annotation in options.items()
        ]
        parameters = [*signature.parameters.values(), *extra]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name)(run)
        return function

    return register


def answer_in_text(work: Callable[[], Any]) -> None:
    """Print a command's answer, if it has one.

    Raises:
        typer.Exit: The answer is a failure.
    """
    answer = work()
    if not isinstance(answer, Answer):
        return
    if answer.error:
        say_error(answer.error)
    if answer.text:
        console.print(answer.text)
    if answer.error:
        raise typer.Exit(1)


def answer_in_json(work: Callable[[], Any]) -> None:
    """Print a command's answer as one JSON object; a failure is an object with ``error``.

    Raises:
        typer.Exit: The answer is a failure.
    """
    with stdout_kept_free() as descriptor:
        try:
            answer = work()
        except BaseException as error:
            write_object(descriptor, {"error": " ".join(str(error).split()) or type(error).__name__})
            raise
        failed = {"error": str(answer.error)} if answer.error else {}
        write_object(descriptor, {**answer.values, **failed})
    if answer.error:
        say_error(answer.error)
        raise typer.Exit(1)


def say_error(error: PipelineError) -> None:
    """An expected failure in one line on stderr; its traceback too where that was asked for."""
    if is_verbose():
        traceback.print_exception(error)
    print(f"heptune: {error}", file=sys.stderr)


@contextlib.contextmanager
def stdout_kept_free() -> Iterator[int]:
    """Send to stderr what this process and its children print; the descriptor is that of stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield kept
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def write_object(descriptor: int, values: Mapping[str, Any]) -> None:
    import orjson

    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(
            orjson.dumps(dict(values), default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
        )
