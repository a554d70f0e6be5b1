"""Several server processes on one port, and the supervisor that starts and watches them.

The supervisor serves nothing. It has what is there once: the store that is started here, the port,
the catalog's file, the developer's clock. Workers are servers like any other, and to the store so
many sidecars; the kernel gives each new connection to one of them.

What holds for all is read or moved in one place and told to each, and whoever asked is answered
when all of them follow.
"""

import asyncio
import collections
import contextlib
import logging
import multiprocessing
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from typing import Any

from pydantic import SecretStr

from creditgate_server.app.addresses import RefusedToStart, check_listen
from creditgate_server.app.catalogs import InForce
from creditgate_server.app.clock import MovableClock
from creditgate_server.app.control import (
    Advanced,
    Channel,
    Done,
    Follows,
    Ready,
    Refused,
    Reload,
    Shared,
)
from creditgate_server.app.server import opened_store, store_lost
from creditgate_server.app.settings import Settings
from creditgate_server.app.worker import work
from creditgate_server.core.catalog import Catalog
from creditgate_server.engines.engine import Name
from creditgate_server.rpc.in_force import Reloaded

# A worker that is alive does what it is told in milliseconds.
FOLLOW_S = 5.0
# So many deaths for each worker within a minute are no accident.
DEATHS_MAX = 3
_DEATHS_S = 60.0
# Between attempts to replace a worker while something hinders it, such as a store that is away.
AGAIN_S = 2.0
# Beyond the time that requests may take: for all the rest of a worker's end.
_END_S = 10.0
# For the supervisor alone: a terminal sends them to each process.
_OURS = (signal.SIGINT, signal.SIGHUP)

_log = logging.getLogger(__name__)


class WorkersLost(Exception):
    """The workers end again and again by themselves. The message says where to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Workers that answer requests. `address` is host:port; `store` is for people."""

    address: str
    engine: Name
    store: str
    catalog: Catalog


async def serve(
    settings: Settings, on_ready: Callable[[Serving], None], *, prepare: Callable[[], object]
) -> None:
    """Run until SIGTERM or SIGINT, then let all workers drain. SIGHUP reads the catalog again.

    `prepare`, which must be picklable, is called first in each worker: it sets up the log. Raises
    what `server.serve` raises, and `WorkersLost`. What hinders a worker is a `RefusedToStart`.
    """
    check_listen(settings.listen, insecure=settings.insecure_listen)
    if settings.socket is not None:
        raise RefusedToStart(
            f"--socket {settings.socket}: a unix socket belongs to one process; "
            f"leave out --workers {settings.workers}, or leave out --socket and use --listen"
        )
    clock = MovableClock()
    catalogs = InForce(settings.catalog, clock)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with reserved(settings.listen) as address, opened_store(settings) as store:
        given = settings.model_copy(
            update={"listen": address, "redis": SecretStr(store.url), "workers": 1}
        )
        supervisor = _Supervisor(given, catalogs, clock, prepare)
        lost = asyncio.create_task(store.ended())
        stopped = asyncio.create_task(stop.wait())
        async with _cancelled_at_the_end(lost, stopped), supervisor.drained_at_the_end():
            started = asyncio.create_task(supervisor.start(settings.workers))
            try:
                await asyncio.wait((started, lost, stopped), return_when=asyncio.FIRST_COMPLETED)
            finally:
                started.cancel()
            if started.done():
                first = await started
                loop.add_signal_handler(signal.SIGHUP, supervisor.reload_soon)
                on_ready(
                    Serving(
                        address=address,
                        engine=first.engine,
                        store=store.name,
                        catalog=catalogs.current,
                    )
                )
                failed = supervisor.failed
                await asyncio.wait((failed, lost, stopped), return_when=asyncio.FIRST_COMPLETED)
                if failed.done():
                    await failed
            _log.info("going down: no more requests are taken")
        if not lost.cancelled():
            raise store_lost(store.name)


@contextlib.contextmanager
def reserved(listen: str) -> Iterator[str]:
    """The address, which is only for our workers until the end of the block; port 0 as a number.

    Raises `RefusedToStart` if anybody has it.
    """
    host, _, wanted = listen.rpartition(":")
    port = int(wanted)
    with contextlib.ExitStack() as held:
        try:
            for family, address in _addresses(host):
                # It has the port for itself or not at all: a socket that shares could not tell.
                with socket.create_server((address, port), family=family) as alone:
                    port = alone.getsockname()[1]
                sharing = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
                sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sharing.bind((address, port))
                # Was for connections of a server before us that the kernel still remembers; now
                # it would let in another supervisor whose workers have not begun to listen.
                sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError as error:
            raise RefusedToStart(f"--listen {listen}: {error}; choose another port") from error
        yield f"{host}:{port}"


