"""What an Authorize costs the server beyond an RPC that does nothing.

    python benchmarks/authorize_cost.py [--seconds 3] [--rounds 3] [--json]

One server process with its store (`appendfsync always`), one client process. The empty RPC is
GetCatalog: the same engine, socket and endpoint, a request of no bytes and an answer of about 60,
and nothing asked of the store. Both are measured on the same process, in turns, so that what else
the machine does falls on both. CPU is that of the server process alone (user and system, all of its
threads), by its own account; the store's is shown beside it.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc

from creditgate.v1 import accounts_pb2, catalog_pb2, credits_pb2, resources_pb2

ACCOUNTS = 64
CALLERS = (1, 64)
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def serve(folder: str, control: Connection) -> None:
    """The server process: tells its CPU time whenever it is asked."""
    # Here, so that the client process does not load what it does not need.
    from creditgate_server.app.server import running  # noqa: PLC0415
    from creditgate_server.app.settings import Settings  # noqa: PLC0415

    async def live() -> None:
        given: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "socket": Path(folder) / "run/cg.sock",
            "data": Path(folder) / "data",
        }
        async with running(Settings(**given)):
            told = asyncio.Event()

            def tell() -> None:
                if control.recv() == "stop":
                    told.set()
                    return
                used = resource.getrusage(resource.RUSAGE_SELF)
                control.send((used.ru_utime + used.ru_stime, store_cpu_s(Path(folder))))

            asyncio.get_running_loop().add_reader(control.fileno(), tell)
            control.send("ready")
            await told.wait()

    asyncio.run(live())


def store_cpu_s(folder: Path) -> float:
    """The CPU time of the store process, where the system shows it."""
    try:
        pid = int((folder / "data/store.lock").read_text().split()[-1])
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


async def measure(
    call: Callable[[int], Awaitable[Any]], callers: int, seconds_s: float, control: Connection
) -> dict[str, float]:
    """Call without a pause for a while: the cost of each and how long it took."""
    end = time.perf_counter() + seconds_s
    took: list[float] = []
    numbers = iter(range(10**9))

    async def caller() -> None:
        while time.perf_counter() < end:
            before = time.perf_counter()
            await call(next(numbers))
            took.append(time.perf_counter() - before)

    before_s, began = cpu(control), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    after_s, lasted_s = cpu(control), time.perf_counter() - began
    took.sort()
    return {
        "calls": len(took),
        "per_second": len(took) / lasted_s,
        "server_us": (after_s[0] - before_s[0]) / len(took) * 1e6,
        "store_us": (after_s[1] - before_s[1]) / len(took) * 1e6,
        "p50_ms": took[len(took) // 2] * 1e3,
        "p99_ms": took[len(took) * 99 // 100] * 1e3,
    }


def cpu(control: Connection) -> tuple[float, float]:
    """The CPU time of server and store by now, in seconds."""
    control.send("cpu")
    found: tuple[float, float] = control.recv()
    return found


async def run(folder: Path, control: Connection, seconds_s: float, rounds: int) -> list[Any]:
    """All measurements, each the median of its rounds."""
    async with grpc.aio.insecure_channel(f"unix:{folder}/run/cg.sock") as channel:

        def method(path: str) -> Callable[[bytes], Awaitable[bytes]]:
            found: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            return found

        put = method("/creditgate.v1.Accounts/PutAccount")
        grant = method("/creditgate.v1.Accounts/GrantCredits")
        authorize = method("/creditgate.v1.Credits/Authorize")
        catalog = method("/creditgate.v1.Catalog/GetCatalog")
        for number in range(ACCOUNTS):
            account_id = f"account-{number}"
            await put(accounts_pb2.PutAccountRequest(account_id=account_id).SerializeToString())
            await grant(
                accounts_pb2.GrantCreditsRequest(
                    account_id=account_id,
                    source_ref="pack",
                    kind=resources_pb2.KIND_TOP_UP,
                    amount=2**40,
                ).SerializeToString()
            )
        empty = catalog_pb2.GetCatalogRequest().SerializeToString()
        job = resources_pb2.Job(action="image.generate", model="recraft-v3", quantity=1)
        tag = iter(range(10**9))

        def ask_nothing(_number: int) -> Awaitable[Any]:
            return catalog(empty)

        def ask(number: int) -> Awaitable[Any]:
            return authorize(
                credits_pb2.AuthorizeRequest(
                    account_id=f"account-{number % ACCOUNTS}", hold_id=f"h-{next(tag)}", job=job
                ).SerializeToString()
            )

        found = []
        for callers in CALLERS:
            each: dict[str, list[dict[str, float]]] = {"empty RPC": [], "Authorize": []}
            await measure(ask, callers, 0.5, control)
            for _ in range(rounds):
                each["empty RPC"].append(await measure(ask_nothing, callers, seconds_s, control))
                each["Authorize"].append(await measure(ask, callers, seconds_s, control))
            for name, results in each.items():
                median = {key: statistics.median(r[key] for r in results) for key in results[0]}
                found.append({"rpc": name, "callers": callers, **median})
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the median of them is shown")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="creditgate-") as name:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(name, theirs))
        process.start()
        assert ours.recv() == "ready"
        found = asyncio.run(run(Path(name), ours, given.seconds, given.rounds))
        ours.send("stop")
        process.join()
    by = {(row["rpc"], row["callers"]): row for row in found}
    ratios = {
        callers: by["Authorize", callers]["server_us"] / by["empty RPC", callers]["server_us"]
        for callers in CALLERS
    }
    if given.json:
        sys.stdout.write(json.dumps({"rows": found, "authorize_to_empty": ratios}, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in table(found, ratios))


def table(found: list[Any], ratios: dict[int, float]) -> Iterator[str]:
    """The figures for people."""
    keys = ("calls", "per_second", "server_us", "store_us", "p50_ms", "p99_ms")
    yield " ".join(("RPC       ", "callers", *(f"{key:>10}" for key in keys)))
    for row in found:
        figures = (f"{row[key]:10.0f}" if row[key] >= 100 else f"{row[key]:10.2f}" for key in keys)
        yield " ".join((f"{row['rpc']:10} {row['callers']:7}", *figures))
    for callers, ratio in ratios.items():
        yield f"{callers} callers: an Authorize costs {ratio:.2f} times an empty RPC"


if __name__ == "__main__":
    main()
