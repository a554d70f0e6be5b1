"""Keeping holds alive while their jobs run: one thread of a client, or one task of an event loop.

`Beats` knows which holds are due and what their answers mean; it calls nothing and reads no clock
of its own. `ThreadHeart` and `TaskHeart` make it run. All holds that are due at once are extended
in one `Execute`, so a hundred jobs are one call, and a server that does not answer delays none of
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from creditgate import calls, errors
from creditgate._answers import answers
from creditgate.v1.credits_pb2 import ExecuteResponse, ExtendResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from creditgate._holds import HoldCore
    from creditgate.calls import Call

log = logging.getLogger("creditgate")

_SHORTEST_S = 0.2
_IDLE_S = 10.0
_AT_ONCE = 1000
"""As many operations as one Execute takes."""


@dataclass(eq=False)
class _Beat:
    """One hold, when to extend it next, and until when it stands as far as we know."""

    hold: weakref.ref[HoldCore]
    call: Call[ExtendResponse]
    ttl_s: float | None
    at: float
    lease_end: float
    deadline_s: float
    last: errors.Fault | None = None
    at_maximum: bool = False

    def again(self, now: float) -> None:
        """At a third of what is left; the nearer the end, the more often."""
        left_s = self.lease_end - now
        self.at = self.lease_end if self.at_maximum else now + max(left_s / 3, _SHORTEST_S)


class Beats:
    """The holds that are kept alive."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._beats: dict[int, _Beat] = {}

    def add(self, hold: HoldCore) -> None:
        """Keep a hold that was just authorized. One that nobody has any more is let go."""
        now = self._now()
        record = hold.record
        beat = _Beat(
            hold=weakref.ref(hold),
            call=calls.extend(hold.account_id, hold.hold_id, ttl=hold.ttl_s),
            # What a full extension leaves; of a replay without a ttl nobody told us.
            ttl_s=hold.left_s if hold.ttl_s is None and not hold.replayed else hold.ttl_s,
            at=now,
            lease_end=now + hold.left_s,
            deadline_s=_seconds(record.deadline),
        )
        beat.again(now)
        self._beats[id(hold)] = beat

    def drop(self, hold: HoldCore) -> None:
        """Let a hold go."""
        self._beats.pop(id(hold), None)

    def wait_s(self) -> float | None:
        """How long until something is due; None while there is nothing."""
        if not self._beats:
            return None
        return max(0.0, min(beat.at for beat in self._beats.values()) - self._now())

    def due(self) -> tuple[list[_Beat], Call[ExecuteResponse] | None]:
        """Tell what is due: the beats, and the call that serves them."""
        now = self._now()
        found: list[_Beat] = []
        for key, beat in list(self._beats.items()):
            hold = beat.hold()
            if hold is None:
                del self._beats[key]
            elif now >= beat.lease_end:
                del self._beats[key]
                hold.note_lost(beat.last or _passed(hold))
            elif now >= beat.at and len(found) < _AT_ONCE:
                found.append(beat)
        return found, calls.execute([beat.call for beat in found]) if found else None

    def answered(self, beats: list[_Beat], response: ExecuteResponse) -> None:
        """Take in the answers to what was due."""
        for beat, answer in zip(beats, answers([b.call for b in beats], response), strict=True):
            self._answered(beat, answer)

    def failed(self, beats: list[_Beat], error: Exception) -> None:
        """Take in that there was no answer: it is tried again until the deadline has passed."""
        fault = error if isinstance(error, errors.Fault) else None
        for beat in beats:
            beat.last = fault
            beat.again(self._now())
        log.warning("%d holds could not be extended, trying again: %s", len(beats), error)

    def _answered(self, beat: _Beat, answer: Message | errors.Fault) -> None:
        hold = beat.hold()
        if hold is None or self._beats.get(id(hold)) is not beat:
            return
        if isinstance(answer, ExtendResponse):
            now = self._now()
            hold.note_extended(answer)
            deadline_s = _seconds(answer.hold.deadline)
            left_s = deadline_s - _seconds(answer.totals.as_of)
            unmoved = deadline_s <= beat.deadline_s
            # It moved no further though less is left than was asked for: this is the maximum life.
            beat.at_maximum = unmoved and beat.ttl_s is not None and left_s < beat.ttl_s
            beat.lease_end, beat.deadline_s, beat.last = now + left_s, deadline_s, None
            beat.again(now)
        elif isinstance(answer, errors.HoldEnded | errors.NotFound):
            self.drop(hold)
            hold.note_lost(answer)
        elif isinstance(answer, errors.Fault):
            self.failed([beat], answer)


def _seconds(moment: Any) -> float:
    return float(moment.seconds) + float(moment.nanos) / 1e9


def _passed(hold: HoldCore) -> errors.HoldExpired:
    return errors.HoldExpired(
        f"the hold {hold.hold_id} of {hold.account_id} has reached its maximum life. "
        f"{errors.HoldExpired.advice}",
        reason="HOLD_EXPIRED",
        outcome="not-applied",
        metadata={"hold_id": hold.hold_id},
    )


class ThreadHeart:
    """The beats of a `Client` in one process: a thread that lives while there are holds."""

    def __init__(
        self,
        call: Callable[[Call[ExecuteResponse]], ExecuteResponse],
        now: Callable[[], float],
    ) -> None:
        self._call = call
        self._changed = threading.Condition()
        self._beats = Beats(now)
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, hold: HoldCore) -> None:
        """Keep a hold alive from now on."""
        with self._changed:
            if self._stopped:
                return
            self._beats.add(hold)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="creditgate-heartbeat", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def drop(self, hold: HoldCore) -> None:
        """Let a hold go."""
        with self._changed:
            self._beats.drop(hold)

    def stop(self) -> None:
        """Let all holds go, and end the thread."""
        with self._changed:
            self._stopped = True
            thread = self._thread
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._rest():
                    self._thread = None
                    return
                due, call = self._beats.due()
            if call is not None:
                self._serve(due, call)

    def _rest(self) -> bool:
        """Wait until something is due or has changed; tell whether to go on."""
        if not self._stopped:
            wait_s = self._beats.wait_s()
            woken = self._changed.wait(_IDLE_S if wait_s is None else wait_s)
            if not woken and self._beats.wait_s() is None:
                return False
        return not self._stopped

    def _serve(self, due: list[_Beat], call: Call[ExecuteResponse]) -> None:
        try:
            response = self._call(call)
            with self._changed:
                self._beats.answered(due, response)
        except Exception as error:  # noqa: BLE001 - The thread serves other holds too.
            with self._changed:
                self._beats.failed(due, error)


class TaskHeart:
    """The beats of an `AsyncClient` in one event loop: a task that lives while there are holds."""

    def __init__(
        self,
        call: Callable[[Call[ExecuteResponse]], Awaitable[ExecuteResponse]],
        now: Callable[[], float],
    ) -> None:
        self._call = call
        self._beats = Beats(now)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, hold: HoldCore) -> None:
        """Keep a hold alive from now on."""
        self._beats.add(hold)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="creditgate-heartbeat")

    def drop(self, hold: HoldCore) -> None:
        """Let a hold go."""
        self._beats.drop(hold)
        if self._beats.wait_s() is None:
            self._changed.set()

    async def stop(self) -> None:
        """Let all holds go, and end the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while (wait_s := self._beats.wait_s()) is not None:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait_s)
            due, call = self._beats.due()
            if call is None:
                continue
            try:
                self._beats.answered(due, await self._call(call))
            except Exception as error:  # noqa: BLE001 - The task serves other holds too.
                self._beats.failed(due, error)
