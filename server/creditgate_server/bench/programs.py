"""The processes of a measurement. Each ends with the one that started it, however that ends."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

import redis

from creditgate_server.bench.wires import connect
from creditgate_server.store import embedded

P = ParamSpec("P")
R = TypeVar("R")

_START_S = 30.0
_STOP_S = 15.0
_POLL_S = 0.02

# Linux tells a process when its parent has ended; elsewhere an end by force leaves it behind.
_LAUNCHER = """
import os, signal, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(1)
os.execv(command[0], command)
"""


class StartError(Exception):
    """A process of the measurement did not start; the message says what it last said."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process that runs."""

    pids: tuple[int, ...]
    """Its own, and those of the processes it has started."""
    address: str
    """Its unix socket, as `unix:/path`; empty if it has none."""
    tcp: str = ""
    """host:port, if it listens there as well."""
    facts: Mapping[str, str] | None = None
    """What it said of itself when it was ready."""


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with us."""
    launcher = (sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()))
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - programs of ours
            (*launcher, *command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            # Ctrl-C is for the program in the terminal, which ends this one.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], R | None]) -> R:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        found = ready()
        if found is not None:
            return found
        time.sleep(_POLL_S)
    words = " ".join(map(str, process.args[6:9]))  # type: ignore[index]
    said = log.read_text(errors="replace").strip().rpartition("\n")[2]
    raise StartError(f"{words} did not start: {said}")


@contextmanager
def bare(folder: Path, environment: Mapping[str, str]) -> Iterator[Program]:
    """A grpc.aio server that does nothing."""
    address = f"unix:{folder}/bare.sock"
    log = folder / "bare.log"
    command = (sys.executable, "-m", "creditgate_server.bench.bare", address)
    with started(command, environment, log) as process:
        _wait(process, log, lambda: _listens(address))
        yield Program((process.pid,), address)


def _listens(address: str) -> bool | None:
    try:
        connect(address).close()
    except OSError:
        return None
    return True


@contextmanager
def server(
    folder: Path, environment: Mapping[str, str], store_url: str, **settings: str
) -> Iterator[Program]:
    """`creditgate serve` on this store, in `folder`, which is its own."""
    folder.mkdir(mode=0o700)
    log, address = folder / "server.log", f"unix:{folder}/cg.sock"
    given = {
        "listen": "127.0.0.1:0",
        "socket": address.removeprefix("unix:"),
        "redis": store_url,
        "drain-s": "1",
        **settings,
    }
    if given.get("workers", "1") != "1":
        # A unix socket belongs to one process.
        del given["socket"]
        address = ""
    flags = [word for name, value in given.items() for word in _flag(name, value)]
    command = (sys.executable, "-m", "creditgate_server.cli", "serve", "--log-json", *flags)
    with started(command, environment, log) as process:
        facts = _wait(process, log, lambda: _announced(log))
        yield Program(
            (process.pid, *_children(process.pid)), address, facts.get("listens_on", ""), facts
        )


def _flag(name: str, value: str) -> tuple[str, ...]:
    return (f"--{name}",) if value == "true" else (f"--{name}", value)


def _announced(log: Path) -> dict[str, str] | None:
    """What the server says of itself once it is ready."""
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            said: dict[str, Any] = json.loads(line)
            if said.get("event") == "ready":
                return {name: str(value) for name, value in said.items()}
    return None


def _children(pid: int) -> tuple[int, ...]:
    """The processes that a process has started, and those they have."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += (int(child), *_children(int(child)))
    return tuple(found)


@contextmanager
def store(folder: Path, *, appendfsync: str = "always") -> Iterator["Store"]:
    """A store of our own in `folder`."""
    with embedded.start(folder, appendfsync=appendfsync) as process:
        client = redis.Redis(unix_socket_path=_path(process.url), socket_timeout=600)
        try:
            yield Store(process.url, process.pid, process.program, client)
        finally:
            client.close()


def _path(url: str) -> str:
    return unquote(urlsplit(url).path)


@dataclass(frozen=True, slots=True)
class Store:
    """A store that runs, and a client of it."""

    url: str
    pid: int
    program: str
    client: "redis.Redis"

    @property
    def address(self) -> str:
        """For a load."""
        return f"unix:{_path(self.url)}"

    def info(self, section: str) -> dict[str, Any]:
        """A section of INFO."""
        found: dict[str, Any] = self.client.info(section)
        return found


class Helper:
    """A process that runs functions for us, so that our own waiting and drawing costs them nothing.

    As a context manager it ends at the end, whatever it is doing.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_help, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns there, or raises."""
        return self.begin(function, *args, **kwargs)()

    def begin(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
        """Let it run; call what this gives, once, for what came of it."""
        self._ours.send((function, args, kwargs))
        return self._end

    def _end(self) -> Any:
        try:
            raised, found = self._ours.recv()
        except EOFError:
            raise StartError("a process of the measurement has ended by itself") from None
        if raised:
            raise found
        return found

    def __enter__(self) -> "Helper":
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.join()
        self._ours.close()


def _help(control: Connection) -> None:
    # Ctrl-C is for the program in the terminal, which ends this one; so does its end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            function, args, kwargs = control.recv()
        except EOFError:
            return
        try:
            found = (False, function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised again by the one who asked
            found = (True, error)
        control.send(found)
