"""A stream of the contract as bytes: what an engine carries for methods of many messages."""

from typing import Protocol

from creditgate_server.rpc.endpoint import Answer


class StreamClosed(Exception):
    """The caller has left."""


class Stream(Protocol):
    """One caller's stream. Each of its methods is in use by one task at a time."""

    async def read(self) -> bytes | None:
        """The next message; None when the caller has ended its side or has left."""
        ...

    async def write(self, body: bytes) -> None:
        """Send a message; waits while the caller takes no more. Raises `StreamClosed`."""
        ...


class StreamEndpoint(Protocol):
    """A method with streams. Cancelled when the caller leaves."""

    path: str

    async def __call__(self, stream: Stream) -> Answer:
        """Serve one caller to the end; the answer is the status."""
        ...
