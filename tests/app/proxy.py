"""Stands between a server and its store and counts what goes by."""

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hiredis


@dataclass
class Proxy:
    """`reads` are the portions in which commands arrived, each the commands that ended in it."""

    url: str
    reads: list[list[tuple[str, ...]]] = field(default_factory=list)

    def commands(self) -> Counter[str]:
        """How often each script or command was sent."""
        return Counter(" ".join(command[:2]) for read in self.reads for command in read)

    def reads_with(self, words: str) -> int:
        """In how many portions such a command came."""
        return sum(any(" ".join(command[:2]) == words for command in read) for read in self.reads)


@contextmanager
def proxy(folder: Path, store: Path) -> Iterator[Proxy]:
    """A proxy on a unix socket in the folder."""
    path = folder / "proxy.sock"
    found = Proxy(f"unix://{path}")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    ends: list[socket.socket] = [listener]

    def serve() -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            behind = socket.socket(socket.AF_UNIX)
            behind.connect(str(store))
            ends.extend((caller, behind))
            threading.Thread(target=forward, args=(caller, behind, found.reads)).start()
            threading.Thread(target=forward, args=(behind, caller, None)).start()

    threading.Thread(target=serve).start()
    try:
        yield found
    finally:
        for end in ends:
            with end:
                _hang_up(end)


def forward(
    source: socket.socket, target: socket.socket, reads: list[list[tuple[str, ...]]] | None
) -> None:
    """Pass bytes on as they come, until either side hangs up."""
    reader = hiredis.Reader()
    while True:
        try:
            portion = source.recv(1 << 20)
            if portion:
                target.sendall(portion)
        except OSError:
            portion = b""
        if not portion:
            _hang_up(target)
            return
        if reads is not None:
            reader.feed(portion)
            commands = []
            while (command := reader.gets()) is not False:
                words = command if isinstance(command, list) else []
                commands.append(tuple(os.fsdecode(word) for word in words))
            reads.append(commands)


def _hang_up(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        end.close()
