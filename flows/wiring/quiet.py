"""Imported before libraries that talk to the terminal while they are imported; importing it is what it is for."""

import logging

# Advises a package for kernels of another host, on every CPU with AVX512-bf16.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
# DeepSpeed, which transformers imports for a change of a vocabulary, misses an accelerator on every CPU. It sets its
# own level when it is imported, so that only a filter stays.
logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in str(record.msg))
