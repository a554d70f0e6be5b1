"""The engine on the completion queue of gRPC's core, at a quarter of what grpc.aio costs.

A thread waits for the queue and takes turns of the asyncio loop (see `turns`). Nobody stands
between the core and the endpoint: a request is read, its coroutine runs until it waits for the
store, and what continues it sends the answer.

`cygrpc` is not a public interface. `check_shape` looks at all that is used of it, the tests run on
the oldest and the newest release that we support, and where it does not fit grpc.aio serves.

What bites: an `Operation` belongs to one batch, or its memory is freed twice. A message may be
None, because its caller has left. A call lives as long as a batch of it is under way. A batch for
a queue that was shut down ends the process.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined] # no stubs

from creditgate_server.core.faults import Fault, Reason
from creditgate_server.engines.engine import (
    OPTIONS,
    Endpoints,
    Name,
    Options,
    UnaryEndpoint,
    no_such_method,
)
from creditgate_server.engines.turns import Turns
from creditgate_server.rpc.endpoint import Answer, answer
from creditgate_server.rpc.stream import StreamClosed, StreamEndpoint

_log = logging.getLogger(__name__)

# Calls that the core may hand over before it has to wait for us.
_WELCOMES: Final = 64
# Events of one turn. The loop's own thread waits no longer for its turn.
_EVENTS_MAX: Final = 128

# How long calls may take to go when the thread has failed.
_ABANDON_S: Final = 5.0

_DONE: Final = cygrpc.CompletionType.operation_complete
_SHUTDOWN: Final = cygrpc.CompletionType.queue_shutdown
_NEW_CALL: Final = object()
_NO_FLAGS: Final = 0
_OK: Final = cygrpc.StatusCode.ok

_receive_message = cygrpc.ReceiveMessageOperation
_receive_close = cygrpc.ReceiveCloseOnServerOperation
_send_metadata = cygrpc.SendInitialMetadataOperation
_send_message = cygrpc.SendMessageOperation
_send_status = cygrpc.SendStatusFromServerOperation

_NO_MESSAGE = answer(Fault(Reason.MALFORMED_MESSAGE, "the call has ended without a request"))


_SHAPE: Final = {
    "Server": (
        *("add_http2_port", "cancel_all_calls", "destroy", "register_completion_queue"),
        *("request_call", "shutdown", "start"),
    ),
    "CompletionQueue": ("poll", "shutdown"),
    "Call": ("cancel", "peer", "start_server_batch"),
    "CallDetails": ("method",),
    "RequestCallEvent": (
        *("call", "call_details", "completion_type", "invocation_metadata", "success", "tag"),
    ),
    "BatchOperationEvent": ("batch_operations", "completion_type", "success", "tag"),
    "ReceiveMessageOperation": ("message",),
}


def check_shape() -> None:
    """Raises AttributeError or TypeError if this release of grpcio is not made as we know it."""
    for name, parts in _SHAPE.items():
        for part in parts:
            getattr(getattr(cygrpc, name), part)
    cygrpc.peer_identities  # noqa: B018 - whether there is one
    _receive_message(_NO_FLAGS), _receive_close(_NO_FLAGS), _send_metadata((), _NO_FLAGS)
    _send_message(b"", _NO_FLAGS), _status(Answer())
    if cygrpc.CompletionQueue().poll(0).completion_type in (_DONE, _SHUTDOWN):
        raise TypeError("an empty queue of completions does not say so")


class CoreEngine:
    """A server on the queue; see `Engine`. Raises `NotShareable` for a loop that cannot be used."""

    name: Name = "core"

    def __init__(self, endpoints: Endpoints, options: Options = OPTIONS) -> None:
        self.loop = asyncio.get_running_loop()
        self._turns = Turns.of(self.loop)
        self._endpoints = {path.encode(): endpoint for path, endpoint in endpoints.items()}
        self._streams: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._failed = False
        self._stopped = asyncio.Event()
        self._thread_ended = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(options, False)  # noqa: FBT003 - the core names none
        self._server.register_completion_queue(self._queue)

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on an address; see `Engine.bind`."""
        inner = () if credentials is None else (credentials._credentials,)  # type: ignore[attr-defined]
        try:
            port: int = self._server.add_http2_port(address.encode(), *inner)
        except RuntimeError:
            port = 0
        if not port:
            raise OSError(f"cannot listen on {address}: it is in use or not allowed")
        return port

    async def start(self) -> None:
        """Answer requests."""
        self._server.start()
        for _ in range(_WELCOMES):
            self._server.request_call(self._queue, self._queue, _NEW_CALL)
        self._thread = threading.Thread(target=self._live, name="creditgate-core", daemon=True)
        self._thread.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, give those under way `grace_s` to end."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping = True
        if self._failed:
            self._abandon()
            return
        self._server.shutdown(self._queue, self._on_stopped)
        try:
            async with asyncio.timeout(grace_s):
                await self._stopped.wait()
        except TimeoutError:
            self._server.cancel_all_calls()
            await self._stopped.wait()
        self._queue.shutdown()
        await self._thread_ended.wait()
        thread.join()
        self._server.destroy()

    def batch(
        self, call: Any, operations: tuple[Any, ...], done: Callable[[Any], object] | None
    ) -> bool:
        """Hand operations of a call to the core; whether it takes them.

        `done` is called with the event, in a turn of the loop; never, if they are not taken.
        """
        if self._stopped.is_set():
            return False
        error: int = call.start_server_batch(operations, done)
        return not error

    def end(self, call: Any, operations: tuple[Any, ...]) -> None:
        """Hand over the last operations of a call, up to its status."""
        if not self.batch(call, operations, None):
            # Its caller shall not wait for what never comes.
            call.cancel()

    def finish(self, call: Any, found: Answer) -> None:
        """Answer a call that has sent nothing yet."""
        if found.code is grpc.StatusCode.OK:
            operations: tuple[Any, ...] = (
                _send_metadata((), _NO_FLAGS),
                _send_message(found.body, _NO_FLAGS),
                _send_status((), _OK, b"", _NO_FLAGS),
            )
        else:
            operations = (_send_metadata((), _NO_FLAGS), _status(found))
        self.end(call, operations)

    def _live(self) -> None:
        """The thread's life. If it ends before its time, the program ends with it."""
        try:
            self._run()
        except BaseException:  # noqa: BLE001 - ends the program
            # A server that answers nobody any more must not look alive.
            _log.critical("the engine has failed, and the server ends", exc_info=True)
            with self._turns:
                self._failed = True
                self._turns.end(1)

    def _abandon(self) -> None:
        """Let go of all calls, without the thread. A queue that is not empty never goes away."""
        self._server.shutdown(self._queue, None)
        self._server.cancel_all_calls()
        self._queue.shutdown()
        end_s = time.time() + _ABANDON_S
        while self._queue.poll(end_s).completion_type == _DONE:
            pass

    def _run(self) -> None:
        """Wait for something, then take a turn with all that has come, until there is no more."""
        turns, poll, take = self._turns, self._queue.poll, self._take
        turns.welcome()
        event = poll()
        while event.completion_type != _SHUTDOWN:
            with turns:
                for _ in range(_EVENTS_MAX):
                    take(event)
                    # What came meanwhile shares the turn, and the write to the store.
                    event = poll(0)
                    if event.completion_type != _DONE:
                        break
            if event.completion_type != _DONE:
                event = poll()
        with turns:
            turns.hand_over(self._thread_ended.set)

    def _take(self, event: Any) -> None:
        tag = event.tag
        try:
            if tag is _NEW_CALL:
                self._begin(event)
            elif tag is not None:
                tag(event)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the others are served
            _log.exception("a defect in the engine")

    def _on_stopped(self, _event: Any) -> None:
        self._turns.hand_over(self._stopped.set)

    def _begin(self, event: Any) -> None:
        if not self._stopping:
            self._server.request_call(self._queue, self._queue, _NEW_CALL)
        if not event.success:
            return
        endpoint = self._endpoints.get(event.call_details.method, no_such_method)
        if isinstance(endpoint, StreamEndpoint):
            task = self.loop.create_task(_Stream(self, event).serve(endpoint))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        else:
            request = _Request(self, event, endpoint)
            self.batch(request.call, (_receive_message(_NO_FLAGS),), request.received)


