"""A server as a process of its own, which can be killed, and its store with it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.project.tree import ROOT
from tests.rpc.shop import CATALOG, connected

START_S = 30.0


@dataclass
class Server:
    """A running server process. `said` is what it wrote to standard error, once it has ended."""

    process: subprocess.Popen[str]
    socket: Path
    address: str
    data: Path
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def store_pid(self) -> int:
        """The store that it has started, from the lock that says whose the data are."""
        found = re.search(r"^store (\d+)$", (self.data / "store.lock").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def kill(self) -> None:
        """As if it were pulled out: no handler runs."""
        self.process.kill()
        self.process.wait(10)

    def kill_store(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.store_pid, signal.SIGKILL)

    def end(self, *, limit_s: float = 20.0) -> int:
        """Ask it to go, and say with which exit code it went."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)


def begin(folder: Path, *, plant: str = "", **settings: Any) -> Server:
    """Start a server and wait until it is ready. AssertionError, with its words, if it ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    catalog = folder / "shop.toml"
    catalog.write_text(CATALOG)
    given = {
        "listen": "127.0.0.1:0",
        "socket": str(folder / "run/cg.sock"),
        "data": str(folder / "data"),
        "catalog": str(catalog),
        **settings,
    }
    log = folder / "server.log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.runner", json.dumps(given), plant],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    with process.stdout:
        address = process.stdout.readline().strip()
    if not address:
        code = process.wait(START_S)
        raise AssertionError(f"it ended with exit code {code}: {log.read_text()}")
    return Server(process, Path(given["socket"] or ""), address, Path(given["data"]), log)


@contextlib.contextmanager
def server(folder: Path, **settings: Any) -> Iterator[Server]:
    """A server to the end of the block, if it lives so long."""
    found = begin(folder, **settings)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.kill()


@contextlib.contextmanager
def channel_to(found: Server) -> Iterator[grpc.Channel]:
    with connected(found.socket) as channel:
        yield channel
