"""How commands get to the store: one connection, shared by everything that runs at the same time.

All commands of one turn of the event loop leave in one write, and replies are matched to them in
order. That is most of what a call costs, so there are no timers, locks or tasks per call.

What became of a command is never guessed. It was *definitely not applied* if it was never written
or the store refused to start it; after a lost connection or a time-out it is *unknown*, and the
caller sends the same command again: nothing here does so by itself.

A command that was refused because of where it went (its script was not loaded there, its slot is
served elsewhere) is sent again, and none overtakes another of the same key: what was refused is
held until all that had been sent by then is answered. If any of that ran, what is held for its key
is too late, and was not applied.
"""

import asyncio
import logging
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol, Self, cast

import hiredis

from creditgate_server.store.address import Sentinels, Server, parse
from creditgate_server.store.keys import fence
from creditgate_server.store.script import Script
from creditgate_server.store.sentinel import Primary

_log = logging.getLogger(__name__)

NOT_APPLIED_CODES: Final = frozenset(
    {
        *("NOSCRIPT", "LOADING", "BUSY", "OOM", "READONLY", "MISCONF", "NOREPLICAS"),
        *("TRYAGAIN", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN"),
        *("NOAUTH", "NOPERM", "WRONGPASS"),
    }
)
"""Error replies that come before a command starts."""

ELSEWHERE_CODES: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})
"""Error replies of a cluster to a command that may run elsewhere, or in a moment."""

# The wrong server for us (an old primary after a failover): another connection may find the right
# one, this one will not.
_WRONG_SERVER_CODES = frozenset({"READONLY", "MASTERDOWN"})

_RECONNECT_S_MIN = 0.02
_RECONNECT_S_MAX = 1.0
# A connection that lived shorter than this does not count as a success for the backoff.
_STABLE_S = 1.0
# How often the age of the oldest command is looked at, as a part of the reply time-out.
_CHECKS_PER_TIMEOUT = 4
AT_ONCE_S: Final = 0.1
"""How long a refused command is sent again without a pause."""
# How long replicas are waited for, as a part of the reply time-out.
_REPLICAS_PER_TIMEOUT = 0.5


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


class Owner(Protocol):
    """Whoever has several links and sends what one of them refused through another."""

    def refused(self, link: "Link", groups: list[list["Refused"]]) -> None:
        """Each group is of one key, in order; the last one's error says where to go."""
        ...

    def down(self, link: "Link") -> None:
        """The connection was lost, or could not be made again."""
        ...


