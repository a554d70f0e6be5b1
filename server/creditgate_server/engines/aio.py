"""The engine on grpc.aio: carries bytes between callers and endpoints, and nothing else."""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from creditgate_server.core.faults import Fault, Reason
from creditgate_server.rpc.endpoint import EXECUTE_BYTES_MAX, Answer, Endpoint, answer

METADATA_BYTES_MAX = 8 * 1024

_OPTIONS = (
    # A second server on the same port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", EXECUTE_BYTES_MAX + 1024),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
)


class AioEngine:
    """A grpc.aio server. Addresses are bound by `bind`, before `start`."""

    def __init__(self, endpoints: Mapping[str, Endpoint], *, reflect: bool = False) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._services = sorted({path.split("/")[1] for path in endpoints})
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflect:
            names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self._server.add_generic_rpc_handlers((_Handlers(endpoints),))

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on an address; returns the port, 0 for a unix socket. Raises OSError if it is taken."""
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: it is in use or not allowed") from error

    async def start(self) -> None:
        """Answer requests. Health says NOT_SERVING until `set_serving`."""
        await self.set_serving(False)
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """What health says of the server as a whole and of each service."""
        state = health_pb2.HealthCheckResponse
        status = state.SERVING if serving else state.NOT_SERVING
        for name in ("", *self._services):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, give those under way `grace_s` to end."""
        await self._server.stop(grace_s)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._known = {path: _handler(endpoint) for path, endpoint in endpoints.items()}
        self._unknown = _handler(_no_such_method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._known.get(handler_call_details.method, self._unknown)


async def _no_such_method(_body: bytes) -> Answer:
    return answer(Fault(Reason.NO_SUCH_METHOD, "this server has no such method"))


def _handler(endpoint: Any) -> Any:
    async def call(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        # Shielded: what was sent to the store completes, also when the caller has left.
        found = await asyncio.shield(endpoint(body))
        if found.code is grpc.StatusCode.OK:
            return found.body  # type: ignore[no-any-return]
        await context.abort(found.code, found.details, found.trailing_metadata)

    # Without (de)serializers bytes arrive as they are, and a parsing failure is ours to answer.
    return grpc.unary_unary_rpc_method_handler(call)