def _addresses(host: str) -> list[tuple[int, str]]:
    name = host.removeprefix("[").removesuffix("]")
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    every: list[tuple[int, str]] = [(family, str(address[0])) for family, _, _, _, address in found]
    return [pair for pair in every if _is_here(*pair)] or every


def _is_here(family: int, address: str) -> bool:
    """A name such as localhost may stand for an address that this machine has switched off."""
    try:
        with socket.create_server((address, 0), family=family):
            return True
    except OSError:
        return False


@dataclass(eq=False)
class _Worker:
    place: int
    process: SpawnProcess
    channel: Channel
    ready: asyncio.Future[Ready]
    """Raises `RefusedToStart` if it never is."""
    refused: bool = False
    """It has said why it does not start."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    waits: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    """Done when the worker does what was said under this number, or is no more."""

    def __str__(self) -> str:
        return f"worker {self.place} (process {self.process.pid})"


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        catalogs: InForce,
        clock: MovableClock,
        prepare: Callable[[], object],
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises `WorkersLost` when it is of no use to start any more of them."""
        self._settings = settings
        self._catalogs = catalogs
        self._clock = clock
        self._prepare = prepare
        self._workers: dict[int, _Worker] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._deaths: collections.deque[float] = collections.deque()
        self._changing = asyncio.Lock()
        self._number = 0
        self._stopping = False

    async def start(self, count: int) -> Ready:
        """Start so many workers, and keep as many from now on. Raises `RefusedToStart`."""
        self._deaths = collections.deque(maxlen=DEATHS_MAX * count)
        workers = [await self._spawn(place) for place in range(1, count + 1)]
        # What hinders one hinders all: whoever says it first says it for them.
        # Shielded: who gives up the start does not give up what a worker says.
        first, *_ = await asyncio.gather(*(asyncio.shield(worker.ready) for worker in workers))
        self._clock.follow(first.clock_offset_ms)
        self._keepers = {asyncio.create_task(self._keep(place)) for place in self._workers}
        return first

    @contextlib.asynccontextmanager
    async def drained_at_the_end(self) -> AsyncIterator[None]:
        """All workers have ended when the block has."""
        try:
            yield
        finally:
            self._stopping = True
            await _cancel(self._keepers)
            workers = tuple(self._workers.values())
            for worker in workers:
                worker.channel.say_last()
            limit_s = self._settings.drain_s + _END_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await asyncio.gather(*(worker.ended.wait() for worker in workers))
            for worker in workers:
                if not worker.ended.is_set():
                    _log.error("%s has not ended in %g s; it is killed", worker, limit_s)
                    worker.process.kill()
                    await worker.ended.wait()
            await _cancel(self._tasks)

    def reload_soon(self) -> None:
        """Read the catalog again; what came of it is in the log."""
        self._soon(self._reload())

    # A worker's life.

    async def _spawn(self, place: int) -> _Worker:
        ours, theirs = socket.socketpair()
        # From here on nothing is waited for: a process that has begun is in the list.
        channel = await Channel.over(ours)
        context = multiprocessing.get_context("spawn")
        process = context.Process(
            target=work,
            args=(theirs, self._settings, self._shared(), self._prepare),
            name=f"worker {place}",
            # So that none is left if we end by a defect.
            daemon=True,
        )
        # First, since it changes the mask that the process is to inherit.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
        try:
            process.start()
        except OSError as error:
            await channel.close()
            raise RefusedToStart(f"worker {place} cannot be started: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
            theirs.close()
        loop = asyncio.get_running_loop()
        worker = _Worker(place, process, channel, loop.create_future())
        # Asked for by whoever needs it, if anybody.
        worker.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self._workers[place] = worker
        loop.add_reader(process.sentinel, self._on_end, worker)
        self._soon(self._listen(worker))
        return worker

    def _on_end(self, worker: _Worker) -> None:
        asyncio.get_running_loop().remove_reader(worker.process.sentinel)
        worker.process.join()
        worker.ended.set()

    async def _keep(self, place: int) -> None:
        """See to it that there is always a worker at this place."""
        while True:
            worker = self._workers[place]
            await worker.ended.wait()
            if worker.refused:
                # It is hindered, as by a store that is away. The others go on meanwhile.
                await asyncio.sleep(AGAIN_S)
            else:
                code = worker.process.exitcode
                _log.error("%s has ended by itself, exit code %s; it is replaced", worker, code)
                if not self._may_replace():
                    return
            try:
                self._soon(self._welcome(await self._spawn(place)))
            except RefusedToStart as error:
                _log.error("%s", error)
                worker.refused = True

    async def _welcome(self, worker: _Worker) -> None:
        try:
            ready = await worker.ready
        except RefusedToStart as error:
            _log.error("%s does not serve: %s", worker, error)
            return
        _log.info("%s serves", worker)
        # The one that is gone may have moved the clock and told nobody.
        await self._advanced(ready.clock_offset_ms)

    def _may_replace(self) -> bool:
        now_s = time.monotonic()
        self._deaths.append(now_s)
        if len(self._deaths) < (self._deaths.maxlen or 0) or now_s - self._deaths[0] > _DEATHS_S:
            return True
        if not self.failed.done():
            self.failed.set_exception(
                WorkersLost(
                    f"workers have ended by themselves {len(self._deaths)} times within "
                    f"{_DEATHS_S:g} s; the log says with which exit codes"
                )
            )
        return False

    async def _listen(self, worker: _Worker) -> None:
        """Take what the worker says, until it has ended."""
        try:
            while (message := await worker.channel.receive()) is not None:
                self._take(worker, message)
            await worker.ended.wait()
        finally:
            await worker.channel.close()
        if not worker.ready.done():
            code = worker.process.exitcode
            worker.ready.set_exception(
                RefusedToStart(f"{worker} ended before it was ready, exit code {code}")
            )
        for waiting in worker.waits.values():
            _done(waiting)

    def _take(self, worker: _Worker, message: object) -> None:
        match message:
            case Ready():
                worker.ready.set_result(message)
            case Refused(why):
                worker.refused = True
                worker.ready.set_exception(RefusedToStart(why))
            case Follows(number):
                _done(worker.waits.pop(number, None))
            case Reload(number):
                self._soon(self._reload_for(worker, number))
            case Advanced(number, clock_offset_ms):
                self._soon(self._advance_for(worker, number, clock_offset_ms))
            case _:
                raise AssertionError(message)

    # What holds for all.

    def _shared(self) -> Shared:
        return Shared(
            number=self._number,
            versions=self._catalogs.versions,
            clock_offset_ms=self._clock.offset_ms,
        )

    async def _reload_for(self, worker: _Worker, number: int) -> None:
        worker.channel.send(Done(number, await self._reload()))

    async def _advance_for(self, worker: _Worker, number: int, clock_offset_ms: int) -> None:
        await self._advanced(clock_offset_ms)
        worker.channel.send(Done(number))

    async def _reload(self) -> Reloaded:
        async with self._changing:
            found = await self._catalogs.reload()
            if found.version != found.previous_version:
                await self._tell_all()
            return found

    async def _advanced(self, clock_offset_ms: int) -> None:
        async with self._changing:
            if clock_offset_ms > self._clock.offset_ms:
                self._clock.follow(clock_offset_ms)
                await self._tell_all()

    async def _tell_all(self) -> None:
        """Returns when no worker does anything else any more."""
        self._number += 1
        shared = self._shared()
        told: dict[asyncio.Future[None], _Worker] = {}
        for worker in self._workers.values():
            if not worker.ended.is_set():
                waiting = worker.waits[shared.number] = asyncio.get_running_loop().create_future()
                told[waiting] = worker
                worker.channel.send(shared)
        if not told:
            return
        _, silent = await asyncio.wait(told, timeout=FOLLOW_S)
        for waiting in silent:
            worker = told[waiting]
            # One that is still starting hears of it before it serves.
            if worker.ready.done() and not self._stopping:
                _log.error(
                    "%s does not take over the catalog and the clock of the others; it is killed",
                    worker,
                )
                worker.process.kill()
                await worker.ended.wait()

    def _soon(self, work: Coroutine[Any, Any, Any]) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _done(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _cancelled_at_the_end(*tasks: asyncio.Task[Any]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await _cancel(tasks)
