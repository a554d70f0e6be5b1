"""Under a mixed load for a long time, neither the server nor a worker grows, and the books balance.

`CREDITGATE_SOAK_S` says for how long.
"""

import json
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from creditgate.v1 import resources_pb2 as rs
from creditgate_server.engines.engine import Name
from tests.crash.load import Record, audit
from tests.crash.process import channel_to, server
from tests.engines.abuse import Callers, Wire, rss_kib
from tests.project.tree import ROOT
from tests.rpc.shop import Account

SOAK_S = float(os.environ.get("CREDITGATE_SOAK_S", "600"))
SAMPLE_S = 2.0
# Of one that leaks a single object of 100 bytes in each operation, 1,000 operations a second are
# 5,859 KiB per minute.
SLOPE_MAX_KIB_PER_MIN = 512.0


def slope(samples: list[tuple[float, int]]) -> tuple[float, float]:
    """Growth by least squares, and its standard error, in KiB per minute."""
    count = len(samples)
    mean_x = sum(x for x, _ in samples) / count
    mean_y = sum(y for _, y in samples) / count
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    found = sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread
    residue = sum((y - mean_y - found * (x - mean_x)) ** 2 for x, y in samples)
    return found * 60, math.sqrt(residue / (count - 2) / spread) * 60


def grows(samples: list[tuple[float, int]]) -> bool:
    """Whether memory grows by more than the bound, beyond doubt (3 standard errors)."""
    found, error = slope(samples)
    return found - 3 * error > SLOPE_MAX_KIB_PER_MIN


def test_growth_is_told_from_noise() -> None:
    rng = random.Random(1)
    noise = [(2.0 * n, 80_000 + rng.randrange(-2_000, 2_000)) for n in range(150)]
    assert not grows(noise)
    assert grows([(x, y + int(x * 50)) for x, y in noise])
    assert not grows([(x, y + int(x * 2)) for x, y in noise])


@pytest.mark.long
@pytest.mark.timeout(SOAK_S * 2 + 300)
@pytest.mark.parametrize("name", ["core", "aio"])
def test_neither_the_server_nor_a_worker_grows(
    name: Name, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(SOAK_S)
    with server(tmp_path, engine=name, log_level="warning") as found:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.soaking", found.address, str(SOAK_S)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        memory: dict[str, list[tuple[float, int]]] = {"server": [], "worker": []}
        wire = Wire(found.socket, name)
        began = time.monotonic()
        with channel_to(found) as channel:
            abused = Account(channel, "abused")
            abused.put_account()
            abused.grant("start", 2**40)
            while (now := time.monotonic() - began) < SOAK_S - SAMPLE_S:
                memory["server"].append((now, rss_kib(found.process.pid)))
                memory["worker"].append((now, rss_kib(worker.pid)))
                with channel_to(found) as another:
                    Callers(another, abused, rng).abuse(5)
                    wire.abuse(rng)
                time.sleep(SAMPLE_S)
            said, _ = worker.communicate(timeout=SOAK_S + 120)
            wire.close()
            assert worker.returncode == 0
            done = Counter(json.loads(said))
            problems = [*audit(abused, Record())]
            for account_id in sorted({each.split()[0] for each in done}):
                account = Account(channel, account_id)
                problems += audit(account, Record())
                entered = Counter(
                    f"{account_id} {rs.LedgerVerb.Name(entry.verb).removeprefix('LEDGER_VERB_')}"
                    for entry in account.ledger()
                )
                told = Counter({key: n for key, n in done.items() if key.startswith(account_id)})
                if entered != told:
                    problems.append(f"acknowledged were {told}, the ledger has {entered}")
        report = [f"{done.total():,} operations in {SOAK_S:.0f} s"]
        for what, samples in memory.items():
            growth, error = slope(samples[len(samples) // 2 :])
            report.append(
                f"{what}: {samples[-1][1]:,} KiB, {growth:+.0f} ± {error:.0f} KiB per minute"
            )
        record_property("soak", "; ".join(report))
        print(name, *report, sep="\n")  # noqa: T201 - what a long test has measured
        assert not problems, "\n".join(problems)
        assert found.end() == 0, found.said
    for what, samples in memory.items():
        assert not grows(samples[len(samples) // 2 :]), (what, report)
