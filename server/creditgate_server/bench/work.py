"""What a load asks for, and whether what came is an answer to it.

An Authorize that is denied is not an Authorize: whatever is not what was asked for is counted by
itself, and no figure is made of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

import hiredis
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from creditgate.v1 import credits_pb2 as pb
from creditgate.v1.resources_pb2 import DECISION_APPROVED, Job
from creditgate_server.bench.wires import GrpcWire, SessionWire, StoreWire, Wire

EMPTY = "/creditgate.v1.Catalog/GetCatalog"
"""The empty RPC: same engine, endpoint and admission; nothing is asked of the store."""
BARE = "/bench.Bare/Empty"
"""An empty call of a server that does nothing else."""
AUTHORIZE = "/creditgate.v1.Credits/Authorize"
SETTLE = "/creditgate.v1.Credits/Settle"
EXECUTE = "/creditgate.v1.Credits/Execute"
SESSION = "/creditgate.v1.Credits/Session"

BATCH = 100
"""Operations in one Execute."""

_SAMPLE = 128
_DIGITS = 9
# `decision: APPROVED` in an answer to Authorize, `charged: 1` in one to Settle: their first fields.
_APPROVED = b"\x08\x01"
_CHARGED = b"\x08\x01"


class Source(Protocol):
    """Requests one after the other. Belongs to one run of a load."""

    def next(self, token: int) -> tuple[str, bytes] | None:
        """What this caller asks next: method and message. None: there is no more."""

    def accept(self, token: int, body: bytes) -> int:
        """How many operations the answer shows to be done; 0 if it is not what was asked for."""


class Work(Protocol):
    """What to ask for. Can be pickled."""

    callers_per_wire: ClassVar[int]

    def open(self) -> Source:
        """Begin."""

    def wire(self, address: str) -> Wire:
        """A connection to whom it is asked."""


class _OverGrpc:
    # As many threads of one worker process would share a connection.
    callers_per_wire: ClassVar[int] = 16

    def wire(self, address: str) -> Wire:
        """A connection of a gRPC client."""
        return GrpcWire(address)


@dataclass(frozen=True, slots=True)
class Empty(_OverGrpc):
    """Calls that ask for nothing."""

    path: str = EMPTY

    def open(self) -> Source:
        """Begin."""
        return self

    def next(self, token: int) -> tuple[str, bytes]:  # noqa: ARG002 - all callers ask the same
        """The same for everyone."""
        return self.path, b""

    def accept(self, token: int, body: bytes) -> int:  # noqa: ARG002 - as above
        """Any message of the catalog, or none at all."""
        if self.path == EMPTY:
            return int(body.startswith(b"\x0a"))
        return int(not body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """The holds of a load: hold `n` belongs to the account `n` modulo their number."""

    accounts: tuple[str, ...]
    tag: str
    """With what their ids begin; no other load has the same."""
    job: bytes
    """A `Job`, as bytes."""

    def hold_id(self, number: int) -> str:
        """The id of a hold."""
        return f"{self.tag}-{number:0{_DIGITS}d}"

    def account_of(self, number: int) -> str:
        """Whose hold it is."""
        return self.accounts[number % len(self.accounts)]


class _Spliced:
    """Messages that differ in account and hold only, put together without a library.

    Their bytes are those that the library makes, which is looked at once.
    """

    def __init__(self, holds: Holds, make: Callable[[str, str], Message]) -> None:
        hold_id = holds.hold_id(0)
        self._tag = holds.tag
        self._heads = [_field(1, name.encode()) for name in holds.accounts]
        self._hold = _field(2, hold_id.encode())[: -len(hold_id)] + f"{holds.tag}-".encode()
        first = make(holds.account_of(0), hold_id).SerializeToString(deterministic=True)
        self._tail = first.partition(hold_id.encode())[2]
        assert self.body(0) == first

    def body(self, number: int) -> bytes:
        """The message for hold `number`."""
        heads = self._heads
        return b"%b%b%09d%b" % (heads[number % len(heads)], self._hold, number, self._tail)


def _field(number: int, value: bytes) -> bytes:
    return b"%c%b%b" % (number << 3 | 2, _varint(len(value)), value)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _authorizes(holds: Holds) -> _Spliced:
    job = Job.FromString(holds.job)
    return _Spliced(
        holds,
        lambda account, hold: pb.AuthorizeRequest(account_id=account, hold_id=hold, job=job),
    )


def _settles(holds: Holds) -> _Spliced:
    return _Spliced(
        holds,
        lambda account, hold: pb.SettleRequest(account_id=account, hold_id=hold, quantity=1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorize(_OverGrpc):
    """New holds, numbered from `first`."""

    holds: Holds
    first: int = 0
    count: int | None = None

    def open(self) -> Source:
        """Begin."""
        return _Places(self, AUTHORIZE, _authorizes(self.holds), _APPROVED, pb.AuthorizeResponse)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(_OverGrpc):
    """Settles holds that were placed: `count` from `first`."""

    holds: Holds
    first: int
    count: int | None

    def open(self) -> Source:
        """Begin."""
        return _Places(self, SETTLE, _settles(self.holds), _CHARGED, pb.SettleResponse)


class _Places:
    """One operation in a message."""

    def __init__(
        self,
        work: Authorize | Settle,
        path: str,
        messages: _Spliced,
        good: bytes,
        answer: type[pb.AuthorizeResponse] | type[pb.SettleResponse],
    ) -> None:
        self._holds = work.holds
        self._path, self._messages, self._good, self._answer = path, messages, good, answer
        self._number = work.first
        self._end = None if work.count is None else work.first + work.count
        self._asked: dict[int, int] = {}

    def next(self, token: int) -> tuple[str, bytes] | None:
        number = self._number
        if number == self._end:
            return None
        self._number = number + 1
        self._asked[token] = number
        return self._path, self._messages.body(number)

    def accept(self, token: int, body: bytes) -> int:
        number = self._asked.pop(token)
        if not body.startswith(self._good):
            return 0
        if number % _SAMPLE == 0:
            found = self._answer.FromString(body)
            same = found.hold.hold_id == self._holds.hold_id(number)
            return int(same and found.hold.account_id == self._holds.account_of(number))
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(_OverGrpc):
    """Each caller places a hold, settles it, and so on."""

    holds: Holds
    first: int = 0

    def open(self) -> Source:
        """Begin."""
        return _Pairs(self)


class _Pairs:
    def __init__(self, work: Pair) -> None:
        self._number = work.first
        self._authorizes, self._settles = _authorizes(work.holds), _settles(work.holds)
        self._placed: dict[int, int] = {}

    def next(self, token: int) -> tuple[str, bytes]:
        number = self._placed.pop(token, None)
        if number is not None:
            return SETTLE, self._settles.body(number)
        self._placed[token] = number = self._number
        self._number += 1
        return AUTHORIZE, self._authorizes.body(number)

    def accept(self, token: int, body: bytes) -> int:  # noqa: ARG002 - both begin alike
        return int(body.startswith(_APPROVED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute(_OverGrpc):
    """Messages of `BATCH` operations: Authorize, or Settle of what was placed before."""

    holds: Holds
    first: int
    count: int | None = None
    """How many operations, a multiple of `BATCH`."""
    settles: bool = False
    ttl_s: int = 0
    """How long the holds stand; 0: as the catalog says."""

    def open(self) -> Source:
        """Begin."""
        return _Batches(self)


class _Batches:
    def __init__(self, work: Execute) -> None:
        self._work = work
        self._number = work.first
        self._end = None if work.count is None else work.first + work.count
        self._job = Job.FromString(work.holds.job)

    def next(self, token: int) -> tuple[str, bytes] | None:  # noqa: ARG002 - all ask alike
        if self._number == self._end:
            return None
        numbers = range(self._number, self._number + BATCH)
        self._number += BATCH
        operations = [self._operation(number) for number in numbers]
        return EXECUTE, pb.ExecuteRequest(operations=operations).SerializeToString()

    def _operation(self, number: int) -> pb.Operation:
        holds = self._work.holds
        account_id, hold_id = holds.account_of(number), holds.hold_id(number)
        if self._work.settles:
            return pb.Operation(
                settle=pb.SettleRequest(account_id=account_id, hold_id=hold_id, quantity=1)
            )
        request = pb.AuthorizeRequest(account_id=account_id, hold_id=hold_id, job=self._job)
        if self._work.ttl_s:
            request.ttl.seconds = self._work.ttl_s
        return pb.Operation(authorize=request)

    def accept(self, token: int, body: bytes) -> int:  # noqa: ARG002 - the answers say it
        results = pb.ExecuteResponse.FromString(body).results
        if self._work.settles:
            return sum(result.settle.charged == 1 for result in results)
        return sum(result.authorize.decision == DECISION_APPROVED for result in results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """New holds, or with `count` the settling of those there are, over one stream."""

    callers_per_wire: ClassVar[int] = 1_000

    holds: Holds
    count: int | None = None

    def open(self) -> Source:
        """Begin."""
        if self.count is None:
            return Authorize(holds=self.holds).open()
        return Settle(holds=self.holds, first=0, count=self.count).open()

    def wire(self, address: str) -> Wire:
        """A session."""
        read = session_message("SessionRequest").FromString(_authorizing([(300, b"")]))
        assert [each.number for each in read.operations] == [300]
        unpack = _settled if self.count is not None else _authorized
        pack = _settling if self.count is not None else _authorizing
        return SessionWire(address, SESSION, pack, unpack)


def _authorizing(operations: Sequence[tuple[int, bytes]]) -> bytes:
    return _session_request(operations, 1)


def _settling(operations: Sequence[tuple[int, bytes]]) -> bytes:
    return _session_request(operations, 3)


def _session_request(operations: Sequence[tuple[int, bytes]], kind: int) -> bytes:
    """A `SessionRequest` of messages that are bytes already; `kind` is their field in Operation."""
    packed = []
    for number, body in operations:
        operation = _field(2, _field(kind, body))
        numbered = b"\x08" + _varint(number) + operation
        packed.append(_field(1, numbered))
    return b"".join(packed)


def _authorized(message: bytes) -> list[tuple[int, bytes]]:
    answer = session_message("SessionResponse").FromString(message)
    return [(each.number, each.result.authorize.SerializeToString()) for each in answer.results]


def _settled(message: bytes) -> list[tuple[int, bytes]]:
    answer = session_message("SessionResponse").FromString(message)
    return [(each.number, each.result.settle.SerializeToString()) for each in answer.results]


@cache
def session_message(name: str) -> Any:
    """A message of Session. Raises KeyError in a version that has none."""
    return GetMessageClass(pb.DESCRIPTOR.message_types_by_name[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages(_OverGrpc):
    """Messages made before, each asked for once."""

    path: str
    bodies: tuple[bytes, ...]

    def open(self) -> Source:
        """Begin."""
        return _Once([(self.path, body) for body in self.bodies], b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Commands of the store, made before: each asked for once, each answered with `good`."""

    callers_per_wire: ClassVar[int] = 256

    packed: tuple[bytes, ...]
    good: bytes

    def open(self) -> Source:
        """Begin."""
        return _Once([("", command) for command in self.packed], self.good)

    def wire(self, address: str) -> Wire:
        """A connection to the store."""
        return StoreWire(address)


