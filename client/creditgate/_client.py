"""The two clients. They share everything but how they call and how they sleep."""

# ruff: noqa: PLR0913 - How a client is to behave is said in one place, by name.

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast, overload

import grpc
from google.protobuf.message import Message

from creditgate import _channels, _holds, calls, errors
from creditgate._beats import TaskHeart, ThreadHeart
from creditgate._channels import Loops, Processes
from creditgate._faults import Status
from creditgate._holds import AsyncHold, Hold
from creditgate._retry import Retries, RetryPolicy, Timing
from creditgate.calls import Call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType

    from creditgate._channels import Options
    from creditgate._holds import Terms
    from creditgate.v1.resources_pb2 import Hold as HoldMessage
    from creditgate.v1.resources_pb2 import LedgerEntry

P = ParamSpec("P")
R = TypeVar("R", bound=Message)

_PAGE_SIZE = 1000


class _Shared:
    """What both clients are made of: the address, the policy, the bytes of a request."""

    def __init__(
        self,
        address: str | None,
        *,
        timeout_s: float | None,
        budget_s: float | None,
        retry: RetryPolicy | None,
        timing: Timing | None,
    ) -> None:
        self.address = _channels.address_of(address)
        self.retry = _policy(RetryPolicy() if retry is None else retry, timeout_s, budget_s)
        self._timing = Timing() if timing is None else timing

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    def with_options(
        self, *, timeout_s: float | None = None, budget_s: float | None = None
    ) -> Self:
        """The same client on the same connection, with another patience."""
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__)
        other.retry = _policy(self.retry, timeout_s, budget_s)
        return other

    def _retries(self, call: Call[Any]) -> tuple[bytes, Retries]:
        # The bytes are made once, so that every retry is the same request to the last byte.
        body = call.request.SerializeToString(deterministic=True)
        return body, Retries(call, self.retry, self._timing)


def _policy(retry: RetryPolicy, timeout_s: float | None, budget_s: float | None) -> RetryPolicy:
    return RetryPolicy(
        timeout_s=retry.timeout_s if timeout_s is None else timeout_s,
        budget_s=retry.budget_s if budget_s is None else budget_s,
        backoff_s=retry.backoff_s,
        backoff_max_s=retry.backoff_max_s,
    )


def _call(request: Call[R] | Message) -> Call[R]:
    return request if isinstance(request, Call) else Call(request)


def _checked(call: Call[R], answer: R) -> R:
    if call.or_raise:
        errors.raise_for_denial(cast("Any", answer))
    return answer


def _as_method(method: Callable[..., Any], made_by: Callable[..., Any], returns: str) -> None:
    """Give a method the signature and the words of the function that makes its call."""
    functools.update_wrapper(method, made_by)
    signature = inspect.signature(made_by)
    me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    cast("Any", method).__signature__ = signature.replace(
        parameters=[me, *signature.parameters.values()], return_annotation=returns
    )


def _answers(made_by: Callable[..., Any]) -> str:
    annotation = str(made_by.__annotations__["return"])
    return annotation.removeprefix("Call[").removesuffix("]")


def _guard(make: Callable[P, Terms]) -> Callable[Concatenate[Client, P], Hold]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Hold:
        return Hold(self, make(*args, **kwargs))

    _as_method(method, make, "Hold")
    return method


def _aio_guard(make: Callable[P, Terms]) -> Callable[Concatenate[AsyncClient, P], AsyncHold]:
    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncHold:
        return AsyncHold(self, make(*args, **kwargs))

    _as_method(method, make, "AsyncHold")
    return method


def _sync(make: Callable[P, Call[R]]) -> Callable[Concatenate[Client, P], R]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.call(make(*args, **kwargs))

    _as_method(method, make, _answers(make))
    return method


def _aio(make: Callable[P, Call[R]]) -> Callable[Concatenate[AsyncClient, P], Awaitable[R]]:
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.call(make(*args, **kwargs))

    _as_method(method, make, _answers(make))
    return method


