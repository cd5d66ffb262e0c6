"""The process of `template_trial.py`: a script of Jinja and the standard library alone, started by its path, with the
template and the conversations as JSON on stdin. Prints the reasons of those that it refuses, as JSON.

It sets its limits before it looks at the template, so that a template without end, or one that fills the memory, ends
this process and nothing else.
"""

import json
import resource
import signal
import sys
from typing import Any

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECURITY = 3  # exit code of a template that reaches for what the sandbox forbids
FAULTS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Generation(Extension):
    """``{% generation %}``, which marks an answer, writes what is inside it."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def limit(seconds: float, memory_bytes: int) -> None:
    """Limit processor time and memory of this process."""
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    for kind, most in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))


def refuse(message: str) -> None:
    raise TemplateError(message)


def main() -> int:
    task = json.load(sys.stdin)
    limit(task["seconds"], task["memory_bytes"])
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda _: "1 January 2026"}
    reasons: list[str] = []
    try:
        template = environment.from_string(task["template"])
        for messages in task["conversations"]:
            for answering in (False, True):
                given = {**task["special_tokens"], "tools": None, "documents": None}
                try:
                    template.render(messages=messages, add_generation_prompt=answering, **given)
                except SecurityError:
                    raise
                except (TemplateError, *FAULTS) as error:
                    reasons.append(str(error)[:200])
    except SecurityError as error:
        sys.stderr.write(str(error)[:200])
        return SECURITY
    except (TemplateError, *FAULTS) as error:
        reasons.append(str(error)[:200])
    json.dump(reasons, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
