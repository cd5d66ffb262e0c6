"""A Hugging Face data set: a local folder, or a name on the hub at a pinned commit.

A name or tag on the hub can mean other rows tomorrow, so the hub is read at a full commit hash only. No
code of a data set is ever run.

Example:
    ``{name: hugging_face, path: data/raw/support, split: train}`` (made with ``save_to_disk``, or a folder
    of JSON, CSV or Parquet files), or
    ``{name: hugging_face, path: PolyAI/banking77, revision: <40 hex digits>, title: banking}``
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.leftovers import walk_files
from tasks.contracts.manifest import hash_file
from tasks.contracts.params import Reads
from tasks.corpus.reading.sources.found_files import list_left_out, name_file
from tasks.corpus.reading.sources.pins import check_pin, check_row_pin
from tasks.corpus.reading.sources.source import Part, Records, Source

if TYPE_CHECKING:
    from datasets import Dataset

ROWS_IN_PART = 1024


class HuggingFace(Source):
    """A data set in the Hugging Face format."""

    name: Literal["hugging_face"] = "hugging_face"
    path: Annotated[str, Reads("hub")] = Field(description="local folder, or name on the hub")
    revision: str | None = Field(
        default=None, pattern="^[0-9a-f]{40}$", description="commit on the hub, 40 hex digits; required for the hub"
    )
    config: str | None = Field(default=None, description="name of the configuration")
    split: str | None = Field(default=None, description="split to read; all of them when absent")

    def read(self, root: Path) -> Records:
        """Read all rows.

        Raises:
            PipelineError: No such folder and no revision, or the data set cannot be loaded.
        """
        folder = root / self.path
        if folder.is_dir():
            # The card may name the files of each split, so it is part of the data set.
            found = list(walk_files(folder, notes=False))
            files = [path for path, reason in found if reason is None]
            left_out = [(path.relative_to(folder).as_posix(), reason) for path, reason in found if reason is not None]
            hashes = {name_file(path, root): hash_file(path) for path in files}
            if hashes:
                check_pin(self, self.path, hashes, root)
            return Records(self._read(folder, files, bool(left_out)), hashes, list_left_out(self, left_out))
        if self.revision is None:
            raise PipelineError(
                f'source "{self.title or self.name}": {self.path} is no folder here and has no revision; '
                "correct path, or pin revision to a full commit of the hub (40 hex digits)"
            )
        parts = self._read(folder, [], False)
        return Records(check_row_pin(self, self.path, parts), {f"{self.path}@{self.revision}": str(self.revision)})

    def _read(self, folder: Path, files: Sequence[Path], has_leftovers: bool) -> Iterator[Part]:
        with tempfile.TemporaryDirectory() as cache:
            if has_leftovers:
                # The library would read some of them.
                folder = _link_files(folder, files, Path(cache) / folder.name)
            splits = self._load(folder, cache)
            for name in sorted(splits):
                yield from self._take(splits[name], name if len(splits) > 1 else "")

    def _load(self, folder: Path, cache: str) -> dict[str, Dataset]:
        import datasets
        from huggingface_hub.errors import HfHubHTTPError

        try:
            if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
                loaded: Any = datasets.load_from_disk(str(folder))
            elif folder.is_dir():
                loaded = datasets.load_dataset(str(folder), self.config, cache_dir=cache)
            else:
                loaded = datasets.load_dataset(self.path, self.config, revision=self.revision)
        except (OSError, ValueError, HfHubHTTPError, datasets.exceptions.DatasetsError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise PipelineError(
                f'source "{self.title or self.name}": {self.path} cannot be loaded ({reason}); '
                "check path, config and revision"
            ) from error
        splits = dict(loaded) if isinstance(loaded, dict) else {"all": loaded}
        if self.split is None:
            return splits
        if self.split not in splits:
            raise PipelineError(f'source "{self.title or self.name}": no split "{self.split}"; it has {sorted(splits)}')
        return {self.split: splits[self.split]}

    def _take(self, rows: Dataset, file: str) -> Iterator[Part]:
        import datasets

        from tasks.corpus.reading.sources.arrow_rows import name_classes, split_table

        classes = {name: kind.names for name, kind in rows.features.items() if isinstance(kind, datasets.ClassLabel)}
        first = 1
        for table in rows.with_format("arrow").iter(ROWS_IN_PART):
            part = split_table(table, file, first)
            name_classes(part, classes)
            yield part
            first += table.num_rows


def _link_files(folder: Path, files: Sequence[Path], target: Path) -> Path:
    """A folder with links to these files of a folder."""
    for path in files:
        link = target / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return target
