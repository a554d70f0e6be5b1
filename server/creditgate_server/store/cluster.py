"""The way to a cluster: a link to each primary, and which slot is where.

What is known of the slots is a hint. A node that does not serve one says so, and where to go; what
was surely not applied goes there, in the order it came in. The whole map is asked for again when
such an answer comes or a connection is lost, and at no other time.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from redis.cluster import parse_cluster_slots
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from creditgate_server.store.address import Cluster, Server, parse
from creditgate_server.store.link import AT_ONCE_S, Limits, Link, Refused, StoreError
from creditgate_server.store.script import Script

_log = logging.getLogger(__name__)

AGAIN_S: Final = 1.0
"""How long a refused command is sent again before its caller is told."""
_PAUSE_S = 0.01
_REFRESH_S_MIN = 0.1
_ASKED_MAX = 3


class ClusterLink:
    """Like `Link`, for keys that lie on many servers. A command's keys lie on one."""

    def __init__(self, seeds: Sequence[Server], limits: Limits, scripts: Sequence[Script]) -> None:
        self._seeds = tuple(seeds)
        # Servers of the cluster, as it was last seen: the seeds may be gone.
        self._known: dict[tuple[str, int], Server] = {}
        self._limits = limits
        self._scripts = tuple(scripts)
        self._loop = asyncio.get_running_loop()
        self._by_address: dict[tuple[str, int], Link] = {}
        self._by_slot: list[Link | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_again = False
        self._refreshed_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, scripts: Sequence[Script] = (), **limits: Any) -> Self:
        """Connect to all primaries of `redis+cluster://`; see `Link.open`."""
        place = parse(url)
        assert isinstance(place, Cluster), "a server has a link of its own"
        link = cls(place.seeds, Limits(**limits), scripts)
        try:
            await link._start()
        except BaseException:
            await link.close()
            raise
        return link

    @property
    def links(self) -> tuple[Link, ...]:
        """The ways to each primary, in the order of their slots."""
        return tuple(link for link in dict.fromkeys(self._by_slot) if link is not None)

    @property
    def replicas(self) -> int:
        """How many replicas must have what a script wrote."""
        return self._limits.replicas

    @property
    def connected(self) -> bool:
        """Whether a call made now would be sent, whatever its key."""
        return all(link is not None and link.connected for link in set(self._by_slot))

    def __repr__(self) -> str:
        return f"<ClusterLink to {', '.join(link.where for link in self.links)}>"

    def evaluate(
        self, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> asyncio.Future[Any]:
        """Run a script where its keys are; see `Link.evaluate`."""
        link = self._by_slot[key_slot(keys[0].encode())]
        return self._unserved() if link is None else link.evaluate(script, keys, args)

    def command(self, *parts: str | int | bytes) -> asyncio.Future[Any]:
        """Run any other command of one key, its second word."""
        key = str(parts[1])
        link = self._by_slot[_slot_of(key)]
        return self._unserved() if link is None else link.command(*parts, key=key)

    async def follow(self) -> None:
        """Ask which slot is where."""
        self._refresh_soon()
        if self._refreshing is not None:
            await asyncio.wait([self._refreshing])

    async def close(self) -> None:
        """Take no more calls, wait for the replies still due (up to the time-out), disconnect."""
        self._closed = True
        tasks = [*self._tasks, *([] if self._refreshing is None else [self._refreshing])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in self._by_address.values()))

    # What the links tell.

    def down(self, link: Link) -> None:
        """A link was lost, or could not be made again: others may serve its slots."""
        del link
        self._refresh_soon()

    def refused(self, link: Link, groups: list[list[Refused]]) -> None:
        """Send again, each group to one node and in order, so that none overtakes another."""
        later = [group for group in groups if not self._redirected(link, group)]
        if later:
            self._start_task(self._send_later(later))

    def _redirected(self, link: Link, group: list[Refused]) -> bool:
        """Whether it was sent again, or is over."""
        # The last one saw the newest state, and they shall not part.
        code, *words = str(group[-1].error).split()
        if self._is_over(group):
            return True
        if code not in ("MOVED", "ASK"):
            return False
        slot, address = words[:2]
        host, _, port = address.rpartition(":")
        target = self._link_to(host or link.where.rpartition(":")[0], int(port))
        if code == "MOVED":
            self._by_slot[int(slot)] = target
            self._refresh_soon()
        # Two servers that do not agree may send us to one another: not for ever without a pause.
        if not target.connected or self._loop.time() > group[0].since_s + AT_ONCE_S:
            return False
        target.send_again(group, asking=code == "ASK")
        return True

    async def _send_later(self, groups: list[list[Refused]]) -> None:
        """Send when the slot's server may be ready, until their time is over."""
        try:
            self._refresh_soon()
            while groups:
                await asyncio.sleep(_PAUSE_S)
                waiting = []
                for group in groups:
                    link = self._by_slot[_slot_of(group[0].key)]
                    if link is not None and link.connected:
                        link.send_again(group)
                    elif not self._is_over(group):
                        self._refresh_soon()
                        waiting.append(group)
                groups = waiting
        finally:
            for group in groups:
                _give_up(group)

    def _is_over(self, group: list[Refused]) -> bool:
        if not self._closed and self._loop.time() < group[0].since_s + AGAIN_S:
            return False
        _give_up(group)
        return True

    # Which slot is where.

    async def _start(self) -> None:
        slots = await self._ask_seeds()
        missing = REDIS_CLUSTER_HASH_SLOTS - sum(part.last - part.first + 1 for part in slots)
        if missing:
            raise StoreError(
                f"the cluster is not complete: nobody serves {missing} of its "
                f"{REDIS_CLUSTER_HASH_SLOTS} slots (see CLUSTER SLOTS)",
                definite=True,
            )
        for part in slots:
            if part.primary not in self._by_address:
                link = self._by_address[part.primary] = self._new_link(*part.primary)
                await link.start()
        self._take(slots)

    async def _ask_seeds(self) -> "list[_Part]":
        """Raises the `StoreError` of the last one if none can tell."""
        problem: StoreError | None = None
        for seed in (*self._seeds, *self._known.values()):
            link = Link(seed, Limits(connect_timeout_s=self._limits.connect_timeout_s))
            try:
                await link.start()
                return await _slots(link)
            except StoreError as error:
                problem = error
            finally:
                await link.close()
        assert problem is not None
        raise problem

    def _refresh_soon(self) -> None:
        self._refresh_again = True
        if self._refreshing is None and not self._closed:
            self._refreshing = self._loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            while self._refresh_again:
                self._refresh_again = False
                pause_s = self._refreshed_at + _REFRESH_S_MIN - self._loop.time()
                if pause_s > 0:
                    await asyncio.sleep(pause_s)
                self._refreshed_at = self._loop.time()
                try:
                    self._take(await self._ask())
                except StoreError as error:
                    _log.debug("cannot ask which slot is where: %s", error)
        finally:
            self._refreshing = None

    async def _ask(self) -> "list[_Part]":
        """Ask some that are connected; the first answer is taken, and may be old."""
        links = [link for link in self.links if link.connected]
        some = random.sample(links, min(_ASKED_MAX, len(links)))
        asked = [self._loop.create_task(_slots(link)) for link in some]
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    return await answer
                except StoreError:
                    continue
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return await self._ask_seeds()

    def _take(self, slots: "list[_Part]") -> None:
        replicas: set[_Address] = set()
        for part in slots:
            link = self._link_to(*part.primary)
            self._by_slot[part.first : part.last + 1] = [link] * (part.last - part.first + 1)
            replicas.update(part.replicas)
            for address in (part.primary, *part.replicas):
                self._known[address] = self._seeds[0].at(*address)
        serving = set(self._by_slot)
        for address, link in list(self._by_address.items()):
            # One that serves nothing may be about to: slots are moving there.
            if link not in serving and (address in replicas or not link.connected):
                del self._by_address[address]
                self._start_task(link.close())

    def _link_to(self, host: str, port: int) -> Link:
        link = self._by_address.get((host, port))
        if link is None:
            link = self._by_address[host, port] = self._new_link(host, port)
            link.begin()
        return link

    def _new_link(self, host: str, port: int) -> Link:
        return Link(self._seeds[0].at(host, port), self._limits, self._scripts, self)

    def _start_task(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unserved(self) -> asyncio.Future[Any]:
        self._refresh_soon()
        future = self._loop.create_future()
        future.set_exception(StoreError("no server of the cluster is known for it", definite=True))
        return future


def _slot_of(key: str) -> int:
    return key_slot(key.encode())


def _give_up(group: list[Refused]) -> None:
    for refused in group:
        refused.give_up()


_Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Part:
    """Who serves a range of slots."""

    first: int
    last: int
    primary: _Address
    replicas: list[_Address]


async def _slots(link: Link) -> list[_Part]:
    """Who serves which slots, as this node knows it."""
    try:
        reply = await link.command("CLUSTER", "SLOTS")
    except StoreError as error:
        if error.code == "ERR":
            raise StoreError(
                f"{link.where} is no node of a cluster: write its URL without +cluster",
                definite=True,
            ) from error
        raise
    found = parse_cluster_slots(reply, current_host=link.where.rpartition(":")[0])
    return [
        _Part(first, last, servers["primary"], servers["replicas"])
        for (first, last), servers in found.items()
    ]
