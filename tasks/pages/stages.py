"""The stages whose pages link to each other, in their order."""

from __future__ import annotations

STAGE_TITLES = {
    "data_preparation": "Data preparation",
    "model_initialisation": "Model initialisation",
    "training_setup": "Training setup",
    "fine_tuning": "Fine-tuning",
    "evaluation": "Evaluation",
    "deployment": "Deployment",
    "monitoring": "Monitoring",
}


def list_neighbours(stage: str) -> tuple[str | None, str | None]:
    """The stages before and after a stage; none for a command that is no stage."""
    names = list(STAGE_TITLES)
    if stage not in names:
        return None, None
    place = names.index(stage)
    return (names[place - 1] if place else None), (names[place + 1] if place + 1 < len(names) else None)