class _Once:
    def __init__(self, requests: Sequence[tuple[str, bytes]], good: bytes) -> None:
        self._requests = iter(requests)
        self._good = good

    def next(self, token: int) -> tuple[str, bytes] | None:  # noqa: ARG002 - whoever comes
        return next(self._requests, None)

    def accept(self, token: int, body: bytes) -> int:  # noqa: ARG002 - as above
        return int(body.startswith(self._good))


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The command that an Authorize is at the store, for holds numbered from `first`.

    `words` are the command's, seen as the server sent it, with `hold_id` in them.
    """

    callers_per_wire: ClassVar[int] = 256

    words: tuple[bytes, ...]
    hold_id: bytes
    holds: Holds
    first: int

    def open(self) -> Source:
        """Begin."""
        return _Scripts(self)

    def wire(self, address: str) -> Wire:
        """A connection to the store."""
        return StoreWire(address)


class _Scripts:
    def __init__(self, work: Script) -> None:
        self._work = work
        self._number = work.first
        # Only the hold's id differs, and all ids have the same length.
        assert len(work.hold_id) == len(work.holds.hold_id(0))
        packed = hiredis.pack_command(work.words)  # type: ignore[arg-type]
        self._pieces = packed.split(work.hold_id)

    def next(self, token: int) -> tuple[str, bytes]:  # noqa: ARG002 - whoever comes
        hold_id = self._work.holds.hold_id(self._number)
        self._number += 1
        return "", hold_id.encode().join(self._pieces)

    def accept(self, token: int, body: bytes) -> int:  # noqa: ARG002 - as above
        return int(body == b"approved")
