"""The service `TestClock`: moves the time by which accounts live, in developer mode only."""

from typing import Protocol

from google.protobuf.message import Message

from creditgate.v1 import test_clock_pb2 as pb
from creditgate_server.core.faults import invalid
from creditgate_server.rpc import checks, messages

_LAST_MS = checks.CALENDAR_S_MAX * 1000


class Clock(Protocol):
    """A time in ms that goes on by itself and can be moved forward."""

    def __call__(self) -> int:
        """The time."""
        ...

    async def advance(self, by_ms: int) -> None:
        """Move it forward, for this server and for its next start."""
        ...


class TestClock:
    """For people who test their billing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def get_time(self, _request: pb.GetTimeRequest) -> Message:
        """Tell the time that accounts live by."""
        return pb.GetTimeResponse(now=messages.instant(self._clock()))

    async def advance(self, request: pb.AdvanceRequest) -> Message:
        """Move it forward."""
        which = request.WhichOneof("to")
        now_ms = self._clock()
        if which is None:
            raise invalid("by", "is missing: by how much, or until when?")
        if which == "by":
            until_ms = now_ms + _duration_ms(request)
        else:
            found = checks.optional_instant_ms(request, "until", checks.CALENDAR_S_MAX)
            assert found is not None
            until_ms = found
        if until_ms < now_ms:
            raise invalid("until", "must not lie before the clock's time")
        if until_ms >= _LAST_MS:
            raise invalid(which, "must not lead beyond the year 8999")
        await self._clock.advance(until_ms - now_ms)
        return pb.AdvanceResponse(now=messages.instant(self._clock()))


def _duration_ms(request: pb.AdvanceRequest) -> int:
    value = request.by
    if value.seconds < 0 or not 0 <= value.nanos < 1_000_000_000:
        raise invalid("by", "must be at least 0")
    return value.seconds * 1000 + value.nanos // 1_000_000
