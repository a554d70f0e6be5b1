"""How many requests may be under way.

Finishing a job goes before starting one: a settle that is turned away costs somebody money, an
authorize that is turned away costs a wait.
"""

import contextlib
from collections.abc import Callable, Iterator

from creditgate_server.core.faults import Fault, Reason

STARTING = frozenset({"Authorize", "Charge", "Quote", "Execute"})
"""Methods that give way first."""


class Admission:
    """Counts requests under way. Starting methods get three quarters of the places."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._places_starting = max(1, places * 3 // 4)
        self._under_way = 0
        self._closed = False
        self._starting = True
        self._told_of_close: dict[object, Callable[[], object]] = {}

    @property
    def under_way(self) -> int:
        """Requests that were let in and have not left."""
        return self._under_way

    def enter(self, method: str) -> None:
        """Let a request in, or raise the fault to answer with. Who was let in must `leave`."""
        if self._closed:
            raise Fault(Reason.SHUTTING_DOWN, "the server is going down; try again")
        if not self._starting and method in STARTING:
            raise Fault(
                Reason.STORE_UNAVAILABLE,
                "the store is not safe for credits at present, so nothing is started; try again",
            )
        places = self._places_starting if method in STARTING else self._places
        if self._under_way >= places:
            raise Fault(
                Reason.OVERLOADED, f"{places} requests are under way, no more are taken; try again"
            )
        self._under_way += 1

    def leave(self) -> None:
        """A request is answered."""
        self._under_way -= 1

    def set_starting(self, *, allowed: bool) -> None:
        """Let in all methods, or only those that finish."""
        self._starting = allowed

    def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True
        for tell in tuple(self._told_of_close.values()):
            tell()

    @contextlib.contextmanager
    def told_of_close(self, tell: Callable[[], object]) -> Iterator[None]:
        """While the block runs: call `tell` when nobody is let in any more, or at once."""
        key = object()
        self._told_of_close[key] = tell
        try:
            if self._closed:
                tell()
            yield
        finally:
            del self._told_of_close[key]
