"""A connection keeps to what the other side allows, and reads what it says."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hpack import Encoder

from creditgate_server.bench.wires import Answer, GrpcWire, WireError

DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
STREAMS, WINDOW = 3, 4


class Peer:
    """The other side: reads frames, and sends what a test says."""

    def __init__(self, folder: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{folder}/peer.sock")
            listening.listen()
            self.wire = GrpcWire(f"unix:{folder}/peer.sock")
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
        found = self.wire.receive()
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
    message = b"\0" + struct.pack(">I", 6) + b"abcdef"
    for piece in (message[:3], message[3:8], message[8:]):
        assert not peer.send(DATA, 0, 1, piece)
    assert peer.end(1, 0) == [Answer(7, 0, b"abcdef")]


def test_a_window_too_small_is_said(peer: Peer) -> None:
    with pytest.raises(WireError, match="too few"):
        peer.send(SETTINGS, 0, 0, struct.pack(">HI", WINDOW, 100))
