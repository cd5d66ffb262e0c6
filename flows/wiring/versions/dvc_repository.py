"""DVC's view of the checkout, with git or without."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from flows.wiring.settings import is_verbose
from flows.wiring.versions.lineage import is_tracked
from tasks.contracts.errors import PipelineError

if TYPE_CHECKING:
    from dvc.repo import Repo

logger = logging.getLogger(__name__)


def open_repository() -> Repo:
    """The checkout; outside git, or where git refuses it, DVC goes without (``core.no_scm``).

    Raises:
        PipelineError: There is no DVC in it.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    if not is_verbose():
        logging.getLogger("dvc").setLevel(logging.ERROR)
    if not is_tracked():
        tell_loss()
    try:
        return Repo()
    except NotDvcRepoError as error:
        raise PipelineError(
            "no .dvc folder here, perhaps left out when the checkout was copied; "
            "copy it too, or run `dvc init` (outside git: `dvc init --no-scm`)"
        ) from error
    except SCMError as error:
        logger.debug("without git: %s", error)
        return Repo(config={"core": {"no_scm": True}})


@cache
def tell_loss() -> None:
    """Say once what is lost without git."""
    logger.info(
        "no git repository has this checkout, so runs and model versions record no commit; `git init`, `git add .` and "
        "`git commit` make one"
    )