class Client(_Shared):
    """Talks to creditgate from threads and from prefork workers.

    ```python
    client = creditgate.Client()          # CREDITGATE_ADDRESS, else 127.0.0.1:7420

    with client.hold("acct-1", job.id, action="image.generate", quantity=4) as hold:
        images = run(job)
        hold.settle(quantity=len(images))
    ```

    Make one at import time and share it: nothing is connected before the first call, threads may
    use it at once (their calls then travel together, as messages of one stream), and a process
    that is forked afterwards connects for itself. (If the parent made calls before, gRPC must not
    be told `GRPC_ENABLE_FORK_SUPPORT=0`.) A hold belongs to the process that entered its block.

    `address` is `host:port` or `unix:/path`. `credentials` makes the connection TLS. `timeout_s`
    bounds one attempt, `budget_s` all attempts of a call. Everything that is safe to ask again is
    asked again, with the same bytes; what cannot be answered in the budget is raised as
    `Unavailable` or `OutcomeUnknown`.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float | None = None,
        budget_s: float | None = None,
        retry: RetryPolicy | None = None,
        options: Options = (),
        timing: Timing | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(
            address,
            timeout_s=timeout_s,
            budget_s=budget_s,
            retry=retry,
            timing=timing,
        )
        self._sleep = sleep
        self._processes = Processes(self.address, credentials, options)

    hold = _guard(_holds.terms)
    authorize = _sync(calls.authorize)
    extend = _sync(calls.extend)
    settle = _sync(calls.settle)
    refund = _sync(calls.refund)
    charge = _sync(calls.charge)
    quote = _sync(calls.quote)
    get_hold = _sync(calls.get_hold)
    list_holds = _sync(calls.list_holds)
    get_balance = _sync(calls.get_balance)
    execute = _sync(calls.execute)
    put_account = _sync(calls.put_account)
    get_account = _sync(calls.get_account)
    grant_credits = _sync(calls.grant_credits)
    void_bucket = _sync(calls.void_bucket)
    list_ledger = _sync(calls.list_ledger)
    subscribe = _sync(calls.subscribe)
    change_plan = _sync(calls.change_plan)
    cancel_subscription = _sync(calls.cancel_subscription)
    purchase_top_up = _sync(calls.purchase_top_up)
    set_add_ons = _sync(calls.set_add_ons)
    set_member_limit = _sync(calls.set_member_limit)
    freeze = _sync(calls.freeze)
    unfreeze = _sync(calls.unfreeze)
    get_usage = _sync(calls.get_usage)
    forecast = _sync(calls.forecast)
    explain = _sync(calls.explain)
    get_catalog = _sync(calls.get_catalog)
    list_prices = _sync(calls.list_prices)
    reload_catalog = _sync(calls.reload_catalog)
    get_time = _sync(calls.get_time)
    advance = _sync(calls.advance)

    def holds(self, account_id: str, *, page_size: int = _PAGE_SIZE) -> Iterator[HoldMessage]:
        """Go through all open holds of an account, in no particular order."""
        token = ""
        while True:
            page = self.list_holds(account_id, page_size=page_size, page_token=token)
            yield from page.holds
            token = page.next_page_token
            if not token:
                return

    def ledger(self, account_id: str, *, page_size: int = _PAGE_SIZE) -> Iterator[LedgerEntry]:
        """Go through all changes of an account, the latest first."""
        token = ""
        while True:
            page = self.list_ledger(account_id, page_size=page_size, page_token=token)
            yield from page.entries
            token = page.next_page_token
            if not token:
                return

    @overload
    def call(self, request: Call[R]) -> R: ...
    @overload
    def call(self, request: Message) -> Any: ...
    def call(self, request: Call[Any] | Message) -> Any:
        """Make a call of `creditgate.calls`, or send a request message of the contract as it is."""
        call = _call(request)
        body, retries = self._retries(call)
        while True:
            answer = self._processes.ask(call.method, body, retries.timeout_s)
            if not isinstance(answer, Status):
                return _checked(call, answer)
            pause_s = retries.failed(answer, last=self._processes.closed)
            self._sleep(pause_s)

    def close(self) -> None:
        """Close the connection of this process. Calls under way end as `OutcomeUnknown`."""
        self._processes.close()

    def heart(self) -> ThreadHeart:
        """Give what keeps the holds of this process alive; for `Hold`."""
        process = self._processes.here()
        with process.lock:
            if process.heart is None:
                process.heart = ThreadHeart(self.with_options(budget_s=0).call, self._timing.now)
            return process.heart

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(_Shared):
    """Talks to creditgate from asyncio; the same methods as `Client`, to be awaited.

    ```python
    client = creditgate.AsyncClient()

    async with client.hold("acct-1", job.id, action="image.generate", quantity=4) as hold:
        images = await run(job)
        await hold.settle(quantity=len(images))
    ```

    Make one and share it: it connects at the first call, once for each event loop, and calls that
    are made at the same time travel together, as messages of one stream. Close it in the loop that
    used it. It must not be used on both sides of a fork, because gRPC's asyncio
    part cannot: prefork workers take `Client`, or make their `AsyncClient` after the fork.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float | None = None,
        budget_s: float | None = None,
        retry: RetryPolicy | None = None,
        options: Options = (),
        timing: Timing | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(
            address,
            timeout_s=timeout_s,
            budget_s=budget_s,
            retry=retry,
            timing=timing,
        )
        self._sleep = sleep
        self._loops = Loops(self.address, credentials, options)

    hold = _aio_guard(_holds.terms)
    authorize = _aio(calls.authorize)
    extend = _aio(calls.extend)
    settle = _aio(calls.settle)
    refund = _aio(calls.refund)
    charge = _aio(calls.charge)
    quote = _aio(calls.quote)
    get_hold = _aio(calls.get_hold)
    list_holds = _aio(calls.list_holds)
    get_balance = _aio(calls.get_balance)
    execute = _aio(calls.execute)
    put_account = _aio(calls.put_account)
    get_account = _aio(calls.get_account)
    grant_credits = _aio(calls.grant_credits)
    void_bucket = _aio(calls.void_bucket)
    list_ledger = _aio(calls.list_ledger)
    subscribe = _aio(calls.subscribe)
    change_plan = _aio(calls.change_plan)
    cancel_subscription = _aio(calls.cancel_subscription)
    purchase_top_up = _aio(calls.purchase_top_up)
    set_add_ons = _aio(calls.set_add_ons)
    set_member_limit = _aio(calls.set_member_limit)
    freeze = _aio(calls.freeze)
    unfreeze = _aio(calls.unfreeze)
    get_usage = _aio(calls.get_usage)
    forecast = _aio(calls.forecast)
    explain = _aio(calls.explain)
    get_catalog = _aio(calls.get_catalog)
    list_prices = _aio(calls.list_prices)
    reload_catalog = _aio(calls.reload_catalog)
    get_time = _aio(calls.get_time)
    advance = _aio(calls.advance)

    async def holds(
        self, account_id: str, *, page_size: int = _PAGE_SIZE
    ) -> AsyncIterator[HoldMessage]:
        """Go through all open holds of an account, in no particular order."""
        token = ""
        while True:
            page = await self.list_holds(account_id, page_size=page_size, page_token=token)
            for hold in page.holds:
                yield hold
            token = page.next_page_token
            if not token:
                return

    async def ledger(
        self, account_id: str, *, page_size: int = _PAGE_SIZE
    ) -> AsyncIterator[LedgerEntry]:
        """Go through all changes of an account, the latest first."""
        token = ""
        while True:
            page = await self.list_ledger(account_id, page_size=page_size, page_token=token)
            for entry in page.entries:
                yield entry
            token = page.next_page_token
            if not token:
                return

    @overload
    async def call(self, request: Call[R]) -> R: ...
    @overload
    async def call(self, request: Message) -> Any: ...
    async def call(self, request: Call[Any] | Message) -> Any:
        """Make a call of `creditgate.calls`, or send a request message of the contract as it is."""
        call = _call(request)
        body, retries = self._retries(call)
        while True:
            answer = await self._loops.ask(call.method, body, retries.timeout_s)
            if not isinstance(answer, Status):
                return _checked(call, answer)
            pause_s = retries.failed(answer, last=self._loops.closed)
            await self._sleep(pause_s)

    async def close(self) -> None:
        """Close the connection of this event loop. Calls under way end as `OutcomeUnknown`."""
        await self._loops.close()

    def heart(self) -> TaskHeart:
        """Give what keeps the holds of this event loop alive; for `AsyncHold`."""
        loop = self._loops.here()
        if loop.heart is None:
            loop.heart = TaskHeart(self.with_options(budget_s=0).call, self._timing.now)
        return loop.heart

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
