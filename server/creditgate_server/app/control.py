"""What a supervisor and its workers tell each other, over a socket that only they have.

Whatever else all workers shall do, or is to be gathered from all of them, goes this way.
"""

import asyncio
import pickle
import socket
from dataclasses import dataclass
from typing import Self

from creditgate_server.app.catalogs import Versions
from creditgate_server.engines.engine import Name
from creditgate_server.rpc.in_force import Reloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """To a worker: what holds for all from now on. `number` counts up."""

    number: int
    versions: Versions
    clock_offset_ms: int


@dataclass(frozen=True, slots=True)
class Follows:
    """From a worker: this is what it does by now."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """From a worker: it answers requests."""

    address: str
    engine: Name
    clock_offset_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """From a worker: it does not start, and this is why."""

    message: str


@dataclass(frozen=True, slots=True)
class Reload:
    """From a worker: read the catalog again, for all."""

    number: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """From a worker: it has moved the clock, and all shall follow."""

    number: int
    clock_offset_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """To a worker: what it asked for holds for all."""

    number: int
    reloaded: Reloaded | None = None


class Channel:
    """One end of the way between the two. Messages arrive whole and in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """The channel over one end of a pair of sockets, which is its own from now on."""
        return cls(*await asyncio.open_connection(sock=end))

    def send(self, message: object) -> None:
        """Send, without waiting for anybody; what the other end does not read any more is lost."""
        if not self._writer.is_closing():
            body = pickle.dumps(message)
            self._writer.write(len(body).to_bytes(4) + body)

    async def receive(self) -> object | None:
        """The next message; None when the other end has said its last."""
        try:
            size = int.from_bytes(await self._reader.readexactly(4))
            body = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError):
            return None
        message: object = pickle.loads(body)  # noqa: S301 - from a process of ours
        return message

    def say_last(self) -> None:
        """Say that nothing more will come. What comes from the other end is still read."""
        if not self._writer.is_closing():
            self._writer.write_eof()

    async def close(self) -> None:
        """Send what is not sent yet, and hang up."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return
