"""One plain call, for what is not measured."""

from typing import TypeVar

import grpc
from google.protobuf.message import Message

R = TypeVar("R", bound=Message)


def ask(address: str, method: str, request: Message, answer: type[R]) -> R:
    """The answer of `Service/Method`. Raises grpc.RpcError."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            f"/creditgate.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        found: R = call(request, timeout=30, wait_for_ready=True)
        return found
