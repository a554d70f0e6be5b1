"""The guard as a decorator, for functions, coroutines, generators and async generators."""

# ruff: noqa: PLR0913 - The arguments are the fields of the contract.

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, cast

from creditgate._client import AsyncClient, Client
from creditgate.v1.credits_pb2 import RefundReason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping

    from creditgate._holds import AsyncHold, Hold
    from creditgate.calls import Seconds

P = ParamSpec("P")
T = TypeVar("T")

Function: TypeAlias = "Callable[..., Any]"


def holding(
    client: Client | AsyncClient,
    *,
    account_id: str | Callable[..., str],
    hold_id: str | Callable[..., str],
    action: str | Callable[..., str],
    model: str | Callable[..., str] = "",
    quantity: int | Callable[..., int | None] | None = None,
    settings: Mapping[str, str] | Callable[..., Mapping[str, str] | None] | None = None,
    ttl: Seconds | Callable[..., Seconds | None] | None = None,
    max_amount: int | Callable[..., int | None] | None = None,
    member_id: str | Callable[..., str] = "",
    delivered: int | Callable[[Any], int] | None = None,
    run_again: bool = False,
    on_cancel: RefundReason.ValueType | str = RefundReason.REFUND_REASON_FAILED,
    heartbeat: bool = True,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Run every call of a function in a hold, as `client.hold` would.

    ```python
    @creditgate.holding(
        client,
        account_id=lambda job: job.user,
        hold_id=lambda job: job.id,
        action="image.generate",
        quantity=lambda job: job.count,
        delivered=len,
    )
    def generate(job):
        return [run(job) for _ in range(job.count)]
    ```

    Each argument is a value, or is worked out from the function's own arguments. `delivered` says
    how many units of the price a result is, as a number or worked out from it; without it the end
    of the function settles in full. A `Client` takes functions and generators, an `AsyncClient`
    coroutines and async generators.

    A generator is held from its first item to its end, and needs `delivered`, counted for each
    item (`delivered=1`): whatever ends it, what it has given is settled and the rest returns. So
    one that is closed early, or fails half-way, is paid for what came out of it; if nothing came
    out, it is refunded. Close those that you leave early: one that is merely dropped is ended
    whenever Python finds it, or when its hold's life is over.
    """
    given = {
        "account_id": account_id,
        "hold_id": hold_id,
        "action": action,
        "model": model,
        "quantity": quantity,
        "settings": settings,
        "ttl": ttl,
        "max_amount": max_amount,
        "member_id": member_id,
    }

    def guard(args: Any, kwargs: Any) -> Any:
        fields: dict[str, Any] = {
            name: value(*args, **kwargs) if callable(value) else value
            for name, value in given.items()
        }
        return client.hold(**fields, run_again=run_again, on_cancel=on_cancel, heartbeat=heartbeat)

    def units(result: Any) -> int | None:
        return delivered(result) if callable(delivered) else delivered

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        wrap = _wrapper(client, function)
        if wrap in (_stream, _async_stream) and delivered is None:
            raise TypeError("say what an item of a generator delivers, such as delivered=1")
        wrapped = functools.wraps(function)(wrap(function, guard, units))
        return cast("Callable[P, T]", wrapped)

    return decorate


def _wrapper(client: Client | AsyncClient, function: Function) -> Function:
    if isinstance(client, AsyncClient):
        if inspect.isasyncgenfunction(function):
            return _async_stream
        if inspect.iscoroutinefunction(function):
            return _coroutine
        raise TypeError("an AsyncClient holds for coroutines and async generators; use a Client")
    if inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError("a Client would block the event loop; use an AsyncClient")
    return _stream if inspect.isgeneratorfunction(function) else _function


def _function(function: Function, guard: Function, units: Function) -> Function:
    def held(*args: Any, **kwargs: Any) -> Any:
        hold: Hold = guard(args, kwargs).begin()
        try:
            with hold.active():
                result = function(*args, **kwargs)
            count = units(result)
        except BaseException as error:
            hold.end(error)
            raise
        hold.end(delivered=count)
        return result

    return held


def _coroutine(function: Function, guard: Function, units: Function) -> Function:
    async def held(*args: Any, **kwargs: Any) -> Any:
        hold: AsyncHold = await guard(args, kwargs).begin()
        try:
            with hold.active():
                result = await function(*args, **kwargs)
            count = units(result)
        except BaseException as error:
            await hold.end(error)
            raise
        await hold.end(delivered=count)
        return result

    return held


def _stream(function: Function, guard: Function, units: Function) -> Function:
    def held(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        hold: Hold = guard(args, kwargs).begin()
        count, result = 0, None
        try:
            items = function(*args, **kwargs)
            step = functools.partial(next, items)
            while True:
                # Only while it works, not while its consumer does.
                with hold.active():
                    try:
                        item = step()
                    except StopIteration as end:
                        result = end.value
                        break
                count += units(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    items.close()
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it is the generator's
                    step = functools.partial(items.throw, thrown)
                else:
                    step = functools.partial(items.send, sent)
        except BaseException as error:
            hold.end(error, count)
            raise
        hold.end(delivered=count)
        return result

    return held


def _async_stream(function: Function, guard: Function, units: Function) -> Function:
    async def held(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        hold: AsyncHold = await guard(args, kwargs).begin()
        count = 0
        try:
            items = function(*args, **kwargs)
            step = items.__anext__
            while True:
                with hold.active():
                    try:
                        item = await step()
                    except StopAsyncIteration:
                        break
                count += units(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    await items.aclose()
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it is the generator's
                    step = functools.partial(items.athrow, thrown)
                else:
                    step = functools.partial(items.asend, sent)
        except BaseException as error:
            await hold.end(error, count)
            raise
        await hold.end(delivered=count)

    return held
