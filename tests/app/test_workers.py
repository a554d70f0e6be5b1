"""Several workers on one port: what one of them is told, all of them do."""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from creditgate_server.app.addresses import RefusedToStart
from creditgate_server.app.settings import Settings
from creditgate_server.app.workers import reserved, serve
from creditgate_server.catalogs.reader import CatalogError
from tests.app.crew import Callers, callers, connections, crew, enlist, workers
from tests.crash.load import Load, Record, audit, decide, lost, told_the_truth
from tests.crash.process import Server, server
from tests.rpc.shop import CATALOG, IMAGE, Account

DEARER = CATALOG.replace('An image at 10"\nprice = 10', 'An image at 10"\nprice = 12')
CHEAPER = CATALOG.replace('An image at 10"\nprice = 10', 'An image at 10"\nprice = 8')
ACCOUNTS = ["one", "two", "three"]


def until(condition: Callable[[], bool], *, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether it runs; a process that is only remembered does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("crew")
    with crew(folder, developer=True) as running:
        yield running
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) == 0
        assert "Traceback" not in running.said


@pytest.fixture
def many(found: Server) -> Iterator[Callers]:
    with callers(found) as made:
        yield made


def catalog_of(found: Server) -> Path:
    return found.data.parent / "shop.toml"


def test_each_worker_has_callers(found: Server, many: Callers) -> None:
    port = int(found.address.rpartition(":")[2])
    assert len(workers(found)) == 2
    for pid in workers(found):
        assert len(connections(pid, port)) == len(many.of(pid)) > 0
    assert not connections(found.process.pid, port)


def test_an_account_is_the_same_whomever_one_asks(many: Callers) -> None:
    for number, (channel, _) in enumerate(many.channels):
        account = Account(channel, "shared")
        account.put_account()
        account.grant("pack", 100)
        account.hold(hold_id="same")
        assert account.figures() == (90, 10, 0), number
        assert len(account.ledger()) == 2


def versions(many: Callers) -> set[str]:
    return {answer.version for answer in many.each("GetCatalog")}


def test_all_have_the_new_catalog_before_a_reload_is_answered(found: Server, many: Callers) -> None:
    for content, (channel, _) in zip((DEARER, CHEAPER) * 3, many.channels, strict=False):
        catalog_of(found).write_text(content)
        answer = Account(channel, "any").reload_catalog()
        assert answer.version != answer.previous_version
        assert versions(many) == {answer.version}


def test_a_reload_is_not_answered_while_a_worker_has_the_old_catalog(
    found: Server, many: Callers
) -> None:
    slow, quick = workers(found)
    catalog_of(found).write_text(f"# Slowly.\n{DEARER.replace('at 10', 'at ten')}")
    account = Account(many.of(quick)[0], "any")
    with ThreadPoolExecutor(1) as pool:
        os.kill(slow, signal.SIGSTOP)
        try:
            answer = pool.submit(account.reload_catalog)
            with pytest.raises(TimeoutError):
                answer.result(0.3)
        finally:
            os.kill(slow, signal.SIGCONT)
        version = answer.result(10).version
        assert versions(many) == {version}
    assert slow in workers(found)


def test_a_reload_that_fails_changes_nothing_anywhere(found: Server, many: Callers) -> None:
    [before] = versions(many)
    catalog_of(found).write_text(CATALOG.replace("rank = 1 }", "rank = 0 }"))
    for channel, _ in many.channels:
        answer = Account(channel, "any").reload_catalog()
        assert answer.version == answer.previous_version == before
        assert all(line.startswith(f"{catalog_of(found)}:") for line in answer.problems)
        assert answer.problems
    assert versions(many) == {before}


def test_a_signal_has_it_read_again_for_all(found: Server, many: Callers) -> None:
    before = versions(many)
    catalog_of(found).write_text(f"# Again.\n{DEARER.replace('at 10', 'at 12')}")
    found.process.send_signal(signal.SIGHUP)
    until(lambda: versions(many).isdisjoint(before), limit_s=10)
    assert len(versions(many)) == 1