class Link:
    """A connection to the store that comes back by itself. Belongs to the loop that opened it.

    While there is no connection, calls fail at once with a definite `StoreError`: whoever calls
    knows whether it is worth waiting, and a queue here would only hide an outage.
    """

    def __init__(
        self,
        place: Server | Primary,
        limits: "Limits",
        scripts: Sequence[Script] = (),
        owner: Owner | None = None,
    ) -> None:
        self._place = place
        self._limits = limits
        self._scripts = tuple(scripts)
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        # That one, and any that was left and still waits for replies.
        self._open: set[_Connection] = set()
        self._server: Server | None = None
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
        **limits: Any,
    ) -> Self:
        """Connect to `redis://`, `rediss://` (TLS), `unix://` or `redis+sentinel://`.

        `limits` are those of `Limits`. Raises `ValueError` for a URL that cannot be used,
        `StoreError` if the store cannot be.
        """
        place = parse(url)
        if isinstance(place, Sentinels):
            found: Server | Primary = Primary(place)
        else:
            assert isinstance(place, Server), "a cluster has a link of its own"
            found = place
        link = cls(found, Limits(**limits), scripts)
        await link.start()
        return link

    async def start(self) -> None:
        """Connect, the first time. Raises `StoreError`."""
        self._use(await self._connect())

    def begin(self) -> None:
        """Connect in the background."""
        self._reconnecting = self._loop.create_task(self._reconnect())

    @property
    def where(self) -> str:
        """The address, for messages."""
        return self._place.where if self._server is None else self._server.where

    @property
    def links(self) -> "tuple[Link, ...]":
        """The ways to each server."""
        return (self,)

    @property
    def replicas(self) -> int:
        """How many replicas must have what a script wrote."""
        return self._limits.replicas

    @property
    def of_cluster(self) -> bool:
        """Whether it is one of several that share the keys."""
        return self._owner is not None

    @property
    def fails_over(self) -> bool:
        """Whether a replica may take the place of its primary."""
        return self.of_cluster or isinstance(self._place, Primary)

    @property
    def connected(self) -> bool:
        """Whether a call made now would be sent."""
        return self._connection is not None

    @property
    def pending(self) -> int:
        """Commands that wait for their replies."""
        return 0 if self._connection is None else self._connection.pending

    def __repr__(self) -> str:
        return f"<Link to {self.where}, {'connected' if self.connected else 'down'}>"

    def evaluate(
        self, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> asyncio.Future[Any]:
        """Run a script; the future is its reply, strings as str, or raises `StoreError`.

        Commands leave in the order of the calls. Cancelling the future does not stop its command.
        """
        connection = self._connection
        if connection is None:
            return self._refused()
        # The number as text: to pack it as a number takes four times as long.
        count = str(len(keys))
        return connection.send(
            hiredis.pack_command(
                ("EVALSHA", script.sha, count, *keys, *args)  # type: ignore[arg-type]
            ),
            script,
            keys[0] if keys else "",
        )

    def command(self, *parts: str | int | bytes, key: str = "") -> asyncio.Future[Any]:
        """Run any other command, like `evaluate`; `key` is the one by which it is ordered."""
        connection = self._connection
        if connection is None:
            return self._refused()
        return connection.send(
            hiredis.pack_command(parts),  # type: ignore[arg-type]
            None,
            key,
        )

    def send_again(self, group: "list[Refused]", *, asking: bool = False) -> None:
        """Send what another link refused, in order; `asking`, before its slot has come here."""
        assert self._connection is not None
        for refused in group:
            self._connection.send_again(refused, asking=asking)

    async def follow(self) -> None:
        """Leave for another server if the sentinels say that it is the primary."""
        if isinstance(self._place, Primary) and self._connection is not None:
            connection = self._connection
            try:
                async with asyncio.timeout(self._limits.connect_timeout_s):
                    found = await self._place.find()
            except (LookupError, TimeoutError) as error:
                _log.warning("cannot tell whether the primary has moved: %s", error)
                return
            if found != self._server and connection is self._connection:
                connection.retire(f"the primary is {found.where}")

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

    def _hand_over(self, groups: "list[list[Refused]]") -> None:
        assert self._owner is not None
        self._owner.refused(self, groups)

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
        _log.warning("connection to the store at %s lost: %s", self.where, reason)
        if self._loop.time() - self._connected_at >= _STABLE_S:
            self._attempts = 0
        self.begin()
        if self._owner is not None:
            self._owner.down(self)

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
                if self._owner is not None:
                    self._owner.down(self)
            except Exception as error:  # noqa: BLE001 - logged with its trace
                # A defect, but never one that ends the attempts.
                self._reason = type(error).__name__
                _log.exception("defect while connecting to the store")
            else:
                self._use(connection)
                _log.info("connected to the store at %s", self.where)
                return

    async def _connect(self) -> "_Connection":
        limits, where = self._limits, self._place.where
        server: Server | None = None
        connection = _Connection(
            self._loop, limits, self._on_end, None if self._owner is None else self._hand_over
        )
        try:
            async with asyncio.timeout(limits.connect_timeout_s):
                server = await self._place.find()
                where = server.where
                await server.connect(self._loop, connection)
                await self._prepare(connection, server)
        except TimeoutError:
            reason = f"no answer within {limits.connect_timeout_s:g} s"
            if server is not None and server.tls is not None:
                reason += " (does it speak TLS? if not, write redis in place of rediss)"
        except OSError as error:
            reason = _reason(error)
        except (StoreError, LookupError) as error:
            reason = str(error)
        else:
            self._server = server
            return connection
        finally:
            if not connection.ready:
                connection.end("it was never ready")
        raise StoreError(f"cannot use the store at {where}: {reason}", definite=True)

    async def _prepare(self, connection: "_Connection", target: Server) -> None:
        """Log in, choose the database and load the scripts, all in one write."""
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
        if self._limits.replicas:
            steps.append(("wait for replicas", ("WAIT", 0, 0)))
        if isinstance(self._place, Primary):
            # What a sentinel says may be old.
            steps.append(("see whether it is the primary", ("ROLE",)))
        replies = await asyncio.gather(
            *(connection.send(hiredis.pack_command(parts)) for _, parts in steps),  # type: ignore[arg-type]
            return_exceptions=True,
        )
        for (what, parts), reply in zip(steps, replies, strict=True):
            if isinstance(reply, StoreError) and what:
                # Only the code of a failed log-in: some servers quote the arguments.
                text = reply.code if parts[0] == "AUTH" and reply.code else str(reply)
                if "unknown command 'SCRIPT'" in text:
                    text = "it runs none (if it is a sentinel: redis+sentinel://host:port/service)"
                raise StoreError(f"cannot {what}: {text}", definite=True, code=reply.code)
            if parts[0] == "ROLE" and isinstance(reply, list) and reply[0] != "master":
                raise StoreError("it is a replica, and not the primary any more", definite=True)
        if connection.ended.done():
            raise StoreError("the connection was lost", definite=True)
        connection.ready = True


@dataclass(frozen=True)
class Limits:
    """How long and for how much a link waits."""

    reply_timeout_s: float = 2.0
    """A command unanswered for this long (and at most a quarter longer) ends its connection."""
    connect_timeout_s: float = 2.0
    """Includes log-in and loading the scripts."""
    pending_max: int = 8192
    """Commands that may wait for their replies; one more is refused."""
    replicas: int = 0
    """How many must have what a script wrote; if fewer have it in time, its outcome is unknown."""


# What waits for a reply: its future, the bytes that were sent, its script, its key, and when it was
# refused first (0: never).
_Pending = tuple["asyncio.Future[Any]", bytes, Script | None, str, float]


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that was surely not applied, and may be sent again."""

    future: "asyncio.Future[Any]"
    packed: bytes
    script: Script | None
    key: str
    since_s: float
    """When it was refused first, by the loop's clock."""
    error: StoreError

    def give_up(self) -> None:
        """Tell the caller."""
        if not self.future.done():
            self.future.set_exception(self.error)


class _ErrorReply(Exception):
    """What the reader makes of an error reply."""


_INCOMPLETE: Final = object()


class _Connection(asyncio.Protocol):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        on_end: Callable[["_Connection", str], None],
        hand_over: Callable[[list[list[Refused]]], None] | None = None,
    ) -> None:
        self.ready = False
        self.ended: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._limits = limits
        self._pending_max = limits.pending_max
        self._on_end = on_end
        self._hand_over = hand_over
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
        # What was refused, by key, and how many answers must have come before it is sent again.
        self._held: dict[str, list[Refused]] = {}
        self._held_until = 0
        self._confirming = _Confirming(limits.replicas, self._fence) if limits.replicas else None
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

    def send(
        self, packed: bytes, script: Script | None = None, key: str = ""
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if len(self._pending) >= self._pending_max:
            future.set_exception(
                StoreError(
                    f"the store is too slow: {self._pending_max} commands wait for it",
                    definite=True,
                )
            )
            return future
        # As `_enqueue` does; a call less for each command.
        if not self._unwritten:
            self._loop.call_soon(self._flush)
        self._unwritten.append(packed)
        self._pending.append((future, packed, script, key, 0.0))
        return future

    def send_again(self, refused: Refused, *, asking: bool = False) -> None:
        """Send what was refused here or by another connection: it has been admitted there."""
        if asking:
            self._enqueue(self._nobody, _ASKING)
        self._enqueue(refused.future, refused.packed, refused.script, refused.key, refused.since_s)
        if self._confirming is not None:
            self._confirming.asking = asking

    def _enqueue(
        self,
        future: asyncio.Future[Any],
        packed: bytes,
        script: Script | None = None,
        key: str = "",
        since_s: float = 0.0,
    ) -> None:
        if not self._unwritten:
            self._loop.call_soon(self._flush)
        self._unwritten.append(packed)
        self._pending.append((future, packed, script, key, since_s))

    def _flush(self) -> None:
        if self._unwritten and not self._paused and self._transport is not None:
            if self._confirming is not None and self.ready:
                self._ask_replicas()
            packed = b"".join(self._unwritten)
            self._unwritten.clear()
            self._transport.write(packed)

    def data_received(self, data: bytes) -> None:
        """Match the replies in `data` to what waits for them, in order."""
        pending = self._pending
        gets = self._reader.gets
        held = self._held
        confirming = self._confirming
        try:
            self._reader.feed(data)
            while (reply := gets()) is not _INCOMPLETE:
                waiting = pending.popleft()
                self._answered += 1
                if type(reply) is _ErrorReply:
                    self._on_error(str(reply), waiting)
                    continue
                if held:
                    self._overtaken(waiting[3])
                future = waiting[0]
                if confirming is not None and confirming.keeps(waiting, reply):
                    continue
                if not future.done():
                    future.set_result(reply)
        except (hiredis.HiredisError, IndexError):
            self.end("the store sent what is not a reply to anything")
        else:
            if held and self._answered >= self._held_until:
                self._release()
            if self._retiring is not None and not pending:
                self.end(self._retiring)

    def _on_error(self, text: str, waiting: _Pending) -> None:
        future, packed, script, key, since_s = waiting
        error = _store_error(text)
        if error.definite:
            since_s = since_s or self._loop.time()
            at_once = self._loop.time() < since_s + AT_ONCE_S
            not_loaded = error.code == "NOSCRIPT" and script is not None and at_once
            # What has no key is one of our own.
            elsewhere = error.code in ELSEWHERE_CODES and key and self._hand_over is not None
            if not_loaded or elsewhere:
                if self._held and self._answered > self._held_until:
                    # This one came after what those wait for, and others may stand behind it.
                    self._release()
                if not self._held:
                    # What stands behind it has been sent by now.
                    self._held_until = self._answered + len(self._pending)
                self._held.setdefault(key, []).append(
                    Refused(future, packed, script, key, since_s, error)
                )
                return
        elif self._held:
            self._overtaken(key)
        if self._confirming is not None:
            self._confirming.fail(future)
        if not future.done():
            future.set_exception(error)
        if error.code in _WRONG_SERVER_CODES and error.definite and self.ready:
            self.retire(text)

    def _overtaken(self, key: str) -> None:
        """One of this key has run: those that were refused before it must not run after it."""
        # What has no key has no order.
        if key:
            for refused in self._held.pop(key, ()):
                refused.give_up()

    def _release(self) -> None:
        """Send again what was refused: here with its script, or where another link leads."""
        groups = list(self._held.values())
        self._held.clear()
        elsewhere = []
        loaded: set[str] = set()
        for group in groups:
            if group[-1].error.code != "NOSCRIPT":
                elsewhere.append(group)
                continue
            # The store was restarted or its cache emptied.
            for refused in group:
                script = refused.script
                if script is not None and script.sha not in loaded:
                    loaded.add(script.sha)
                    load = ("SCRIPT", "LOAD", script.source)
                    self._enqueue(self._nobody, hiredis.pack_command(load))  # type: ignore[arg-type]
                self.send_again(refused)
        if elsewhere:
            assert self._hand_over is not None
            self._hand_over(elsewhere)

    def _ask_replicas(self) -> None:
        """End a write with one to the data, in case that none of it wrote, and with the question.

        The store looks at the last write of the connection: after a repeated request that finds
        its own work done, and writes nothing, that may be none at all.
        """
        sent = islice(reversed(self._pending), len(self._unwritten))
        key = next((key for _, _, script, key, _ in sent if script is not None), "")
        if key:
            self._fence(key)

    def _fence(self, key: str) -> None:
        confirming = self._confirming
        assert confirming is not None
        if confirming.asking:
            confirming.asking = False
            self._enqueue(self._nobody, _ASKING)
        self._enqueue(confirming.fence, hiredis.pack_command(fence(key)))  # type: ignore[arg-type]
        wait_ms = int(self._limits.reply_timeout_s * _REPLICAS_PER_TIMEOUT * 1000)
        wait = ("WAIT", confirming.replicas, wait_ms)
        self._enqueue(confirming.wait, hiredis.pack_command(wait))  # type: ignore[arg-type]

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
        for group in self._held.values():
            for refused in group:
                refused.give_up()
        self._held.clear()
        if self._confirming is not None:
            self._confirming.end(reason)
        written = len(self._pending) - len(self._unwritten)
        for index, (future, *_) in enumerate(self._pending):
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


class _Confirming:
    """Answers that wait for the replicas."""

    def __init__(self, replicas: int, fence_again: Callable[[str], None]) -> None:
        self.replicas = replicas
        self.asking = False
        self._fence_again = fence_again
        loop = asyncio.get_running_loop()
        # The places of two replies that are ours.
        self.fence: asyncio.Future[Any] = loop.create_future()
        self.wait: asyncio.Future[Any] = loop.create_future()
        self.fence.cancel()
        self.wait.cancel()
        self._fenced = False
        self._fenced_again = False
        self._answers: list[tuple[asyncio.Future[Any], Any, str]] = []

    def keeps(self, waiting: _Pending, reply: Any) -> bool:
        """Whether the caller is told later: the caller of a script is."""
        future, _, script, key, _ = waiting
        if future is self.fence:
            self._fenced = True
        elif future is self.wait:
            if self._fenced or self._fenced_again or not self._answers:
                self._settle(reply if self._fenced else 0)
            else:
                # Its slot had just gone elsewhere: one that has run is here.
                self._fenced_again = True
                self._fence_again(self._answers[-1][2])
        elif script is not None:
            self._answers.append((future, reply, key))
        else:
            return False
        return True

    def fail(self, future: asyncio.Future[Any]) -> None:
        """An error came in place of a reply."""
        if future is self.wait:
            self._settle(0)

    def end(self, reason: str) -> None:
        for future, *_ in self._answers:
            if not future.done():
                future.set_exception(StoreError(reason, definite=False))
        self._answers.clear()

    def _settle(self, count: int) -> None:
        self._fenced = self._fenced_again = False
        if count < self.replicas:
            self.end(f"{count} of {self.replicas} replicas have confirmed it")
            return
        for future, reply, _ in self._answers:
            if not future.done():
                future.set_result(reply)
        self._answers.clear()


_ASKING: Final = hiredis.pack_command(("ASKING",))


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
