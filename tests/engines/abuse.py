"""Ways to misuse a server: bytes that are no HTTP/2, calls that nobody waits for, lost clients."""

import contextlib
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from creditgate.v1 import credits_pb2 as pb
from creditgate.v1 import resources_pb2 as rs
from creditgate_server.engines.engine import Name
from creditgate_server.rpc.endpoint import EXECUTE_BYTES_MAX
from tests.project.tree import ROOT
from tests.rpc.contract import path_of
from tests.rpc.shop import Account
from tests.rpc.test_malformed import cut, flip, insert, mutated, noise, repeat

CATALOG = "/creditgate.v1.Catalog/GetCatalog"
SESSION = "/creditgate.v1.Credits/Session"
WATCH = "/grpc.health.v1.Health/Watch"

# HTTP/2, as far as it takes to get it wrong ------------------------------------------------------

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value: bytes) -> bytes:
    """A string of a header: its length, then itself."""
    length, said = len(value), bytearray()
    if length < 127:
        return bytes((length,)) + value
    said.append(127)
    length -= 127
    while length > 127:
        said.append(length & 127 | 128)
        length >>= 7
    said.append(length)
    return bytes(said) + value


def heads(path: str, *more: tuple[bytes, bytes]) -> bytes:
    """The headers of a call."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode(errors="surrogateescape")),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    )
    return b"".join(b"\x00" + text(key) + text(value) for key, value in fields)


def said(body: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A message, with the length that it has or claims to have."""
    return struct.pack(">BI", flag, len(body) if length is None else length) + body


def call(stream: int, *more: tuple[bytes, bytes], path: str = CATALOG, body: bytes = b"") -> bytes:
    """A whole call, as a client sends it."""
    return frame(HEADERS, END_HEADERS, stream, heads(path, *more)) + frame(
        DATA, END_STREAM, stream, said(body)
    )


OPENING = HELLO + frame(SETTINGS, 0, 0)


def _odd(rng: random.Random) -> int:
    return rng.randrange(1, 2_000) * 2 + 1


def _noise(rng: random.Random) -> bytes:
    return noise(b"", rng)


def _noise_after_hello(rng: random.Random) -> bytes:
    return OPENING + rng.randbytes(rng.choice((9, 100, 5_000)))


def _spoiled(rng: random.Random) -> bytes:
    """A conversation of some calls with an error in it."""
    whole = b"".join(call(2 * number + 1) for number in range(rng.randrange(1, 20)))
    change = rng.choice((flip, flip, cut, insert, repeat))
    return OPENING + change(whole, rng) if rng.random() < 0.8 else change(OPENING + whole, rng)


def _any_frames(rng: random.Random) -> bytes:
    """Frames of any kind, on any stream, of any flags."""
    return OPENING + b"".join(
        frame(
            rng.randrange(12),
            rng.choice((0, 1, 4, 5, 8, 0x20, 255)),
            rng.choice((0, 1, 2, 3, _odd(rng), 2**31 - 1)),
            rng.randbytes(rng.choice((0, 1, 4, 5, 8, 17, 1_000))),
        )
        for _ in range(rng.randrange(1, 30))
    )


def _called_off(rng: random.Random) -> bytes:
    """Calls that are begun and reset, one after the other."""
    reset = struct.pack(">I", 8)
    return OPENING + b"".join(
        (
            frame(HEADERS, END_HEADERS, 2 * number + 1, heads(CATALOG))
            if rng.random() < 0.5
            else call(2 * number + 1)
        )
        + frame(RST, 0, 2 * number + 1, reset)
        for number in range(rng.randrange(1, 300))
    )


def _headers_without_end(rng: random.Random) -> bytes:
    return (
        OPENING
        + frame(HEADERS, 0, 1, heads(CATALOG))
        + frame(CONTINUATION, 0, 1, b"\x00" + text(b"x-it") + text(b"a" * 100))
        * rng.randrange(1, 500)
    )


def _flood(rng: random.Random) -> bytes:
    """Frames that want an answer each."""
    kind = rng.choice((frame(SETTINGS, 0, 0), frame(PING, 0, 0, b"12345678")))
    return OPENING + kind * rng.randrange(1, 2_000)


