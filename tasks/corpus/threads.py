"""Computation whose result does not depend on the number of threads.

Libraries of linear algebra and k-means add up in another order on another number of threads. The last digits differ
then, and of two rows equally near another one may be chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def on_one_thread(compute: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function with one thread for BLAS and OpenMP, whatever the machine and its load."""

    @wraps(compute)
    def pinned(*arguments: Arguments.args, **more: Arguments.kwargs) -> Result:
        # Only libraries that are loaded already are limited, so scikit-learn must be loaded before.
        import sklearn.cluster  # noqa: F401
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return compute(*arguments, **more)

    return pinned
