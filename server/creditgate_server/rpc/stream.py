"""A streaming method of the contract: bytes both ways, and a status at the end.

Like `rpc.endpoint` for unary methods: engines carry streams and know nothing of messages.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from creditgate_server.core.faults import Fault, defect
from creditgate_server.rpc.endpoint import Answer, Caller, answer


class StreamClosed(Exception):
    """The caller has left: nothing can be written to it any more."""


class Stream(Protocol):
    """One caller's stream, as bytes.

    At most one task reads and at most one writes at a time. A caller that leaves, by a cancel, its
    deadline or a lost connection, cancels nobody here: its stream ends, and what was begun goes on.
    """

    @property
    def caller(self) -> Caller:
        """Who is at the other end."""
        ...

    async def read(self) -> bytes | None:
        """The next message; None when the caller has ended its side or left.

        Waits for nothing else: what is not read stays with the caller (flow control). It may be
        cancelled; then nothing is read any more.
        """
        ...

    async def write(self, body: bytes) -> None:
        """Send a message; waits while the caller takes no more. Raises `StreamClosed` if it left.

        Returns when the message is on its way, not when it has arrived.
        """
        ...

    async def until_left(self) -> None:
        """Wait until the caller has left, which one that only listens does without a word."""
        ...


StreamHandler = Callable[[Stream], Awaitable[None]]
"""Answers one stream: its return is the status OK, a `Fault` it raises is any other."""


class StreamEndpoint:
    """One method. Calling it never raises (but for being cancelled), whatever happens inside."""

    def __init__(self, method: MethodDescriptor, handler: StreamHandler) -> None:
        self.name = method.name
        self.path = f"/{method.containing_service.full_name}/{method.name}"
        self._handler = handler

    async def __call__(self, stream: Stream) -> Answer:
        """Answer one stream; what it returns is the status at its end."""
        try:
            await self._handler(stream)
        except Fault as fault:
            return answer(fault)
        except StreamClosed:
            # Nobody is there to be told.
            return Answer()
        except Exception:  # noqa: BLE001 - the last door: nothing of it may reach the caller
            return answer(defect(f"a defect in {self.path}"))
        return Answer()


def stream_endpoints(
    contracts: Iterable[ServiceDescriptor], handlers: Mapping[str, StreamHandler]
) -> dict[str, StreamEndpoint]:
    """Every streaming method by its path. One without a handler of its name fails here."""
    found = (
        StreamEndpoint(method, handlers[method.name])
        for contract in contracts
        for method in contract.methods
        if method.client_streaming or method.server_streaming
    )
    return {endpoint.path: endpoint for endpoint in found}
