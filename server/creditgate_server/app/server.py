"""Joins the parts, starts them, drains them, closes them."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from google.protobuf.descriptor import ServiceDescriptor

from creditgate.v1 import accounts_pb2, catalog_pb2, credits_pb2, test_clock_pb2
from creditgate_server.app.addresses import RefusedToStart, check_listen, locked_socket
from creditgate_server.app.catalogs import InForce
from creditgate_server.app.clock import MovableClock, wall_ms
from creditgate_server.app.settings import Settings
from creditgate_server.app.sweeper import forget, sweep
from creditgate_server.core.catalog import Catalog
from creditgate_server.engines import choice, reflection
from creditgate_server.engines.engine import OPTIONS, SHARED_PORT, Endpoints, Engine, Name, Options
from creditgate_server.engines.health import SERVICE as HEALTH
from creditgate_server.engines.health import Health
from creditgate_server.rpc import accounts, catalog, clock, credits
from creditgate_server.rpc.admission import Admission
from creditgate_server.rpc.endpoint import unary_endpoints
from creditgate_server.rpc.in_force import Catalogs
from creditgate_server.rpc.session import Sessions
from creditgate_server.rpc.stream import stream_endpoints
from creditgate_server.store import checkup, embedded
from creditgate_server.store.link import StoreError
from creditgate_server.store.redis_ledger import RedisLedger

CHECK_S = 10.0
_PROCESS_CHECK_S = 0.5
# So that callers who watch our health leave before we stop answering.
_NOTICE_S = 0.2
# More objects than the operations of a few Executes at the same time make.
_COLLECT_AFTER = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers requests. `address` is host:port; `store` is for people."""

    address: str
    engine: Name
    store: str
    catalogs: Catalogs
    ledger: RedisLedger

    @property
    def catalog(self) -> Catalog:
        """The catalog in force."""
        return self.catalogs.current


class Among(Catalogs, Protocol):
    """What a server that is one of several shares with the others: catalogs, a clock, the port."""

    clock: MovableClock


async def serve(settings: Settings, on_ready: Callable[[Running], None]) -> None:
    """Run until SIGTERM or SIGINT, then drain. SIGHUP reads the catalog again.

    Raises `RefusedToStart`, `CatalogError`, `StoreStartError`, `StoreError` and `StoreMismatch`;
    `StoreError` also if the store that was started here ends before we do.
    """
    stop = asyncio.Event()
    lost = asyncio.Event()

    def on_store_lost() -> None:
        lost.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, on_store_lost=on_store_lost) as server:
        reloads: set[asyncio.Task[object]] = set()
        loop.add_signal_handler(signal.SIGHUP, _reload, server.catalogs, reloads)
        on_ready(server)
        await stop.wait()
        _log.info("going down: no more requests are taken")
    if lost.is_set():
        raise store_lost(server.store)


def _reload(catalogs: Catalogs, reloads: set[asyncio.Task[object]]) -> None:
    """Read the catalog again; what came of it is in the log."""
    task = asyncio.ensure_future(catalogs.reload())
    reloads.add(task)
    task.add_done_callback(reloads.discard)


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    *,
    among: Among | None = None,
    on_store_lost: Callable[[], None] = lambda: None,
    check_s: float = CHECK_S,
) -> AsyncIterator[Running]:
    """A server, from its start to its end.

    `among`: it is one of several. `on_store_lost`: the store started here has ended. `check_s`: how
    often the store's settings are looked at.
    """
    if among is None:
        movable = MovableClock() if settings.developer else None
        catalogs: Catalogs = InForce(settings.catalog, movable or wall_ms)
    else:
        movable = among.clock if settings.developer else None
        catalogs = among
    check_listen(settings.listen, insecure=settings.insecure_listen)
    async with contextlib.AsyncExitStack() as parts:
        parts.enter_context(_unhurried_collector())
        store = parts.enter_context(opened_store(settings))
        try:
            ledger = await RedisLedger.open(
                store.url,
                partitions=settings.partitions,
                clock=movable,
                reply_timeout_s=settings.store_timeout_s,
                replicas=settings.replicas,
            )
        except ValueError as error:
            raise RefusedToStart(f"--redis: {error}") from error
        parts.push_async_callback(ledger.close)
        if movable is not None:
            await movable.attach(ledger)
        await _refuse_unsafe_store(ledger, settings)

        admission = Admission(settings.places)
        endpoints = _endpoints(ledger, catalogs, admission, movable)
        services = sorted({path.split("/")[1] for path in endpoints})
        health = Health(services)
        reflected = reflection.endpoints((*services, HEALTH)) if settings.developer else {}
        options = OPTIONS if among is None else SHARED_PORT
        everything = {**endpoints, **health.endpoints(), **reflected}
        engine = _engine(settings.engine, everything, options)
        if settings.socket is not None:
            engine.bind(parts.enter_context(locked_socket(settings.socket)))
        address = _bind(engine, settings.listen)
        await engine.start()
        parts.push_async_callback(engine.stop, settings.drain_s)
        parts.callback(health.end)
        parts.callback(admission.close)

        tasks = [
            asyncio.create_task(sweep(ledger, lambda: catalogs.current)),
            asyncio.create_task(forget(ledger, settings.record_days * 86_400_000)),
            asyncio.create_task(_watch_settings(health, admission, ledger, settings, check_s)),
            asyncio.create_task(_watch_process(health, store, on_store_lost)),
        ]
        parts.push_async_callback(_end, health, tasks)
        health.set_serving(True)
        yield Running(
            address=address,
            engine=engine.name,
            store=store.name,
            catalogs=catalogs,
            ledger=ledger,
        )


