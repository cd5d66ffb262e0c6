"""What does not go with how the processes share the work, from what the choices say of themselves."""

from __future__ import annotations

from tasks.training.distribution import distributions_where
from tasks.training.quantization import quantizations_where
from tasks.training_setup.params import ResolvableSetup


def list_sharing_problems(settings: ResolvableSetup) -> list[str]:
    """Everything that cannot work: what was found, what was expected, the next step."""
    distribution, problems = settings.distribution, []
    if not settings.quantization.can.trained_base and not distribution.can.quantized_base:
        others = " or ".join(distributions_where(lambda can: can.many and can.quantized_base))
        problems.append(
            f"quantization: {settings.quantization.name}, whose weights distribution {distribution.name} cannot share; "
            f"take distribution {others}, or quantization "
            + " or ".join(quantizations_where(lambda can: can.trained_base))
        )
    if settings.on_nan == "skip" and not distribution.can.skips_steps:
        problems.append(
            "on_nan: skip, but DeepSpeed has made the step by the time its gradient is seen; set on_nan: stop, or take "
            "distribution " + " or ".join(distributions_where(lambda can: can.many and can.skips_steps))
        )
    return problems
