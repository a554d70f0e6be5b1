"""A method of the contract as bytes in and an answer out: all that an engine has to carry.

Engines know nothing of messages, services or faults; services know nothing of engines.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Protocol

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from creditgate_server.core.faults import Fault, Reason, defect
from creditgate_server.rpc import faults
from creditgate_server.rpc.admission import Admission

REQUEST_BYTES_MAX = 64 * 1024
EXECUTE_BYTES_MAX = 1024 * 1024

_log = logging.getLogger(__name__)
_camel_humps = re.compile(r"(?<!^)(?=[A-Z])").sub


class Answer(NamedTuple):
    """What goes back: a message, or a status with its trailing metadata."""

    body: bytes = b""
    code: StatusCode = StatusCode.OK
    details: str = ""
    trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()


class Caller(Protocol):
    """Who asks, as far as the engine knows."""

    def peer(self) -> str:
        """Where the call comes from, such as `ipv4:127.0.0.1:50000`; for people."""
        ...

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What was sent along with the call, keys in small letters."""
        ...

    def identities(self) -> tuple[bytes, ...]:
        """The names in the caller's certificate, if the server asked for one; else none."""
        ...


class Endpoint:
    """One method. Calling it never raises, whatever the bytes and whatever happens inside."""

    def __init__(
        self,
        method: MethodDescriptor,
        handler: Callable[[Any], Awaitable[Message]],
        admission: Admission,
    ) -> None:
        self.name = method.name
        self.path = f"/{method.containing_service.full_name}/{method.name}"
        self._parse: Callable[[bytes], Message] = GetMessageClass(method.input_type).FromString
        self._handler = handler
        self._admission = admission
        self._bytes_max = EXECUTE_BYTES_MAX if method.name == "Execute" else REQUEST_BYTES_MAX

    async def __call__(self, body: bytes, caller: Caller) -> Answer:
        """Answer one request."""
        try:
            self._admission.enter(self.name)
        except Fault as fault:
            return answer(fault)
        try:
            response = await self._handler(self._read(body))
            return Answer(response.SerializeToString())
        except Fault as fault:
            _log.debug("%s from %s: %s", self.path, caller.peer(), fault.reason)
            return answer(fault)
        except Exception:  # noqa: BLE001 - the last door: nothing of it may reach the caller
            return answer(defect(f"a defect in {self.path}"))
        finally:
            self._admission.leave()

    def _read(self, body: bytes) -> Message:
        if len(body) > self._bytes_max:
            raise Fault(
                Reason.MESSAGE_TOO_LARGE,
                f"the message has {len(body):,} bytes, {self.name} takes {self._bytes_max:,}",
                metadata={"bytes_max": str(self._bytes_max)},
            )
        try:
            return self._parse(body)
        except DecodeError:
            # The library's text may quote the bytes; ours never does.
            raise Fault(
                Reason.MALFORMED_MESSAGE, f"these bytes are not a request of {self.name}"
            ) from None


def answer(fault: Fault) -> Answer:
    """The answer for a fault."""
    row = faults.TABLE[fault.reason]
    return Answer(b"", row.code, fault.message, faults.trailing_metadata(fault))


def unary_endpoints(
    services: Iterable[tuple[ServiceDescriptor, object]], admission: Admission
) -> dict[str, Endpoint]:
    """Every unary method of the services by its path. One that nobody implements fails here."""
    found = (
        Endpoint(method, getattr(service, snake_case(method.name)), admission)
        for contract, service in services
        for method in contract.methods
        if not (method.client_streaming or method.server_streaming)
    )
    return {endpoint.path: endpoint for endpoint in found}


def snake_case(name: str) -> str:
    """The name of a method as Python spells it."""
    return _camel_humps("_", name).lower()
