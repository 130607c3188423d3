"""Free TCP ports of this machine."""

import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_NOT_EPHEMERAL: Final = range(15_000, 32_000)
"""Below the range from which Linux takes the local ports of outgoing connections."""
_handed_out: Final = set[int]()


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on and that this process has not handed out before."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_NOT_EPHEMERAL)
        if port not in _handed_out and is_free(port):
            _handed_out.add(port)
            found.append(port)
    return found
