"""The standard health service, as endpoints of either engine.

What is not a message is answered like any other mistake, and those who watch are let go when the
server stops, so that they do not hold it up.
"""

import asyncio
from collections.abc import Iterable

from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc_health.v1.health_pb2 import (  # type: ignore[import-untyped] # not marked
    DESCRIPTOR,
    HealthCheckRequest,
    HealthCheckResponse,
)

from creditgate_server.core.faults import Fault, Reason
from creditgate_server.engines.engine import Endpoints
from creditgate_server.rpc.endpoint import Answer, Caller, answer
from creditgate_server.rpc.stream import Stream, StreamEndpoint

_CONTRACT = DESCRIPTOR.services_by_name["Health"]
SERVICE: str = _CONTRACT.full_name


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

    def endpoints(self) -> Endpoints:
        """What a server answers these methods with."""
        watch = StreamEndpoint(_CONTRACT.methods_by_name["Watch"], self._watch)
        return {f"/{SERVICE}/Check": self._check, watch.path: watch}

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, body: bytes, _caller: Caller) -> Answer:
        try:
            name = _name(body)
        except Fault as fault:
            return answer(fault)
        if name not in self._services:
            return Answer(code=StatusCode.NOT_FOUND, details="there is no such service")
        return Answer(_said(self._status))

    async def _watch(self, stream: Stream) -> None:
        name = _name(await stream.read() or b"")
        left = asyncio.ensure_future(stream.until_left())
        said = None
        while not left.done():
            # Before the write: a change during it replaces the event that is waited for.
            changed = self._changed
            known = name in self._services
            status = self._status if known else HealthCheckResponse.SERVICE_UNKNOWN
            if status != said:
                said = status
                await stream.write(_said(status))
            if self._ended:
                return
            waiting = asyncio.ensure_future(changed.wait())
            await asyncio.wait((waiting, left), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()


def _said(status: int) -> bytes:
    body: bytes = HealthCheckResponse(status=status).SerializeToString()
    return body


def _name(body: bytes) -> str:
    try:
        name: str = HealthCheckRequest.FromString(body).service
    except DecodeError:
        raise Fault(Reason.MALFORMED_MESSAGE, "these bytes are not a request of Health") from None
    return name
