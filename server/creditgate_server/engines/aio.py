"""The engine on grpc.aio: the public way, for wherever the other does not run."""

import asyncio
import logging
from typing import Any, Final

import grpc

from creditgate_server.engines.engine import (
    OPTIONS,
    Endpoints,
    Name,
    Options,
    UnaryEndpoint,
    no_such_method,
)
from creditgate_server.rpc.stream import StreamClosed, StreamEndpoint

_WATCH_S: Final = 1.0

_log = logging.getLogger(__name__)


class AioEngine:
    """A grpc.aio server; see `Engine`."""

    name: Name = "aio"

    def __init__(self, endpoints: Endpoints, options: Options = OPTIONS) -> None:
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_Handlers(endpoints),))
        self._watching: asyncio.Task[None] | None = None

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on an address; see `Engine.bind`."""
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: it is in use or not allowed") from error

    async def start(self) -> None:
        """Answer requests."""
        await self._server.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, give those under way `grace_s` to end."""
        if self._watching is not None:
            self._watching.cancel()
        await self._server.stop(grace_s)

    async def _watch(self) -> None:
        # Its loop ends at the first path that is not UTF-8, and says so in no other way.
        while self._server._server.is_running():  # type: ignore[attr-defined] # noqa: ASYNC110
            await asyncio.sleep(_WATCH_S)
        # A server that answers nobody any more must not look alive.
        _log.critical("the engine has failed, and the server ends")
        raise SystemExit(1)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, endpoints: Endpoints) -> None:
        self._known = {
            path: _stream_handler(endpoint)
            if isinstance(endpoint, StreamEndpoint)
            else _handler(endpoint)
            for path, endpoint in endpoints.items()
        }
        self._unknown = _handler(no_such_method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._known.get(handler_call_details.method, self._unknown)


_Context = grpc.aio.ServicerContext[bytes, bytes]


def _handler(endpoint: UnaryEndpoint) -> Any:
    async def call(body: bytes, context: _Context) -> bytes:
        # Shielded: what was sent to the store completes, also when the caller has left.
        found = await asyncio.shield(endpoint(body, _Caller(context)))
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
            stream.left.set()
        if found.code is not grpc.StatusCode.OK:
            await context.abort(found.code, found.details, found.trailing_metadata)

    return grpc.stream_stream_rpc_method_handler(call)


class _Caller:
    """Implements `rpc.endpoint.Caller`."""

    def __init__(self, context: _Context) -> None:
        # Asked for here: of a call whose caller has left, gRPC ends the process to say it (1.85.1).
        self._peer = context.peer()
        self._identities = tuple(context.peer_identities() or ())
        self._context = context

    def peer(self) -> str:
        return self._peer

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return tuple(self._context.invocation_metadata() or ())

    def identities(self) -> tuple[bytes, ...]:
        return self._identities


class _Stream:
    """Implements `rpc.stream.Stream`."""

    def __init__(self, context: _Context) -> None:
        self.caller = _Caller(context)
        self._context = context
        # The call is over, whatever ended it.
        self.left = asyncio.Event()

    async def read(self) -> bytes | None:
        if self.left.is_set():
            return None
        try:
            body: object = await self._context.read()
        except Exception:  # noqa: BLE001 - gRPC's words for it are many, and some are not public
            return None
        # What else there is instead of bytes is gRPC's EOF.
        return body if isinstance(body, bytes) and not self.left.is_set() else None

    async def write(self, body: bytes) -> None:
        if not self.left.is_set():
            try:
                await self._context.write(body)
            except Exception as error:
                raise StreamClosed from error
        if self.left.is_set():
            raise StreamClosed

    async def until_left(self) -> None:
        await self.left.wait()
