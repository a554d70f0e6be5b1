"""A primary with two replicas and three real sentinels: found, lost, found again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from creditgate_server.core.faults import CreditOutcome, Fault
from creditgate_server.store import link as link_module
from creditgate_server.store.checkup import check
from creditgate_server.store.link import Link, StoreError
from creditgate_server.store.redis_ledger import RedisLedger
from creditgate_server.store.sentinel import Primary
from tests.ledger.bench import Ask
from tests.store.nodes import SERVICE, Watched, free_port, stopped, until
from tests.store.traffic import Traffic, patiently

ASKS = [Ask(f"watched-{number}") for number in range(4)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(tmp_path_factory.mktemp("watched")) as found:
        yield found


async def reached(watched: Watched, **limits: Any) -> RedisLedger:
    """After a failover the sentinels look at the new primary before they name it."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await RedisLedger.open(watched.url, **limits)
            except StoreError:
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def opened(watched: Watched, **limits: Any) -> AsyncIterator[RedisLedger]:
    found = await reached(watched, **limits)
    try:
        yield found
    finally:
        await found.close()


async def test_the_primary_is_found_through_any_sentinel(watched: Watched) -> None:
    for sentinel in watched.sentinels:
        link = await Link.open(f"redis+sentinel://127.0.0.1:1,{sentinel.where}/{SERVICE}")
        assert link.where == watched.primary().where
        await link.close()
    link = await Link.open(watched.url + "/3")
    await link.command("SET", "only-in-3", 1)
    with watched.primary().ask.client() as ask:
        assert not ask.exists("only-in-3")
    await link.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/x", "127.0.0.1:1 is not reachable; 127.0.0.1:2"),
        ("redis+sentinel://{sentinel}/other", f"know no service 'other': they know {SERVICE}"),
        ("redis+sentinel://{store}/credits", "is no sentinel"),
        ("redis+sentinel://:secret@{sentinel}/credits", "cannot log in"),
        (
            "redis+sentinel://{sentinel}/credits?sentinel_username=me&sentinel_password=secret",
            "refuses our log-in",
        ),
    ],
)
async def test_what_hinders_the_start_is_said(watched: Watched, url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        await Link.open(
            url.format(sentinel=watched.sentinels[0].where, store=watched.stores[1].where)
        )
    assert caught.value.definite
    assert "secret" not in str(caught.value)


async def test_a_sentinel_is_no_store(watched: Watched) -> None:
    with pytest.raises(StoreError, match=r"if it is a sentinel: redis\+sentinel://"):
        await RedisLedger.open(f"redis://{watched.sentinels[0].where}")


async def test_a_service_whose_primary_is_down_says_so(watched: Watched) -> None:
    sentinel = watched.sentinels[0]
    sentinel.ask.execute_command("SENTINEL", "MONITOR", "gone", "127.0.0.1", free_port(), 3)
    sentinel.ask.execute_command("SENTINEL", "SET", "gone", "down-after-milliseconds", 50)
    until(lambda: bool(sentinel.ask.sentinel_master("gone")["is_sdown"]))
    with pytest.raises(StoreError, match="the primary of 'gone' is down"):
        await Link.open(f"redis+sentinel://{sentinel.where}/gone")
    sentinel.ask.execute_command("SENTINEL", "REMOVE", "gone")


async def test_replicas_are_warned_of_and_counted(watched: Watched) -> None:
    for replicas, words in ((0, "--replicas"), (1, "set --replicas to 2"), (3, "has 2 replicas")):
        async with opened(watched, replicas=replicas) as ledger:
            [finding] = await check(ledger.link)
            assert words in finding.message
            assert finding.severity == ("refuse" if replicas == 3 else "warn")
    async with opened(watched, replicas=2) as ledger:
        assert await check(ledger.link) == []


async def test_a_replica_is_not_taken_for_the_primary(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a sentinel says may be old."""
    replica = next(node for node in watched.stores if node is not watched.primary())

    async def old_news(self: Any) -> Any:
        return self._server.at("127.0.0.1", replica.port)

    monkeypatch.setattr(Primary, "find", old_news)
    with pytest.raises(StoreError, match="it is a replica, and not the primary"):
        await Link.open(watched.url)


async def test_a_primary_that_was_replaced_is_left_though_it_answers(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two halves of a network, the one with the sentinels goes on."""
    link = await Link.open(watched.url)
    before = link.where
    replica = next(node for node in watched.stores if node is not watched.primary())
    find, found = Primary.find, []

    async def news(self: Any) -> Any:
        found.append(self._server.at("127.0.0.1", replica.port))
        return found[-1] if len(found) == 1 else await find(self)

    monkeypatch.setattr(Primary, "find", news)
    await link.follow()
    assert "down" in repr(link)
    await asyncio.to_thread(until, lambda: link.connected)
    assert link.where == before
    await link.follow()
    assert link.connected
    await link.close()


async def test_what_two_replicas_do_not_have_is_not_answered_ok(watched: Watched) -> None:
    ask = Ask("slow")
    replica = next(node for node in watched.stores if node is not watched.primary())
    async with opened(watched, replicas=2, reply_timeout_s=0.4) as ledger:
        await patiently(ledger, ask.put())
        with stopped(replica), pytest.raises(Fault) as caught:
            await ledger.run(ask.grant("pack", 10))
        assert caught.value.outcome is CreditOutcome.UNKNOWN
        assert (await patiently(ledger, ask.grant("pack", 10))).replayed


async def test_an_ordered_failover_under_load_loses_nothing(watched: Watched) -> None:
    async with opened(watched, replicas=2) as ledger:
        traffic = Traffic(ledger, ASKS)
        await traffic.begin()
        before = watched.primary()
        sentinel = watched.sentinels[0]
        await asyncio.to_thread(until, lambda: bool(sentinel.ask.sentinel_failover(SERVICE)))
        await asyncio.to_thread(until, lambda: watched.primary() is not before)
        told = len(traffic.told)
        await asyncio.to_thread(until, lambda: len(traffic.told) > told + 100)
        await traffic.end()
        await traffic.check()
        assert ledger.link.links[0].where == watched.primary().where


@pytest.mark.timeout(90)
@pytest.mark.parametrize("defect", ["nothing", "waits for nobody"])
async def test_a_primary_that_dies_under_load_takes_nothing_along_that_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    if defect != "nothing":
        settle = link_module._Confirming._settle
        monkeypatch.setattr(
            link_module._Confirming, "_settle", lambda self, _: settle(self, self.replicas)
        )
    with Watched(tmp_path) as watched:
        victim = watched.stores[0]
        async with opened(watched, replicas=2, reply_timeout_s=0.6) as ledger:
            traffic = Traffic(ledger, ASKS)
            await traffic.begin(callers=4)
            await asyncio.sleep(0.2)
            victim.cut_off()
            await asyncio.sleep(1)
            victim.kill()
            await asyncio.to_thread(until, lambda: watched.primary() is not victim)
            await traffic.end(abandon=True)
        # Its successor has one replica, and not two.
        async with opened(watched) as ledger:
            if defect == "nothing":
                await traffic.check(ledger)
                assert traffic.told
                return
            with pytest.raises(AssertionError, match=r"lost|HOLD_NOT_FOUND"):
                await traffic.check(ledger)
