"""Where a server may listen: on this machine, or beyond it only if the operator said so by name."""

import fcntl
import ipaddress
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RefusedToStart(Exception):
    """The server would not be safe, or not reachable, as it is set. The message says what to do."""


def check_listen(address: str, *, insecure: bool) -> None:
    """Refuse an address that others than this machine can reach, unless `insecure`."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65_535:
        raise RefusedToStart(f"--listen {address}: must be host:port, such as 127.0.0.1:7420")
    if insecure:
        return
    name = host.removeprefix("[").removesuffix("]")
    try:
        local = name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        local = False
    if not local:
        raise RefusedToStart(
            f"--listen {address}: others than this machine could spend credits there, without "
            "encryption or tokens; listen on 127.0.0.1 or on --socket, or allow it by "
            "--insecure-listen"
        )


@contextmanager
def locked_socket(path: Path) -> Iterator[str]:
    """The gRPC address of a unix socket that only this user can reach, and only this server has.

    gRPC lets a second server take a live socket away, so a lock beside it keeps it ours.
    """
    path = path.absolute()
    if len(os.fsencode(path)) > 100:
        raise RefusedToStart(f"--socket {path}: at most 100 bytes; choose a shorter path")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(path.parent.stat().st_mode) & stat.S_IRWXO:
        raise RefusedToStart(
            f"--socket {path}: every user of this machine can enter {path.parent}; "
            f"choose a directory of mode 0700, or 0750 for a group (chmod 700 {path.parent})"
        )
    lock = os.open(
        path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedToStart(f"--socket {path}: another server listens there") from None
        # Left by a server that was killed; nobody listens, since the lock is ours.
        path.unlink(missing_ok=True)
        yield f"unix:{path}"
    finally:
        os.close(lock)
