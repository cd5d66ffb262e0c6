"""Which Python and which code run: those of this checkout, and no file of the checkout in place of a library."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import flows
from flows.commands.doctor.finding import Finding, Surroundings

SCRIPT = "heptune"


def examine(here: Surroundings) -> Iterator[Finding]:
    yield from _find_other_code()
    yield from _find_stale_script()
    yield from _find_hidden_libraries()


def _find_other_code() -> Iterator[Finding]:
    root, code = Path.cwd(), Path(str(flows.__file__)).resolve().parent
    if (root / "flows/__init__.py").is_file() and code != (root / "flows").resolve():
        yield Finding(
            "error", str(code), f"the code of this checkout runs in part only: commands come from {code}, the stages "
            f"from {root}", "use the heptune of this checkout's .venv, or `pip install -e .` here",
        )  # fmt: skip


def _find_stale_script() -> Iterator[Finding]:
    """The ``heptune`` that a shell finds; a shebang names its interpreter."""
    script = shutil.which(SCRIPT)
    if script is None:
        return
    with Path(script).open("rb") as stream:
        first = stream.readline(512)
    if not first.startswith(b"#!/"):
        return
    interpreter = first[2:].decode(errors="replace").split()[0]
    again = "`pip install -e .` in this checkout's environment writes it again"
    if not Path(interpreter).exists():
        yield Finding("error", script, f"the heptune of the path wants {interpreter}, which is not there", again)
    elif "python" in Path(interpreter).name and _folder(interpreter) != _folder(sys.executable):
        yield Finding(
            "warning", script, f"the heptune of the path is of another environment ({interpreter}) than this one "
            f"({sys.executable})", f"activate the one that is meant, or {again}",
        )  # fmt: skip


def _folder(interpreter: str) -> Path:
    """Of an environment; the interpreter in it may be a link to the system's."""
    return Path(interpreter).parent.resolve()


def _find_hidden_libraries() -> Iterator[Finding]:
    """``python -m flows.<stage>`` looks in the current folder first."""
    own = {"flows", "tasks", "tests", "docs"}
    for path in sorted(Path.cwd().iterdir()):
        module = path.stem if path.suffix == ".py" else path.name if (path / "__init__.py").is_file() else ""
        if not module or module in own:
            continue
        if module in sys.stdlib_module_names or _is_installed(module):
            yield Finding("error", path.name, f"is imported in place of the library {module}", "give it another name")


def _is_installed(module: str) -> bool:
    """Whether a library of this name is installed, other than through the current folder."""
    here, kept = str(Path.cwd()), list(sys.path)
    try:
        sys.path[:] = [entry for entry in kept if entry not in ("", here)]
        spec = find_spec(module) if module.isidentifier() else None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path[:] = kept
    return spec is not None and not str(spec.origin).startswith(f"{here}/")
