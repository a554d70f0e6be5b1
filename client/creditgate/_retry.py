"""When to call again. Nothing here calls, sleeps or reads a clock by itself."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from creditgate._faults import Status
    from creditgate.calls import Call


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long to wait for an answer, and how long to go on asking.

    Every retry sends the same bytes: the ids in them make sure that they take effect once.
    """

    timeout_s: float = 2.0
    """How long one attempt may take."""
    budget_s: float = 10.0
    """How long all attempts of a call may take together; 0 means that there is only one."""
    backoff_s: float = 0.05
    """The longest pause before the first retry, twice that before the next; a random part of it."""
    backoff_max_s: float = 1.0
    """Where the doubling ends."""

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0: {self.timeout_s}")
        for name in ("budget_s", "backoff_s", "backoff_max_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more: {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where time and chance come from; tests put their own here."""

    now: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random


class Retries:
    """The attempts of one call: how long each may take, after a failure the pause or the end."""

    def __init__(self, call: Call[Any], policy: RetryPolicy, timing: Timing) -> None:
        self._call = call
        self._policy = policy
        self._timing = timing
        self._end = timing.now() + policy.budget_s
        self._failures = 0
        self._unknown = False

    @property
    def timeout_s(self) -> float:
        """How long the next attempt may take; the first one has its time whatever the budget is."""
        if not self._failures:
            return self._policy.timeout_s
        return max(0.0, min(self._policy.timeout_s, self._end - self._timing.now()))

    def failed(self, status: Status, *, last: bool = False) -> float:
        """Tell how long to pause before the next attempt, or raise what the caller gets.

        `last`: there can be no other attempt.
        """
        self._failures += 1
        # One attempt that may have taken effect leaves the call unknown, whatever later ones are
        # answered.
        self._unknown = self._unknown or status.outcome == "unknown"
        pause_s = self._pause_s(status)
        if last or not self._again(status) or self._timing.now() + pause_s >= self._end:
            lost = self._unknown and not status.definite and status.outcome != "applied"
            fault = status.fault(self._call, "unknown" if lost else status.outcome)
            raise fault from status.cause
        return pause_s

    def _again(self, status: Status) -> bool:
        # "applied" too: the next attempt is a replay, and brings the answer.
        return status.transient or (status.outcome != "not-applied" and self._call.method.changes)

    def _pause_s(self, status: Status) -> float:
        policy = self._policy
        # 2^60 is beyond any backoff_max_s and within floats.
        longest_s = min(policy.backoff_max_s, policy.backoff_s * 2.0 ** min(self._failures - 1, 60))
        return max(self._timing.random() * longest_s, status.pushback_s or 0.0)