def _windows(rng: random.Random) -> bytes:
    by = struct.pack(">I", rng.choice((0, 1, 2**31 - 1)))
    return OPENING + call(1) + frame(WINDOW, 0, rng.choice((0, 1)), by) * rng.randrange(1, 20)


def _odd_headers(rng: random.Random) -> bytes:
    more = rng.choice(
        (
            (b"x-it", b"\xff\xfe\x80"),
            (b"x-it-bin", b"no base64 !"),
            (b"\xff", b"a"),
            (b"X-IT", b"a"),
            (b"", b""),
            (b"grpc-timeout", b"0n"),
            (b"grpc-timeout", b"-1S"),
            (b"grpc-timeout", b"99999999H"),
            (b"grpc-timeout", b"1u"),
            (b"grpc-encoding", b"gzip"),
            (b"grpc-encoding", b"no such"),
            (b"x-it", b"a" * 9_000),
            (b":path", b"/twice"),
            (b"content-length", b"-1"),
        )
    )
    return OPENING + b"".join(call(2 * number + 1, more) for number in range(rng.randrange(1, 5)))


def _odd_messages(rng: random.Random) -> bytes:
    body = rng.choice(
        (
            said(b"", length=2**32 - 1),
            said(b"abc", length=2),
            said(b"abc", length=4),
            said(b"abc", flag=1),
            said(b"abc", flag=255),
            said(b"")[:3],
            b"",
            said(b"") * 3,
        )
    )
    encoding = rng.choice(((), ((b"grpc-encoding", b"gzip"),), ((b"grpc-encoding", b"deflate"),)))
    return (
        OPENING
        + frame(HEADERS, END_HEADERS, 1, heads(rng.choice((CATALOG, SESSION)), *encoding))
        + frame(DATA, rng.choice((0, END_STREAM)), 1, body)
    )


def _handshake(_rng: random.Random) -> bytes:
    """Somebody who speaks TLS."""
    return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)


GARBAGE: tuple[Callable[[random.Random], bytes], ...] = (
    _noise,
    _noise_after_hello,
    _spoiled,
    _spoiled,
    _any_frames,
    _called_off,
    _headers_without_end,
    _flood,
    _windows,
    _odd_headers,
    _odd_messages,
    _handshake,
)


class Wire:
    """Connections to one server, below gRPC. Some are left standing for a while."""

    def __init__(self, where: Path | tuple[str, int], engine: Name) -> None:
        self._where = where
        # A path that is not UTF-8 ends the loop of grpc.aio, and the server with it.
        self._garbage = [each for each in GARBAGE if engine == "core" or each is not _spoiled]
        self._standing: list[socket.socket] = []

    def connect(self) -> socket.socket:
        if isinstance(self._where, Path):
            found = socket.socket(socket.AF_UNIX)
            try:
                found.settimeout(5)
                found.connect(str(self._where))
            except OSError:
                found.close()
                raise
            return found
        return socket.create_connection(self._where, timeout=5)

    def abuse(self, rng: random.Random) -> None:
        """One connection, and what goes wrong with it."""
        peer = self.connect()
        # The server may hang up at any moment.
        with contextlib.suppress(OSError):
            peer.sendall(rng.choice(self._garbage)(rng))
            if rng.random() < 0.3:
                peer.settimeout(0.02)
                peer.recv(65_536)
        if rng.random() < 0.3:
            self._standing.append(peer)
        else:
            if peer.family == socket.AF_INET and rng.random() < 0.5:
                # Not a word of goodbye.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        if len(self._standing) > 50:
            self.close()

    def close(self) -> None:
        for peer in self._standing:
            peer.close()
        self._standing.clear()


# Callers of gRPC that do not behave --------------------------------------------------------------

TIMEOUTS_S = (-1.0, 0.0002, 0.001, 0.003, 0.01, 5.0, 5.0)


