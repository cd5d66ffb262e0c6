"""What training setup plans and fine-tuning runs."""

from __future__ import annotations

import logging

# bitsandbytes, which PEFT imports, warns on CPUs with AVX512-bf16 that a kernel for inference is not installed, and on
# GPUs, in each pass of each layer in 8 bits, that inputs are rounded from fp16.
for _noisy in ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)
