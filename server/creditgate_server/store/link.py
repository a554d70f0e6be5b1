"""How commands get to the store: one connection, shared by everything that runs at the same time.

All commands of one turn of the event loop leave in one write, and replies are matched to them in
order. That is most of what a call costs, so there are no timers, locks or tasks per call.

What became of a command is never guessed. It was *definitely not applied* if it was never written
or the store refused to start it; after a lost connection or a time-out it is *unknown*, and the
caller sends the same command again: nothing here does so by itself.
"""

import asyncio
import logging
import os
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast
from urllib.parse import urlsplit

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import RedisError

from creditgate_server.store.script import Script

_log = logging.getLogger(__name__)

NOT_APPLIED_CODES: Final = frozenset(
    {
        *("NOSCRIPT", "LOADING", "BUSY", "OOM", "READONLY", "MISCONF", "NOREPLICAS"),
        *("TRYAGAIN", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN"),
        *("NOAUTH", "NOPERM", "WRONGPASS"),
    }
)
"""Error replies that come before a command starts."""

# The wrong server for us (an old primary after a failover): another connection may find the right
# one, this one will not.
_WRONG_SERVER_CODES = frozenset({"READONLY", "MASTERDOWN"})

_RECONNECT_S_MIN = 0.02
_RECONNECT_S_MAX = 1.0
# A connection that lived shorter than this does not count as a success for the backoff.
_STABLE_S = 1.0
# How often the age of the oldest command is looked at, as a part of the reply time-out.
_CHECKS_PER_TIMEOUT = 4


class StoreError(Exception):
    """The store did not run a command, or its answer is not known.

    `definite`: the command was surely not applied; otherwise it may have been, or may still be.
    `code`: the first word of the store's error reply (`OOM`), empty if it sent none.
    The message holds no secrets.
    """

    def __init__(self, message: str, *, definite: bool, code: str = "") -> None:
        super().__init__(message)
        self.definite = definite
        self.code = code


class Link:
    """A connection to the store that comes back by itself. Belongs to the loop that opened it.

    While there is no connection, calls fail at once with a definite `StoreError`: whoever calls
    knows whether it is worth waiting, and a queue here would only hide an outage.
    """

    def __init__(self, target: "_Target", limits: "_Limits", scripts: Sequence[Script]) -> None:
        self._target = target
        self._limits = limits
        self._scripts = tuple(scripts)
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        # That one, and any that was left and still waits for replies.
        self._open: set[_Connection] = set()
        self._connected_at = 0.0
        self._attempts = 0
        self._reconnecting: asyncio.Task[None] | None = None
        self._closed = False
        self._reason = "not connected yet"

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        scripts: Sequence[Script] = (),
        reply_timeout_s: float = 2.0,
        connect_timeout_s: float = 2.0,
        pending_max: int = 8192,
    ) -> Self:
        """Connect to `redis://`, `rediss://` (TLS) or `unix://` and load the scripts.

        `reply_timeout_s`: a command unanswered for this long (and at most a quarter longer) ends
        its connection. `connect_timeout_s` includes log-in and loading the scripts. `pending_max`:
        commands that may wait for their replies; one more is refused.
        Raises `ValueError` for a URL that cannot be used, `StoreError` if the store cannot be.
        """
        link = cls(
            _Target.from_url(url), _Limits(reply_timeout_s, connect_timeout_s, pending_max), scripts
        )
        link._use(await link._connect())
        return link

    @property
    def connected(self) -> bool:
        """Whether a call made now would be sent."""
        return self._connection is not None

    @property
    def pending(self) -> int:
        """Commands that wait for their replies."""
        return 0 if self._connection is None else self._connection.pending

    def __repr__(self) -> str:
        return f"<Link to {self._target.where}, {'connected' if self.connected else 'down'}>"

    def evaluate(
        self, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> asyncio.Future[Any]:
        """Run a script; the future is its reply, strings as str, or raises `StoreError`.

        Commands leave in the order of the calls. Cancelling the future does not stop its command.
        """
        connection = self._connection
        if connection is None:
            return self._refused()
        return connection.send(
            hiredis.pack_command(
                ("EVALSHA", script.sha, len(keys), *keys, *args)  # type: ignore[arg-type]
            ),
            script,
        )

    def command(self, *parts: str | int | bytes) -> asyncio.Future[Any]:
        """Run any other command, like `evaluate`."""
        connection = self._connection
        if connection is None:
            return self._refused()
        return connection.send(hiredis.pack_command(parts))  # type: ignore[arg-type]

    async def close(self) -> None:
        """Take no more calls, wait for the replies still due (up to the time-out), disconnect."""
        self._closed = True
        self._reason = "the link was closed"
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        self._connection = None
        connections = tuple(self._open)
        for connection in connections:
            connection.retire(self._reason)
        try:
            if connections:
                # Not gather: if this call is cancelled, it would cancel what it waits for.
                await asyncio.wait([connection.ended for connection in connections])
        finally:
            for connection in connections:
                connection.end(self._reason)

    def _refused(self) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        future.set_exception(
            StoreError(f"the store is not connected: {self._reason}", definite=True)
        )
        return future

    def _use(self, connection: "_Connection") -> None:
        self._connection = connection
        self._connected_at = self._loop.time()
        self._open.add(connection)
        connection.ended.add_done_callback(lambda _: self._open.discard(connection))

    def _on_end(self, connection: "_Connection", reason: str) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self._reason = reason
        _log.warning("connection to the store at %s lost: %s", self._target.where, reason)
        if self._loop.time() - self._connected_at >= _STABLE_S:
            self._attempts = 0
        self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        while True:
            if self._attempts:
                backoff_s = min(_RECONNECT_S_MAX, _RECONNECT_S_MIN * 2 ** min(self._attempts, 10))
                # Many sidecars lose one store at the same moment.
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311
            self._attempts += 1
            try:
                connection = await self._connect()
            except StoreError as error:
                if str(error) != self._reason:
                    self._reason = str(error)
                    _log.warning("%s", error)
            except Exception as error:  # noqa: BLE001 - logged with its trace
                # A defect, but never one that ends the attempts.
                self._reason = type(error).__name__
                _log.exception("defect while connecting to the store")
            else:
                _log.info("connected to the store at %s again", self._target.where)
                self._use(connection)
                return

    async def _connect(self) -> "_Connection":
        target, limits = self._target, self._limits
        connection = _Connection(self._loop, limits, self._on_end)
        try:
            async with asyncio.timeout(limits.connect_timeout_s):
                await target.connect(self._loop, connection)
                await self._prepare(connection)
        except TimeoutError:
            reason = f"no answer within {limits.connect_timeout_s:g} s"
        except OSError as error:
            reason = _reason(error)
        except StoreError as error:
            reason = str(error)
        else:
            return connection
        finally:
            if not connection.ready:
                connection.end("it was never ready")
        raise StoreError(f"cannot use the store at {target.where}: {reason}", definite=True)

    async def _prepare(self, connection: "_Connection") -> None:
        """Log in, choose the database and load the scripts, all in one write."""
        target = self._target
        steps: list[tuple[str, tuple[str | int, ...]]] = []
        if target.password is not None:
            user = () if target.username is None else (target.username,)
            steps.append(("log in", ("AUTH", *user, target.password)))
        if target.db:
            steps.append((f"select database {target.db}", ("SELECT", target.db)))
        # For whoever looks at CLIENT LIST; a store that does not permit it is as good.
        steps.append(("", ("CLIENT", "SETNAME", "creditgate")))
        steps += [
            (f"load script {script.name}", ("SCRIPT", "LOAD", script.source))
            for script in self._scripts
        ]
        replies = await asyncio.gather(
            *(connection.send(hiredis.pack_command(parts)) for _, parts in steps),  # type: ignore[arg-type]
            return_exceptions=True,
        )
        for (what, parts), reply in zip(steps, replies, strict=True):
            if isinstance(reply, StoreError) and what:
                # Only the code of a failed log-in: some servers quote the arguments.
                text = reply.code if parts[0] == "AUTH" and reply.code else str(reply)
                raise StoreError(f"cannot {what}: {text}", definite=True, code=reply.code)
        if connection.ended.done():
            raise StoreError("the connection was lost", definite=True)
        connection.ready = True


@dataclass(frozen=True)
class _Limits:
    reply_timeout_s: float
    connect_timeout_s: float
    pending_max: int


# What waits for a reply: its future, the bytes that were sent, and the script if it is one's first
# try.
_Pending = tuple["asyncio.Future[Any]", bytes, Script | None]


class _ErrorReply(Exception):
    """What the reader makes of an error reply."""


_INCOMPLETE: Final = object()


class _Connection(asyncio.Protocol):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: _Limits,
        on_end: Callable[["_Connection", str], None],
    ) -> None:
        self.ready = False
        self.ended: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._limits = limits
        self._pending_max = limits.pending_max
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        # Records are text; to decode them here costs less than anywhere later.
        self._reader = hiredis.Reader(
            replyError=_ErrorReply,
            notEnoughData=_INCOMPLETE,
            # Decoded here at 0.02 µs a string, which is half of what `.decode()` takes. Bytes that
            # are no text must not cost the connection.
            encoding="utf-8",
            errors="surrogateescape",
        )
        self._pending: deque[_Pending] = deque()
        # Commands of this turn, not written yet: the last ones of `_pending`.
        self._unwritten: list[bytes] = []
        self._paused = False
        self._retiring: str | None = None
        # How many commands there had been at the last checks, the oldest first.
        self._answered = 0
        self._sent_at_checks: deque[int] = deque(maxlen=_CHECKS_PER_TIMEOUT)
        self._check: asyncio.TimerHandle | None = None
        # The place of a reply that nobody waits for.
        self._nobody: asyncio.Future[Any] = loop.create_future()
        self._nobody.cancel()

    @property
    def pending(self) -> int:
        return len(self._pending)

    def send(self, packed: bytes, script: Script | None = None) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if len(self._pending) >= self._pending_max:
            future.set_exception(
                StoreError(
                    f"the store is too slow: {self._pending_max} commands wait for it",
                    definite=True,
                )
            )
            return future
        self._enqueue(future, packed, script)
        return future

    def _enqueue(self, future: asyncio.Future[Any], packed: bytes, script: Script | None) -> None:
        if not self._unwritten:
            self._loop.call_soon(self._flush)
        self._unwritten.append(packed)
        self._pending.append((future, packed, script))

    def _flush(self) -> None:
        if self._unwritten and not self._paused and self._transport is not None:
            packed = b"".join(self._unwritten)
            self._unwritten.clear()
            self._transport.write(packed)

    def data_received(self, data: bytes) -> None:
        """Match the replies in `data` to what waits for them, in order."""
        pending = self._pending
        gets = self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := gets()) is not _INCOMPLETE:
                future, packed, script = pending.popleft()
                self._answered += 1
                if type(reply) is _ErrorReply:
                    self._on_error(str(reply), future, packed, script)
                elif not future.done():
                    future.set_result(reply)
        except (hiredis.HiredisError, IndexError):
            self.end("the store sent what is not a reply to anything")
        else:
            if self._retiring is not None and not pending:
                self.end(self._retiring)

    def _on_error(
        self, text: str, future: asyncio.Future[Any], packed: bytes, script: Script | None
    ) -> None:
        error = _store_error(text)
        if error.code == "NOSCRIPT" and script is not None:
            # The store was restarted or its cache emptied, and the script did not start.
            load = hiredis.pack_command(("SCRIPT", "LOAD", script.source))  # type: ignore[arg-type]
            self._enqueue(self._nobody, load, None)
            self._enqueue(future, packed, None)
            return
        if not future.done():
            future.set_exception(error)
        if error.code in _WRONG_SERVER_CODES and error.definite and self.ready:
            self.retire(text)

    def retire(self, reason: str) -> None:
        """Take no more commands; end when those sent are answered."""
        if self._retiring is None and not self.ended.done():
            self._retiring = reason
            self._on_end(self, reason)
            if not self._pending:
                self.end(reason)

    def end(self, reason: str) -> None:
        """Disconnect now. What was written and not answered is unknown."""
        if self.ended.done():
            return
        self.ended.set_result(None)
        if self._check is not None:
            self._check.cancel()
        if self._transport is not None:
            self._transport.abort()
        written = len(self._pending) - len(self._unwritten)
        for index, (future, _, _) in enumerate(self._pending):
            if not future.done():
                # One error each: a traceback is kept in the exception.
                future.set_exception(StoreError(reason, definite=index >= written))
        self._pending.clear()
        self._unwritten.clear()
        if self._retiring is None:
            self._on_end(self, reason)

    def _check_age(self) -> None:
        # Counted in checks, not in seconds: if this process itself was stopped for a while, the
        # replies that arrived meanwhile are read before the next check, and nothing is too late.
        if (
            len(self._sent_at_checks) == _CHECKS_PER_TIMEOUT
            and self._answered < self._sent_at_checks[0]
        ):
            self.end(f"the store did not answer within {self._limits.reply_timeout_s:g} s")
            return
        self._sent_at_checks.append(self._answered + len(self._pending))
        self._check = self._loop.call_later(
            self._limits.reply_timeout_s / _CHECKS_PER_TIMEOUT, self._check_age
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since the transports of other event loops are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        if self.ended.done():
            self._transport.abort()
            return
        self._check_age()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        reason = f": {_reason(error)}" if isinstance(error, OSError) else ""
        self.end(f"the connection was lost{reason}")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionError) and error.errno is not None:
        # In the system's words: asyncio's own are about its call, not about what is wrong.
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def _store_error(text: str) -> StoreError:
    code = text.split(" ", 1)[0]
    # An error of a command inside a script may come after the script's first write, whatever its
    # code; the server says where in the script it was.
    inside = "@user_script" in text
    return StoreError(text, definite=code in NOT_APPLIED_CODES and not inside, code=code)


