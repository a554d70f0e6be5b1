"""C1: how evenly accounts spread over a cluster, and that nothing leaves its slot."""

import importlib.util
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import redis

from creditgate_server.bench import programs
from creditgate_server.bench.goals import Figure, measured, not_measured
from creditgate_server.bench.rig import Rig
from creditgate_server.bench.work import Authorize, Settle
from creditgate_server.store import embedded

NODES = 3
ACCOUNTS = 10_000
_SLOTS = 16_384
_START_S = 30.0


def cluster(rig: Rig) -> Iterator[Figure]:
    """Authorize and Settle over many accounts on three primaries."""
    if importlib.util.find_spec("creditgate_server.store.cluster") is None:
        yield not_measured("C1", "this version does not speak to a cluster")
        return
    many = rig.plan.size(ACCOUNTS, 1_000)
    with ExitStack() as stack:
        nodes = _nodes(rig, stack)
        url = f"redis+cluster://127.0.0.1:{nodes[0][0]}"
        server = stack.enter_context(rig.new_server(url))
        accounts = rig.new_accounts(server.address, many)
        before = [_operations(client) for _, client in nodes]
        rig.say(f"{many:,} accounts on a cluster of {NODES}")
        # Each account as often as every other.
        holds, count = rig.new_holds(accounts), 4 * many
        rig.load(server.address, Authorize(holds=holds, count=count), 64, seconds=0, warm_s=0)
        work = Settle(holds=holds, first=0, count=count)
        rig.load(server.address, work, 64, seconds=0, warm_s=0)
        did = [
            _operations(client) - earlier
            for (_, client), earlier in zip(nodes, before, strict=True)
        ]
        crossed = sum(_crossed(client) for _, client in nodes)
    yield measured(
        "C1",
        [max(did) / min(did)],
        [float(crossed)],
        at=f"{many:,} accounts, {2 * count:,} operations",
        parts={f"node {n}": float(each) for n, each in enumerate(did, 1)},
    )


def _nodes(rig: Rig, stack: ExitStack) -> list[tuple[int, Any]]:
    """Three primaries on ports of this machine, each with its share of the slots."""
    found = []
    for number in range(NODES):
        port, folder = _free_port(), rig.data()
        folder.mkdir(mode=0o700)
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "dir": str(folder),
            "cluster-enabled": "yes",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        stack.enter_context(
            programs.started(
                (embedded.find_program(), *words), rig.plan.environment, Path(folder, "log")
            )
        )
        client: Any = redis.Redis(port=port, decode_responses=True)
        stack.callback(client.close)
        _until(client.ping)
        first = number * _SLOTS // NODES
        last = (number + 1) * _SLOTS // NODES - 1
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        found.append((port, client))
    for port, _ in found[1:]:
        found[0][1].execute_command("CLUSTER", "MEET", "127.0.0.1", port)
    for _, client in found:
        _until(lambda client=client: "cluster_state:ok" in str(_cluster_info(client)))
    return found


def _cluster_info(client: Any) -> Any:
    found = client.execute_command("CLUSTER", "INFO")
    if isinstance(found, dict):
        return f"cluster_state:{found.get('cluster_state')}"
    return found


def _until(what: Any) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        with suppress(redis.RedisError):
            if what():
                return
        time.sleep(0.05)
    raise programs.StartError("the nodes of a cluster did not become one")


def _free_port() -> int:
    """Its bus takes the port 10,000 above; both below those that systems give to clients."""
    while True:
        port = random.randrange(12_000, 20_000)  # noqa: S311
        with suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


def _operations(client: Any) -> int:
    stats = client.info("commandstats")
    return sum(
        int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "fcall")
    )


def _crossed(client: Any) -> int:
    errors = client.info("errorstats")
    return sum(int(found["count"]) for name, found in errors.items() if "CROSSSLOT" in name.upper())
