"""Calls that are made at the same time, as messages of one stream.

A session is begun when a call finds another one under way, and used from the moment when the server
says that it is there; until then, and where it never does, every call is made alone. A call that
finds nobody writing leaves at once; those that come while a message is being written, or in the
same turn of the event loop, leave together in the next one.

`Desk` knows what was asked and what belongs to an answer; it sends nothing and waits for nothing.
`TaskSession` makes it run in an event loop, `ThreadSession` between threads.

An answer belongs to the call whose number it carries. Numbers are never used twice in a session, so
what comes for a call that was given up belongs to nobody, and is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import itertools
import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import Message

from creditgate import _faults
from creditgate._faults import Status
from creditgate.v1 import credits_pb2
from creditgate.v1.credits_pb2 import Operation, Result, SessionRequest, SessionResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from creditgate._methods import Method

_SERVICE = credits_pb2.DESCRIPTOR.services_by_name["Credits"]
PATH = f"/{_SERVICE.full_name}/Session"

_NAMES = frozenset(field.name for field in Operation.DESCRIPTOR.fields)
# A method of its own refuses more than this, and so it says in its own words.
_BODY_MAX = 64 * 1024
# What a message takes, less what the numbers and lengths around a body may need.
_AT_ONCE: Final = 1_000
_BYTES_MAX: Final = 1024 * 1024
_AROUND = 40

_REST_S_MIN = 0.1
_REST_S_MAX = 600.0
# Who leaves sooner says nothing of the session; who waits to the end of their time does.
_SILENT_S = 1.0
# How long threads wait for calls.
_IDLE_S = 10.0
# How long the server may take to end its side, and gRPC to tell of an end.
_BYE_S = 0.5
_LAST_S = 0.01

Answer: TypeAlias = Message | Status
Deliver: TypeAlias = "Callable[[Answer | None], object]"


def fits(method: Method, body: bytes) -> bool:
    """Whether a call can be part of a session."""
    return method.name in _NAMES and len(body) <= _BODY_MAX


class Trust:
    """Whether it is worth the while to begin a session.

    An older server has none, and something between may not carry streams, or end them. Then calls
    go alone, which always works, and after a while another session is tried.
    """

    def __init__(self) -> None:
        self._rest_s = 0.0
        self._until = 0.0

    def __bool__(self) -> bool:
        return time.monotonic() >= self._until

    def gain(self) -> None:
        """A session has begun."""
        self._rest_s = 0.0

    def lose(self) -> None:
        """A session has not begun, or went silent."""
        self._rest_s = min(max(2 * self._rest_s, _REST_S_MIN), _REST_S_MAX)
        self._until = time.monotonic() + self._rest_s


class Asked:
    """One call on its way."""

    __slots__ = ("asked_s", "body", "deliver", "heard", "name", "number", "sent")

    def __init__(self, number: int, method: Method, body: bytes, deliver: Deliver) -> None:
        self.number = number
        self.name = method.name
        self.body = body
        self.deliver = deliver
        self.sent = False
        self.asked_s = time.monotonic()
        self.heard = 0
        """How many messages had come when it was asked."""


class Desk:
    """What was asked in one session and is not answered."""

    def __init__(self, trust: Trust) -> None:
        self.begun = False
        """The server has said that the session has begun."""
        self.over = False
        """Nothing more may be asked."""
        self._ended = False
        self._trust = trust
        self._numbers = itertools.count(1)
        self._unsent: deque[Asked] = deque()
        self._waiting: dict[int, Asked] = {}
        self._heard = 0

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return not self._waiting

    def ask(self, method: Method, body: bytes, deliver: Deliver) -> Asked:
        """Put a call into the next message; None is delivered if it has to be made alone."""
        asked = Asked(next(self._numbers), method, body, deliver)
        asked.heard = self._heard
        self._waiting[asked.number] = asked
        self._unsent.append(asked)
        return asked

    def message(self) -> bytes | None:
        """The next message; None if there is nothing to be sent."""
        request = SessionRequest()
        add, unsent, count, size = request.operations.add, self._unsent, 0, 0
        while unsent and count < _AT_ONCE:
            asked = unsent[0]
            if asked.number in self._waiting:
                size += len(asked.body) + _AROUND
                if size > _BYTES_MAX:
                    break
                part = getattr(add(number=asked.number).operation, asked.name)
                # One without any field is there, too.
                part.SetInParent()
                part.MergeFromString(asked.body)
                asked.sent = True
                count += 1
            unsent.popleft()
        return request.SerializeToString(deterministic=True) if count else None

    def take(self, response: SessionResponse) -> None:
        """Give answers to those who wait for them."""
        self._heard += 1
        if not self.begun:
            self.begun = True
            self._trust.gain()
        for each in response.results:
            asked = self._waiting.pop(each.number, None)
            if asked is not None:
                asked.deliver(_answer(asked, each.result))
        if response.draining:
            self.end(_DRAINING)

    def leave(self, asked: Asked) -> None:
        """Nobody waits for this answer any more, if it has not come."""
        if self._waiting.pop(asked.number, None) is not None and (
            time.monotonic() - asked.asked_s > _SILENT_S
        ):
            self._distrust_since(asked)

    def late(self, asked: Asked) -> Status:
        """The status of a call that has waited long enough."""
        self._distrust_since(asked)
        return Status(
            code=grpc.StatusCode.DEADLINE_EXCEEDED,
            text="there was no answer in time" if asked.sent else "it could not be sent in time",
            outcome="unknown" if asked.sent else "not-applied",
        )

    def end(self, status: Status) -> None:
        """The stream has ended: everybody is told what that means for them."""
        if self._ended:
            return
        self._ended = True
        if not (self.begun and status.transient):
            self._distrust()
        self.over = True
        waiting, self._waiting = self._waiting, {}
        self._unsent.clear()
        for asked in waiting.values():
            asked.deliver(_end(asked, status))

    def _distrust_since(self, asked: Asked) -> None:
        """Give the session up if nothing at all has come since then."""
        if asked.heard == self._heard:
            self._distrust()

    def _distrust(self) -> None:
        # Others should not wait here in vain. Who waits already may still be answered.
        if not self.over:
            self.over = True
            self._trust.lose()


def _answer(asked: Asked, result: Result) -> Answer:
    which = result.WhichOneof("result")
    if which == asked.name:
        # A copy: as a part of the message it would keep all other answers in memory.
        part: Message = getattr(result, which)
        answer = type(part)()
        answer.CopyFrom(part)
        return answer
    if which == "fault":
        return _faults.of_operation(result.fault)
    return Status(
        code=grpc.StatusCode.INTERNAL,
        text=f"the server left {asked.name} without an answer",
        outcome="unknown",
    )


_DRAINING = Status(
    code=grpc.StatusCode.UNAVAILABLE,
    text="the server is going down",
    outcome="not-applied",
    reason="SHUTTING_DOWN",
)
_CLOSED = Status(code=grpc.StatusCode.CANCELLED, text="the client was closed", outcome="unknown")
_ENDED = Status(code=grpc.StatusCode.UNAVAILABLE, text="the session has ended", outcome="unknown")


def _end(asked: Asked, status: Status) -> Answer | None:
    """What the end of the session is for a call that has no answer."""
    unknown = asked.sent and status.outcome != "not-applied"
    if not unknown and not status.transient:
        # That is not about this call, which is still to be made.
        return None
    return Status(
        code=status.code if status.transient else grpc.StatusCode.UNAVAILABLE,
        text=status.text,
        outcome="unknown" if unknown else "not-applied",
        reason=status.reason if status.transient else "",
        cause=status.cause,
    )


def _of_end(error: grpc.RpcError, *, broken: bool) -> Status:
    """The status of a stream; `broken`: it was seen before, while writing."""
    status = _faults.of_rpc(error)
    if broken and status.code is grpc.StatusCode.INTERNAL:
        # gRPC says so in place of the real one when it came while a message was written.
        return dataclasses.replace(_ENDED, cause=error)
    return status


class _Session:
    _desk: Desk

    @property
    def begun(self) -> bool:
        """Whether calls may be made in it."""
        return self._desk.begun and not self._desk.over

    @property
    def over(self) -> bool:
        """Whether another session may be begun."""
        return self._desk.over


class TaskSession(_Session):
    """A session in an event loop. Belongs to the loop that made it."""

    def __init__(self, channel: grpc.aio.Channel, trust: Trust) -> None:
        self._loop = asyncio.get_running_loop()
        self._desk = Desk(trust)
        self._asked = asyncio.Event()
        self._broken = False
        method: grpc.aio.StreamStreamMultiCallable[bytes, SessionResponse]
        method = channel.stream_stream(PATH, None, SessionResponse.FromString)
        self._call = method()
        # In a context of their own, not in that of the call that happens to be the first.
        context = contextvars.Context()
        name = "creditgate-session"
        self._writing = self._loop.create_task(self._write(), name=name, context=context)
        self._reading = self._loop.create_task(self._read(), name=name, context=context)

    async def ask(self, method: Method, body: bytes, timeout_s: float) -> Answer | None:
        """Make a call; None if it has to be made alone."""
        desk = self._desk
        future: asyncio.Future[Answer | None] = self._loop.create_future()

        def deliver(answer: Answer | None) -> None:
            if not future.done():
                future.set_result(answer)

        asked = desk.ask(method, body, deliver)
        self._asked.set()
        timer = self._loop.call_later(timeout_s, lambda: deliver(desk.late(asked)))
        try:
            return await future
        finally:
            timer.cancel()
            desk.leave(asked)
            if desk.over and desk.idle:
                self._call.cancel()

    async def close(self) -> None:
        """End it now."""
        if self._desk.idle:
            # Ended by both sides, nothing is left in gRPC for a loop that may be closed next.
            self._writing.cancel()
            with contextlib.suppress(grpc.RpcError, asyncio.CancelledError):
                await self._call.done_writing()
            await asyncio.wait([self._reading], timeout=_BYE_S)
        self._desk.end(_CLOSED)
        self._call.cancel()
        await asyncio.wait([self._reading, self._writing])

    async def _write(self) -> None:
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                while (message := self._desk.message()) is not None:
                    await self._call.write(message)
        except (grpc.RpcError, asyncio.InvalidStateError):
            # Why is for the reader to learn.
            self._broken = True

    async def _read(self) -> None:
        status = _CLOSED
        try:
            while isinstance(response := await self._call.read(), SessionResponse):
                self._desk.take(response)
            status = _ENDED
        except grpc.RpcError as error:
            status = _of_end(error, broken=self._broken)
        finally:
            self._desk.end(status)
            self._writing.cancel()
            self._call.cancel()
            if status is _CLOSED:
                # gRPC tells what became of it to this loop, which may be about to close.
                await asyncio.sleep(_LAST_S)


class ThreadSession(_Session):
    """A session between threads: one writes (it is gRPC's), one reads, while there are calls.

    It ends before its process forks: gRPC does not get a stream across that on every version.
    """

    def __init__(self, channel: grpc.Channel, trust: Trust) -> None:
        self._desk = Desk(trust)
        self._changed = threading.Condition(threading.Lock())
        method: grpc.StreamStreamMultiCallable[bytes, SessionResponse]
        method = channel.stream_stream(PATH, None, SessionResponse.FromString)
        self._call = method(self._messages())
        self._reader = threading.Thread(target=self._read, name="creditgate-session", daemon=True)
        self._reader.start()
        _between_threads.add(self)

    def ask(self, method: Method, body: bytes, timeout_s: float) -> Answer | None:
        """Make a call; None if it has to be made alone."""
        arrived = threading.Lock()
        arrived.acquire()
        answers: list[Answer | None] = []

        def deliver(answer: Answer | None) -> None:
            answers.append(answer)
            arrived.release()

        with self._changed:
            if self._desk.over:
                return None
            asked = self._desk.ask(method, body, deliver)
            self._changed.notify()
        try:
            if arrived.acquire(timeout=timeout_s):
                return answers[0]
        finally:
            with self._changed:
                self._desk.leave(asked)
        with self._changed:
            return answers[0] if answers else self._desk.late(asked)

    def close(self, status: Status = _CLOSED) -> None:
        """End it now; `status` is what calls under way are told."""
        with self._changed:
            self._desk.end(status)
            self._changed.notify()
        self._call.cancel()
        if self._reader is not threading.current_thread():
            self._reader.join()

    def finish(self) -> None:
        """Take no more calls, and end when those under way are answered, or soon."""
        with self._changed:
            self._desk.over = True
            self._changed.notify()
        self._reader.join(_BYE_S)
        if self._reader.is_alive():
            self.close(_ENDED)

    def _messages(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while (message := self._desk.message()) is None:
                    woken = self._desk.over or self._changed.wait(_IDLE_S)
                    if self._desk.over or (not woken and self._desk.idle):
                        # Threads are for calls; the next one begins another session.
                        self._desk.over = True
                        return
            yield message

    def _read(self) -> None:
        status = _CLOSED
        try:
            for response in self._call:
                with self._changed:
                    self._desk.take(response)
                    if self._desk.over and self._desk.idle:
                        break
            else:
                status = _ENDED
        except grpc.RpcError as error:
            status = _faults.of_rpc(error)
        finally:
            with self._changed:
                self._desk.end(status)
                self._changed.notify()
            self._call.cancel()


_between_threads: weakref.WeakSet[ThreadSession] = weakref.WeakSet()
_forking = False


def may_begin() -> bool:
    """Whether threads may begin a session: not while their process forks."""
    return not _forking


def _before_fork() -> None:
    global _forking  # noqa: PLW0603 - There is one process.
    _forking = True
    for session in list(_between_threads):
        session.finish()


def _after_fork() -> None:
    global _forking  # noqa: PLW0603
    _forking = False
    _between_threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
