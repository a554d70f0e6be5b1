"""The guard as a decorator: what a function gives is what is paid."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest

import creditgate
from creditgate import AsyncClient, Client, current_hold, holding
from tests.client.fake import REFUNDED, SETTLED, UNAVAILABLE, FakeServer


@dataclass
class Job:
    id: str = "job"
    user: str = "acct"
    count: int = 4


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture
async def aclient(server: FakeServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.address) as client:
        yield client


F = TypeVar("F", bound=Callable[..., Any])


def held(client: Client | AsyncClient, **more: Any) -> Callable[[F], F]:
    fields: dict[str, Any] = {
        "account_id": lambda job, **_: job.user,
        "hold_id": lambda job, **_: job.id,
        "action": "image.generate",
        "quantity": lambda job, **_: job.count,
        "heartbeat": False,
    }
    return cast("Callable[[F], F]", holding(client, **(fields | more)))


def outcome(server: FakeServer) -> tuple[Any, int]:
    hold = server.hold("acct", "job")
    return hold.state, hold.charged


def test_a_function_is_settled_in_full_when_it_returns(client: Client, server: FakeServer) -> None:
    @held(client)
    def work(job: Job) -> str:
        """Works."""
        assert isinstance(current_hold(), creditgate.Hold)
        return f"done {job.id}"

    assert work(Job()) == "done job"
    assert current_hold() is None
    assert outcome(server) == (SETTLED, 40)
    assert (work.__name__, work.__doc__) == ("work", "Works.")


def test_a_function_is_settled_by_what_it_gives(client: Client, server: FakeServer) -> None:
    @held(client, delivered=len)
    def work(job: Job, *, count: int) -> list[str]:
        return [job.id] * count

    assert work(Job(), count=3) == ["job"] * 3
    assert outcome(server) == (SETTLED, 30)
    work(Job("none"), count=0)
    assert server.hold("acct", "none").charged == 0


def test_a_function_that_fails_is_refunded(client: Client, server: FakeServer) -> None:
    @held(client, delivered=len)
    def work(job: Job) -> None:
        raise KeyError(job.id)

    with pytest.raises(KeyError):
        work(Job())
    assert outcome(server) == (REFUNDED, 0)


def test_a_function_may_settle_for_itself(client: Client, server: FakeServer) -> None:
    @held(client)
    def work(job: Job) -> None:
        hold = current_hold()
        assert isinstance(hold, creditgate.Hold)
        hold.settle(quantity=job.count - 3)

    work(Job())
    assert outcome(server) == (SETTLED, 10)
    assert len(server.requests("settle")) == 1


async def test_a_coroutine_is_settled_by_what_it_gives(
    aclient: AsyncClient, server: FakeServer
) -> None:
    @held(aclient, delivered=len)
    async def work(job: Job, *, fails: bool = False) -> str:
        assert isinstance(current_hold(), creditgate.AsyncHold)
        if fails:
            raise KeyError(job.id)
        return "abc"

    assert inspect.iscoroutinefunction(work)
    assert await work(Job()) == "abc"
    assert outcome(server) == (SETTLED, 30)
    with pytest.raises(KeyError):
        await work(Job("other"), fails=True)
    assert server.hold("acct", "other").state == REFUNDED


class Seen:
    """What a generator was sent and how it ended."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.closed = False


def stream(seen: Seen) -> Any:
    def images(job: Job, fails_at: int = 99) -> Generator[int, Any, str]:
        try:
            for number in range(job.count):
                if number == fails_at:
                    raise OSError("out of memory")
                assert current_hold() is not None
                try:
                    seen.sent.append((yield number))
                except LookupError as error:
                    seen.sent.append(error)
            return "all"
        finally:
            seen.closed = True

    return images


def astream(seen: Seen) -> Any:
    async def images(job: Job, fails_at: int = 99) -> AsyncGenerator[int, Any]:
        try:
            for number in range(job.count):
                if number == fails_at:
                    raise OSError("out of memory")
                assert current_hold() is not None
                try:
                    seen.sent.append((yield number))
                except LookupError as error:
                    seen.sent.append(error)
        finally:
            seen.closed = True

    return images


def test_a_generator_is_settled_by_its_items(client: Client, server: FakeServer) -> None:
    images = held(client, delivered=1)(stream(Seen()))
    assert inspect.isgeneratorfunction(images)
    running = images(Job())
    assert server.asked == []
    found = []
    for image in running:
        assert current_hold() is None
        found.append(image)
    assert found == [0, 1, 2, 3]
    assert outcome(server) == (SETTLED, 40)


def test_an_item_may_count_for_more_than_one(client: Client, server: FakeServer) -> None:
    images = held(client, delivered=lambda item: item)(stream(Seen()))
    assert sum(images(Job(count=3))) == 3
    assert outcome(server) == (SETTLED, 30)


