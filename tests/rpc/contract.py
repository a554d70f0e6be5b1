"""The contract as its descriptors say it: tests walk through it, so that no field is forgotten."""

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from creditgate.v1 import accounts_pb2, catalog_pb2, credits_pb2, test_clock_pb2
from tests.project.tree import ROOT


def _methods(*files: Any) -> dict[str, MethodDescriptor]:
    return {
        method.name: method
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
    }


METHODS = _methods(credits_pb2, accounts_pb2, catalog_pb2)
"""The unary ones by name: no two services have a method of the same name."""

CLOCK = _methods(test_clock_pb2)
"""Those that only a server in developer mode has."""

_ALL = METHODS | CLOCK

READS = {"Quote", "GetHold", "ListHolds", "GetBalance", "GetAccount", "ListLedger"} | {
    *("GetUsage", "Forecast", "Explain", "GetCatalog", "ListPrices"),
}
"""Methods that change nothing."""


def path_of(method: str) -> str:
    """The path under which a server answers it."""
    found = _ALL[method]
    return f"/{found.containing_service.full_name}/{found.name}"


def request_of(method: str, **fields: Any) -> Message:
    """A request of the method."""
    request: Message = GetMessageClass(_ALL[method].input_type)(**fields)
    return request


def response_of(method: str, body: bytes) -> Any:
    """A response of the method."""
    return GetMessageClass(_ALL[method].output_type).FromString(body)


def repeated(field: FieldDescriptor) -> bool:
    """Whether it has any number of values."""
    # The oldest protobuf that we support knows labels only, the newest knows none.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)  # type: ignore[attr-defined]


def request_fields() -> Iterator[tuple[str, FieldDescriptor]]:
    """Every field of every request and of what requests hold, as `AuthorizeRequest.ttl`.

    Messages of other packages count as values.
    """
    waiting = [method.input_type for method in METHODS.values()]
    seen = set()
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        for field in message.fields:
            yield f"{message.name}.{field.name}", field
            inner = field.message_type
            if inner is None or inner.GetOptions().map_entry:
                continue
            if inner.file.package == message.file.package:
                waiting.append(inner)


def promises_of_reasons() -> dict[str, tuple[str, frozenset[str]]]:
    """Of each reason: the status code and the metadata keys that its comment names."""
    text = (ROOT / "protos/creditgate/v1/error_reason.proto").read_text()
    found = {}
    for comment, name in re.findall(r"((?: *//.*\n)+) *ERROR_REASON_(\w+) = \d+;", text):
        words = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
        if words != "Never sent.":
            code, _, rest = words.partition(".")
            found[name] = (code, _keys(rest))
    return found


def _keys(promise: str) -> frozenset[str]:
    """Keys stand last, behind a semicolon; or in the sentence that explains the one there is."""
    if "No metadata." in promise:
        return frozenset()
    _, _, listed = promise.rpartition(";")
    names = re.findall(r"`([a-z_]+)`", listed)
    assert names, f"names no keys: {promise}"
    return frozenset(names)