class Callers:
    """Calls over one channel: spoiled, called off, too large, without a message, abandoned."""

    def __init__(self, channel: grpc.Channel, account: Account, rng: random.Random) -> None:
        self._channel = channel
        self._rng = rng
        self._requests = mutated(account, rng)
        self._account_id = account.account_id
        self._ways = (
            (self._spoiled, 10),
            (self._sized, 1),
            (self._silent, 2),
            (self._heads, 1),
            (self._session, 3),
            (self._watch, 2),
        )

    def abuse(self, count: int) -> None:
        """So many calls, some of them under way at a time; all have ended at the end."""
        rng = self._rng
        ways, weights = zip(*self._ways, strict=True)
        under_way: list[Any] = []
        for _ in range(count):
            under_way.append(rng.choices(ways, weights)[0]())
            if rng.random() < 0.3:
                rng.choice(under_way).cancel()
            if len(under_way) > 30:
                self._end(under_way)
        self._end(under_way)

    def _end(self, under_way: list[Any]) -> None:
        for each in under_way:
            if self._rng.random() < 0.5 or not isinstance(each, grpc.Future):
                each.cancel()
        for each in under_way:
            # The code of a call is known when it has ended.
            each.code()
        under_way.clear()

    def _timeout_s(self) -> float:
        return self._rng.choice(TIMEOUTS_S)

    def _unary(self, path: str, body: bytes, **more: Any) -> Any:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
        return method.future(body, timeout=self._timeout_s(), **more)

    def _spoiled(self) -> Any:
        method, body = next(self._requests)
        return self._unary(path_of(method), body)

    def _sized(self) -> Any:
        most = EXECUTE_BYTES_MAX + 1024
        size = self._rng.choice((65_536, 65_537, EXECUTE_BYTES_MAX, most, most + 1, 3 * most))
        return self._unary(path_of("Execute"), b"\xfa" * size)

    def _silent(self) -> Any:
        """One that has no message, or none yet."""
        wait_s = self._rng.choice((0, 0, 0.01))

        def nothing() -> Iterator[bytes]:
            time.sleep(wait_s)
            yield from ()

        method: grpc.StreamUnaryMultiCallable[bytes, bytes] = self._channel.stream_unary(CATALOG)
        # grpc.aio lets it stand to its end.
        return method.future(nothing(), timeout=min(self._timeout_s(), 0.05))

    def _heads(self) -> Any:
        flood = tuple(
            (f"x-{number}", "a" * 100) for number in range(self._rng.choice((10, 60, 90)))
        )
        return self._unary(CATALOG, b"", metadata=flood)

    def _session(self) -> Any:
        """A session of some messages, and sometimes a spoiled one."""
        rng = self._rng
        messages = [self._operations() for _ in range(rng.randrange(4))]
        if rng.random() < 0.2:
            messages.append(noise(b"", rng))
        linger_s = rng.choice((0, 0, 0.02))

        def talk() -> Iterator[bytes]:
            yield from messages
            time.sleep(linger_s)

        session: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(SESSION)
        found = session(talk(), timeout=min(self._timeout_s(), 0.05))
        if rng.random() < 0.5:
            with contextlib.suppress(grpc.RpcError, StopIteration):
                next(found)
        return found

    def _operations(self) -> bytes:
        rng = self._rng
        request = pb.SessionRequest()
        for number in range(rng.randrange(1, 8)):
            operation = request.operations.add(number=number).operation.authorize
            operation.account_id = self._account_id
            operation.hold_id = f"abandoned-{rng.getrandbits(48)}"
            operation.job.CopyFrom(rs.Job(action="one"))
        return request.SerializeToString()

    def _watch(self) -> Any:
        watch: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(WATCH)
        found = watch(self._rng.choice((b"", b"\xff")), timeout=min(self._timeout_s(), 0.05))
        if self._rng.random() < 0.5:
            with contextlib.suppress(grpc.RpcError, StopIteration):
                next(found)
        return found


@contextlib.contextmanager
def client_process(path: Path) -> Iterator[Callable[[], None]]:
    """A client in a process of its own, with calls under way. Gives what kills it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engines.caller", str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None

    def kill() -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == b"calling\n"
        process.kill()

    try:
        yield kill
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def rss_kib(pid: int) -> int:
    """How much memory of a process is resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])
