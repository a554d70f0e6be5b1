"""The engine on grpc.aio: carries bytes between callers and endpoints, and nothing else."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped] # not marked

from creditgate_server.core.faults import Fault, Reason
from creditgate_server.engines import health
from creditgate_server.rpc.endpoint import EXECUTE_BYTES_MAX, Answer, Endpoint, answer
from creditgate_server.rpc.stream import StreamClosed, StreamEndpoint

METADATA_BYTES_MAX = 8 * 1024

_OPTIONS = (
    # A second server on the same port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", EXECUTE_BYTES_MAX + 1024),
    # Both, since between the two gRPC refuses some requests and not others, as if by chance.
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
)


class AioEngine:
    """A grpc.aio server. Addresses are bound by `bind`, before `start`."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint | StreamEndpoint], *, reflect: bool = False
    ) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        services = sorted({path.split("/")[1] for path in endpoints})
        self._health = health.Health(services)
        if reflect:
            names = (*services, health.SERVICE, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self._server.add_generic_rpc_handlers((self._health.handlers(), _Handlers(endpoints)))

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on an address; the port, 0 for a unix socket. Raises OSError if it is taken."""
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: it is in use or not allowed") from error

    async def start(self) -> None:
        """Answer requests. Health says NOT_SERVING until `set_serving`."""
        await self._server.start()

    def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - it is the name's object
        """What health says of the server as a whole and of each service."""
        self._health.set_serving(serving)

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, give those under way `grace_s` to end."""
        self._health.end()
        await self._server.stop(grace_s)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, endpoints: Mapping[str, Endpoint | StreamEndpoint]) -> None:
        self._known = {
            path: _stream_handler(endpoint)
            if isinstance(endpoint, StreamEndpoint)
            else _handler(endpoint)
            for path, endpoint in endpoints.items()
        }
        self._unknown = _handler(_no_such_method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._known.get(handler_call_details.method, self._unknown)


_Context = grpc.aio.ServicerContext[bytes, bytes]


async def _no_such_method(_body: bytes) -> Answer:
    return answer(Fault(Reason.NO_SUCH_METHOD, "this server has no such method"))


def _handler(endpoint: Callable[[bytes], Coroutine[Any, Any, Answer]]) -> Any:
    async def call(body: bytes, context: _Context) -> bytes:
        # Shielded: what was sent to the store completes, also when the caller has left.
        found = await asyncio.shield(endpoint(body))
        if found.code is not grpc.StatusCode.OK:
            await context.abort(found.code, found.details, found.trailing_metadata)
        return found.body

    # Without (de)serializers bytes arrive as they are, and a parsing failure is ours to answer.
    return grpc.unary_unary_rpc_method_handler(call)


def _stream_handler(endpoint: StreamEndpoint) -> Any:
    async def call(_requests: object, context: _Context) -> None:
        stream = _Stream(context)
        try:
            # Shielded, for the same reason; to whom has left nothing can be read or written.
            found = await asyncio.shield(endpoint(stream))
        finally:
            stream.left = True
        if found.code is not grpc.StatusCode.OK:
            await context.abort(found.code, found.details, found.trailing_metadata)

    return grpc.stream_stream_rpc_method_handler(call)


class _Stream:
    """Implements `rpc.stream.Stream`."""

    left: bool
    """The call is over, whatever ended it."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        self.left = False

    async def read(self) -> bytes | None:
        if self.left:
            return None
        try:
            body: object = await self._context.read()
        except Exception:  # noqa: BLE001 - gRPC's words for it are many, and some are not public
            return None
        # What else there is instead of bytes is gRPC's EOF.
        return body if isinstance(body, bytes) and not self.left else None

    async def write(self, body: bytes) -> None:
        if not self.left:
            try:
                await self._context.write(body)
            except Exception as error:
                raise StreamClosed from error
        if self.left:
            raise StreamClosed
