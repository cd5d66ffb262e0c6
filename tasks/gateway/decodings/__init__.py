"""How the transformers engine decodes, one file each; the union is the only registry.

`tasks.gateway.decodings.decoding` says what a decoding has to answer.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.gateway.decodings.emulated import EmulatedDecoding
from tasks.gateway.decodings.plain import PlainDecoding
from tasks.gateway.decodings.speculative import SpeculativeDecoding

AnyDecoding = Annotated[PlainDecoding | SpeculativeDecoding | EmulatedDecoding, Field(discriminator="name")]
