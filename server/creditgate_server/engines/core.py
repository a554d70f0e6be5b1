"""The engine on the completion queue of gRPC's core: a quarter of what grpc.aio costs.

A thread waits for the queue and takes turns of the asyncio loop (see `turns`). A request is parsed,
sent to the store, answered and forgotten without a step that is not needed for it: there is nobody
between the core and the endpoint.

`cygrpc` is not a public interface. `check` looks at the shape of what is used of it, the tests run on
every release that we support, and where it does not fit there is the engine on grpc.aio.

What bites: an `Operation` belongs to one batch, or its memory is freed twice; a message may be None
because its caller has left; a call lives until its last batch is done, for which the core keeps it.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

import grpc
from grpc._cython import cygrpc

from creditgate_server.core.faults import Fault, Reason

from creditgate_server.engines.limits import OPTIONS
from creditgate_server.engines.turns import Turns
from creditgate_server.rpc.endpoint import Answer, Endpoint, answer

_log = logging.getLogger(__name__)

_NO_FLAGS: Final = 0
_OK: Final = cygrpc.StatusCode.ok
# Calls that the core may hand over before it has to wait for us.
_WELCOMES: Final = 64
# Events of one turn. What the loop's own thread has to do waits no longer.
_EVENTS_MAX: Final = 128
_DONE: Final = cygrpc.CompletionType.operation_complete
_SHUTDOWN: Final = cygrpc.CompletionType.queue_shutdown
_NEW_CALL: Final = object()


class CoreEngine:
    """A server on the queue. Made on the loop that its endpoints run on."""

    def __init__(self, endpoints: Mapping[str, Endpoint], *, reflect: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns = Turns.of(self._loop)
        self._endpoints = {path.encode(): endpoint for path, endpoint in endpoints.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._stopped = asyncio.Event()
        self._thread_ended = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(OPTIONS, False)  # noqa: FBT003 - positional in the core
        self._server.register_completion_queue(self._queue)

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on an address; the port, 0 for a unix socket. Raises OSError if it is taken."""
        inner = () if credentials is None else (credentials._credentials,)  # type: ignore[attr-defined]
        port: int = self._server.add_http2_port(address.encode(), *inner)
        if not port:
            raise OSError(f"cannot listen on {address}: it is in use or not allowed")
        return port

    async def start(self) -> None:
        """Answer requests. Health says NOT_SERVING until `set_serving`."""
        self._server.start()
        for _ in range(_WELCOMES):
            self._server.request_call(self._queue, self._queue, _NEW_CALL)
        self._thread = threading.Thread(target=self._run, name="creditgate-core", daemon=True)
        self._thread.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, give those under way `grace_s` to end."""
        if self._thread is None:
            return
        self._stopping = True
        self._server.shutdown(self._queue, self._on_stopped)
        try:
            async with asyncio.timeout(grace_s):
                await self._stopped.wait()
        except TimeoutError:
            self._server.cancel_all_calls()
            await self._stopped.wait()
        # What a task would send now, to a queue that is gone, would end the process.
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._queue.shutdown()
        await self._thread_ended.wait()

    def _run(self) -> None:
        """The thread's life: wait for something, then take a turn for all that has come."""
        turns, poll, take = self._turns, self._queue.poll, self._take
        turns.welcome()
        event = poll()
        while event.completion_type != _SHUTDOWN:
            with turns:
                for _ in range(_EVENTS_MAX):
                    take(event)
                    # What came meanwhile shares the turn, and its write to the store.
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
                self._welcome(event)
            elif tag is not None:
                tag(event)
        except Exception:  # noqa: BLE001 - logged with its trace; the others are served
            _log.exception("a defect in the engine")

    def _on_stopped(self, _event: Any) -> None:
        self._turns.hand_over(self._stopped.set)

    def _welcome(self, event: Any) -> None:
        if not self._stopping:
            self._server.request_call(self._queue, self._queue, _NEW_CALL)
        if not event.success:
            return
        call = event.call
        endpoint = self._endpoints.get(event.call_details.method, _no_such_method)
        call.start_server_batch(
            (cygrpc.ReceiveMessageOperation(_NO_FLAGS),),
            lambda received: self._request(call, endpoint, received),
        )

    def _request(self, call: Any, endpoint: Any, event: Any) -> None:
        body = event.batch_operations[0].message()
        if body is None:
            return
        task = self._loop.create_task(_serve(call, endpoint, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve(call: Any, endpoint: Any, body: bytes) -> None:
    found = await endpoint(body)
    if found.code is grpc.StatusCode.OK:
        call.start_server_batch(
            (
                cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),
                cygrpc.SendMessageOperation(found.body, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation((), _OK, b"", _NO_FLAGS),
            ),
            None,
        )
        return
    call.start_server_batch(
        (
            cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(
                found.trailing_metadata, found.code.value[0], found.details, _NO_FLAGS
            ),
        ),
        None,
    )


async def _no_such_method(_body: bytes) -> Answer:
    return answer(Fault(Reason.NO_SUCH_METHOD, "this server has no such method"))