class _Caller:
    """Implements `rpc.endpoint.Caller`."""

    __slots__ = ("_metadata", "call")

    def __init__(self, event: Any) -> None:
        self.call = event.call
        self._metadata = event.invocation_metadata

    def peer(self) -> str:
        found: bytes = self.call.peer()
        return found.decode()

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return tuple((key, value) for key, value in self._metadata)

    def identities(self) -> tuple[bytes, ...]:
        return tuple(cygrpc.peer_identities(self.call) or ())


class _Request(_Caller):
    """One unary call. A task of asyncio's does the same and costs more."""

    __slots__ = ("_coroutine", "_endpoint", "_engine")

    _coroutine: Coroutine[Any, Any, Answer]

    def __init__(self, engine: CoreEngine, event: Any, endpoint: UnaryEndpoint) -> None:
        super().__init__(event)
        self._engine = engine
        self._endpoint = endpoint

    def received(self, event: Any) -> None:
        body = event.batch_operations[0].message()
        if body is None:
            # Its caller has left, or is waiting for an answer to nothing.
            self._engine.finish(self.call, _NO_MESSAGE)
            return
        self._coroutine = self._endpoint(body, self)
        self._step()

    def _step(self, _awaited: object = None) -> None:
        """Run until it waits for the next future, or has the answer."""
        try:
            future = self._coroutine.send(None)
            # What a task would do: say that the future was found, and come back when it is done.
            future._asyncio_future_blocking = False
            future.add_done_callback(self._step)
        except StopIteration as end:
            self._engine.finish(self.call, end.value)
        except BaseException:
            # A broken promise of the endpoint's, or what it waits for was cancelled.
            self.call.cancel()
            raise


