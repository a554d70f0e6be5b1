"""A client that calls until it is killed: `python -m tests.engines.caller SOCKET`."""

import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc

from tests.engines.abuse import CATALOG, SESSION
from tests.rpc.shop import connected


def silence() -> Iterator[bytes]:
    """A side of a stream that neither speaks nor ends."""
    threading.Event().wait()
    yield b""


def main() -> None:
    """Say so as soon as calls of each kind are under way, and go on."""
    with connected(Path(sys.argv[1])) as channel:
        unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CATALOG)
        half: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(CATALOG)
        session: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(SESSION)
        standing = [session(silence()) for _ in range(10)]
        halves = [half.future(silence()) for _ in range(10)]
        for number in itertools.count():
            waiting = [unary.future(b"") for _ in range(50)]
            if number == 1:
                print("calling", flush=True)  # noqa: T201 - whoever started us waits for it
            for each in waiting:
                each.result()
            assert all(each.is_active() for each in (*standing, *halves))


if __name__ == "__main__":
    main()
