"""A server on which everything goes wrong that can, by chance; it knows what it was asked.

Answers are late and in any order, some never come; operations fail before or after they took
effect; sessions are cut, drained, refused, or fall silent; the server goes and comes again. What
took effect, and with which bytes it was asked for, stays.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio

from creditgate import _session
from creditgate._methods import METHODS, Method, method_of
from creditgate.v1 import credits_pb2 as pb
from creditgate.v1.error_reason_pb2 import ErrorReason
from creditgate.v1.resources_pb2 import Decision, Hold
from tests.client.fake import Fails

if TYPE_CHECKING:
    from google.protobuf.message import Message

C = grpc.StatusCode
BEFORE = Fails(C.UNAVAILABLE, "STORE_UNAVAILABLE", "not-applied")
AFTER = Fails(C.UNAVAILABLE, "STORE_UNAVAILABLE", "unknown")
ENDS = [Fails(C.UNAVAILABLE), Fails(C.INTERNAL), Fails(C.RESOURCE_EXHAUSTED), Fails(C.CANCELLED)]


class Chaos:
    """How often it goes wrong is for each operation, in thousandths."""

    def __init__(
        self,
        address: str,
        seed: int,
        *,
        fails: int = 50,
        lost: int = 3,
        ends: int = 5,
        slow_s: float = 0.01,
    ) -> None:
        self.address = address
        self.rng = random.Random(seed)
        self.fails, self.lost, self.ends = fails, lost, ends
        self.slow_s = slow_s
        self.bodies: dict[tuple[str, str, str], set[bytes]] = {}
        """What took effect: by method, account and hold, the requests that came for it."""
        self.seen: Counter[str] = Counter()
        self.sizes: list[int] = []
        self._server: grpc.aio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        options = (("grpc.so_reuseport", 0),)
        self._server = server = grpc.aio.server(options=options)
        handlers: dict[str, dict[str, Any]] = {}
        for method in METHODS.values():
            _, service, name = method.path.split("/")
            handler: Any = grpc.unary_unary_rpc_method_handler(self._unary(method))
            handlers.setdefault(service, {})[name] = handler
        _, service, name = _session.PATH.split("/")
        handlers[service][name] = grpc.stream_stream_rpc_method_handler(self._session)
        for service, methods in handlers.items():
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, methods),)
            )
        server.add_insecure_port(self.address)
        await server.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.stop(0)

    async def again(self) -> None:
        """Go, and come again."""
        await self.stop()
        await asyncio.sleep(self.rng.random() * 0.05)
        await self.start()

    def chance(self, thousandths: int) -> bool:
        return self.rng.random() * 1000 < thousandths

    async def answer(self, method: Method, body: bytes) -> Message | None:
        """The answer to a request, which says what it was; None if there will be none."""
        await asyncio.sleep(self.rng.random() ** 3 * self.slow_s)
        request: Any = method.request.FromString(body)
        if self.chance(self.fails):
            self.seen["failed before"] += 1
            raise BEFORE
        key = (method.name, request.account_id, getattr(request, "hold_id", ""))
        replayed = key in self.bodies
        self.bodies.setdefault(key, set()).add(body)
        if self.chance(self.fails):
            self.seen["failed after"] += 1
            raise AFTER
        if self.chance(self.lost):
            self.seen["lost"] += 1
            return None
        if key[2].endswith("refused"):
            told = {"hold_id": key[2], "charged": "0", "refunded": "0"}
            raise Fails(C.FAILED_PRECONDITION, "HOLD_SETTLED", "not-applied", told)
        return echo(request, replayed=replayed)

    def _unary(self, method: Method) -> Any:
        async def handle(body: bytes, context: Any) -> bytes:
            self.seen["alone"] += 1
            found: Message | None = None
            try:
                found = await self.answer(method, body)
            except Fails as fails:
                await context.abort(fails.code, fails.text, fails.all_trailing())
            if found is None:
                await asyncio.sleep(30)
            assert found is not None
            return found.SerializeToString()

        return handle

    async def _session(self, _messages: object, context: Any) -> None:
        self.seen["sessions"] += 1
        if self.chance(20):
            await context.abort(*self.rng.choice([(C.UNIMPLEMENTED, ""), (C.UNAVAILABLE, "")]))
        results: asyncio.Queue[pb.SessionResult | Fails | None] = asyncio.Queue()
        writing = asyncio.create_task(self._write(results, context))
        try:
            while isinstance(body := await self._read(context, writing), bytes):
                operations = pb.SessionRequest.FromString(body).operations
                self.sizes.append(len(operations))
                for each in operations:
                    task = asyncio.create_task(self._operation(each, results))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        finally:
            writing.cancel()
        end = writing.result() if writing.done() and not writing.cancelled() else None
        if end is not None:
            await context.abort(end.code, end.text, end.all_trailing())

    async def _read(self, context: Any, writing: asyncio.Task[Any]) -> Any:
        reading = asyncio.ensure_future(context.read())
        await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() else reading.cancel()

    async def _write(self, results: asyncio.Queue[Any], context: Any) -> Fails:
        """Send what is ready, until there is a way to end."""
        await context.write(b"")
        while True:
            taken = [await results.get()]
            while not results.empty():
                taken.append(results.get_nowait())
            self.rng.shuffle(taken)
            if self.chance(self.ends * len(taken)):
                if self.chance(500):
                    self.seen["drained"] += 1
                    await asyncio.sleep(3 * self.slow_s)
                    while not results.empty():
                        taken.append(results.get_nowait())
                    response = pb.SessionResponse(results=taken, draining=True)
                    await context.write(response.SerializeToString())
                    return Fails(C.UNAVAILABLE, "SHUTTING_DOWN", "not-applied")
                self.seen["cut"] += 1
                return self.rng.choice(ENDS)
            await context.write(pb.SessionResponse(results=taken).SerializeToString())

    async def _operation(
        self, asked: pb.SessionOperation, results: asyncio.Queue[pb.SessionResult | Fails | None]
    ) -> None:
        which = asked.operation.WhichOneof("operation")
        assert which is not None
        body = getattr(asked.operation, which).SerializeToString(deterministic=True)
        self.seen["in session"] += 1
        with suppress(asyncio.CancelledError):
            try:
                found = await self.answer(METHODS[which], body)
                if found is None:
                    return
                fields: dict[str, Any] = {which: found}
                result = pb.Result(**fields)
            except Fails as fails:
                result = fault(fails)
            results.put_nowait(pb.SessionResult(number=asked.number, result=result))


def fault(fails: Fails) -> pb.Result:
    """A status as the answer of an operation."""
    return pb.Result(
        fault=pb.Fault(
            reason=ErrorReason.Value(f"ERROR_REASON_{fails.reason}"),
            code=fails.code.value[0],
            message=fails.text,
            metadata=fails.metadata,
            credit_outcome=fails.outcome,
        )
    )


def echo(request: Any, *, replayed: bool) -> Message:
    """An answer that says what it answers."""
    answer: Any = method_of(request).response()
    for name in answer.DESCRIPTOR.fields_by_name:
        match name:
            case "decision":
                answer.decision = Decision.DECISION_APPROVED
            case "hold":
                hold = Hold(account_id=request.account_id, hold_id=request.hold_id)
                answer.hold.CopyFrom(hold)
            case "replayed":
                answer.replayed = replayed
            case "totals":
                answer.totals.account_id = request.account_id
            case "catalog_version":
                answer.catalog_version = request.job.action
            case "plan_id":
                answer.plan_id = request.action
            case _:
                pass
    made: Message = answer
    return made
