"""Imported before libraries that talk to the terminal while they are imported; importing it is what it is for."""

import logging

# Advises a package for kernels of another host, on every CPU with AVX512-bf16.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
