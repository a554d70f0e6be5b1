"""Clusters and sentinels of real servers, on ports of this machine."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from creditgate_server.store import embedded

# How long one is silent before the others call it failed.
SILENT_MS = 1_000
SLOTS = 16_384


@dataclass
class Node:
    """A server of a cluster, one under sentinels, or a sentinel."""

    port: int
    process: "subprocess.Popen[bytes]"
    ask: Any
    """Speaks to it."""

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cluster(self, *words: object) -> Any:
        """Run one of the `CLUSTER` commands."""
        return self.ask.execute_command("CLUSTER", *words)

    @property
    def id(self) -> str:
        return str(self.cluster("MYID"))

    def info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask.info(section)
        return found

    def followers(self) -> int:
        """How many replicas have all of it, and say so."""
        told = self.info("replication")
        each = (told[f"slave{number}"] for number in range(told["connected_slaves"]))
        return sum(replica["state"] == "online" for replica in each)

    def cut_off(self) -> None:
        """Let no replica follow it any more."""
        self.ask.execute_command("ACL", "SETUSER", "default", "-sync", "-psync")
        self.ask.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def kill(self) -> None:
        """As a crash does."""
        self.process.kill()
        self.process.wait()


@dataclass
class Crowd:
    """Servers that end with the test."""

    folder: Path
    nodes: list[Node] = field(default_factory=list)

    def __enter__(self) -> Self:
        try:
            self.begin()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def begin(self) -> None:
        """Start what there is from the beginning."""

    def end(self) -> None:
        """End all of them."""
        for node in self.nodes:
            # One may have been stopped.
            with contextlib.suppress(ProcessLookupError):
                node.process.send_signal(signal.SIGCONT)
            node.process.kill()
        for node in self.nodes:
            node.process.wait()
            node.ask.close()

    def start(self, *words: str, **options: object) -> Node:
        """Start a server on a free port; wait for it with `until`."""
        port = free_port()
        home = self.folder / str(port)
        home.mkdir(parents=True)
        named = {"port": port, "bind": "127.0.0.1", "dir": home, "save": '""', **options}
        lines = [*(f"{name.replace('_', '-')} {value}" for name, value in named.items()), *words]
        settings = home / "store.conf"
        settings.write_text("\n".join(line for line in lines if not line.startswith("--")))
        flags = [word for word in words if word.startswith("--")]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(*embedded._PYTHON, embedded._LAUNCHER, str(os.getpid())),
                    *(embedded.find_program(), str(settings), *flags),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        ask: Any = Redis(
            port=port, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_timeout=5
        )
        node = Node(port, process, ask)
        self.nodes.append(node)
        return node

    def store(self, *words: str, **options: object) -> Node:
        """A server that keeps credits."""
        return self.start(
            *words,
            appendonly="yes",
            appendfsync="always",
            repl_diskless_sync_delay=0,
            repl_ping_replica_period=1,
            **options,
        )


def free_port() -> int:
    """Below those that systems give to clients, so that none takes it in between."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], bool], *, limit_s: float = 30) -> None:
    """Wait for servers; an error is a no."""
    end = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)


