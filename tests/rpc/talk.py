"""One who speaks Session, step by step: what is sent in which message, and what came back."""

import queue
from collections.abc import Iterable, Iterator
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from creditgate.v1 import credits_pb2 as pb

PATH = "/creditgate.v1.Credits/Session"

_NAMES = {
    field.message_type.name: field.name
    for field in pb.Operation.DESCRIPTOR.fields
    if field.message_type is not None
}


def operation(request: Message) -> pb.Operation:
    """A request as an operation."""
    fields: dict[str, Any] = {_NAMES[request.DESCRIPTOR.name]: request}
    return pb.Operation(**fields)


def message(requests: Iterable[tuple[int, Message]]) -> bytes:
    """A message with numbered requests."""
    operations = [
        pb.SessionOperation(number=number, operation=operation(request))
        for number, request in requests
    ]
    return pb.SessionRequest(operations=operations).SerializeToString()


class Talk:
    """A session over a channel."""

    def __init__(self, channel: grpc.Channel, *, timeout_s: float = 20.0) -> None:
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        method: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(PATH)
        self.call = method(iter(self._messages.get, None), timeout=timeout_s)

    def __enter__(self) -> Self:
        assert self.read() == pb.SessionResponse(), "the first message is empty"
        return self

    def __exit__(self, *_: object) -> None:
        self.call.cancel()
        self.end()

    def send(self, *requests: tuple[int, Message]) -> None:
        """One message."""
        self.send_bytes(message(requests))

    def send_bytes(self, body: bytes) -> None:
        """One message as it is."""
        self._messages.put(body)

    def end(self) -> None:
        """No more messages from this side."""
        self._messages.put(None)

    def read(self) -> pb.SessionResponse:
        """The next message."""
        return pb.SessionResponse.FromString(next(self.call))

    def results(self, count: int) -> dict[int, pb.Result]:
        """The next answers by their numbers, each once."""
        found: dict[int, pb.Result] = {}
        while len(found) < count:
            for each in self.read().results:
                assert each.number not in found
                found[each.number] = each.result
        return found

    def rest(self) -> Iterator[pb.SessionResponse]:
        """All messages until the status; raises it unless it is OK."""
        for body in self.call:
            yield pb.SessionResponse.FromString(body)
