"""A connection keeps to what the other side allows, and reads what it says."""

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hpack import Encoder

from creditgate_server.bench.wires import Answer, GrpcWire, SessionWire, WireError

DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
STREAMS, WINDOW = 3, 4


class Peer:
    """The other side: reads frames, and sends what a test says."""

    def __init__(self, folder: Path, make: Callable[[str], Any] = GrpcWire) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{folder}/peer.sock")
            listening.listen()
            self.wire = make(f"unix:{folder}/peer.sock")
            self._socket, _ = listening.accept()
        self._socket.settimeout(0.05)
        self._encoder = Encoder()
        self._read = b""

    def close(self) -> None:
        self.wire.close()
        self._socket.close()

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """What has come: kind, flags, stream and payload of each."""
        try:
            while read := self._socket.recv(1 << 20):
                self._read += read
        except TimeoutError:
            pass
        data = self._read.removeprefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._read, found = b"", []
        while data:
            size = int.from_bytes(data[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", data[3:9])
            found.append((kind, flags, stream, data[9 : 9 + size]))
            data = data[9 + size :]
        return found

    def calls(self) -> list[int]:
        """The streams of the calls that have come whole."""
        return [
            stream
            for kind, flags, stream, _ in self.frames()
            if kind == DATA and flags & END_STREAM
        ]

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> list[Answer]:
        """Send a frame; the answers that it makes."""
        head = len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream)
        self._socket.sendall(head + payload)
        found: list[Answer] = self.wire.receive()
        self.wire.flush()
        return found

    def end(self, stream: int, status: int) -> list[Answer]:
        """Answer a call with a status."""
        block = self._encoder.encode([(":status", "200"), ("grpc-status", str(status))])
        return self.send(HEADERS, END_HEADERS | END_STREAM, stream, block)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """The other side of a new connection."""
    found = Peer(tmp_path)
    yield found
    found.close()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Peer]:
    """The other side of a session, in which a message is lines of number and operation."""

    def pack(operations: Sequence[tuple[int, bytes]]) -> bytes:
        return b"".join(b"%d %b\n" % operation for operation in operations)

    def unpack(message: bytes) -> list[tuple[int, bytes]]:
        lines = (line.split(b" ") for line in message.splitlines())
        return [(int(number), body) for number, body in lines]

    found = Peer(tmp_path, lambda address: SessionWire(address, "/a.B/Session", pack, unpack))
    yield found
    found.close()


def message(body: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(body)) + body


def test_operations_of_one_moment_leave_in_one_message(session: Peer) -> None:
    for token in (4, 9):
        session.wire.send(token, "", b"do")
    session.wire.flush()
    session.wire.send(5, "", b"do")
    session.wire.flush()
    sent = [payload for kind, *_, payload in session.frames() if kind == DATA]
    assert sent == [message(b"4 do\n9 do\n"), message(b"5 do\n")]
    assert session.wire.under_way == 3


def test_answers_of_a_session_are_read_from_pieces_and_in_any_order(session: Peer) -> None:
    for token in (1, 2, 3):
        session.wire.send(token, "", b"do")
    data = message(b"") + message(b"3 c\n1 a\n") + message(b"2 b\n")
    found = [
        answer for at in range(len(data)) for answer in session.send(DATA, 0, 1, data[at : at + 1])
    ]
    assert found == [Answer(3, 0, b"c"), Answer(1, 0, b"a"), Answer(2, 0, b"b")]
    assert session.wire.under_way == 0


@pytest.mark.parametrize("stream", [0, 1])
def test_a_session_waits_for_both_windows(stream: int, session: Peer) -> None:
    session.frames()
    session.wire.send(1, "", bytes(65_535))
    session.wire.flush()
    assert sum(len(payload) for *_, payload in session.frames()) == 65_535
    session.send(WINDOW_UPDATE, 0, stream, struct.pack(">I", 100))
    assert not session.frames(), "one of the two windows has no room yet"
    session.send(WINDOW_UPDATE, 0, 1 - stream, struct.pack(">I", 100))
    assert sum(len(payload) for *_, payload in session.frames()) == len(b"1 \n") + 5


def test_the_end_of_a_session_is_noticed(session: Peer) -> None:
    with pytest.raises(WireError, match="ended with status 12"):
        session.end(1, 12)


def test_bytes_wait_until_the_other_side_has_room(peer: Peer) -> None:
    for token in range(2):
        peer.wire.send(token, "/a.B/C", bytes(40_000))
    peer.wire.flush()
    assert peer.calls() == [1]
    peer.send(WINDOW_UPDATE, 0, 0, struct.pack(">I", 14_474))
    assert peer.calls() == [], "40,005 bytes are one more than there is room for"
    peer.send(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))
    assert peer.calls() == [3]


def test_calls_wait_until_the_other_side_takes_one_more(peer: Peer) -> None:
    peer.send(SETTINGS, 0, 0, struct.pack(">HI", STREAMS, 1))
    for token in range(2):
        peer.wire.send(token, "/a.B/C", b"")
    peer.wire.flush()
    assert peer.calls() == [1]
    assert peer.end(1, 0) == [Answer(0, 0, b"")]
    assert peer.calls() == [3]


def test_a_status_is_what_its_number_means_at_that_moment(peer: Peer) -> None:
    """The same bytes mean another header once the table of headers has moved."""
    statuses = [0, 0, 5, 0, 5, 5, 7, 0, 5, 7, 7, 0]
    blocks = set()
    for token, status in enumerate(statuses):
        peer.wire.send(token, "/a.B/C", b"")
        peer.wire.flush()
        (answer,) = peer.end(2 * token + 1, status)
        assert answer == Answer(token, status, b"")
        blocks.add(status)
    assert blocks == {0, 5, 7}


def test_a_ping_and_settings_are_answered(peer: Peer) -> None:
    peer.frames()
    peer.send(PING, 0, 0, b"12345678")
    peer.send(SETTINGS, 0, 0, b"")
    assert [(kind, flags) for kind, flags, _, _ in peer.frames()] == [(PING, ACK), (SETTINGS, ACK)]


def test_a_message_in_pieces_is_one(peer: Peer) -> None:
    peer.wire.send(7, "/a.B/C", b"")
    peer.wire.flush()
    whole = message(b"abcdef")
    for piece in (whole[:3], whole[3:8], whole[8:]):
        assert not peer.send(DATA, 0, 1, piece)
    assert peer.end(1, 0) == [Answer(7, 0, b"abcdef")]


def test_a_window_too_small_is_said(peer: Peer) -> None:
    with pytest.raises(WireError, match="too few"):
        peer.send(SETTINGS, 0, 0, struct.pack(">HI", WINDOW, 100))
