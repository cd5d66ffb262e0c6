"""Releases outside the files: a local store by hash, and names for them in MLflow's model registry.

``register`` makes a release a model version with the alias ``challenger``; ``promote`` moves the alias
``champion`` to it; ``rollback`` moves it back. The registered model's tag ``champions`` holds the versions
that were champion, oldest first and without those rolled back, so each rollback goes one further into
the past and the one after the first champion is refused. The alias is the truth: where it and the tag
disagree (a killed process, a hand in the MLflow UI), the tag is brought in line first.

Every function is safe to repeat, and a file lock keeps processes of one checkout apart.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from flows.wiring import artifacts
from flows.wiring.overview import write_overview
from flows.wiring.runs import addresses
from flows.wiring.runs.mlflow_entries import escape
from flows.wiring.runs.recording import wait_until_sent
from flows.wiring.runs.releases import describe_release, note_champion, note_version
from flows.wiring.runs.sending import experiment_id
from flows.wiring.settings import configure
from flows.wiring.versions.lineage import git_commit
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json
from tasks.deployment.release import read_release, read_verdict
from tasks.deployment.store import check_release, is_stored, store_release
from tasks.evaluation.decisions.reuse import EarlierDecision, count_earlier, list_decision

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
HISTORY = "champions"
# Tag of a version: what its verdict took of the held-out set.
HELD_OUT = "held_out"
ARTIFACTS = "release"
LOCK_TIMEOUT_S = 300
SENT_TIMEOUT_S = 20.0
KEPT_HISTORY = 1000
MLFLOW_PARENT = "mlflow.parentRunId"


class Champion(NamedTuple):
    """A registered release: its hash and its model version."""

    release: str
    version: int


@dataclass(frozen=True)
class Registry:
    """The releases of one registered model.

    Attributes:
        model: Name in MLflow's registry.
        releases: The local store; ``<release hash>/`` below it is a verified copy.
        uri: Tracking URI; by default what the environment says, else the repository's own database.
    """

    model: str
    releases: Path = artifacts.RELEASES
    uri: str | None = None
    _verified: set[str] = field(default_factory=set, repr=False)

    # -- writing ---------------------------------------------------------------------------------

    def register(self, folder: Path = artifacts.RELEASE, run: str | None = None, commit: str | None = None) -> Champion:
        """Keep a release in the store and make it a model version, once.

        Args:
            folder: The release to register.
            run: MLflow run to log its files to; by default one of its own below the pipeline's that made it.
            commit: Git commit to tag the version with; the checkout's by default.

        Returns:
            Release hash and version: the earlier version where the release was registered before.

        Raises:
            PipelineError: The release is incomplete or changed, or MLflow does not answer.
        """
        manifest = read_release(folder)
        release = str(manifest["release"])
        with self._locked():
            store_release(self.releases, release, lambda aside: shutil.copytree(folder, aside / release))
            found = self._find(release)
            version = (
                int(found.version) if found else self._create(release, run, git_commit() if commit is None else commit)
            )
            note_version(self.releases, release, self.model, version)
            if self._aliased(CHAMPION) != version:
                self._client.set_registered_model_alias(self.model, CHALLENGER, str(version))
        return Champion(release, version)

    def promote(
        self, version: int | None = None, force: bool = False, reason: str = "", dry_run: bool = False
    ) -> Champion:
        """Make a version the champion, if evaluation says so.

        Args:
            version: The version; the challenger by default.
            force: Promote against the verdict; needs a reason.
            reason: Kept with the version.
            dry_run: Only check; the champion stays who it is.

        Returns:
            The champion, with ``dry_run`` who would be it; the present one where there is nothing to promote.

        Raises:
            PipelineError: No such version, the verdict is not "promote" or was found against another
                champion, ``force`` comes without a reason, or MLflow does not answer.
        """
        if force and not reason.strip():
            raise PipelineError("--force without a reason; expected --reason with the why, it is kept with the version")
        with self._locked():
            present = self.champion()
            wanted = self._aliased(CHALLENGER) if version is None else version
            if wanted is None and present is not None:
                return present
            candidate = self._version(wanted)
            if present is not None and present.version == candidate.version:
                return present
            folder = self.fetch_release(candidate.release)
            refusal = self._refusal(candidate, read_verdict(folder), present)
            if refusal and not force:
                raise PipelineError(f"{refusal}; retrain, or promote it with --force and a --reason")
            if dry_run:
                return candidate
            if refusal:
                log.warning("promoted against the verdict (%s): %s", reason, refusal)
            history = [*self._history(present), candidate.version]
            self._tag(candidate, "promoted_because", reason or "verdict")
            self._tag(candidate, "forced", "yes" if refusal else "no")
            self._move(history)
            self._note(candidate)
            if self._aliased(CHALLENGER) == candidate.version:
                self._client.delete_registered_model_alias(self.model, CHALLENGER)
        return candidate

    def rollback(self, reason: str = "") -> Champion:
        """Make the champion before this one the champion again.

        Args:
            reason: Kept with the version that is given up.

        Returns:
            The champion after it.

        Raises:
            PipelineError: There is no champion or none before it, or its release is gone or changed.
        """
        with self._locked():
            present = self.champion()
            if present is None:
                raise PipelineError(f'"{self.model}" has no champion to roll back; run `heptune promote` first')
            history = self._history(present)
            if len(history) < 2:
                raise PipelineError(
                    f'"{self.model}" version {present.version} is the first champion; there is none before it to roll '
                    "back to"
                )
            target = self._version(history[-2])
            self.fetch_release(target.release)
            self._tag(present, "rolled_back_because", reason or "by hand")
            self._move(history[:-1])
            self._note(target)
        return target

    def freeze_champion(self, path: Path = artifacts.CHAMPION) -> Champion | None:
        """Write the champion of this moment, and what was decided so far, to a file that evaluation compares with."""
        present = self.champion()
        if present is not None:
            self._note(present)
        release, version = present or (None, None)
        with self._answering():
            decisions = [one.model_dump() for one in self._decisions()]
        write_json(path, {"release": release, "version": version} | ({"decisions": decisions} if decisions else {}))
        return present

    # -- reading ---------------------------------------------------------------------------------

    def champion(self) -> Champion | None:
        """Release and version under the alias ``champion``, or None. One query: cheap enough to poll."""
        found = self._by_alias(CHAMPION)
        return self._named(found) if found else None

    def find_version(self, alias: str | None = None, version: int | None = None) -> Champion:
        """Release and number of a version, by alias or by number.

        Raises:
            PipelineError: There is no such version.
        """
        if alias is None:
            with self._answering():
                return self._version(version)
        found = self._by_alias(alias)
        if found is None:
            raise PipelineError(
                f'"{self.model}" has no version with the alias {alias}; train the first release from another source '
                "and promote it (`heptune promote`)"
            )
        return self._named(found)

    def find_run(self, run: str) -> Champion:
        """The newest version that a run made.

        Args:
            run: Id of the run in MLflow or of the flow run in Prefect, of a stage's pipeline too, or its beginning.

        Raises:
            PipelineError: No version is of that run.
        """
        with self._answering():
            versions = self._client.search_model_versions(f"name='{self.model}'")
            for found in sorted(versions, key=lambda version: -int(version.version)):
                if any(name.startswith(run) for name in self._name_runs(str(found.run_id)) if name):
                    return self._named(found)
        raise PipelineError(
            f'run {run}: no version of "{self.model}" was made by it; `heptune list` shows versions and runs, and '
            "`heptune register` makes a version of the last run"
        )

    def read_commit(self, version: int) -> str:
        """The git commit that a version was made at; empty where it is not known."""
        with self._answering():
            return str(self._client.get_model_version(self.model, str(version)).tags.get("git_commit", ""))

    def resolve_champion(self) -> tuple[str, Path] | None:
        """Release hash and folder of the champion, or None; fetched and verified when first seen."""
        present = self.champion()
        if present is None:
            return None
        if present.release in self._verified and is_stored(self.releases, present.release):
            return present.release, self.releases / present.release
        return present.release, self.fetch_release(present.release)

    def fetch_release(self, release: str) -> Path:
        """A verified local copy of a release, from the store or else from MLflow.

        Raises:
            PipelineError: The release is not registered, its files are gone, or they are not what they were.
        """
        if is_stored(self.releases, release):
            check_release(self.releases / release, release)
        else:
            with self._locked():
                store_release(self.releases, release, partial(self._fetch, release))
        self._verified.add(release)
        return self.releases / release

    # -- parts -----------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> MlflowClient:
        configure()
        import mlflow

        uri = self.uri or os.environ["MLFLOW_TRACKING_URI"]
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    @cached_property
    def _lock(self) -> FileLock:
        self.releases.mkdir(parents=True, exist_ok=True)
        return FileLock(self.releases / ".lock", timeout=LOCK_TIMEOUT_S)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone on this checkout, with MLflow's failures as one line."""
        try:
            with self._lock, self._answering():
                yield
        except Timeout as error:
            raise PipelineError(
                f"{self._lock.lock_file}: another process has held it for {LOCK_TIMEOUT_S} s; wait for that "
                "and try again"
            ) from error

    @contextmanager
    def _answering(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise PipelineError(
                f"MLflow at {self._client.tracking_uri}: {lines[0]}; check MLFLOW_TRACKING_URI and the server"
            ) from error

    def _by_alias(self, alias: str) -> ModelVersion | None:
        from mlflow.exceptions import MlflowException

        with self._answering():
            try:
                return self._client.get_model_version_by_alias(self.model, alias)
            except MlflowException as error:
                # The two ways of saying "there is none": no such model, no such alias.
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def _name_runs(self, run_id: str) -> list[str]:
        """The ids by which the run of a version is known: its own, its pipeline's, and the pipeline's in Prefect."""
        if not run_id:
            return []
        parent = self._client.get_run(run_id).data.tags.get(MLFLOW_PARENT, "")
        pipeline = self._client.get_run(parent).data.tags.get("heptune.pipeline_run", "") if parent else ""
        return [run_id, parent, pipeline]

    def _aliased(self, alias: str) -> int | None:
        found = self._by_alias(alias)
        return int(found.version) if found else None

    def _named(self, found: ModelVersion) -> Champion:
        release = found.tags.get("release")
        if not release:
            raise PipelineError(
                f'"{self.model}" version {found.version} carries no release hash; move the alias to a '
                "version made by `heptune register`"
            )
        return Champion(release, int(found.version))

    def _version(self, version: int | None) -> Champion:
        from mlflow.exceptions import MlflowException

        if version is None:
            raise PipelineError(f'"{self.model}" has no challenger to promote; run `heptune register` first')
        try:
            return self._named(self._client.get_model_version(self.model, str(version)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = sorted(int(v.version) for v in self._client.search_model_versions(f"name='{self.model}'"))
            raise PipelineError(f'"{self.model}" has no version {version}; expected one of {known}') from error

    def _find(self, release: str) -> ModelVersion | None:
        """The earliest version of a release."""
        found = self._client.search_model_versions(f"name='{self.model}' and tags.release='{release}'")
        return min(found, key=lambda version: int(version.version), default=None)

    def _create(self, release: str, run: str | None, commit: str) -> int:
        """A registered model version whose files any machine can download."""
        from mlflow.exceptions import MlflowException

        folder = self.releases / release
        verdict = read_verdict(folder)
        try:
            self._client.create_registered_model(self.model, description="Releases of this pipeline.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        run_id = run or self._make_run(release)
        self._client.log_artifacts(run_id, str(folder), ARTIFACTS)
        if run is None:
            self._client.set_terminated(run_id)
        tags = {"release": release, "verdict": verdict["verdict"], "git_commit": commit}
        if decision := list_decision(verdict):
            tags[HELD_OUT] = decision.model_dump_json()
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{ARTIFACTS}"
        links = f"[Everything of this release]({addresses.release_page(release)})" if addresses.has_reports() else ""
        self._client.create_model_version(self.model, source, run_id, tags, description=links or None)
        created = self._find(release)
        if created is None:
            raise PipelineError(f'"{self.model}": MLflow kept no version of {release[:12]}; register it again')
        return int(created.version)

    def _make_run(self, release: str) -> str:
        """A run with the figures of a release, below the pipeline's; the one of an earlier attempt that was cut off."""
        number = experiment_id(self._client)
        tags = {"heptune.kind": "release", "heptune.release": release}
        if begun := self._search(number, tags):
            return self._describe_run(str(begun.info.run_id), release)
        wait_until_sent(SENT_TIMEOUT_S)
        if maker := self._search(number, {"heptune.stage": "deployment", "heptune.release": release}):
            tags[MLFLOW_PARENT] = maker.data.tags.get(MLFLOW_PARENT, maker.info.run_id)
        if addresses.has_reports():
            tags["mlflow.note.content"] = f"[Everything of this release]({addresses.release_page(release)})"
        made = self._client.create_run(number, tags=tags, run_name=f"release {release[:12]}")
        return self._describe_run(str(made.info.run_id), release)

    def _describe_run(self, run_id: str, release: str) -> str:
        """Log params and figures of a release to its run; again does no harm."""
        params, figures = describe_release(read_release(self.releases / release))
        for key, value in params.items():
            self._client.log_param(run_id, escape(key), value)
        for key, figure in figures.items():
            self._client.log_metric(run_id, escape(key), figure)
        return run_id

    def _search(self, experiment: str, tags: Mapping[str, str]) -> Run | None:
        """The newest run with these tags."""
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self._client.search_runs([experiment], query, max_results=1)
        return found[0] if found else None

    def _refusal(self, candidate: Champion, verdict: dict[str, Any], present: Champion | None) -> str:
        """Why a version must not become champion; empty when it may."""
        name = f'"{self.model}" version {candidate.version}'
        if verdict["verdict"] != "promote":
            reasons = "; ".join(verdict.get("reasons", [])) or "no reasons given"
            return f"{name} was not proven better ({reasons})"
        compared = verdict.get("champion")
        if present is not None and compared != present.release:
            with_what = f"release {compared[:12]}" if compared else "no champion"
            return f"{name} was compared with {with_what}, but the champion is version {present.version}"
        use = verdict.get(HELD_OUT)
        if use and use["decisions"]:
            earlier = self._decisions(before=candidate.version)
            number = 1 + count_earlier(use["items"], use["candidate"], earlier, use["overlap"])[0]
            if number > use["decision"]:
                return (
                    f"{name} was judged as decision {use['decision']} on its held-out items, but {number - 1} were "
                    "made before it was registered"
                )
        return ""

    def _decisions(self, before: int | None = None) -> list[EarlierDecision]:
        """What the registered versions were judged on, the oldest first.

        Args:
            before: Only of versions with a lower number.
        """
        found = self._client.search_model_versions(f"name='{self.model}'")
        known = sorted((int(one.version), one.tags[HELD_OUT]) for one in found if HELD_OUT in one.tags)
        return [
            EarlierDecision.model_validate_json(text) for version, text in known if before is None or version < before
        ]

    def _history(self, present: Champion | None) -> list[int]:
        """Versions that were champion, oldest first, ending with the present one."""
        if present is None:
            return []
        kept: list[int] = json.loads(self._client.get_registered_model(self.model).tags.get(HISTORY, "[]"))
        if present.version in kept:
            return kept[: len(kept) - kept[::-1].index(present.version)]
        return [*kept, present.version]

    def _move(self, history: list[int]) -> None:
        """Point the aliases at the end of a history. The champion moves last: it is the one that counts."""
        self._client.set_registered_model_tag(self.model, HISTORY, json.dumps(history[-KEPT_HISTORY:]))
        if len(history) > 1:
            self._client.set_registered_model_alias(self.model, PREVIOUS, str(history[-2]))
        elif self._aliased(PREVIOUS) is not None:
            self._client.delete_registered_model_alias(self.model, PREVIOUS)
        self._client.set_registered_model_alias(self.model, CHAMPION, str(history[-1]))

    def _note(self, champion: Champion) -> None:
        """Keep who is champion where the overview of the checkout finds it."""
        if (
            note_champion(self.releases, *champion)
            and self.releases == artifacts.RELEASES
            and artifacts.INDEX.is_file()
        ):
            write_overview()

    def _tag(self, version: Champion, key: str, value: str) -> None:
        self._client.set_model_version_tag(self.model, str(version.version), key, value)

    def _fetch(self, release: str, aside: Path) -> Path:
        """Download the files of a registered release."""
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        found = self._find(release)
        if found is None:
            raise PipelineError(
                f'release {release[:12]}: not in {self.releases} and not a version of "{self.model}"; '
                "register it on the machine that made it"
            )
        source = self._client.get_model_version_download_uri(self.model, str(found.version))
        try:
            return Path(download_artifacts(source, dst_path=str(aside), tracking_uri=self._client.tracking_uri))
        except (OSError, MlflowException) as error:
            raise PipelineError(
                f"release {release[:12]}: cannot be fetched from {source} ({error}); check that it is reachable"
            ) from error


def open_registry() -> Registry:
    """The registry that ``params.yaml`` names."""
    from flows.wiring.params import read_params

    return Registry(read_params().deployment.release.model)
