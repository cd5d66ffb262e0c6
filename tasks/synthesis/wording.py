"""Prompt templates for teacher and judge, from the package or a folder.

A folder in params may have any of ``topics.txt``, ``instructions.txt``, ``answers.txt``, ``critique.txt`` and
``rewrite.txt``; the others are the package's. They are jinja2 templates and run in its sandbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.contracts.errors import PipelineError, raise_all

DEFAULT_FOLDER = Path(__file__).parent / "prompts"
# Placeholders of each template, and whether they are required.
PLACEHOLDERS: dict[str, dict[str, bool]] = {
    "topics": {"task": False, "examples": False, "count": True, "known": False},
    "instructions": {
        "task": False,
        "topic": True,
        "examples": False,
        "avoid": False,
        "count": True,
        "labels": False,
        "fields": False,
    },
    "answers": {"task": False, "instruction": True, "label": False, "examples": False, "hints": False},
    "critique": {"task": False, "instruction": True, "answer": True, "label": False, "hints": False, "score": False},
    "rewrite": {"task": False, "instruction": True, "answer": True, "critique": True, "label": False, "hints": False},
}


class Wording:
    """The five templates.

    Args:
        folder: Folder of the user's templates; None: the package's.
        needed: For each template, further placeholders that these params require.

    Raises:
        PipelineError: The folder is missing or has none of them, a template is invalid, or its placeholders are unknown
            or missing; all reported together.
    """

    def __init__(self, folder: Path | None, needed: Mapping[str, Collection[str]] | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        self.paths = {name: find_template(folder, name) for name in PLACEHOLDERS}
        if folder is not None and not any(path.parent == folder for path in self.paths.values()):
            raise PipelineError(
                f"{folder}: has none of {', '.join(f'{name}.txt' for name in PLACEHOLDERS)}; correct prompts, or "
                "copy the package's with `heptune synthesize --prompts FOLDER`"
            )
        problems: list[str] = []
        self._templates, digest = {}, hashlib.sha256()
        for name, path in self.paths.items():
            try:
                text = path.read_text(encoding="utf-8")
                found = meta.find_undeclared_variables(environment.parse(text))
                self._templates[name] = environment.from_string(text)
            except (TemplateError, UnicodeDecodeError, OSError) as error:
                problems.append(f"{path}: not a valid template ({' '.join(str(error).split())}); correct it")
                continue
            digest.update(f"{name}\0{text}\0".encode())
            must = {key for key, required in PLACEHOLDERS[name].items() if required} | set((needed or {}).get(name, ()))
            problems += [
                f"{path}: unknown placeholder {{{{ {key} }}}}; it may have {', '.join(PLACEHOLDERS[name])}"
                for key in sorted(found - set(PLACEHOLDERS[name]))
            ]
            problems += [f"{path}: the placeholder {{{{ {key} }}}} is missing; add it" for key in sorted(must - found)]
        raise_all(problems, "prompts")
        self.hash = digest.hexdigest()[:16]

    def write(self, name: str, **values: Any) -> str:
        """Render a template.

        Raises:
            PipelineError: It uses an undefined value.
        """
        try:
            return self._templates[name].render(**values).strip()
        except (TemplateError, TypeError, ArithmeticError) as error:
            raise PipelineError(f"{self.paths[name]}: cannot be rendered ({error}); correct it") from error


def find_template(folder: Path | None, name: str) -> Path:
    """The file of a template."""
    user_file = folder / f"{name}.txt" if folder is not None else None
    return user_file if user_file is not None and user_file.is_file() else DEFAULT_FOLDER / f"{name}.txt"


def copy_templates(folder: Path) -> list[Path]:
    """Copy the package's templates into a folder; existing ones are not replaced.

    Returns:
        The files that were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in PLACEHOLDERS:
        target = folder / f"{name}.txt"
        if not target.exists():
            target.write_bytes((DEFAULT_FOLDER / f"{name}.txt").read_bytes())
            written.append(target)
    return written
