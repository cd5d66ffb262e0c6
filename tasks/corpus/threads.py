"""Computation whose result does not depend on the number of threads.

Libraries of linear algebra and k-means add up in another order on another number of threads. The last digits differ
then, and of two rows equally near another one may be chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def on_one_thread(compute: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function with one thread for BLAS, OpenMP and torch, whatever the machine and its load.

    A library that the function itself loads is not limited, so a model is loaded before.
    """

    @wraps(compute)
    def pinned(*arguments: Arguments.args, **more: Arguments.kwargs) -> Result:
        # Only libraries that are loaded already are limited, so scikit-learn must be loaded before.
        import sklearn.cluster  # noqa: F401
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1), _torch_on_one_thread():
            return compute(*arguments, **more)

    return pinned


@contextmanager
def _torch_on_one_thread() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
