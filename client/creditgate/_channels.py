"""Where the server is, and the channels to it: one per process, or per event loop."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import weakref
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from creditgate import _faults
from creditgate._session import TaskSession, ThreadSession, Trust, fits, may_begin

if TYPE_CHECKING:
    from creditgate._beats import TaskHeart, ThreadHeart
    from creditgate._methods import Method
    from creditgate._session import Answer

ADDRESS_VARIABLE = "CREDITGATE_ADDRESS"
ADDRESS_DEFAULT = "127.0.0.1:7420"

Options = Sequence[tuple[str, Any]]


def address_of(address: str | None) -> str:
    """The argument, else the environment, else the default port on this machine."""
    if address is None:
        address = os.environ.get(ADDRESS_VARIABLE, "").strip() or ADDRESS_DEFAULT
    if not address:
        raise ValueError("the address is empty")
    return address


@functools.cache
def _version() -> str:
    try:
        return metadata.version("creditgate")
    except metadata.PackageNotFoundError:
        return "unknown"


def _options(more: Options) -> list[tuple[str, Any]]:
    ours: dict[str, Any] = {
        # Only we retry: we know the budget, and which answers are final.
        "grpc.enable_retries": 0,
        "grpc.service_config_disable_resolution": 1,
        # Connections are shared by all channels of a process otherwise: close() would close
        # nothing, and a forked process would write into its parent's.
        "grpc.use_local_subchannel_pool": 1,
        # The server is beside us: the proxy of the outside world is not on the way.
        "grpc.enable_http_proxy": 0,
        # After a restart of the server look for it soon; the default is a second, growing to two
        # minutes.
        "grpc.initial_reconnect_backoff_ms": 50,
        "grpc.min_reconnect_backoff_ms": 1000,
        "grpc.max_reconnect_backoff_ms": 1000,
        # A page of a thousand entries is larger than the default of 4 MiB may be.
        "grpc.max_receive_message_length": 16 << 20,
        "grpc.primary_user_agent": f"creditgate-python/{_version()}",
    }
    return list({**ours, **dict(more)}.items())


class Process:
    """What the clients of one connection have in one process; a forked one makes its own."""

    def __init__(self) -> None:
        # Made where it is used: a lock held by another thread of a process that forks stays held
        # in the new one for ever.
        self.lock = threading.Lock()
        self.channel: grpc.Channel | None = None
        self.methods: dict[str, grpc.UnaryUnaryMultiCallable[bytes, Any]] = {}
        self.trust = Trust()
        self.session: ThreadSession | None = None
        self.under_way: set[object] = set()
        self.heart: ThreadHeart | None = None


class Processes:
    """The channels of a `Client`: one in each process, made at the first call there."""

    def __init__(
        self, address: str, credentials: grpc.ChannelCredentials | None, options: Options
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._options = _options(options)
        self._processes: dict[int, Process] = {}
        self._closed = False

    def here(self) -> Process:
        """Give what belongs to this process."""
        # setdefault is one step, for threads that come here at once. What a parent process has
        # left in the dict stays there untouched: to close its channel here would disturb it there.
        return self._processes.setdefault(os.getpid(), Process())

    @property
    def closed(self) -> bool:
        """Whether no more calls can be made."""
        return self._closed

    def ask(self, called: Method, body: bytes, timeout_s: float) -> Answer:
        """Send the bytes of a request, and give the answer or the status."""
        process = self.here()
        mine = object()
        process.under_way.add(mine)
        try:
            # Alone, it costs less than the threads of a session.
            if len(process.under_way) > 1 and fits(called, body):
                session = self._session(process)
                answer = None if session is None else session.ask(called, body, timeout_s)
                if answer is not None:
                    return answer
            method = process.methods.get(called.path) or self._method(process, called)
            found: Answer = method(body, timeout=timeout_s)
        except grpc.RpcError as error:
            return _faults.of_rpc(error)
        finally:
            process.under_way.discard(mine)
        return found

    def close(self) -> None:
        """Close what belongs to this process."""
        process = self.here()
        with process.lock:
            self._closed = True
            process.methods.clear()
            session, process.session = process.session, None
            channel, process.channel = process.channel, None
        if process.heart is not None:
            process.heart.stop()
        if session is not None:
            session.close()
        if channel is not None:
            channel.close()

    def _method(self, process: Process, called: Method) -> grpc.UnaryUnaryMultiCallable[bytes, Any]:
        with process.lock:
            method: grpc.UnaryUnaryMultiCallable[bytes, Any]
            method = self._channel(process).unary_unary(
                called.path, None, called.response.FromString
            )
            process.methods[called.path] = method
        return method

    def _session(self, process: Process) -> ThreadSession | None:
        session = process.session
        if (session is None or session.over) and process.trust and may_begin():
            with process.lock:
                session = process.session
                if session is None or session.over:
                    session = ThreadSession(self._channel(process), process.trust)
                    process.session = session
        return session if session is not None and session.begun else None

    def _channel(self, process: Process) -> grpc.Channel:
        if self._closed:
            raise RuntimeError("the client is closed")
        if process.channel is None:
            process.channel = self._connect()
        return process.channel

    def _connect(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self._address, self._options)
        return grpc.secure_channel(self._address, self._credentials, self._options)


class Loop:
    """What the clients of one connection have in one event loop."""

    def __init__(self) -> None:
        self.channel: grpc.aio.Channel | None = None
        self.methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, Any]] = {}
        self.trust = Trust()
        self.session: TaskSession | None = None
        self.under_way = 0
        self.heart: TaskHeart | None = None


class Loops:
    """The channels of an `AsyncClient`: one in each event loop, made at the first call there."""

    def __init__(
        self, address: str, credentials: grpc.ChannelCredentials | None, options: Options
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._options = _options(options)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Loop] = (
            weakref.WeakKeyDictionary()
        )
        self._pid: int | None = None
        self._closed = False

    def here(self) -> Loop:
        """Give what belongs to the running event loop."""
        running = asyncio.get_running_loop()
        loop = self._loops.get(running)
        if loop is None:
            loop = self._loops[running] = Loop()
        return loop

    @property
    def closed(self) -> bool:
        """Whether no more calls can be made."""
        return self._closed

    async def ask(self, called: Method, body: bytes, timeout_s: float) -> Answer:
        """Send the bytes of a request, and give the answer or the status."""
        loop = self._usable()
        loop.under_way += 1
        try:
            session = self._session(loop) if fits(called, body) else None
            if session is not None:
                answer = await session.ask(called, body, timeout_s)
                if answer is not None:
                    return answer
            method = loop.methods.get(called.path) or self._method(loop, called)
            found: Answer = await method(body, timeout=timeout_s)
        except grpc.RpcError as error:
            return _faults.of_rpc(error)
        finally:
            loop.under_way -= 1
        return found

    async def close(self) -> None:
        """Close what belongs to the running event loop."""
        self._closed = True
        loop = self.here()
        loop.methods.clear()
        if loop.heart is not None:
            await loop.heart.stop()
        if loop.session is not None:
            await loop.session.close()
        if loop.channel is not None:
            await loop.channel.close()

    def _usable(self) -> Loop:
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._pid is None:
            self._pid = os.getpid()
        elif self._pid != os.getpid():
            raise RuntimeError(
                "this AsyncClient was used before the process forked: "
                "make it after the fork, or use Client"
            )
        return self.here()

    def _method(self, loop: Loop, called: Method) -> grpc.aio.UnaryUnaryMultiCallable[bytes, Any]:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, Any]
        method = self._channel(loop).unary_unary(called.path, None, called.response.FromString)
        loop.methods[called.path] = method
        return method

    def _session(self, loop: Loop) -> TaskSession | None:
        session = loop.session
        if (session is None or session.over) and loop.under_way > 1 and loop.trust:
            loop.session = session = TaskSession(self._channel(loop), loop.trust)
        return session if session is not None and session.begun else None

    def _channel(self, loop: Loop) -> grpc.aio.Channel:
        if loop.channel is None:
            loop.channel = self._connect()
        return loop.channel

    def _connect(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, self._options)
        return grpc.aio.secure_channel(self._address, self._credentials, self._options)
