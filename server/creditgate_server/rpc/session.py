"""The method `Session`: operations as they come, over one stream.

Each operation is one of Execute and of the unary methods, by the same code. What is here is how
they come in and go out: messages run at the same time, each as one Execute would, and answers leave
together with those that are ready at the same moment.

Admission looks at each operation as at a call of its own: it takes a place while it is under way,
and is refused by itself. To let the whole stream wait would be wrong, since a settle must not wait
behind the authorizes that are too many; to count a message as one would be a way around the bound.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from google.protobuf.message import DecodeError

from creditgate.v1 import credits_pb2 as pb
from creditgate_server.core.faults import Fault, Reason, defect, invalid
from creditgate_server.rpc import faults
from creditgate_server.rpc.admission import Admission
from creditgate_server.rpc.credits import EXECUTE_MAX
from creditgate_server.rpc.endpoint import EXECUTE_BYTES_MAX
from creditgate_server.rpc.stream import Stream, StreamClosed

IN_FLIGHT_MAX = 1_000
"""As many operations may have no answer, or one that the caller has not taken, before we read on.

The message that passes the bound is the last one, so there may be `EXECUTE_MAX` more.
"""

_METHODS = {
    field.name: field.message_type.name.removesuffix("Request")
    for field in pb.Operation.DESCRIPTOR.fields
    if field.message_type is not None
}
"""What admission knows an operation by."""

Run = Callable[[Sequence[pb.Operation], Sequence[pb.Result]], Awaitable[None]]
"""Runs operations as Execute does, and writes the result of each."""


class Sessions:
    """The handler of `Session`. `run` answers a list of operations as Execute does."""

    def __init__(self, run: Run, admission: Admission) -> None:
        self._run = run
        self._admission = admission

    async def __call__(self, stream: Stream) -> None:
        """Serve one session, from its first message to its status."""
        await _Session(stream, self._run, self._admission).serve()


class _Session:
    def __init__(self, stream: Stream, run: Run, admission: Admission) -> None:
        self._stream = stream
        self._run = run
        self._admission = admission
        self._under_way: set[asyncio.Task[None]] = set()
        # Operations read whose answers are not sent, and bytes of messages read and not run.
        self._operations = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._ready: list[pb.SessionResponse] = []
        self._writing = False
        self._left = False

    async def serve(self) -> None:
        """Read until the caller ends or the server goes down; then answer what was read."""
        # So that the caller knows that there is a session, and not something that swallows it.
        await self._stream.write(pb.SessionResponse().SerializeToString())
        reading = asyncio.ensure_future(self._read())
        with self._admission.told_of_close(reading.cancel):
            await asyncio.wait([reading])
        while self._under_way:
            await asyncio.wait(self._under_way)
        if reading.cancelled():
            await self._stream.write(pb.SessionResponse(draining=True).SerializeToString())
            raise Fault(Reason.SHUTTING_DOWN, "the server is going down; try again")
        reading.result()

    async def _read(self) -> None:
        while (body := await self._stream.read()) is not None:
            # Let in before anything else can happen: what was read is answered, come what may.
            self._begin(_operations(body), len(body))
            while not self._left and (
                self._operations >= IN_FLIGHT_MAX or self._bytes >= EXECUTE_BYTES_MAX
            ):
                self._room.clear()
                await self._room.wait()

    def _begin(self, asked: Sequence[pb.SessionOperation], size: int) -> None:
        answer = pb.SessionResponse()
        let_in, results = [], []
        for each in asked:
            operation = each.operation
            place = answer.results.add()
            place.number = each.number
            try:
                self._admission.enter(_METHODS.get(operation.WhichOneof("operation") or "", ""))
            except Fault as fault:
                place.result.fault.CopyFrom(faults.message(fault))
            else:
                let_in.append(operation)
                results.append(place.result)
        self._operations += len(asked)
        self._bytes += size
        task = asyncio.ensure_future(self._answer(let_in, results, answer, size))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer(
        self,
        let_in: list[pb.Operation],
        results: list[pb.Result],
        answer: pb.SessionResponse,
        size: int,
    ) -> None:
        """Run what was let in; its results are places in `answer`."""
        if let_in:
            try:
                await self._run(let_in, results)
            except Exception:  # noqa: BLE001 - told as a defect; the session goes on
                told = faults.message(defect("a defect in a message of Session"))
                for result in results:
                    result.fault.CopyFrom(told)
            finally:
                # A caller that takes no answers keeps places from nobody.
                for _ in let_in:
                    self._admission.leave()
        self._bytes -= size
        self._ready.append(answer)
        if self._left:
            self._ready.clear()
        elif not self._writing:
            await self._write()

    async def _write(self) -> None:
        """Send what is ready, and what becomes ready meanwhile."""
        self._writing = True
        try:
            if len(self._under_way) > 1:
                # Those that were answered in the same turn of the loop go along.
                await asyncio.sleep(0)
            while self._ready:
                taken, self._ready = self._ready, []
                for body in _messages(taken):
                    await self._stream.write(body)
                self._operations -= sum(len(answer.results) for answer in taken)
                self._room.set()
        except StreamClosed:
            self._left = True
            self._ready.clear()
            self._room.set()
        finally:
            self._writing = False


def _operations(body: bytes) -> Sequence[pb.SessionOperation]:
    """The operations of a message, or the fault that ends the session."""
    if len(body) > EXECUTE_BYTES_MAX:
        raise Fault(
            Reason.MESSAGE_TOO_LARGE,
            f"the message has {len(body):,} bytes, Session takes {EXECUTE_BYTES_MAX:,} in each",
            metadata={"bytes_max": str(EXECUTE_BYTES_MAX)},
        )
    try:
        asked = pb.SessionRequest.FromString(body).operations
    except DecodeError:
        # The library's text may quote the bytes; ours never does.
        raise Fault(Reason.MALFORMED_MESSAGE, "these bytes are not a message of Session") from None
    if not 1 <= len(asked) <= EXECUTE_MAX:
        raise invalid("operations", f"has {len(asked)} items, must be 1 to {EXECUTE_MAX:,}")
    return asked


def _messages(answers: Iterable[pb.SessionResponse]) -> Iterator[bytes]:
    """As few messages as their size allows.

    The bytes of messages, one after another, are those of one message with the results of all.
    """
    joined: list[bytes] = []
    size = 0
    for answer in answers:
        for body in _bodies(answer):
            if joined and size + len(body) > EXECUTE_BYTES_MAX:
                yield b"".join(joined)
                joined, size = [], 0
            joined.append(body)
            size += len(body)
    yield b"".join(joined)


def _bodies(answer: pb.SessionResponse) -> Iterator[bytes]:
    """An answer, halved until its parts are of a size that is allowed."""
    body = answer.SerializeToString()
    if len(body) <= EXECUTE_BYTES_MAX or len(answer.results) == 1:
        yield body
        return
    half = len(answer.results) // 2
    yield from _bodies(pb.SessionResponse(results=answer.results[:half]))
    yield from _bodies(pb.SessionResponse(results=answer.results[half:]))