class Cluster(Crowd):
    """Primaries and, in the same order, a replica of each."""

    has_replicas = True
    silent_ms = SILENT_MS

    def begin(self) -> None:
        buses = [free_port() for _ in range(6 if self.has_replicas else 3)]
        for bus in buses:
            self.store(
                cluster_enabled="yes",
                cluster_port=bus,
                cluster_node_timeout=self.silent_ms,
                cluster_replica_validity_factor=0,
                cluster_allow_replica_migration="no",
            )
        until(lambda: all(node.ask.ping() for node in self.nodes))
        for number, node in enumerate(self.primaries):
            node.cluster("SET-CONFIG-EPOCH", number + 1)
            ends = [SLOTS * n // 3 for n in (number, number + 1)]
            node.cluster("ADDSLOTSRANGE", ends[0], ends[1] - 1)
        for node in self.nodes[1:]:
            node.cluster("MEET", "127.0.0.1", self.nodes[0].port, buses[0])
        until(lambda: all(self._knows_all(node) for node in self.nodes))
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            replica.cluster("REPLICATE", primary.id)
        until(self.is_whole)

    @property
    def primaries(self) -> list[Node]:
        """Those of the beginning."""
        return self.nodes[:3]

    @property
    def replicas(self) -> list[Node]:
        """Those of the beginning."""
        return self.nodes[3:]

    def _knows_all(self, node: Node) -> bool:
        lines = str(node.cluster("NODES")).strip()
        return "handshake" not in lines and len(node.ask.cluster("NODES")) == len(self.nodes)

    def is_whole(self) -> bool:
        """Whether every living node says so, and every replica has what its primary has."""
        alive = [node for node in self.nodes if node.process.poll() is None]
        told = [node.info("replication") for node in alive]
        followers = sum(each.get("master_link_status") == "up" for each in told)
        return all(
            n.ask.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for n in alive
        ) and followers == len(alive) - 3 == sum(node.followers() for node in alive)

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.where for node in self.nodes)}"

    def owner(self, slot: int, *, seen_by: Node | None = None) -> Node:
        """Who serves a slot."""
        for first, last, (_, port, *_), *_ in raw_slots(seen_by or self.primaries[0]):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody serves {slot}")

    def move(self, slot: int, source: Node, target: Node, *, keys_at_once: int = 1) -> None:
        """Move a slot key by key, as the stores' own tools do."""
        target.cluster("SETSLOT", slot, "IMPORTING", source.id)
        source.cluster("SETSLOT", slot, "MIGRATING", target.id)
        while keys := source.cluster("GETKEYSINSLOT", slot, keys_at_once):
            source.ask.execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys
            )
        for node in (target, source, *self.primaries):
            node.cluster("SETSLOT", slot, "NODE", target.id)

    def move_at_once(self, slot: int, source: Node, target: Node) -> None:
        """Move a slot in one step, where the servers know how to."""
        try:
            source.cluster("MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
        except ResponseError:
            self.move(slot, source, target)
        until(lambda: all(self.owner(slot, seen_by=node) is target for node in self.primaries))


def raw_slots(node: Node) -> list[Any]:
    found: list[Any] = node.ask.execute_command("CLUSTER SLOTS")
    return found


SERVICE = "credits"
HASTE = ("info-period", 200, "publish-period", 200, "ask-period", 200, "election-timeout", 1000)


class Watched(Crowd):
    """A primary with two replicas, and three sentinels."""

    silent_ms = SILENT_MS

    def begin(self) -> None:
        primary = self.store()
        until(lambda: bool(primary.ask.ping()))
        for _ in range(2):
            self.store(replicaof=f"127.0.0.1 {primary.port}")
        for _ in range(3):
            self.start(
                f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2",
                f"sentinel down-after-milliseconds {SERVICE} {self.silent_ms}",
                f"sentinel failover-timeout {SERVICE} 5000",
                f"sentinel parallel-syncs {SERVICE} 2",
                "--sentinel",
            )
        until(lambda: all(sentinel.ask.ping() for sentinel in self.sentinels))
        for sentinel in self.sentinels:
            # They look around every ten seconds otherwise.
            sentinel.ask.execute_command("SENTINEL DEBUG", *HASTE)
        until(lambda: primary.followers() == 2)
        until(lambda: all(self._sees_all(sentinel) for sentinel in self.sentinels))

    @property
    def stores(self) -> list[Node]:
        """The primary of the beginning, and its replicas."""
        return self.nodes[:3]

    @property
    def sentinels(self) -> list[Node]:
        """Who watches them."""
        return self.nodes[3:]

    @staticmethod
    def _sees_all(sentinel: Node) -> bool:
        state = sentinel.ask.sentinel_master(SERVICE)
        return bool(state["num-slaves"] == 2 and state["num-other-sentinels"] == 2)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(node.where for node in self.sentinels)}/{SERVICE}"

    def primary(self) -> Node:
        """The primary, by the first sentinel."""
        _, port = self.sentinels[0].ask.sentinel_get_master_addr_by_name(SERVICE)
        return next(node for node in self.stores if node.port == int(port))


@contextlib.contextmanager
def stopped(node: Node) -> Iterator[None]:
    """It lives and says nothing."""
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)