@contextlib.contextmanager
def _unhurried_collector() -> Iterator[None]:
    """While the block runs: look for cycles of objects seldom, since only faults make some.

    By default Python looks at what is under way after each 700 objects, which a few dozen
    operations are.
    """
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where the store is. `name` is for people; `process` if it was started here."""

    url: str
    name: str
    process: embedded.EmbeddedStore | None

    async def ended(self) -> None:
        """Wait until the store that was started here has ended by itself."""
        while self.process is None or self.process.running:  # noqa: ASYNC110
            # Its end is an event of a thread, for which no loop can wait.
            await asyncio.sleep(_PROCESS_CHECK_S)
        _log.error("the store has ended by itself; its log is in %s", self.process.data_dir)


def store_lost(name: str) -> StoreError:
    """What to end with then: whoever supervises us starts us again, and with us the store."""
    return StoreError(f"the store ended by itself: {name}", definite=True)


@contextlib.contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """The store that the settings name, or one that runs until the end of the block."""
    if settings.redis is not None:
        yield Store(url=settings.redis.get_secret_value(), name="--redis", process=None)
        return
    with embedded.start(settings.data, appendfsync=settings.fsync) as process:
        name = f"{process.program}, data in {process.data_dir}"
        yield Store(url=process.url, name=name, process=process)


def _endpoints(
    ledger: RedisLedger,
    catalogs: Catalogs,
    admission: Admission,
    movable: MovableClock | None = None,
) -> Endpoints:
    for_workers = credits.Credits(ledger, catalogs)
    services: list[tuple[ServiceDescriptor, object]] = [
        (_service(credits_pb2, "Credits"), for_workers),
        (_service(accounts_pb2, "Accounts"), accounts.Accounts(ledger, catalogs)),
        (_service(catalog_pb2, "Catalog"), catalog.Catalog(catalogs)),
    ]
    if movable is not None:
        services.append((_service(test_clock_pb2, "TestClock"), clock.TestClock(movable)))
    streams = {"Session": Sessions(for_workers.run_all, admission)}
    return {
        **unary_endpoints(services, admission),
        **stream_endpoints((contract for contract, _ in services), streams),
    }


def _service(contract: ModuleType, name: str) -> ServiceDescriptor:
    found: ServiceDescriptor = contract.DESCRIPTOR.services_by_name[name]
    return found


def _engine(name: Name, endpoints: Endpoints, options: Options) -> Engine:
    try:
        return choice.engine(name, endpoints, options)
    except choice.NoSuchEngine as error:
        raise RefusedToStart(str(error)) from error


def _bind(engine: Engine, listen: str) -> str:
    try:
        port = engine.bind(listen)
    except OSError as error:
        raise RefusedToStart(f"--listen {listen}: {error}; choose another port") from error
    host, _, _ = listen.rpartition(":")
    return f"{host}:{port}"


async def _findings(ledger: RedisLedger, settings: Settings) -> list[checkup.Finding]:
    expected = None if settings.unsafe_store else settings.fsync
    return await checkup.check(ledger.link, expect_appendfsync=expected)


async def _refuse_unsafe_store(ledger: RedisLedger, settings: Settings) -> None:
    findings = await _findings(ledger, settings)
    for finding in findings:
        if finding.severity == "warn":
            _log.warning("%s", finding.message)
    refused = [finding.message for finding in findings if finding.severity == "refuse"]
    if refused and not settings.unsafe_store:
        raise RefusedToStart("the store is not safe for credits: " + "; ".join(refused))


async def _watch_settings(
    health: Health,
    admission: Admission,
    ledger: RedisLedger,
    settings: Settings,
    check_s: float,
) -> None:
    """Keep health true, and start nothing on a store that somebody has made unsafe since."""
    while True:
        await asyncio.sleep(check_s)
        reachable, refused = True, []
        try:
            findings = await _findings(ledger, settings)
            refused = [finding.message for finding in findings if finding.severity == "refuse"]
        except StoreError as error:
            reachable, refused = False, [str(error)]
        except Exception:  # noqa: BLE001 - logged with its trace; the watch goes on
            _log.exception("a defect in the check of the store")
            continue
        if refused:
            _log.error("the store: %s", "; ".join(refused))
        safe = settings.unsafe_store or not refused
        admission.set_starting(allowed=safe or not reachable)
        health.set_serving(reachable and safe)


async def _watch_process(health: Health, store: Store, on_store_lost: Callable[[], None]) -> None:
    """Say so when the store that was started here has ended."""
    await store.ended()
    health.set_serving(False)
    on_store_lost()


async def _end(health: Health, tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    health.set_serving(False)
    await asyncio.sleep(_NOTICE_S)
