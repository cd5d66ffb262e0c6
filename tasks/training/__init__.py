"""What training setup plans and fine-tuning runs."""

from __future__ import annotations

import logging

# PEFT imports bitsandbytes, which warns on CPUs with AVX512-bf16 that a kernel for inference is not installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
