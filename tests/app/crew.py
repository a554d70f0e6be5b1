"""A server of several workers, and who of them has which connection."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.crash.process import Server, begin
from tests.rpc.contract import path_of, request_of
from tests.rpc.shop import Account, send

OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
ESTABLISHED = "01"


def enlist(folder: Path, **settings: Any) -> Server:
    """Start a supervisor of two workers, unless said otherwise, and wait until it is ready."""
    return begin(folder, **{"workers": 2, "socket": None, **settings})


@contextlib.contextmanager
def crew(folder: Path, **settings: Any) -> Iterator[Server]:
    """A supervisor to the end of the block, if it lives so long."""
    found = enlist(folder, **settings)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.kill()


def workers(found: Server) -> list[int]:
    """The processes that serve, the oldest first."""
    return workers_of(found.process.pid)


def workers_of(pid: int) -> list[int]:
    """Those of this supervisor."""
    try:
        tasks = [task for task in Path(f"/proc/{pid}/task").iterdir() if task.is_dir()]
        children = {int(n) for task in tasks for n in (task / "children").read_text().split()}
    except OSError:
        return []
    return sorted(child for child in children if "spawn_main" in _command_line(child))


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def connections(pid: int, port: int) -> set[str]:
    """The connections that this process has at the port, as the kernel names them."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *more = line.split()
            if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{more[5]}]")
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(descriptor.readlink()))
    return found & inodes


@dataclass
class Callers:
    """Connections to a crew, with the worker that each is to."""

    channels: list[tuple[grpc.Channel, int]]

    def of(self, pid: int) -> list[grpc.Channel]:
        return [channel for channel, to in self.channels if to == pid]

    def each(self, method: str, **fields: Any) -> list[Any]:
        """What each connection is answered."""
        return [Account(channel, "any").call(method, **fields) for channel, _ in self.channels]


@contextlib.contextmanager
def callers(found: Server, count: int = 12) -> Iterator[Callers]:
    """So many connections, and more if need be until each worker has one."""
    port = int(found.address.rpartition(":")[2])
    pids = workers(found)
    with contextlib.ExitStack() as stack:
        made = Callers([])
        while len(made.channels) < count or {to for _, to in made.channels} != set(pids):
            assert len(made.channels) < count + 40, "one of the workers gets no connections"
            before = {pid: connections(pid, port) for pid in pids}
            channel = grpc.insecure_channel(found.address, options=OPTIONS)
            stack.enter_context(channel)
            send(channel, path_of("GetCatalog"), request_of("GetCatalog").SerializeToString())
            [pid] = [pid for pid in pids if connections(pid, port) - before[pid]]
            made.channels.append((channel, pid))
        yield made
