"""The client's sessions with a real server and its store, while everything between them fails.

What was answered is looked up in the ledger: each first answer carries the number of the entry it
made, so an answer that belongs to another call cannot hide.
"""

import asyncio
import contextlib
import itertools
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from creditgate import AsyncClient, Client, calls
from creditgate.calls import Call
from creditgate_server.store.link import StoreError
from tests.crash import load
from tests.rpc.shop import Account, Shop, shop

ACCOUNTS = 5


class Cable:
    """The way from the client to the server, to be cut."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.to: Path | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[None]:
        def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._carry(reader, writer))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

        server = await asyncio.start_unix_server(carry, self.place)
        try:
            yield
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._carrying)

    def cut(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there = await asyncio.open_unix_connection(self.to)
        except OSError:
            writer.transport.abort()
            return
        self._ends |= {writer, there}
        await asyncio.gather(self._pump(reader, there), self._pump(there_reader, writer))
        self._ends -= {writer, there}

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while portion := await source.read(1 << 16):
                target.write(portion)
                await target.drain()
        target.transport.abort()


class Jobs:
    """Jobs of several accounts, and all that was answered."""

    def __init__(self, accounts: list[str], seed: int) -> None:
        self.accounts = accounts
        self.rng = random.Random(seed)
        self.numbers = itertools.count()
        self.record = load.Record()
        self.stop = threading.Event()

    def job(self) -> list[Call[Any]]:
        account, hold = self.rng.choice(self.accounts), f"job-{next(self.numbers)}"
        if self.rng.random() < 0.3:
            return [calls.charge(account, hold, action="one")]
        first = calls.authorize(account, hold, action="one", quantity=3)
        if self.rng.random() < 0.5:
            return [first, calls.settle(account, hold, quantity=self.rng.randint(0, 3))]
        return [first, calls.refund(account, hold)]

    def note(self, call: Call[Any], answer: Any) -> None:
        method = call.method.path.rpartition("/")[2]
        body = call.request.SerializeToString()
        self.record.answered.append((load.Call(method, body), answer))

    async def caller(self, client: AsyncClient) -> None:
        while not self.stop.is_set():
            for call in self.job():
                self.note(call, await client.call(call))

    def thread(self, client: Client) -> None:
        while not self.stop.is_set():
            for call in self.job():
                self.note(call, client.call(call))


async def flush(server: Shop) -> None:
    """The store forgets its scripts."""
    with contextlib.suppress(StoreError):
        await server.running.ledger.link.command("SCRIPT", "FLUSH")


async def hang_up(server: Shop) -> None:
    """The store loses its connections."""
    with contextlib.suppress(StoreError):
        await server.running.ledger.link.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")


async def trouble(server: Shop, cable: Cable, rng: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0.05 + rng.random() * 0.1)
        match rng.randrange(4):
            case 0:
                cable.cut()
            case 1:
                await asyncio.to_thread(server.run, hang_up(server))
            case _:
                await asyncio.to_thread(server.run, flush(server))


async def lived_through(
    folder: Path, seed: int, work: Callable[[Jobs, str], Awaitable[object]]
) -> Jobs:
    """Two servers, one after the other, on one store; a client works all the while."""
    rng = random.Random(seed)
    cable = Cable(folder / "cable")
    async with cable.laid():
        jobs: Jobs | None = None
        working: asyncio.Future[object] | None = None
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                server = await asyncio.to_thread(stack.enter_context, shop(folder / "s"))
                cable.to = server.socket
                if jobs is None or working is None:
                    accounts = [server.account(2**40).account_id for _ in range(ACCOUNTS)]
                    jobs = Jobs(accounts, seed)
                    working = asyncio.ensure_future(work(jobs, f"unix:{cable.place}"))
                await trouble(server, cable, rng, 12)
                await asyncio.to_thread(stack.close)
        assert jobs is not None
        assert working is not None
        with contextlib.ExitStack() as stack:
            server = await asyncio.to_thread(stack.enter_context, shop(folder / "s"))
            await asyncio.sleep(0.2)
            jobs.stop.set()
            await working
            problems = await asyncio.to_thread(found, server, jobs)
            await asyncio.to_thread(stack.close)
    assert not problems, problems[:5]
    return jobs


def found(server: Shop, jobs: Jobs) -> list[str]:
    """What does not fit between the answers and the ledger."""
    problems = list(load.lost(server.channel, jobs.record))
    for account_id in jobs.accounts:
        problems += load.audit(Account(server.channel, account_id), jobs.record)
    return problems


async def among_tasks(jobs: Jobs, place: str) -> None:
    async with AsyncClient(place, budget_s=30) as client:
        await asyncio.gather(*(jobs.caller(client) for _ in range(48)))


async def among_threads(jobs: Jobs, place: str) -> None:
    # Threads of their own: those of the loop are needed for the servers.
    with Client(place, budget_s=30) as client, ThreadPoolExecutor(8) as pool:
        threads = [pool.submit(jobs.thread, client) for _ in range(8)]
        await asyncio.gather(*map(asyncio.wrap_future, threads))


@pytest.mark.parametrize("work", [among_tasks, among_threads])
async def test_no_answer_is_lost_or_mixed_up_whatever_fails(
    tmp_path: Path, work: Callable[[Jobs, str], Awaitable[object]]
) -> None:
    jobs = await lived_through(tmp_path, 7, work)
    assert len(jobs.record.answered) > 300
