"""A model of the Hugging Face hub, pinned to one commit.

Example: ``source: {name: hub, id: HuggingFaceTB/SmolLM2-135M, revision: <40 hex digits>}``. A branch or a tag
can move, so only a commit hash is accepted. Weights in safetensors, the configuration, the tokenizer
and the model card are downloaded; pickled weights and Python files never are. Environment:
``HF_TOKEN`` for gated models, ``HF_ENDPOINT`` for a mirror, ``HF_HUB_OFFLINE=1`` to stay in the local cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.model_initialisation.sources.access import NO_ACCESS, Access

_TIMEOUT_S = 20


class Hub(Section):
    """A hub model at a commit."""

    immutable: ClassVar[bool] = True

    name: Literal["hub"] = "hub"
    id: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", description="owner/model")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="commit hash, 40 hex digits; branches can move")
    endpoint: str | None = Field(
        default=None, description="address of a mirror; HF_ENDPOINT or the public hub when null"
    )

    def fetch(self, access: Access = NO_ACCESS) -> Path:
        """Download the files that are not in the local cache.

        Raises:
            PipelineError: No such model or revision, no access, no connection, or only pickled weights.
        """
        from httpx2 import HTTPError  # the hub client's HTTP library, whose errors it does not wrap
        from huggingface_hub import HfApi, snapshot_download

        from tasks.language_models.folder.model_folder import ALLOWED
        from tasks.model_initialisation.licences import join_names, refuse_denied
        from tasks.model_initialisation.weights import PICKLED, convert_hint

        cached = self._cached()
        if cached is not None:
            return cached
        at, token = f"{self.id}@{self.revision[:12]}", access.token
        try:
            hub = HfApi(endpoint=self.endpoint, token=token)
            info = hub.model_info(self.id, revision=self.revision, timeout=_TIMEOUT_S)
            names = [entry.rfilename for entry in info.siblings or []]
            pickled = [name for name in names if name.endswith(PICKLED)]
            if pickled and not any(name.endswith(".safetensors") for name in names):
                raise PipelineError(f"{at}: {convert_hint(pickled)}")
            if info.card_data and (licence := join_names(vars(info.card_data))):
                refuse_denied(at, licence, access.deny)
            return Path(
                snapshot_download(
                    self.id,
                    revision=self.revision,
                    allow_patterns=list(ALLOWED),
                    endpoint=self.endpoint,
                    token=token,
                )
            )
        except (HTTPError, OSError) as error:
            raise PipelineError(f"{at}: {_explain(error, has_token=token is not None)}") from error

    def _cached(self) -> Path | None:
        """The commit's folder in the local cache, if complete; a commit never changes, so the hub need not be asked."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        from tasks.model_initialisation.checks import check_folder

        try:
            folder = Path(snapshot_download(self.id, revision=self.revision, local_files_only=True))
            check_folder(folder)
        except (LocalEntryNotFoundError, PipelineError):
            return None
        return folder

    def origin(self, folder: Path) -> dict[str, str]:
        return {"hub": self.id, "revision": self.revision}

    def reference(self, folder: Path) -> dict[str, str]:
        return self.origin(folder)

    def facts(self, folder: Path) -> dict[str, str]:
        return {}


def _explain(error: Exception, has_token: bool) -> str:
    """Why the hub does not give a model, and the next step."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    elsewhere = "or use a folder source: {name: folder, path: ...}"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if isinstance(error, OfflineModeIsEnabled):
        return f"it is not in the local cache and HF_HUB_OFFLINE forbids to ask the hub; unset it once, {elsewhere}"
    if isinstance(error, GatedRepoError) and not has_token:
        return "the hub requires its terms to be accepted; accept them on the model's page and set HF_TOKEN"
    if isinstance(error, GatedRepoError):
        return "the account of HF_TOKEN has not accepted the model's terms; accept them on its page and run again"
    if isinstance(error, RevisionNotFoundError):
        return "no such commit; take the hash from the model's history page on the hub"
    if status == 401 and has_token:
        return "the hub refuses HF_TOKEN (401); it is wrong or expired: make one on huggingface.co/settings/tokens"
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return f"no such model, or a private one {'that HF_TOKEN may not see' if has_token else 'without HF_TOKEN'}"
    if status == 403:
        return (
            "HF_TOKEN may not read it (403); a fine-grained token needs the permission to read gated models"
            if has_token
            else "the hub gives it to nobody without a token (403); set HF_TOKEN"
        )
    if status:
        return f"the hub answers with status {status}; try again later, {elsewhere}"
    reason = type(error).__name__
    return f"the hub does not answer ({reason}) and it is not in the local cache; go online once, {elsewhere}"
