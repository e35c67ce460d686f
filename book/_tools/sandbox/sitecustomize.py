"""Every chapter's kernel imports this first: it may reach no other host."""

import ipaddress
import socket
import sys


class NetworkBlockedError(OSError):
    """A chapter tried to leave this machine."""


def _guard(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        connection, address = arguments
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        host = address[0] if address else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if not _is_local(host):
        raise NetworkBlockedError(
            f"chapters run without a network, but this one asked for {host!r};"
            " put the data into hagvig_lib/data"
        )


def _is_local(host: str | bytes | None) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if not host or host in ("localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


sys.addaudithook(_guard)
