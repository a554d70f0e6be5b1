"""A real cluster of six: even shares, and slots and primaries that change under load."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from creditgate_server.core.commands import Command
from creditgate_server.core.faults import CreditOutcome, Fault, Reason
from creditgate_server.store import link as link_module
from creditgate_server.store.checkup import Finding, check
from creditgate_server.store.cluster import ClusterLink
from creditgate_server.store.keys import STORE, Keys
from creditgate_server.store.link import Link, StoreError
from creditgate_server.store.redis_ledger import LAYOUT, RedisLedger, StoreMismatch
from tests.ledger.bench import Ask, audit, snapshot
from tests.store.nodes import Cluster, Node, stopped, until
from tests.store.traffic import Traffic, accounts_of, patiently

KEYS = Keys(64)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
async def ledger(cluster: Cluster) -> AsyncIterator[RedisLedger]:
    async with opened(cluster) as found:
        yield found


@contextlib.asynccontextmanager
async def opened(cluster: Cluster, **limits: Any) -> AsyncIterator[RedisLedger]:
    found = await RedisLedger.open(cluster.url, **limits)
    try:
        yield found
    finally:
        await found.close()


def slot_of(partition: int) -> int:
    return key_slot(KEYS.partitions[partition].ledger.encode())


async def test_every_primary_has_its_share_and_no_command_goes_astray(
    cluster: Cluster, ledger: RedisLedger
) -> None:
    """C1."""

    def told() -> tuple[list[int], list[str]]:
        stats = [node.info("all") for node in cluster.primaries]
        calls = [stat.get("cmdstat_evalsha", {"calls": 0})["calls"] for stat in stats]
        errors = [name for stat in stats for name in stat if name.startswith("errorstat_")]
        return calls, errors

    before, _ = told()
    for number in range(15):
        asks = [Ask(f"share-{number}-{each}") for each in range(100)]
        await ledger.run_all([ask.put() for ask in asks])
        replies = await ledger.run_all([ask.grant("pack", 5) for ask in asks])
        assert not [reply for reply in replies if isinstance(reply, Fault)]
    after, errors = told()
    shares = [now - then for now, then in zip(after, before, strict=True)]
    assert max(shares) / min(shares) <= 1.15
    assert not {"errorstat_CROSSSLOT", "errorstat_MOVED"} & set(errors)


async def test_the_sweeper_goes_to_every_primary(ledger: RedisLedger) -> None:
    asks = [Ask(f"swept-{number}") for number in range(60)]
    for commands in (
        [ask.put() for ask in asks],
        [ask.grant("pack", 10) for ask in asks],
        [ask.authorize("job", 4, ttl_ms=1) for ask in asks],
    ):
        await ledger.run_all(commands)
    await asyncio.sleep(0.01)
    assert await ledger.expire_due(asks[0].rules) >= 60
    for ask in asks:
        whole = await snapshot(ledger, ask)
        audit(whole)
        assert whole.balance.totals.available == 10
    assert await ledger.forget(keep_ms=0) > 0


@pytest.mark.usefixtures("ledger")
async def test_one_node_is_enough_to_find_all(cluster: Cluster) -> None:
    for node in (cluster.primaries[1], cluster.replicas[1]):
        link = await ClusterLink.open(f"redis+cluster://{node.where}")
        assert len(link.links) == 3
        assert await link.command("HGET", STORE, "layout") == LAYOUT
        await link.close()
    link = await ClusterLink.open(f"redis+cluster://127.0.0.1:1,{cluster.nodes[0].where}")
    assert link.connected
    await link.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize("move", [Cluster.move, Cluster.move_at_once])
async def test_a_slot_moves_there_and_back_under_load_and_no_caller_notices(
    cluster: Cluster,
    replicas: int,
    move: Callable[[Cluster, int, Node, Node], None],
    times: int,
) -> None:
    # Others of the same primary beside those that move.
    asks = accounts_of(KEYS, 5, 4) + accounts_of(KEYS, 6, 4)
    async with opened(cluster, replicas=replicas) as ledger:
        traffic = Traffic(ledger, asks)
        await traffic.begin()
        source, target = cluster.primaries[:2]
        for _ in range(2 * times):
            await asyncio.to_thread(move, cluster, slot_of(5), source, target)
            source, target = target, source
            await asyncio.sleep(0.1)
        await traffic.end()
        await traffic.check()
    # Keys move one by one here; a caller may be told to try again, but not what is not true. What
    # asks the replicas may itself find that its key has just gone.
    assert traffic.unavailable[CreditOutcome.UNKNOWN] <= (len(traffic.told) / 20 if replicas else 0)
    assert sum(traffic.unavailable.values()) < len(traffic.told) / 4


async def test_a_half_moved_account_can_be_tried_again_and_was_not_touched(
    cluster: Cluster, ledger: RedisLedger
) -> None:
    [ask] = accounts_of(KEYS, 7, 1)
    await ledger.run_all([ask.put(), ask.grant("pack", 10)])
    source, target = cluster.primaries[:2]
    slot = slot_of(7)
    target.cluster("SETSLOT", slot, "IMPORTING", source.id)
    source.cluster("SETSLOT", slot, "MIGRATING", target.id)
    # As long as nothing has moved, all is as it was, though no hold is open.
    assert not (await ledger.run(ask.authorize("first", 3))).replayed
    await ledger.run(ask.settle("first"))
    account = KEYS.partitions[7].account(ask.account_id)
    source.ask.execute_command("MIGRATE", "127.0.0.1", target.port, account, 0, 5000)
    with pytest.raises(Fault) as caught:
        await ledger.run(ask.authorize("job", 3))
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert caught.value.outcome is CreditOutcome.NOT_APPLIED
    # It waits for a moment, and that moment comes.
    call = asyncio.create_task(ledger.run(ask.authorize("job", 4)))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(cluster.move, slot, source, target)
    assert not (await call).replayed
    assert (await snapshot(ledger, ask)).balance.totals.held == 4
    await asyncio.to_thread(cluster.move, slot, target, source)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.long)])
async def test_a_primary_that_hands_over_under_load_loses_nothing(
    cluster: Cluster, ledger: RedisLedger, times: int
) -> None:
    """An orderly failover, there and back: whoever is refused is sent to the new primary."""
    traffic = Traffic(ledger, accounts_of(KEYS, 10, 3) + accounts_of(KEYS, 50, 3))
    await traffic.begin()
    for node in (cluster.replicas[0], cluster.primaries[0]) * times:
        await asyncio.to_thread(hand_over_to, cluster, node)
    await traffic.end()
    await traffic.check()


def hand_over_to(cluster: Cluster, node: Node) -> None:
    node.cluster("FAILOVER")
    until(lambda: node.info("replication")["role"] == "master")
    until(cluster.is_whole)


async def test_every_primary_is_looked_at(cluster: Cluster, ledger: RedisLedger) -> None:
    [waiting] = await check(ledger.link)
    assert waiting.severity == "warn"
    assert "--replicas" in waiting.message
    node = cluster.primaries[1]
    node.ask.config_set("appendfsync", "everysec")
    findings = await check(ledger.link)
    node.ask.config_set("appendfsync", "always")
    assert [finding.severity for finding in findings] == ["warn", "refuse"]
    assert findings[1].message.startswith(f"{node.where}: appendfsync is everysec")


async def test_replicas_that_are_waited_for_must_be_there(cluster: Cluster) -> None:
    async with opened(cluster, replicas=1) as ledger:
        assert await check(ledger.link) == []
    async with opened(cluster, replicas=2) as ledger:
        findings = await check(ledger.link)
        assert {finding.severity for finding in findings} == {"refuse"}
        assert "has 1 replicas and 2 are waited for" in findings[0].message


async def outcome_of(ledger: RedisLedger, command: Command[Any]) -> CreditOutcome:
    try:
        await ledger.run(command)
    except Fault as fault:
        return fault.outcome
    return CreditOutcome.APPLIED


async def with_a_slow_replica(cluster: Cluster) -> list[CreditOutcome]:
    """What is told of a request, and of the same once more by another server."""
    [ask] = accounts_of(KEYS, 12, 1)
    assert cluster.owner(slot_of(12)) is cluster.primaries[0]
    async with (
        opened(cluster, replicas=1, reply_timeout_s=0.4) as first,
        opened(cluster, replicas=1, reply_timeout_s=0.4) as second,
    ):
        await patiently(first, ask.put())
        await patiently(first, ask.grant("pack", 1000))
        job = ask.authorize(f"job-{uuid.uuid4().hex}", 3)
        with stopped(cluster.replicas[0]):
            outcomes = [await outcome_of(ledger, job) for ledger in (first, second)]
        until(cluster.is_whole)
        # It was done at the first time, and is confirmed now.
        assert (await patiently(first, job)).replayed
    return outcomes


async def test_what_no_replica_has_is_not_answered_ok_even_by_a_replay(cluster: Cluster) -> None:
    assert set(await with_a_slow_replica(cluster)) == {CreditOutcome.UNKNOWN}


async def test_a_replay_would_be_answered_ok_if_it_wrote_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "fence", lambda _: ("PING",))
    version = cluster.primaries[0].info("server")["redis_version"].split(".")[:2]
    # Before 7.2 a server waits for what others wrote, too.
    falls_for_it = [int(number) for number in version] >= [7, 2]
    last = CreditOutcome.APPLIED if falls_for_it else CreditOutcome.UNKNOWN
    assert await with_a_slow_replica(cluster) == [CreditOutcome.UNKNOWN, last]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("defect", ["nothing", "waits for nobody"])
async def test_a_primary_that_dies_takes_nothing_along_that_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    if defect == "waits for nobody":
        settle = link_module._Confirming._settle
        monkeypatch.setattr(
            link_module._Confirming, "_settle", lambda self, _: settle(self, self.replicas)
        )
    with Cluster(tmp_path) as cluster:
        victim, heir = cluster.primaries[2], cluster.replicas[2]
        async with opened(cluster, replicas=1, reply_timeout_s=0.6) as ledger:
            traffic = Traffic(ledger, accounts_of(KEYS, 60, 4) + accounts_of(KEYS, 3, 2))
            await traffic.begin(callers=4)
            await asyncio.sleep(0.2)
            # From here on its replica hears nothing of it, and then it dies.
            victim.cut_off()
            await asyncio.sleep(1)
            victim.kill()
            await asyncio.to_thread(until, lambda: heir.info("replication")["role"] == "master")
            await asyncio.sleep(0.3)
            await traffic.end(abandon=True)
        # The dead one's successor has no replica to wait for.
        async with opened(cluster) as ledger:
            if defect == "nothing":
                await traffic.check(ledger)
                return
            with pytest.raises(AssertionError, match=r"lost|HOLD_NOT_FOUND"):
                await traffic.check(ledger)


# At the start.


async def test_a_node_of_a_cluster_is_no_store(cluster: Cluster) -> None:
    # One that does not serve the key of the store's identity.
    home = cluster.owner(key_slot(STORE.encode()))
    other = next(node for node in cluster.primaries if node is not home)
    with pytest.raises(StoreMismatch, match=r"node of a cluster: write redis\+cluster://"):
        await RedisLedger.open(f"redis://{other.where}")
    link = await Link.open(f"redis://{home.where}")
    assert Finding("refuse", "the store is a node of a cluster: write redis+cluster://") in (
        await check(link)
    )
    await link.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+cluster://127.0.0.1:1", "127.0.0.1:1: Connection refused"),
        ("redis+cluster://:wrong@{node}", "cannot log in"),
        ("rediss+cluster://{node}", r"does it speak TLS\? if not, write redis in place"),
        ("redis+cluster://{single}", "is no node of a cluster: write its URL without"),
    ],
)
async def test_what_hinders_the_start_is_said(cluster: Cluster, url: str, words: str) -> None:
    if "{single}" in url:
        single = cluster.start()
        cluster.nodes.remove(single)
        until(lambda: bool(single.ask.ping()))
    else:
        single = cluster.nodes[0]
    try:
        with pytest.raises(StoreError, match=words) as caught:
            await RedisLedger.open(url.format(node=cluster.nodes[0].where, single=single.where))
        assert caught.value.definite
        assert "wrong" not in str(caught.value)
    finally:
        if single is not cluster.nodes[0]:
            single.kill()
            single.ask.close()


async def test_a_cluster_with_a_gap_is_not_complete(cluster: Cluster) -> None:
    slot = slot_of(33)
    owner = cluster.owner(slot)
    for node in cluster.nodes:
        with contextlib.suppress(Exception):
            node.cluster("DELSLOTS", slot)
    with pytest.raises(StoreError, match="not complete: nobody serves 1 of its 16384 slots"):
        await RedisLedger.open(f"redis+cluster://{owner.where}")
    owner.cluster("ADDSLOTS", slot)
    until(cluster.is_whole)


async def test_a_node_that_says_nothing_does_not_hold_up_the_others(
    cluster: Cluster, ledger: RedisLedger
) -> None:
    [ask] = accounts_of(KEYS, 2, 1)
    await ledger.run(ask.put())
    silent = cluster.owner(slot_of(60))
    [stuck] = accounts_of(KEYS, 60, 1)
    with stopped(silent):
        call = asyncio.create_task(ledger.run(stuck.put()))
        await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.wait_for(ledger.run(ask.balance()), 0.5)
        assert not call.done()
    assert (await call).created
