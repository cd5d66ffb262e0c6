"""Stage 6: the trained model merged, exported, described, and proven to answer as before."""

from __future__ import annotations

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.releases.origins import list_params
from flows.wiring.stage import run, stage, task
from tasks.contracts.manifest import NAME
from tasks.deployment.baseline import write_baseline
from tasks.deployment.card import write_card
from tasks.deployment.merge import export_model
from tasks.deployment.parity import prove_parity
from tasks.deployment.provenance import describe_release, read_provenance
from tasks.deployment.release import BASELINE, MODEL, PARITY, empty_release, keep_fold_answers, seal_release
from tasks.deployment.report import write_report
from tasks.gateway.answering import answer_all


@stage
def deployment(params: Params) -> None:
    """Merge and export, prove that trained = exported = served, freeze the baseline, write the card, seal."""
    settings = params.deployment.release
    provenance = task(read_provenance)(
        artifacts.PREPARED / NAME,
        artifacts.INITIAL,
        artifacts.PLAN,
        artifacts.TUNED,
        artifacts.EVALUATION_VERDICT,
        artifacts.EVALUATION_REPORT,
    )
    release = task(empty_release)(artifacts.RELEASE)
    exported = task(export_model)(artifacts.INITIAL, artifacts.TUNED, settings.export, release / MODEL)
    proof = task(prove_parity)(
        artifacts.INITIAL,
        artifacts.TUNED,
        exported.folder,
        artifacts.TEST,
        answer_all,
        settings.parity.prompts,
        settings.parity.max_new_tokens,
        settings.parity.minimum_match,
        release / PARITY,
    )
    task(write_baseline)(artifacts.PREDICTIONS, exported.folder, settings.model, release / BASELINE)
    task(keep_fold_answers)(artifacts.FOLD_ANSWERS, release)
    task(write_card)(provenance, proof, settings.model, settings.languages, release)
    facts = task(describe_release)(
        provenance, exported, proof, settings.model, settings.export.name, list_params(params)
    )
    manifest = task(seal_release)(release, artifacts.EVALUATION_VERDICT, facts)
    task(write_report)(
        manifest,
        provenance,
        exported,
        proof,
        artifacts.report("deployment"),
        artifacts.metrics("deployment"),
    )


if __name__ == "__main__":
    run(deployment)
