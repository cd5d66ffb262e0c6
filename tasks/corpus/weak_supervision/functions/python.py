"""Functions of a Python file in the project: each takes a text and returns a label, or None to abstain.

The file must lie inside the project because its code is executed; below ``data/raw`` DVC tracks its changes.

Example: ``{name: python, path: data/raw/rules.py, functions: [shouts, asks_for_money]}`` with

    def shouts(text: str) -> str | None:
        return "complaint" if text.isupper() else None
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section


class Python(Section):
    """Votes of functions in a Python file."""

    name: Literal["python"] = "python"
    path: Annotated[str, Reads("file")] = Field(pattern=r"\.py$", description="Python file inside the project")
    functions: tuple[str, ...] = Field(min_length=1, description="names of functions in it")

    def vote(self, texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
        """The label, or None, per text, of each function.

        Raises:
            PipelineError: The file lies outside the project, does not load, lacks a function, or a function fails or
                returns anything but a text or None.
        """
        module = self._load(root)
        return {name: [self._call(name, self._find(module, name), text) for text in texts] for name in self.functions}

    def _load(self, root: Path) -> Any:
        project, path = root.resolve(), (root / self.path).resolve()
        if not path.is_relative_to(project):
            raise PipelineError(
                f"labelling functions: {self.path} lies outside the project; move it into {project.name}/"
            )
        if not path.is_file():
            raise PipelineError(f"labelling functions: {self.path} is missing; correct path")
        spec = importlib.util.spec_from_file_location(f"labelling_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise PipelineError(
                f"labelling functions: {self.path} does not load ({type(error).__name__}: {error}); fix it"
            ) from error
        return module

    def _find(self, module: Any, name: str) -> Callable[[str], Any]:
        function = getattr(module, name, None)
        if not callable(function):
            raise PipelineError(f'labelling functions: {self.path} has no function "{name}"; correct functions')
        function_found: Callable[[str], Any] = function
        return function_found

    def _call(self, name: str, function: Callable[[str], Any], text: str) -> str | None:
        try:
            label = function(text)
        except (Exception, SystemExit) as error:
            raise PipelineError(
                f"labelling functions: {name} of {self.path} failed on {text[:60]!r} "
                f"({type(error).__name__}: {error}); fix it"
            ) from error
        if label is None or (isinstance(label, str) and label):
            return label
        raise PipelineError(
            f"labelling functions: {name} of {self.path} returned {label!r} for {text[:60]!r}; expected a label or None"
        )
