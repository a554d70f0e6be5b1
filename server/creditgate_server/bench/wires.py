"""Connections that cost their caller little, so that a load of our own is not what is measured.

A gRPC client in Python costs more than 100 µs a call, which is more than the server it would load.
These speak just enough of HTTP/2 and of the store's protocol: requests are written as they are
given, several in one write; of an answer its status is checked, and its body is handed over.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import hiredis
from hpack import Decoder, Encoder

OK = 0
STORE_ERROR = -1
"""The status of an error reply of the store."""

_TIMEOUT_S = 30.0
_READ_BYTES = 256 * 1024


class Answer(NamedTuple):
    """What came for a request: its token, the gRPC status (0 is OK) and the message."""

    token: int
    status: int
    body: bytes


class Wire(Protocol):
    """A connection that takes requests and hands back their answers."""

    under_way: int
    """Requests without an answer."""

    def fileno(self) -> int:
        """For `select`."""

    def send(self, token: int, what: str, body: bytes) -> None:
        """Take a request; it leaves with `flush`."""

    def flush(self) -> None:
        """Write what was taken."""

    def receive(self) -> Sequence[Answer]:
        """Read what has come; raises ConnectionError if the other side has left."""

    def close(self) -> None:
        """Let go of it."""


class WireError(Exception):
    """The other side did something that a load cannot go on with."""


def connect(address: str) -> socket.socket:
    """A socket to `unix:/path` or `host:port`."""
    if address.startswith("unix:"):
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(_TIMEOUT_S)
        made.connect(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        made = socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


# HTTP/2 ------------------------------------------------------------------------------------------

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_FRAME = struct.Struct(">HBBBI")
_MESSAGE = struct.Struct(">BI")
_WINDOW_MAX = 2**31 - 1
_WINDOW_FIRST = 65_535
_FRAME_BYTES_MAX = 16_384
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTING_PUSH, _SETTING_STREAMS, _SETTING_WINDOW = 2, 3, 4


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _FRAME.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


@dataclass(slots=True)
class _Stream:
    token: int
    data: list[bytes] = field(default_factory=list)


class GrpcWire:
    """One HTTP/2 connection, as a gRPC client has one."""

    def __init__(self, address: str) -> None:
        self.under_way = 0
        self.streams_max = 100
        """How many requests the server takes at once on a connection."""
        self._socket = connect(address)
        self._authority = "localhost" if address.startswith("unix:") else address
        self._encoder = Encoder()
        self._blocks: dict[str, bytes] = {}
        self._decoder = Decoder()
        self._statuses: dict[bytes, int | None] = {}
        self._streams: dict[int, _Stream] = {}
        self._open = 0
        self._next_stream = 1
        self._window = _WINDOW_FIRST
        self._taken = 0
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._unread = b""
        settings = struct.pack(">HIHI", _SETTING_PUSH, 0, _SETTING_WINDOW, _WINDOW_MAX)
        widen = struct.pack(">I", _WINDOW_MAX - _WINDOW_FIRST)
        self._unwritten = [
            _PREFACE,
            _frame(_SETTINGS, 0, 0, settings),
            _frame(_WINDOW_UPDATE, 0, 0, widen),
        ]
        self.flush()

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def send(self, token: int, what: str, body: bytes) -> None:
        """Call the method of this path. It waits while the server has no room for it."""
        stream = self._next_stream
        self._next_stream += 2
        self._streams[stream] = _Stream(token)
        self.under_way += 1
        message = _MESSAGE.pack(0, len(body)) + body
        packed = _frame(_HEADERS, _END_HEADERS, stream, self._block(what))
        last = len(message) - 1 - (len(message) - 1) % _FRAME_BYTES_MAX
        for at in range(0, last, _FRAME_BYTES_MAX):
            packed += _frame(_DATA, 0, stream, message[at : at + _FRAME_BYTES_MAX])
        packed += _frame(_DATA, _END_STREAM, stream, message[last:])
        self._waiting.append((packed, len(message)))

    def _block(self, path: str) -> bytes:
        """The headers of a call: in full the first time, afterwards by their numbers."""
        found = self._blocks.get(path)
        if found is not None:
            return found
        first = self._encode(path)
        # What is new moves the numbers of what was known.
        self._blocks = {known: self._encode(known) for known in (*self._blocks, path)}
        return first

    def _encode(self, path: str) -> bytes:
        return self._encoder.encode(
            (
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", self._authority),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", "creditgate-bench"),
                ("grpc-accept-encoding", "identity"),
            )
        )

    def flush(self) -> None:
        """Write what was taken, as far as the server has room for streams and bytes."""
        waiting, unwritten = self._waiting, self._unwritten
        while waiting and waiting[0][1] <= self._window and self._open < self.streams_max:
            packed, size = waiting.popleft()
            self._open += 1
            self._window -= size
            unwritten.append(packed)
        if unwritten:
            self._socket.sendall(b"".join(unwritten))
            unwritten.clear()

    def receive(self) -> list[Answer]:
        """Read what has come."""
        read = self._socket.recv(_READ_BYTES)
        if not read:
            raise ConnectionError("the server has closed the connection")
        data = self._unread + read if self._unread else read
        at, size = 0, len(data)
        answers: list[Answer] = []
        while size - at >= 9:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            end = at + 9 + (high << 8 | low)
            if end > size:
                break
            self._take(kind, flags, stream, data[at + 9 : end], answers)
            at = end
        self._unread = data[at:]
        if self._taken > _WINDOW_MAX // 2:
            self._unwritten.append(_frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        return answers

    def _take(
        self, kind: int, flags: int, stream: int, payload: bytes, answers: list[Answer]
    ) -> None:
        if kind == _DATA:
            if flags & _PADDED:
                raise WireError("the server pads its frames")
            self._taken += len(payload)
            self._streams[stream].data.append(payload)
        elif kind == _HEADERS:
            if flags & (_PADDED | _PRIORITY) or not flags & _END_HEADERS:
                raise WireError("the server sends headers of a form that is not read here")
            status = self._status(payload)
            if flags & _END_STREAM:
                self._end(stream, 2 if status is None else status, answers)
        elif kind == _RST_STREAM and stream in self._streams:
            # What gRPC makes of a stream that is cut off, but for an ordered retreat: UNAVAILABLE.
            self._end(stream, 14, answers)
        else:
            self._control(kind, flags, stream, payload)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _SETTING_STREAMS:
                    self.streams_max = value
                elif name == _SETTING_WINDOW:
                    self._window_of_a_call(value)
            self._unwritten.append(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._unwritten.append(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == _GOAWAY:
            raise ConnectionError("the server takes no more calls")

    def _window_of_a_call(self, size: int) -> None:
        """The server says how many bytes a call may send ahead of it."""
        if size < _WINDOW_FIRST:
            raise WireError(f"the server takes {size} bytes of a call at once, which is too few")

    def _end(self, stream: int, status: int, answers: list[Answer]) -> None:
        ended = self._streams.pop(stream)
        self.under_way -= 1
        self._open -= 1
        data = ended.data
        body = data[0] if len(data) == 1 else b"".join(data)
        answers.append(Answer(ended.token, status, body[5:]))

    def _status(self, block: bytes) -> int | None:
        """The gRPC status in a block of headers.

        A block is decoded once: servers send the same few again and again, and one that changes
        nothing in the table of headers means the same until another one does.
        """
        if block in self._statuses:
            return self._statuses[block]
        before = tuple(self._decoder.header_table.dynamic_entries)
        headers: Iterable[tuple[bytes, bytes]] = self._decoder.decode(block, raw=True)
        status = next((int(value) for name, value in headers if name == b"grpc-status"), None)
        if before != tuple(self._decoder.header_table.dynamic_entries):
            self._statuses.clear()
        else:
            self._statuses[block] = status
        return status

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


class SessionWire(GrpcWire):
    """One call that goes both ways: what is taken at the same time leaves in one message.

    `pack` makes a message of numbered operations, `unpack` gives the numbered answers in one.
    """

    def __init__(
        self,
        address: str,
        path: str,
        pack: Callable[[Sequence[tuple[int, bytes]]], bytes],
        unpack: Callable[[bytes], Sequence[tuple[int, bytes]]],
    ) -> None:
        self._pack, self._unpack = pack, unpack
        self._operations: list[tuple[int, bytes]] = []
        self._call = 1
        self._call_window = self._call_window_first = _WINDOW_FIRST
        self._unsent = b""
        self._unread_data = b""
        super().__init__(address)
        self._unwritten.append(_frame(_HEADERS, _END_HEADERS, self._call, self._block(path)))
        self.flush()

    def send(self, token: int, what: str, body: bytes) -> None:  # noqa: ARG002 - as a Wire does
        """Take an operation; the token is its number."""
        self._operations.append((token, body))
        self.under_way += 1

    def flush(self) -> None:
        """Write what was taken as one message, as far as the server has room for its bytes."""
        if self._operations:
            packed = self._pack(self._operations)
            self._operations.clear()
            self._unsent += _MESSAGE.pack(0, len(packed)) + packed
        while self._unsent:
            size = min(len(self._unsent), _FRAME_BYTES_MAX, self._window, self._call_window)
            if size <= 0:
                break
            self._unwritten.append(_frame(_DATA, 0, self._call, self._unsent[:size]))
            self._unsent = self._unsent[size:]
            self._window -= size
            self._call_window -= size
        super().flush()

    def _take(
        self, kind: int, flags: int, stream: int, payload: bytes, answers: list[Answer]
    ) -> None:
        if kind == _HEADERS:
            status = self._status(payload)
            if flags & _END_STREAM:
                raise WireError(f"the session has ended with status {status}")
        elif kind == _DATA:
            self._taken += len(payload)
            self._read_messages(payload, answers)
        elif kind == _RST_STREAM:
            raise WireError("the session was cut off")
        elif kind == _WINDOW_UPDATE and stream == self._call:
            self._call_window += int.from_bytes(payload, "big")
        else:
            self._control(kind, flags, stream, payload)

    def _window_of_a_call(self, size: int) -> None:
        self._call_window += size - self._call_window_first
        self._call_window_first = size

    def _read_messages(self, payload: bytes, answers: list[Answer]) -> None:
        data = self._unread_data + payload if self._unread_data else payload
        at = 0
        while len(data) - at >= _MESSAGE.size:
            _, size = _MESSAGE.unpack_from(data, at)
            end = at + _MESSAGE.size + size
            if end > len(data):
                break
            for number, body in self._unpack(data[at + _MESSAGE.size : end]):
                self.under_way -= 1
                answers.append(Answer(number, OK, body))
            at = end
        self._unread_data = data[at:]


# The store ---------------------------------------------------------------------------------------


class StoreWire:
    """One connection to the store, as the server has one. A request is a packed command."""

    def __init__(self, address: str) -> None:
        self.under_way = 0
        self._socket = connect(address)
        self._reader = hiredis.Reader(notEnoughData=self)
        self._tokens: deque[int] = deque()
        self._unwritten: list[bytes] = []

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def send(self, token: int, what: str, body: bytes) -> None:  # noqa: ARG002 - as a Wire does
        """Take a command; `what` is not used."""
        self._tokens.append(token)
        self.under_way += 1
        self._unwritten.append(body)

    def flush(self) -> None:
        """Write what was taken."""
        if self._unwritten:
            self._socket.sendall(b"".join(self._unwritten))
            self._unwritten.clear()

    def receive(self) -> list[Answer]:
        """Read what has come; the body of an answer is the first word of the reply."""
        read = self._socket.recv(_READ_BYTES)
        if not read:
            raise ConnectionError("the store has closed the connection")
        self._reader.feed(read)
        answers = []
        while (reply := self._reader.gets()) is not self:
            self.under_way -= 1
            answers.append(_answer(self._tokens.popleft(), reply))
        return answers

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


def _answer(token: int, reply: object) -> Answer:
    if isinstance(reply, hiredis.ReplyError):
        return Answer(token, STORE_ERROR, str(reply).encode())
    word = reply[0] if isinstance(reply, list) and reply else reply
    return Answer(token, OK, word if isinstance(word, bytes) else str(word).encode())
