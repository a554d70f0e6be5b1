"""A server that answers as it is told, over a real socket.

What is not scripted is answered from a ledger of a few lines: an account with credits without end,
holds at 10 credits a unit, one final settle or refund, and replays. It is no model of the rules; it
is enough to see what a client asks, byte for byte, and what it makes of the answers.
"""

from __future__ import annotations

import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import (  # type: ignore[import-untyped] # not marked
    error_details_pb2,
    status_pb2,
)

from creditgate import _session
from creditgate._methods import METHODS, Method, method_of
from creditgate.v1 import credits_pb2
from creditgate.v1.credits_pb2 import (
    Fault,
    Operation,
    Result,
    SessionRequest,
    SessionResponse,
    SessionResult,
)
from creditgate.v1.error_reason_pb2 import ErrorReason
from creditgate.v1.resources_pb2 import Decision, Hold, HoldState

if TYPE_CHECKING:
    from pathlib import Path

PRICE = 10
TTL_S = 600
NOW_S = 1_700_000_000

OPEN = HoldState.HOLD_STATE_OPEN
SETTLED = HoldState.HOLD_STATE_SETTLED
REFUNDED = HoldState.HOLD_STATE_REFUNDED
EXPIRED = HoldState.HOLD_STATE_EXPIRED


@dataclass
class Fails(Exception):
    """A status other than OK."""

    code: grpc.StatusCode
    reason: str = ""
    outcome: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    text: str = "as told"
    trailing: tuple[tuple[str, str | bytes], ...] = ()
    retry_s: float | None = None
    domain: str = "creditgate"

    def all_trailing(self) -> tuple[tuple[str, str | bytes], ...]:
        pairs: list[tuple[str, str | bytes]] = list(self.trailing)
        if self.outcome:
            pairs.append(("credit-outcome", self.outcome))
        status = status_pb2.Status(code=self.code.value[0], message=self.text)
        if self.reason:
            info = error_details_pb2.ErrorInfo(
                reason=self.reason, domain=self.domain, metadata=self.metadata
            )
            status.details.add().Pack(info)
        if self.retry_s is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_s * 1e9))
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        if status.details:
            pairs.append(("grpc-status-details-bin", status.SerializeToString()))
        return tuple(pairs)


UNAVAILABLE = Fails(grpc.StatusCode.UNAVAILABLE)
Step = Fails | Message | Callable[["FakeServer", Message], Message]


def after_applying(fails: Fails) -> Step:
    """Do what was asked, and lose the answer."""

    def step(server: FakeServer, request: Message) -> Message:
        server.apply(request)
        raise fails

    return step


def when(event: threading.Event) -> Step:
    """Answer when told."""

    def step(server: FakeServer, request: Message) -> Message:
        event.wait(30)
        return server.apply(request)

    return step


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    body: bytes
    request: Any
    time_s: float
    metadata: dict[str, Any]
    in_session: bool = False


