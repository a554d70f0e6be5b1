"""What an engine is, what both refuse and allow, and which of them serves."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, Protocol

import grpc

from creditgate_server.core.faults import Fault, Reason
from creditgate_server.rpc.endpoint import EXECUTE_BYTES_MAX, Answer, Caller, answer
from creditgate_server.rpc.stream import StreamEndpoint

METADATA_BYTES_MAX = 8 * 1024

OPTIONS = (
    # A second server on the same port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", EXECUTE_BYTES_MAX + 1024),
    # Compressed messages are refused (UNIMPLEMENTED): gRPC looks at their size before it unpacks
    # them, and 1 MiB may become 1 GiB. The set of what is allowed: bit 0 is "as it is".
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # Both, since between the two gRPC refuses some requests and not others, as if by chance.
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
)

SHARED_PORT = (("grpc.so_reuseport", 1), *OPTIONS[1:])
"""For one of several workers. Whoever starts them sees to it that nobody else has the port."""

Options = tuple[tuple[str, int], ...]

UnaryEndpoint = Callable[[bytes, Caller], Coroutine[Any, Any, Answer]]
"""Answers one request. It never raises, and awaits futures only: it is no task of asyncio's."""

Name = Literal["auto", "core", "aio"]

Endpoints = Mapping[str, UnaryEndpoint | StreamEndpoint]
"""What answers each method, by its path. What is no `StreamEndpoint` is unary."""


class Engine(Protocol):
    """Carries bytes between callers and endpoints, and nothing else.

    Addresses are bound before `start`. Belongs to the loop that it was made on.
    """

    name: Name
    """What `--engine` calls it."""

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on an address, with TLS if given what for. Raises OSError if it is taken.

        Returns the port; of a unix socket, any number.
        """
        ...

    async def start(self) -> None:
        """Answer requests."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, give those under way `grace_s` to end."""
        ...


async def no_such_method(_body: bytes, _caller: Caller) -> Answer:
    """The endpoint of every path that has none."""
    return answer(Fault(Reason.NO_SUCH_METHOD, "this server has no such method"))
