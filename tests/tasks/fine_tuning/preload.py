"""What trainings need, loaded once in a process of many of them or before it forks, and left alone by the garbage
collector, which libraries have look through everything after each training.

Nothing is computed here, since a fork does not carry PyTorch's threads.
"""

from __future__ import annotations

import gc

import matplotlib.backends.backend_svg
import matplotlib.figure  # noqa: F401
import peft  # noqa: F401
import torch  # noqa: F401
import transformers  # noqa: F401

import tasks.fine_tuning.report
import tasks.fine_tuning.trainer.fine_tuner  # noqa: F401

gc.freeze()
