"""Which ``Host`` headers name this machine.

Without keys the gateway answers this machine only. A web page could reach it through a name of its own that resolves
to 127.0.0.1 (DNS rebinding), so that the header has to be exactly a loopback address or ``localhost``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

LARGEST_PORT = 65_535
_HOST = re.compile(r"(localhost|[0-9.]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def names_this_machine(headers: Sequence[bytes]) -> bool:
    """Whether the ``Host`` headers of a request are one well-formed name of this machine, with or without a port."""
    if len(headers) != 1:
        return False
    matched = _HOST.fullmatch(headers[0].decode("latin-1").lower())
    return matched is not None and is_loopback(matched[1]) and int(matched[2] or 0) <= LARGEST_PORT