def test_a_quote_of_one_worker_binds_at_all(found: Server, many: Callers) -> None:
    asked = Account(many.channels[0][0], "quoted")
    asked.put_account()
    asked.grant("pack", 1_000)
    quote = asked.quote(job=IMAGE)
    catalog_of(found).write_text(CHEAPER if quote.amount > 8 else DEARER)
    asked.reload_catalog()
    quoted = {"quoted_version": quote.catalog_version, "quoted_amount": quote.amount}
    for number, (channel, _) in enumerate(many.channels):
        account = Account(channel, "quoted")
        answer = account.authorize(hold_id=f"q-{number}", job=IMAGE, **quoted)
        assert (answer.amount, answer.hold.catalog_version) == (quote.amount, quote.catalog_version)
    # One that has just come knows it too.
    replace(found, workers(found)[0])
    with callers(found) as others:
        for number, (channel, _) in enumerate(others.channels):
            answer = Account(channel, "quoted").authorize(
                hold_id=f"r-{number}", job=IMAGE, **quoted
            )
            assert answer.amount == quote.amount
            assert Account(channel, "quoted").quote(job=IMAGE).amount != quote.amount
        catalog_of(found).write_text(CATALOG)
        assert len(versions(others)) == 1, "a file that was only written is not in force"


def replace(found: Server, pid: int) -> None:
    """Kill a worker and wait until another serves in its place."""
    count = len(workers(found))
    served = found.said.count(" serves")
    os.kill(pid, signal.SIGKILL)
    until(lambda: found.said.count(" serves") > served, limit_s=20)
    assert len(workers(found)) == count
    assert pid not in workers(found)


def test_the_clock_has_moved_for_all_before_that_is_answered(many: Callers) -> None:
    for channel, _ in many.channels[:4]:
        moved = Account(channel, "any").advance(by={"seconds": 86_400}).now.seconds
        for answer in many.each("GetTime"):
            assert 0 <= answer.now.seconds - moved < 60


def test_nobody_else_gets_the_port(found: Server, tmp_path: Path) -> None:
    for count in (1, 2):
        with pytest.raises(AssertionError, match="choose another port"):
            enlist(tmp_path, workers=count, listen=found.address)


def test_a_port_is_refused_while_one_server_has_it(tmp_path: Path) -> None:
    with (
        server(tmp_path / "one") as one,
        pytest.raises(RefusedToStart, match="choose another port"),
        reserved(one.address),
    ):
        pass


