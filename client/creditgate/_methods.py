"""Every unary method of the contract, read from its descriptors, so that none is forgotten."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message_factory import GetMessageClass

from creditgate.v1 import accounts_pb2, catalog_pb2, credits_pb2, test_clock_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.descriptor import Descriptor, FileDescriptor
    from google.protobuf.message import Message

SERVICES: tuple[FileDescriptor, ...] = (
    credits_pb2.DESCRIPTOR,
    accounts_pb2.DESCRIPTOR,
    catalog_pb2.DESCRIPTOR,
    test_clock_pb2.DESCRIPTOR,
)
_READS = ("Get", "List", "Quote", "Forecast", "Explain")


@dataclass(frozen=True)
class Method:
    """One unary method: where it is, what goes in, what comes out."""

    name: str
    path: str
    request: type[Message]
    response: type[Message]
    changes: bool
    """Whether it changes anything: then an answer that got lost leaves its outcome unknown."""


def snake(name: str) -> str:
    """`GetBalance` → `get_balance`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _methods(files: Iterable[FileDescriptor]) -> Iterable[Method]:
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                if method.client_streaming or method.server_streaming:
                    continue
                yield Method(
                    name=snake(method.name),
                    path=f"/{service.full_name}/{method.name}",
                    request=_message_class(method.input_type),
                    response=_message_class(method.output_type),
                    changes=not method.name.startswith(_READS),
                )


def _message_class(descriptor: Descriptor) -> type[Message]:
    made: type[Message] = GetMessageClass(descriptor)
    return made


METHODS: Mapping[str, Method] = {method.name: method for method in _methods(SERVICES)}
_BY_REQUEST: Mapping[type[Message], Method] = {m.request: m for m in METHODS.values()}


def method_of(request: Message) -> Method:
    """The method that takes this message; every method has a request type of its own."""
    try:
        return _BY_REQUEST[type(request)]
    except KeyError:
        raise TypeError(f"{type(request).__name__} is not a request of creditgate.v1") from None