@dataclass(frozen=True, kw_only=True)
class _Target:
    where: str
    """The address, for messages."""
    path: str | None
    host: str
    port: int
    tls: ssl.SSLContext | None = field(repr=False)
    db: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)

    @classmethod
    def from_url(cls, url: str) -> Self:
        options = _url_options(url)
        with_tls = options.pop("connection_class", None) is SSLConnection
        path: str | None = options.pop("path", None)
        host: str = options.pop("host", "")
        port: int = options.pop("port", 6379)
        db: int = options.pop("db", 0)
        username: str | None = options.pop("username", None)
        password: str | None = options.pop("password", None)
        if db < 0:
            raise ValueError("store URL: the number of the database is 0 or more")
        if username is not None and password is None:
            raise ValueError("store URL: a user without a password")
        if not all(with_tls and name.startswith("ssl_") for name in options):
            raise ValueError("store URL: has an option that creditgate does not know")
        return cls(
            where=path if path is not None else f"{host}:{port}",
            path=path,
            host=host,
            port=port,
            tls=_tls_context(options) if with_tls else None,
            db=db,
            username=username,
            password=password,
        )

    async def connect(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        if self.path is not None:
            await loop.create_unix_connection(lambda: protocol, self.path)
        else:
            await loop.create_connection(lambda: protocol, self.host, self.port, ssl=self.tls)


def _url_options(url: str) -> dict[str, Any]:
    """What redis-py reads from a URL, without what it guesses.

    Messages never quote the URL: a password with a bare "/" or "#" ends up in any part of it.
    """
    try:
        options: dict[str, Any] = dict(parse_url(url))
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise ValueError(
            "store URL: not redis://, rediss:// or unix://, or wrongly written "
            "(characters like / # ? @ : in a password are percent-encoded)"
        ) from None
    if "#" in url:
        raise ValueError("store URL: has a bare # (write %23 if it is part of the password)")
    if parts.scheme == "unix":
        if "path" not in options or host is not None:
            raise ValueError("store URL: unix:// is followed by an absolute path (unix:///…)")
    elif host is None:
        raise ValueError("store URL: no host (a / or ? in the password is percent-encoded)")
    elif parts.path.strip("/") and "db" not in options:
        raise ValueError("store URL: the path is the number of a database")
    return options


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    """What redis-py would use: certificates and host names are verified unless told otherwise."""
    try:
        return SSLConnection(**options).ssl_context.get()
    except (RedisError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"store URL: TLS cannot be set up: {type(error).__name__}") from None
