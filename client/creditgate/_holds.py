"""The guard around a job: credits are held before, settled or refunded after, kept between.

What it asks and when is written once, as generators that yield calls and are sent the answers;
`Hold` and `AsyncHold` differ only in how they make those calls.
"""

# ruff: noqa: PLR0913 - The arguments are the fields of the contract.

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import os
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeAlias, TypeVar, cast

from creditgate import calls, errors
from creditgate.v1.credits_pb2 import (
    AuthorizeResponse,
    ExtendResponse,
    RefundReason,
    RefundResponse,
    SettleResponse,
)
from creditgate.v1.resources_pb2 import Hold as HoldMessage
from creditgate.v1.resources_pb2 import HoldState, Price

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
    from contextvars import Token
    from types import TracebackType

    from creditgate._client import AsyncClient, Client
    from creditgate.calls import Call, Seconds

log = logging.getLogger("creditgate")

P = ParamSpec("P")
T = TypeVar("T")

Flow: TypeAlias = "Generator[Call[Any], Any, T]"

_TTL_UNKNOWN_S = 600.0
_CANCELLATIONS = (asyncio.CancelledError, concurrent.futures.CancelledError, GeneratorExit)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a guard is to do."""

    authorize: Call[AuthorizeResponse]
    account_id: str
    hold_id: str
    ttl_s: float | None
    run_again: bool
    on_cancel: RefundReason.ValueType | str
    heartbeat: bool


def terms(
    account_id: str,
    hold_id: str,
    *,
    action: str,
    model: str = "",
    quantity: int | None = None,
    settings: Mapping[str, str] | None = None,
    ttl: Seconds | None = None,
    max_amount: int | None = None,
    member_id: str = "",
    run_again: bool = False,
    on_cancel: RefundReason.ValueType | str = RefundReason.REFUND_REASON_FAILED,
    heartbeat: bool = True,
) -> Terms:
    """Guard a job: hold its credits, run the block, settle or refund.

    ```python
    with client.hold("acct-1", job.id, action="image.generate", quantity=4) as hold:
        images = run(job)
        hold.settle(quantity=len(images))
    ```

    Entering authorizes, and raises `Denied` if the answer is no. What the block does decides the
    end:

    - `hold.settle(...)` takes what was delivered and returns the rest;
    - the end of the block without it settles in full;
    - an exception refunds and goes on, whether the refund succeeds or not: the hold returns by
      itself at its deadline. But once a settle was tried, nothing is refunded: the job had
      delivered.

    While the block runs the hold is extended in the background, every third of its time to live,
    so `ttl` is how long the credits stay away when this worker dies, not how long the job may
    take. When that fails for good, `hold.lost` says why. `heartbeat=False` leaves extending to
    you.

    A queue may deliver a job twice under one id. While the first hold is open the second run goes
    on with it, and what both settle is charged once. If it has ended, `AlreadyRun` is raised
    instead of running the job again; `run_again=True` runs it, and charges nothing again.

    `on_cancel` is the reason of the refund when a task is cancelled or a generator closed:
    FAILED, since nobody knows whether the user went away or the platform did, and in doubt
    credits from a bucket that has ended come back to the user. Say "CANCELLED" where only users
    cancel. Every other exception, SystemExit and KeyboardInterrupt included, is the platform's:
    FAILED.
    """
    authorize = calls.authorize(
        account_id,
        hold_id,
        action=action,
        model=model,
        quantity=quantity,
        settings=settings,
        ttl=ttl,
        max_amount=max_amount,
        member_id=member_id,
        or_raise=True,
    )
    return Terms(
        authorize=authorize,
        account_id=account_id,
        hold_id=hold_id,
        ttl_s=ttl.total_seconds() if isinstance(ttl, timedelta) else ttl,
        run_again=run_again,
        on_cancel=on_cancel,
        heartbeat=heartbeat,
    )


@dataclass(eq=False)
class _Partial:
    """A partial settle that has no definite answer yet."""

    content: tuple[int | None, int | None, str]
    call: Call[SettleResponse]
    under_way: bool = True


class HoldCore:
    """What a guard knows, and what it asks."""

    def __init__(self, made_from: Terms) -> None:
        self.account_id = made_from.account_id
        self.hold_id = made_from.hold_id
        self.ttl_s = made_from.ttl_s
        self.left_s = _TTL_UNKNOWN_S
        self.replayed = False
        """Whether this id had been authorized before, by an earlier run or a retry of this one."""
        self.lost: errors.Fault | None = None
        """Why the hold is not ours any more, if so. The job may stop: nothing is held for it."""
        self._terms = made_from
        self._record: HoldMessage | None = None
        self._pid = 0
        self._token: Token[Hold | AsyncHold | None] | None = None
        self._lock = threading.Lock()
        self._settles = 0
        self._partials: list[_Partial] = []
        self._final: Call[Any] | None = None
        self._ended = False
        self._refused = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.account_id!r}, {self.hold_id!r})"

    @property
    def record(self) -> HoldMessage:
        """The hold as the server last described it."""
        if self._record is None:
            raise RuntimeError("the hold is authorized when its block is entered")
        return self._record

    @property
    def amount(self) -> int:
        """What is authorized in total, raises included."""
        return self.record.amount

    @property
    def price(self) -> Price:
        """The price that every settle is rated with."""
        return self.record.price

    @property
    def deadline(self) -> datetime:
        """When what is held returns by itself, unless it is extended before."""
        return self.record.deadline.ToDatetime(tzinfo=UTC)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make it the `current_hold()` of a block, and do nothing else."""
        self._activate()
        try:
            yield
        finally:
            self._deactivate()

    def _activate(self) -> None:
        self._token = _current.set(cast("Hold | AsyncHold", self))

    def _deactivate(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            # A generator may be closed from another context than the one that began it.
            with contextlib.suppress(ValueError):
                _current.reset(token)

    def note_extended(self, answer: ExtendResponse) -> None:
        """Take in a later deadline."""
        self._record = answer.hold
        self._note_left(answer)

    def note_lost(self, fault: errors.Fault) -> None:
        """Take in that the hold has ended without our doing."""
        if self._final is None and not self._ended:
            self.lost = fault
            log.warning("the hold %s of %s was lost: %s", self.hold_id, self.account_id, fault)

    def _note_left(self, answer: AuthorizeResponse | ExtendResponse) -> None:
        if answer.HasField("totals") and answer.totals.HasField("as_of"):
            # Both moments are the store's: our clock is not asked.
            left = answer.hold.deadline.ToDatetime() - answer.totals.as_of.ToDatetime()
            self.left_s = left.total_seconds()
        elif self.ttl_s is not None:
            self.left_s = self.ttl_s

    def _enter(self) -> Flow[None]:
        if self._record is not None:
            raise RuntimeError("a guard is for one block; make another one")
        self._pid = os.getpid()
        answer: AuthorizeResponse = yield self._terms.authorize
        state = answer.hold.state
        if state != HoldState.HOLD_STATE_OPEN and not self._terms.run_again:
            raise errors.AlreadyRun(hold=answer.hold)
        self._record, self.replayed = answer.hold, answer.replayed
        self._note_left(answer)
        # What an earlier run has settled or refunded stays as it is. An expired hold is settled
        # late.
        self._ended = state not in (HoldState.HOLD_STATE_OPEN, HoldState.HOLD_STATE_EXPIRED)

    @property
    def _keep_alive(self) -> bool:
        return self._terms.heartbeat and self.record.state == HoldState.HOLD_STATE_OPEN

    def ask_settle(
        self,
        *,
        amount: int | None = None,
        quantity: int | None = None,
        partial: bool = False,
        operation_id: str = "",
    ) -> Flow[SettleResponse]:
        """Take what was delivered, `amount` credits or `quantity` units; neither: all that is held.

        The rest returns, unless `partial`, which keeps it held for settles that follow. A partial
        settle gets an operation id of its own, "settle-1", "settle-2" …: a second run of the same
        job counts alike, and charges nothing that the first has charged. If a settle ends as
        `OutcomeUnknown`, call it again with the same arguments: it is the same settle.
        """
        if partial:
            mine = self._claim(amount, quantity, operation_id)
            try:
                yield from self._resolve()
            except BaseException:
                # Not sent yet, but delivered: it is taken along by the next settle.
                mine.under_way = False
                raise
            return (yield from self._take(mine))
        yield from self._resolve()
        call = calls.settle(
            self.account_id,
            self.hold_id,
            amount=amount,
            quantity=quantity,
            operation_id=operation_id,
        )
        answer: SettleResponse = yield from self._end(call)
        return answer

    def ask_refund(
        self, *, reason: RefundReason.ValueType | str = RefundReason.REFUND_REASON_FAILED
    ) -> Flow[RefundResponse]:
        """Give back all that is held: FAILED, or CANCELLED if the user did not want it any more."""
        yield from self._resolve()
        call = calls.refund(self.account_id, self.hold_id, reason=reason)
        answer: RefundResponse = yield from self._end(call)
        return answer

    def ask_extend(self, *, ttl: Seconds | None = None) -> Flow[ExtendResponse]:
        """Move the deadline to `ttl` from now, for a guard without `heartbeat`."""
        ttl = self.ttl_s if ttl is None else ttl
        answer: ExtendResponse = yield calls.extend(self.account_id, self.hold_id, ttl=ttl)
        self.note_extended(answer)
        return answer

    def ask_raise_to(
        self, *, amount: int | None = None, quantity: int | None = None
    ) -> Flow[ExtendResponse]:
        """Raise the hold to a new total in credits or units, or raise `Denied`."""
        answer: ExtendResponse = yield calls.extend(
            self.account_id,
            self.hold_id,
            ttl=self.ttl_s,
            amount=amount,
            quantity=quantity,
            or_raise=True,
        )
        self.note_extended(answer)
        return answer

    def ask_leave(self, error: BaseException | None, delivered: int | None) -> Flow[None]:
        """End the hold as the block ended, unless it has ended already."""
        if self._ended or self._pid != os.getpid():
            # A forked process that leaves the block must not end what its parent works on.
            return
        try:
            if error is not None and self._settle_failed(error):
                self._tell(error, "a settle was tried and did not succeed, so nothing is refunded")
            elif error is None or delivered or self._final is not None:
                yield from self._finish(delivered)
            else:
                yield from self._resolve()
                yield from self._give_back(self._reason(error))
        except Exception as failed:
            if error is None:
                raise
            self._tell(error, f"it could not be ended: {failed}")

    def _settle_failed(self, error: BaseException) -> bool:
        under_way = self._final is not None or bool(self._partials)
        return self._refused or (under_way and isinstance(error, errors.Unavailable))

    def _reason(self, error: BaseException) -> RefundReason.ValueType | str:
        if isinstance(error, _CANCELLATIONS):
            return self._terms.on_cancel
        return RefundReason.REFUND_REASON_FAILED

    def _tell(self, error: BaseException, what: str) -> None:
        text = (
            f"creditgate: the hold {self.hold_id} of {self.account_id}: {what}. "
            f"Left alone it returns by itself at {self.deadline.isoformat()}."
        )
        error.add_note(text)
        log.warning("%s", text)

    def _finish(self, delivered: int | None) -> Flow[None]:
        try:
            if self._final is None:
                answer: Any = yield from self.ask_settle(quantity=delivered)
            else:
                # It was under way and has no answer: the same request, whatever it was.
                answer = yield from self._end(self._final)
        except errors.HoldSettled as settled:
            # The other run of a job delivered twice came first: it is paid.
            log.warning("the hold %s had been settled: %s", self.hold_id, settled)
            return
        if isinstance(answer, SettleResponse) and answer.shortfall:
            log.warning(
                "the hold %s of %s was settled with a shortfall of %d",
                self.hold_id,
                self.account_id,
                answer.shortfall,
            )

    def _give_back(self, reason: RefundReason.ValueType | str) -> Flow[None]:
        # A refund of a settled hold undoes the settle. If this job was delivered twice and the
        # other run has settled, our failure must not.
        shown = yield calls.get_hold(self.account_id, self.hold_id)
        if shown.hold.state == HoldState.HOLD_STATE_OPEN:
            yield from self.ask_refund(reason=reason)

    def _end(self, call: Call[Any]) -> Generator[Call[Any], Any, Any]:
        """Make the call that ends the hold; it is kept until it has a definite answer."""
        self._final = call
        try:
            answer = yield call
        except errors.Unavailable:
            raise
        except errors.HoldEnded:
            self._ended = True
            raise
        except errors.Fault:
            self._final, self._refused = None, True
            raise
        self._ended, self._record = True, answer.hold
        return answer

    def _claim(self, amount: int | None, quantity: int | None, operation_id: str) -> _Partial:
        content = (amount, quantity, operation_id)
        with self._lock:
            for partial in self._partials:
                if not partial.under_way and partial.content == content:
                    partial.under_way = True
                    return partial
            if not operation_id:
                operation_id = f"settle-{self._settles + 1}"
            call = calls.settle(
                self.account_id,
                self.hold_id,
                amount=amount,
                quantity=quantity,
                partial=True,
                operation_id=operation_id,
            )
            self._settles += not content[2]
            partial = _Partial(content, call)
            self._partials.append(partial)
            return partial

    def _resolve(self) -> Flow[None]:
        """Make every partial settle again that has no definite answer, the oldest first."""
        with self._lock:
            waiting = [partial for partial in self._partials if not partial.under_way]
            for partial in waiting:
                partial.under_way = True
        for partial in waiting:
            yield from self._take(partial)

    def _take(self, partial: _Partial) -> Flow[SettleResponse]:
        try:
            answer: SettleResponse = yield partial.call
        except errors.Unavailable:
            raise
        except errors.Fault:
            self._forget(partial)
            raise
        finally:
            partial.under_way = False
        self._forget(partial)
        self._record = answer.hold
        return answer

    def _forget(self, partial: _Partial) -> None:
        with self._lock:
            self._partials.remove(partial)


def _run(flow: Flow[T], call: Callable[[Call[Any]], Any]) -> T:
    try:
        step = next(flow)
        while True:
            try:
                answer = call(step)
            except BaseException as error:  # noqa: BLE001 - the flow decides
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def _arun(flow: Flow[T], call: Callable[[Call[Any]], Awaitable[Any]]) -> T:
    try:
        step = next(flow)
        while True:
            try:
                answer = await call(step)
            except BaseException as error:  # noqa: BLE001 - the flow decides
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


M = TypeVar("M", bound="Callable[..., Any]")


def _named(method: M, ask: Callable[..., Any]) -> M:
    functools.update_wrapper(method, ask)
    method.__name__ = ask.__name__.removeprefix("ask_")
    method.__qualname__ = method.__name__
    return method


def _sync(
    ask: Callable[Concatenate[HoldCore, P], Flow[T]],
) -> Callable[Concatenate[Hold, P], T]:
    def method(self: Hold, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(ask(self, *args, **kwargs))

    return _named(method, ask)


def _aio(
    ask: Callable[Concatenate[HoldCore, P], Flow[T]],
) -> Callable[Concatenate[AsyncHold, P], Awaitable[T]]:
    async def method(self: AsyncHold, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(ask(self, *args, **kwargs))

    return _named(method, ask)


class Hold(HoldCore):
    """The guard that `Client.hold` makes; it belongs to the process that entered its block."""

    def __init__(self, client: Client, made_from: Terms) -> None:
        super().__init__(made_from)
        self._client = client

    settle = _sync(HoldCore.ask_settle)
    refund = _sync(HoldCore.ask_refund)
    extend = _sync(HoldCore.ask_extend)
    raise_to = _sync(HoldCore.ask_raise_to)

    def run(self, flow: Flow[T]) -> T:
        """Make the calls of a flow."""
        try:
            return _run(flow, self._client.call)
        finally:
            if self._ended:
                self._client.heart().drop(self)

    def begin(self) -> Self:
        """Authorize; for frameworks where a job begins and ends in two callbacks."""
        self.run(self._enter())
        if self._keep_alive:
            self._client.heart().add(self)
        return self

    def end(self, error: BaseException | None = None, delivered: int | None = None) -> None:
        """End what was begun, as a block would: with the error it ended with, if any.

        `delivered` units are settled, even if there was an error; without it all or nothing is.
        """
        try:
            self.run(self.ask_leave(error, delivered))
        finally:
            self._client.heart().drop(self)

    def __enter__(self) -> Self:
        self.begin()
        self._activate()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deactivate()
        self.end(error)


class AsyncHold(HoldCore):
    """The guard that `AsyncClient.hold` makes."""

    def __init__(self, client: AsyncClient, made_from: Terms) -> None:
        super().__init__(made_from)
        self._client = client

    settle = _aio(HoldCore.ask_settle)
    refund = _aio(HoldCore.ask_refund)
    extend = _aio(HoldCore.ask_extend)
    raise_to = _aio(HoldCore.ask_raise_to)

    async def run(self, flow: Flow[T]) -> T:
        """Make the calls of a flow."""
        try:
            return await _arun(flow, self._client.call)
        finally:
            if self._ended:
                self._client.heart().drop(self)

    async def begin(self) -> Self:
        """Authorize; for frameworks where a job begins and ends in two callbacks."""
        await self.run(self._enter())
        if self._keep_alive:
            self._client.heart().add(self)
        return self

    async def end(self, error: BaseException | None = None, delivered: int | None = None) -> None:
        """End what was begun, as a block would: with the error it ended with, if any.

        `delivered` units are settled, even if there was an error; without it all or nothing is.
        """
        # In a task of its own: a second cancellation ends our waiting, but not the settle or
        # refund.
        leaving = asyncio.create_task(self.run(self.ask_leave(error, delivered)))
        _LEAVING.add(leaving)
        leaving.add_done_callback(self._left)
        await asyncio.shield(leaving)

    async def __aenter__(self) -> Self:
        await self.begin()
        self._activate()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deactivate()
        await self.end(error)

    def _left(self, leaving: asyncio.Task[None]) -> None:
        _LEAVING.discard(leaving)
        self._client.heart().drop(self)
        if not leaving.cancelled() and leaving.exception() is not None:
            log.debug("the hold %s was not left cleanly: %s", self.hold_id, leaving.exception())


_LEAVING: set[asyncio.Task[None]] = set()
"""Tasks that nobody may be waiting for; the event loop itself does not keep them."""

_current: ContextVar[Hold | AsyncHold | None] = ContextVar("creditgate_hold", default=None)


def current_hold() -> Hold | AsyncHold | None:
    """Tell which hold's block, or held function, this code runs in; None if in none.

    ```python
    @creditgate.holding(client, account_id="acct-1", hold_id=lambda job: job.id, action="upscale")
    def upscale(job):
        ...
        creditgate.current_hold().settle(quantity=3)
    ```
    It follows the context: tasks made in the block see it, new threads do not.
    """
    return _current.get()
