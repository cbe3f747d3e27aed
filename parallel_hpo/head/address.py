"""By which of its addresses this machine is reached by others, when nobody says so."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from parallel_hpo.backend.variables import LOOPBACK

ELSEWHERE: Final = "192.0.2.1"
"""An address that is nobody's (RFC 5737): asked is by which route it would be reached; nothing is sent."""


def address_by_route(
    make_socket: Callable[[int, int], socket.socket] = socket.socket,
) -> str:
    """Return the address of the interface that the default route takes; loopback where there is no route."""
    try:
        with make_socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((ELSEWHERE, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return LOOPBACK
