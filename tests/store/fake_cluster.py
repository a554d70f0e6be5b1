"""Nodes that disagree, send callers to one another and change their minds in the midst of it."""

import contextlib
import random
from collections import Counter
from types import TracebackType
from typing import Self

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from tests.store.fake_store import FakeStore


class FakeCluster:
    """Of each slot one node is the owner; which one changes by chance, before any command."""

    def __init__(self, chance: random.Random, *, nodes: int = 3) -> None:
        self.chance = chance
        self.nodes = [FakeNode(self) for _ in range(nodes)]
        self.ran: list[tuple[bytes, bytes]] = []
        """The key and name of each command, in the order in which they ran."""
        self.asked_in_vain = 0
        """How many came to a node that had been named by `ASK`, and did not say so."""
        self.moves = 0.0
        """How probably a slot changes its owner before a command, without a word."""
        self.refusals: Counter[bytes] = Counter()
        """How probably the owner answers so: `ASK`, `TRYAGAIN`, `CLUSTERDOWN`."""
        self.owner: dict[int, FakeNode] = {}
        self.importing: dict[int, FakeNode] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for node in self.nodes:
            await self._stack.enter_async_context(node)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.where for node in self.nodes)

    def owner_of(self, slot: int) -> "FakeNode":
        """At the beginning each node has its range, as `slots` tells."""
        place = slot * len(self.nodes) // REDIS_CLUSTER_HASH_SLOTS
        return self.owner.setdefault(slot, self.nodes[place])

    def slots(self) -> bytes:
        """What is told of it: how it was at the beginning, however old that is."""
        count, total = len(self.nodes), REDIS_CLUSTER_HASH_SLOTS
        lines = []
        for number, node in enumerate(self.nodes):
            first, last = -(-number * total // count), -(-(number + 1) * total // count) - 1
            lines.append(
                b"*3\r\n:%d\r\n:%d\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$1\r\nx\r\n"
                % (first, last, node.port)
            )
        return b"*%d\r\n%b" % (count, b"".join(lines))

    def other(self, node: "FakeNode") -> "FakeNode":
        return self.chance.choice([one for one in self.nodes if one is not node])


class FakeNode(FakeStore):
    """One of them."""

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__(None, cluster.chance)
        self._cluster = cluster
        self._asking = False

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _answer(self, command: list[bytes]) -> bytes:
        match command:
            case [b"CLUSTER", b"SLOTS"]:
                return self._cluster.slots()
            case [b"ASKING"]:
                self._asking = True
                return b"+OK\r\n"
            case [b"EVALSHA", _, b"1", key, name, _]:
                asking, self._asking = self._asking, False
                refusal = self._refusal(key_slot(key), asking=asking)
                if refusal:
                    return refusal
                reply = super()._answer(command)
                if not reply.startswith(b"-NOSCRIPT"):
                    self._cluster.ran.append((key, name))
                return reply
            case _:
                return super()._answer(command)

    def _refusal(self, slot: int, *, asking: bool) -> bytes:
        cluster, chance = self._cluster, self._cluster.chance
        if chance.random() < cluster.moves:
            cluster.owner[slot] = chance.choice(cluster.nodes)
            cluster.importing.pop(slot, None)
        owner = cluster.owner_of(slot)
        if owner is not self:
            if asking and cluster.importing.get(slot) is self:
                return b""
            cluster.asked_in_vain += cluster.importing.get(slot) is self
            return b"-MOVED %d %b\r\n" % (slot, owner.where.encode())
        for code, probability in cluster.refusals.items():
            if chance.random() < probability:
                if code != b"ASK":
                    return b"-%b in a moment\r\n" % code
                target = cluster.importing[slot] = cluster.other(self)
                return b"-ASK %d %b\r\n" % (slot, target.where.encode())
        return b""