class FakeServer:
    def __init__(self, address: str, *, sessions: bool = False) -> None:
        """`sessions`: whether it has the method Session."""
        self.address = address
        self.sessions: list[int] = []
        """How many operations came in each message of Session."""
        self.asked: list[Asked] = []
        self.holds: dict[tuple[str, str], Hold] = {}
        self.operations: dict[tuple[str, str, str], tuple[bytes, Message]] = {}
        self.arrived = threading.Condition()
        self._always: dict[str, Step] = {}
        self._script: dict[str, deque[Step]] = defaultdict(deque)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)]
        )
        handlers: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = defaultdict(dict)
        for method in METHODS.values():
            _, service, name = method.path.split("/")
            handlers[service][name] = grpc.unary_unary_rpc_method_handler(self._handler(method))
        if sessions:
            _, service, name = _session.PATH.split("/")
            handlers[service][name] = grpc.stream_stream_rpc_method_handler(
                self._session, SessionRequest.FromString, SessionResponse.SerializeToString
            )
        for service, methods in handlers.items():
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, methods),)
            )
        assert self._server.add_insecure_port(address)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def tell(self, method: str, *steps: Step) -> None:
        """Answer the next requests of a method so; after that as usual."""
        self._script[method].extend(steps)

    @contextmanager
    def always(self, method: str, step: Step) -> Iterator[None]:
        """Answer every request of a method so, for a while."""
        self._always[method] = step
        try:
            yield
        finally:
            del self._always[method]

    def requests(self, method: str) -> list[Any]:
        return [asked.request for asked in self.asked if asked.method == method]

    def bodies(self, method: str) -> list[bytes]:
        return [asked.body for asked in self.asked if asked.method == method]

    def wait_for(self, method: str, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests(method)) >= count, 10)

    def hold(self, account_id: str, hold_id: str) -> Hold:
        return self.holds[account_id, hold_id]

    def _handler(self, method: Method) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
            request = method.request.FromString(body)
            metadata = {pair[0]: pair[1] for pair in context.invocation_metadata()}
            asked = Asked(method.name, body, request, context.time_remaining() or 0, metadata)
            try:
                answer = self._asked(asked)
            except Fails as fails:
                context.set_trailing_metadata(fails.all_trailing())
                context.abort(fails.code, fails.text)
            return answer.SerializeToString()

        return handle

    def _asked(self, asked: Asked) -> Message:
        with self.arrived:
            self.asked.append(asked)
            self.arrived.notify_all()
        script = self._script[asked.method]
        step = script.popleft() if script else self._always.get(asked.method)
        return self._answer(step, asked.request)

    def _session(
        self, messages: Iterator[SessionRequest], context: grpc.ServicerContext
    ) -> Iterator[SessionResponse]:
        """Every operation in a thread of its own, every answer in a message of its own."""
        script = self._script["session"]
        if script:
            fails = script.popleft()
            assert isinstance(fails, Fails)
            context.set_trailing_metadata(fails.all_trailing())
            context.abort(fails.code, fails.text)
        ready: queue.Queue[SessionResponse | None] = queue.Queue()

        def answer(number: int, operation: Operation) -> None:
            which = operation.WhichOneof("operation")
            assert which is not None
            request = getattr(operation, which)
            body = request.SerializeToString(deterministic=True)
            try:
                found = self._asked(Asked(which, body, request, 0, {}, in_session=True))
                result = Result(**{which: found})  # type: ignore[arg-type]
            except Fails as fails:
                result = _fault(fails)
            ready.put(SessionResponse(results=[SessionResult(number=number, result=result)]))

        def read() -> None:
            threads = []
            with suppress(grpc.RpcError):
                for message in messages:
                    self.sessions.append(len(message.operations))
                    for each in message.operations:
                        arguments = (each.number, each.operation)
                        threads.append(threading.Thread(target=answer, args=arguments, daemon=True))
                        threads[-1].start()
            for thread in threads:
                thread.join()
            ready.put(None)

        threading.Thread(target=read, daemon=True).start()
        yield SessionResponse()
        while (response := ready.get()) is not None:
            yield response

    def _answer(self, step: Step | None, request: Message) -> Message:
        if step is None:
            return self.apply(request)
        if isinstance(step, Fails):
            raise step
        if isinstance(step, Message):
            return step
        return step(self, request)

    def apply(self, request: Any) -> Message:
        made: Message = getattr(self, f"on_{method_of(request).name}", self._empty)(request)
        return made

    def _empty(self, request: Message) -> Message:
        return method_of(request).response()

    def on_authorize(self, request: Any) -> Message:
        key = (request.account_id, request.hold_id)
        replayed = key in self.holds
        if not replayed:
            amount = PRICE * (request.job.quantity if request.job.HasField("quantity") else 1)
            hold = Hold(
                account_id=request.account_id,
                hold_id=request.hold_id,
                job=request.job,
                state=OPEN,
                amount=amount,
                held=amount,
            )
            hold.authorized_at.seconds = NOW_S
            hold.deadline.seconds = NOW_S + (request.ttl.seconds or TTL_S)
            self.holds[key] = hold
        answer = credits_pb2.AuthorizeResponse(
            decision=Decision.DECISION_APPROVED,
            amount=self.holds[key].amount,
            hold=self.holds[key],
            replayed=replayed,
        )
        answer.totals.as_of.seconds = NOW_S
        return answer

    def on_extend(self, request: Any) -> Message:
        hold = self._open(request)
        amount = request.amount or request.quantity * PRICE
        if amount > hold.amount:
            hold.held += amount - hold.amount
            hold.amount = amount
        hold.deadline.seconds += 1
        answer = credits_pb2.ExtendResponse(decision=Decision.DECISION_APPROVED, hold=hold)
        answer.totals.as_of.seconds = hold.deadline.seconds - (request.ttl.seconds or TTL_S)
        return answer

    def on_settle(self, request: Any) -> Message:
        def settle() -> Message:
            hold = self._open(request)
            asked = hold.held
            if request.HasField("delivered"):
                asked = request.amount or request.quantity * PRICE
            taken = min(asked, hold.held)
            hold.charged += taken
            hold.held -= taken
            returned = 0
            if not request.partial:
                returned, hold.held, hold.state = hold.held, 0, SETTLED
            return credits_pb2.SettleResponse(
                charged=taken, shortfall=asked - taken, returned=returned, hold=hold
            )

        return self._once("settle", request, settle)

    def on_refund(self, request: Any) -> Message:
        def refund() -> Message:
            hold = self._existing(request)
            if hold.state == EXPIRED:
                return credits_pb2.RefundResponse(hold=hold)
            if hold.state == OPEN:
                given, hold.held, hold.state = hold.held, 0, REFUNDED
            else:
                given = request.amount or hold.charged - hold.refunded
                hold.refunded += given
            return credits_pb2.RefundResponse(refunded=given, hold=hold)

        return self._once("refund", request, refund)

    def on_get_hold(self, request: Any) -> Message:
        return credits_pb2.GetHoldResponse(hold=self._existing(request))

    def on_execute(self, request: Any) -> Message:
        return credits_pb2.ExecuteResponse(
            results=[self._operation(operation) for operation in request.operations]
        )

    def _operation(self, operation: Operation) -> Result:
        which = operation.WhichOneof("operation")
        assert which is not None
        try:
            script = self._script[f"execute.{which}"]
            step = script.popleft() if script else None
            made: dict[str, Any] = {which: self._answer(step, getattr(operation, which))}
            return Result(**made)
        except Fails as fails:
            return _fault(fails)

    def _once(self, verb: str, request: Any, make: Callable[[], Message]) -> Message:
        key = (request.hold_id, (request.operation_id and "any") or verb, request.operation_id)
        body = request.SerializeToString(deterministic=True)
        if key in self.operations:
            first, answer = self.operations[key]
            if first == body:
                replay = type(answer).FromString(answer.SerializeToString())
                replay.replayed = True  # type: ignore[attr-defined] # both have it
                return replay
            if request.operation_id:
                raise Fails(grpc.StatusCode.ALREADY_EXISTS, "ID_REUSED", "not-applied")
        answer = make()
        self.operations[key] = body, answer
        return answer

    def _existing(self, request: Any) -> Hold:
        try:
            return self.holds[request.account_id, request.hold_id]
        except KeyError:
            raise Fails(
                grpc.StatusCode.NOT_FOUND,
                "HOLD_NOT_FOUND",
                "not-applied",
                {"hold_id": request.hold_id},
            ) from None

    def _open(self, request: Any) -> Hold:
        hold = self._existing(request)
        if hold.state != OPEN:
            raise Fails(
                grpc.StatusCode.FAILED_PRECONDITION,
                HoldState.Name(hold.state).replace("HOLD_STATE", "HOLD"),
                "not-applied",
                {
                    "hold_id": hold.hold_id,
                    "charged": str(hold.charged),
                    "refunded": str(hold.refunded),
                },
            )
        return hold


def _fault(fails: Fails) -> Result:
    name = f"ERROR_REASON_{fails.reason or 'UNSPECIFIED'}"
    return Result(
        fault=Fault(
            reason=ErrorReason.Value(name),
            code=fails.code.value[0],
            message=fails.text,
            metadata=fails.metadata,
            credit_outcome=fails.outcome,
        )
    )


@contextmanager
def serving(folder: Path, *, sessions: bool = False) -> Iterator[FakeServer]:
    """A server on a socket in the folder."""
    server = FakeServer(f"unix:{folder}/s", sessions=sessions)
    server.start()
    try:
        yield server
    finally:
        server.stop()
