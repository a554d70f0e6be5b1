"""The standard health service as bytes.

What is not a message is answered like any other mistake, and those who watch are let go when the
server stops, so that they do not hold it up.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health  # type: ignore[import-untyped] # not marked
from grpc_health.v1.health_pb2 import (  # type: ignore[import-untyped] # not marked
    HealthCheckRequest,
    HealthCheckResponse,
)

SERVICE: str = health.SERVICE_NAME


class Health:
    """Says SERVING or NOT_SERVING of the server as a whole (named "") and of each service."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(("", *services))
        self._status = HealthCheckResponse.NOT_SERVING
        self._ended = False
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - it is the name's object
        """Say so from now on, to those who watch at once."""
        self._status = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        self._wake()

    def end(self) -> None:
        """Let go of those who watch."""
        self._ended = True
        self._wake()

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server answers these methods with."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        name = await _name(body, context)
        if name not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return _said(self._status)

    async def _watch(
        self, body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        name = await _name(body, context)
        said = None
        while True:
            changed = self._changed
            known = name in self._services
            status = self._status if known else HealthCheckResponse.SERVICE_UNKNOWN
            if status != said:
                said = status
                yield _said(status)
            if self._ended:
                return
            # A change during the yield has replaced the event that is waited for.
            await changed.wait()


def _said(status: int) -> bytes:
    body: bytes = HealthCheckResponse(status=status).SerializeToString()
    return body


async def _name(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> str:
    try:
        name: str = HealthCheckRequest.FromString(body).service
    except DecodeError:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, "these bytes are not a request of Health"
        )
    return name