def test_a_generator_that_is_closed_early_is_paid_for_what_it_gave(
    client: Client, server: FakeServer
) -> None:
    seen = Seen()
    running = held(client, delivered=1)(stream(seen))(Job())
    next(running)
    next(running)
    running.close()
    assert seen.closed
    assert outcome(server) == (SETTLED, 20)


def test_a_generator_that_fails_half_way_is_paid_for_what_it_gave(
    client: Client, server: FakeServer
) -> None:
    images = held(client, delivered=1)(stream(Seen()))
    with pytest.raises(OSError, match="out of memory"):
        list(images(Job(), fails_at=3))
    assert outcome(server) == (SETTLED, 30)


def test_a_generator_that_gave_nothing_is_refunded(client: Client, server: FakeServer) -> None:
    images = held(client, delivered=1)(stream(Seen()))
    with pytest.raises(OSError, match="out of memory"):
        list(images(Job(), fails_at=0))
    assert outcome(server) == (REFUNDED, 0)


def test_a_generator_that_ends_without_an_item_costs_nothing(
    client: Client, server: FakeServer
) -> None:
    images = held(client, delivered=1)(stream(Seen()))
    assert list(images(Job(count=0))) == []
    assert outcome(server) == (SETTLED, 0)


def test_a_generator_hears_what_its_consumer_says(client: Client) -> None:
    seen = Seen()
    running = held(client, delivered=1)(stream(seen))(Job(count=3))
    next(running)
    running.send("more")
    error = LookupError()
    assert running.throw(error) == 2
    with pytest.raises(StopIteration) as end:
        next(running)
    assert end.value.value == "all"
    assert seen.sent == ["more", error, None]


def test_an_error_thrown_into_a_generator_ends_it_as_its_own(
    client: Client, server: FakeServer
) -> None:
    running = held(client, delivered=1)(stream(Seen()))(Job())
    next(running)
    with pytest.raises(ZeroDivisionError):
        running.throw(ZeroDivisionError())
    assert outcome(server) == (SETTLED, 10)


async def test_an_async_generator_is_settled_by_its_items(
    aclient: AsyncClient, server: FakeServer
) -> None:
    images = held(aclient, delivered=1)(astream(Seen()))
    assert inspect.isasyncgenfunction(images)
    found = []
    async for image in images(Job()):
        assert current_hold() is None
        found.append(image)
    assert found == [0, 1, 2, 3]
    assert outcome(server) == (SETTLED, 40)


async def test_an_async_generator_that_is_closed_early_is_paid_for_what_it_gave(
    aclient: AsyncClient, server: FakeServer
) -> None:
    seen = Seen()
    running = held(aclient, delivered=1)(astream(seen))(Job())
    await anext(running)
    await running.asend("more")
    await running.athrow(LookupError())
    await running.aclose()
    assert seen.closed
    assert seen.sent[0] == "more"
    assert outcome(server) == (SETTLED, 30)


async def test_an_async_generator_that_fails_is_paid_for_what_it_gave(
    aclient: AsyncClient, server: FakeServer
) -> None:
    images = held(aclient, delivered=1)(astream(Seen()))
    with pytest.raises(OSError, match="out of memory"):
        _ = [image async for image in images(Job(), fails_at=1)]
    assert outcome(server) == (SETTLED, 10)


def test_a_settle_that_fails_does_not_hide_the_error(client: Client, server: FakeServer) -> None:
    hasty = client.with_options(budget_s=0)
    images = held(hasty, delivered=1)(stream(Seen()))
    with server.always("settle", UNAVAILABLE), pytest.raises(OSError, match="memory") as caught:
        list(images(Job(), fails_at=1))
    assert "could not be ended" in caught.value.__notes__[0]


def test_a_denied_call_does_not_run(client: Client, server: FakeServer) -> None:
    ran: list[Job] = []
    work = held(client)(ran.append)

    server.tell("authorize", creditgate.calls.authorize("a", "h", action="x").method.response())
    with pytest.raises(creditgate.Denied):
        work(Job())
    assert ran == []


def test_a_generator_must_say_what_an_item_delivers(client: Client) -> None:
    with pytest.raises(TypeError, match="delivered=1"):
        held(client)(stream(Seen()))


def test_a_client_and_a_function_must_be_of_one_kind(client: Client) -> None:
    async def coroutine() -> None: ...

    def function() -> None: ...

    for wrong in (coroutine, astream(Seen())):
        with pytest.raises(TypeError, match="use an AsyncClient"):
            held(client)(wrong)
    for wrong in (function, stream(Seen())):
        with pytest.raises(TypeError, match="use a Client"):
            held(AsyncClient())(wrong)