def test_a_port_is_reserved_before_anybody_listens() -> None:
    with reserved("localhost:0") as address:
        for again in (address, address.replace("localhost", "127.0.0.1")):
            with pytest.raises(RefusedToStart, match="choose another port"), reserved(again):
                pass
    with reserved(address) as same:
        assert same == address


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"catalog": "none"}, CatalogError, "no such catalog"),
        ({"socket": "it.sock"}, RefusedToStart, "belongs to one process; leave out --workers 2"),
        ({"listen": "0.0.0.0:0"}, RefusedToStart, "--insecure-listen"),
    ],
)
def test_what_needs_no_worker_to_be_seen_is_refused_without_one(
    settings: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    given = {"data": tmp_path / "data", "listen": "127.0.0.1:0", "workers": 2, **settings}

    def never(*_: object) -> None:
        raise AssertionError

    with pytest.raises(error, match=message):
        asyncio.run(serve(Settings(**given), never, prepare=never))
    assert not (tmp_path / "data").exists()


# Under load.


Loads = list[tuple[Load, int]]


@contextlib.contextmanager
def under_load(many: Callers, *, seed: int) -> Iterator[Loads]:
    """A load on each connection, with the worker that it was to."""
    for account_id in ACCOUNTS:
        account = Account(many.channels[0][0], account_id)
        account.put_account()
        account.grant("start", 100_000)
    loads = []
    try:
        for number, (channel, pid) in enumerate(many.channels):
            load = Load(ACCOUNTS, seed=seed + number, threads=1, pause_s=0.01)
            load.start(channel)
            loads.append((load, pid))
        answered(loads, 20)
        yield loads
    finally:
        for load, _ in loads:
            load.stop()


def answered(loads: Loads, count: int) -> None:
    """Wait until each has so many more answers."""
    before = [len(load.record.answered) for load, _ in loads]
    until(
        lambda: all(
            len(load.record.answered) >= already + count
            for (load, _), already in zip(loads, before, strict=True)
        ),
        limit_s=20,
    )


def problems_of(many: Callers, loads: Loads) -> list[str]:
    """What is not as it was acknowledged."""
    channel, _ = many.channels[0]
    every = Record()
    for load, _ in loads:
        every.answered += load.record.answered
        every.undecided += load.record.undecided
        every.faults += load.record.faults
    found = [*lost(channel, every), *decide(channel, every), *told_the_truth(every)]
    for account_id in ACCOUNTS:
        found += audit(Account(channel, account_id), every)
    return found


def test_deaths_under_load_lose_nothing(tmp_path: Path) -> None:
    """Of a worker, of all by a signal, of their supervisor: one after the other."""
    with crew(tmp_path) as found, callers(found, 8) as many, under_load(many, seed=1_000) as loads:
        dies, lives = workers(found)
        replace(found, dies)
        # Also those whose worker died, without being told of another address.
        answered(loads, 20)
        undecided = [len(load.record.undecided) for load, pid in loads if pid == lives]
        assert not any(undecided), "others have noticed that a worker died"
        assert re.search(rf"worker \d \(process {dies}\) has ended by itself", found.said)
        # What a terminal sends to all of them is for the supervisor.
        for pid in workers(found):
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGHUP)
        answered(loads, 20)
        assert found.end() == 0
        assert found.said.count("by itself") == 1
    assert "Traceback" not in found.said

    with crew(tmp_path) as found, callers(found, 8) as many:
        problems = problems_of(many, loads)
        assert not problems, "\n".join(problems)
        processes = (*workers(found), found.store_pid)
        with under_load(many, seed=2_000) as loads:
            found.kill()
            until(lambda: not any(map(is_alive, processes)), limit_s=10)

    with crew(tmp_path) as found, callers(found, 4) as many:
        problems = problems_of(many, loads)
        assert not problems, "\n".join(problems)


def test_a_worker_that_does_not_follow_is_replaced(tmp_path: Path) -> None:
    with (
        crew(tmp_path, plant="impatient") as found,
        callers(found) as many,
    ):
        stuck, well = workers(found)
        os.kill(stuck, signal.SIGSTOP)
        catalog_of(found).write_text(DEARER)
        answer = Account(many.of(well)[0], "any").reload_catalog()
        assert not is_alive(stuck), "it may wake up and sell at old prices"
        assert "does not take over" in found.said
        until(lambda: " serves" in found.said, limit_s=20)
        with callers(found) as others:
            assert versions(others) == {answer.version}
        # It is no accident any more.
        for _ in range(10):
            for pid in workers(found):
                os.kill(pid, signal.SIGKILL)
            if found.process.poll() is not None:
                break
            time.sleep(0.2)
        assert found.process.wait(20) not in (0, -signal.SIGKILL)
        assert "times within" in found.said
        assert not is_alive(found.store_pid)


def test_a_worker_is_replaced_when_the_store_is_back(tmp_path: Path) -> None:
    """Until then the attempts are no deaths: the others live on, as a single server would."""
    with crew(tmp_path, plant="impatient", store_timeout_s=0.3) as found:
        os.kill(found.store_pid, signal.SIGSTOP)
        try:
            dies, lives = workers(found)
            os.kill(dies, signal.SIGKILL)
            until(lambda: found.said.count(" does not serve: ") >= 2, limit_s=30)
        finally:
            os.kill(found.store_pid, signal.SIGCONT)
        until(lambda: " serves" in found.said, limit_s=20)
        assert lives in workers(found)
        with callers(found) as many:
            assert len(versions(many)) == 1
        assert found.end() == 0
        assert found.said.count("by itself") == 1


def test_a_worker_that_only_says_it_follows_would_be_noticed(tmp_path: Path) -> None:
    with crew(tmp_path, plant="deaf", developer=True) as found, callers(found) as many:
        account = Account(many.channels[0][0], "any")
        catalog_of(found).write_text(DEARER)
        answer = account.reload_catalog()
        moved = account.advance(by={"seconds": 86_400}).now.seconds
        assert versions(many) != {answer.version}
        assert any(answer.now.seconds < moved for answer in many.each("GetTime"))
