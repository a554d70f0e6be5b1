"""An asyncio loop of which a second thread takes turns.

A loop can wait for sockets or for a queue of gRPC's core, not for both. So a guest thread waits for
the queue, and when something has come, it runs a turn of the loop itself: handing it over to the
loop's thread would cost more than most requests do. A lock sees to it that there is only ever one
turn at a time. What runs on the loop, on either thread, never meets anything at the same moment
and needs no locks of its own.

What a guest's turn makes ready runs in that turn. What others made ready waits for the loop's own
thread: some of it, such as the handling of signals, may run nowhere else. So does what a guest's
turn makes ready without an end.
"""

import asyncio
import collections
import selectors
import threading
from collections.abc import Callable
from typing import Any, Self

_WHAT = ("_ready", "_scheduled", "_selector", "_stopping")

# Steps that a guest's turn makes ready and still runs. One that makes itself ready again and again,
# waiting for what only the loop's thread can bring, would wait for ever.
_STEPS_MAX = 10_000


class NotShareable(Exception):
    """This loop has not the shape that sharing it relies on. The message says what is missing."""


class Turns:
    """The turns of one loop. A guest thread takes one by `with turns:`."""

    def __init__(self, loop: asyncio.SelectorEventLoop, selector: selectors.BaseSelector) -> None:
        # The attributes below are not public, hence the check in `of`. They are those of every
        # release since asyncio was made.
        self._loop: Any = loop
        self._selector = selector
        self._lock = threading.Lock()
        # Whoever waits for the lock holds this: the next turn is theirs. A lock alone lets
        # a busy thread take it again and again.
        self._next = threading.Lock()
        self._ready: collections.deque[asyncio.Handle] = collections.deque()
        self._first_timer: object = None
        self._handed_over = False

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Self:
        """The turns of the running loop. Raises `NotShareable`.

        A loop that was shared once stays so; one that no guest visits pays a lock for each of its
        turns.
        """
        if not isinstance(loop, asyncio.SelectorEventLoop):
            raise NotShareable(f"it is a {type(loop).__name__}, not asyncio's own")
        if loop.get_debug():
            raise NotShareable("asyncio's debug mode forbids it")
        missing = [name for name in _WHAT if not hasattr(loop, name)]
        if missing or not isinstance(loop._ready, collections.deque):  # type: ignore[attr-defined]
            raise NotShareable(f"it has another shape than known ({', '.join(missing)})")
        selector = loop._selector  # type: ignore[attr-defined]
        if isinstance(selector, _SharedSelector):
            assert isinstance(selector.turns, cls)
            return selector.turns
        turns = cls(loop, selector)
        # We run on the loop, so this turn is its own.
        turns._lock.acquire()
        loop._selector = _SharedSelector(selector, turns)  # type: ignore[attr-defined]
        return turns

    def welcome(self) -> None:
        """Make the calling thread a guest, before its first turn and for as long as it lives."""
        asyncio._set_running_loop(self._loop)

    def __enter__(self) -> None:
        self._acquire()
        loop = self._loop
        # Nothing else reads this while the lock is ours.
        self._ready, loop._ready = loop._ready, self._ready
        timers = loop._scheduled
        self._first_timer = timers[0] if timers else None

    def __exit__(self, *_: object) -> None:
        """Run what the turn has made ready; it never raises."""
        loop = self._loop
        ready = loop._ready
        steps = _STEPS_MAX
        while ready and steps:
            steps -= 1
            handle = ready.popleft()
            if not handle.cancelled():
                try:
                    handle._run()
                except (SystemExit, KeyboardInterrupt) as end:
                    self.hand_over(_raise, end)
        self._ready, loop._ready = ready, self._ready
        timers = loop._scheduled
        wake = (
            self._handed_over
            or (bool(timers) and timers[0] is not self._first_timer)
            # The loop's thread finds what is left over; and it is the one to stop.
            or bool(ready)
            or loop._stopping
        )
        self._handed_over = False
        self._lock.release()
        if wake:
            loop.call_soon_threadsafe(_nothing)

    def hand_over(self, callback: Callable[..., object], *args: object) -> None:
        """From a guest's turn: run this soon in the loop's own thread."""
        self._ready.append(asyncio.Handle(callback, args, self._loop))
        self._handed_over = True

    def end(self, code: int) -> None:
        """From a guest's turn: end the loop's thread, by SystemExit."""
        self.hand_over(_raise, SystemExit(code))

    def _collect(self) -> None:
        """Take over what a guest has left, or another thread has put where only a guest looks.

        Whoever it was has woken the loop's thread, so here it is found. One by one: that other
        thread may be about to put something there even now.
        """
        while self._ready:
            self._loop._ready.append(self._ready.popleft())

    def _acquire(self) -> None:
        with self._next:
            self._lock.acquire()


class _SharedSelector:
    """Gives the turn away for as long as the loop waits."""

    def __init__(self, selector: selectors.BaseSelector, turns: Turns) -> None:
        self.turns = turns
        self._selector = selector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def select(self, timeout_s: float | None = None) -> Any:
        turns = self.turns
        turns._lock.release()
        try:
            found = self._selector.select(timeout_s)
        finally:
            turns._acquire()
            turns._collect()
        # A guest may just have taken a file away, or put another in its place: the loop would take
        # that away as well. What is still to be read or written is found again.
        known = self._selector.get_map()
        return [(key, mask) for key, mask in found if known.get(key.fd) is key]


def _raise(error: BaseException) -> None:
    """An end of the program that came up in a guest's turn ends the loop's thread."""
    raise error


def _nothing() -> None:
    """Wakes the loop's thread."""