class _Stream:
    """Implements `rpc.stream.Stream`."""

    def __init__(self, engine: CoreEngine, event: Any) -> None:
        self.caller = _Caller(event)
        self._engine = engine
        self._call = event.call
        self._left = asyncio.Event()
        # Sent with the first message, or with the status.
        self._first: tuple[Any, ...] = (_send_metadata((), _NO_FLAGS),)

    async def serve(self, endpoint: StreamEndpoint) -> None:
        """From the caller's first word to the status."""
        if not self._engine.batch(self._call, (_receive_close(_NO_FLAGS),), self._on_close):
            self._left.set()
        found = await endpoint(self)
        self._engine.end(self._call, (*self._take_first(), _status(found)))

    async def read(self) -> bytes | None:
        event = await self._batch((_receive_message(_NO_FLAGS),))
        body: bytes | None = None if event is None else event.batch_operations[0].message()
        return None if self._left.is_set() else body

    async def write(self, body: bytes) -> None:
        event = await self._batch((*self._take_first(), _send_message(body, _NO_FLAGS)))
        if event is None or not event.success or self._left.is_set():
            raise StreamClosed

    async def until_left(self) -> None:
        await self._left.wait()

    def _on_close(self, _event: Any) -> None:
        # Also at the regular end, when nobody looks any more.
        self._left.set()

    def _take_first(self) -> tuple[Any, ...]:
        first, self._first = self._first, ()
        return first

    async def _batch(self, operations: tuple[Any, ...]) -> Any:
        """The event at the end of a batch; None if none can begin."""
        if self._left.is_set():
            return None
        done: asyncio.Future[Any] = self._engine.loop.create_future()

        def on_done(event: Any) -> None:
            if not done.done():
                done.set_result(event)

        return await done if self._engine.batch(self._call, operations, on_done) else None


def _status(found: Answer) -> Any:
    return _send_status(found.trailing_metadata, found.code.value[0], found.details, _NO_FLAGS)
