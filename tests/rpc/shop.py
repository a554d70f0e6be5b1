"""A server with a catalog made for tests, and those who call it over a socket."""

import asyncio
import contextlib
import itertools
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import (  # type: ignore[import-untyped] # not marked
    error_details_pb2,
    status_pb2,
)

from creditgate.v1 import resources_pb2 as rs
from creditgate_server.app.server import Running, running
from creditgate_server.app.settings import Settings
from creditgate_server.core.faults import CreditOutcome, Reason
from creditgate_server.rpc import faults
from tests.rpc.contract import CLOCK, METHODS, path_of, request_of, response_of

ValueT = TypeVar("ValueT")

CATALOG = """\
name = "shop"

[credit]
decimals = 0

[kinds]
free         = { rank = 1 }
subscription = { rank = 2 }
add_on       = { rank = 3 }
top_up       = { rank = 4 }
promotional  = { rank = 5 }
referral     = { rank = 6 }

[top_ups]
packs = [50, 200, 1000]

[plans.free]
title   = "Free"
default = true

[plans.basic]
title        = "Basic"
subscription = true

[plans.pro]
title        = "Pro"
subscription = true

[plans.pro.grants.base]
kind   = "subscription"
amount = 60
every  = "month"
per    = "seat"

[add_ons.unit]
title = "More"

[add_ons.unit.plans.pro]
amount = 20
per    = "account"

[hold]
ttl     = "10 min"
ttl_max = "1 h"

[models]
small = { price = 1, unit = "image" }

[models.tall]
price = 4
unit  = "image"

[models.tall.settings.resolution]
default = "hd"
factors = { hd = 1, "4k" = 2.5 }

[actions.image]
title = "An image at 10"
price = 10
unit  = "image"

[actions.one]
title = "Something at 1"
price = 1
unit  = "piece"

[actions.draw]
title  = "What the model costs"
price  = "model"

[actions.gift]
title = "Free of charge"
price = 0
unit  = "piece"

[actions.fee]
title = "With a flat fee and a minimum"
price = { flat = 2, rate = 1, per = 4, minimum = 5 }
unit  = "second"

[actions.strict]
title = "Rejects what goes beyond"
price = 10
unit  = "image"
hold  = { overage = "reject", late_settle = "reject" }

[actions.greedy]
title = "Takes what is there"
price = 10
unit  = "image"
hold  = { overage = "charge_available" }

[actions.trusting]
title = "Lends up to 20"
price = 10
unit  = "image"
hold  = { overage = "overdraft", overdraft_limit = 20 }
"""

IMAGE = rs.Job(action="image")
ONE = rs.Job(action="one")
STRICT = rs.Job(action="strict")


@dataclass
class Shop:
    """A running server. Its loop is a thread's; calls come from any other."""

    running: Running
    socket: Path
    channel: grpc.Channel
    loop: asyncio.AbstractEventLoop = field(repr=False)
    stack: contextlib.AsyncExitStack = field(repr=False)

    def account(self, credit: int = 0, *, zone: str = "") -> "Account":
        """A new account, with a bucket "pack" of that many credits."""
        account = Account(self.channel, f"account-{uuid.uuid4().hex[:12]}")
        account.put_account(zone=zone)
        if credit:
            account.grant("pack", credit)
        return account

    def run(self, work: Awaitable[ValueT]) -> ValueT:
        """Have the server's loop do something."""

        async def wrapped() -> ValueT:
            return await work

        return asyncio.run_coroutine_threadsafe(wrapped(), self.loop).result(30)

    def beside(self, part: AbstractAsyncContextManager[ValueT]) -> ValueT:
        """Enter something on the server's loop, until the server ends."""
        return self.run(self.stack.enter_async_context(part))


@contextlib.contextmanager
def shop(folder: Path, *, check_s: float = 10.0, **changes: Any) -> Iterator[Shop]:
    """A server on a unix socket in a thread of its own, with its store."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    catalog = folder / "shop.toml"
    catalog.write_text(CATALOG)
    given = {"listen": "127.0.0.1:0", "socket": folder / "run/cg.sock", "data": folder / "data"}
    settings = Settings(**{**given, "catalog": str(catalog), **changes})
    assert settings.socket is not None
    ready: Future[Shop] = Future()
    stop = asyncio.Event()

    async def live() -> None:
        async with (
            running(settings, check_s=check_s) as server,
            contextlib.AsyncExitStack() as stack,
        ):
            assert settings.socket is not None
            channel = stack.enter_context(connected(settings.socket))
            loop = asyncio.get_running_loop()
            ready.set_result(Shop(server, settings.socket, channel, loop, stack))
            await stop.wait()

    def thread() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    worker = threading.Thread(target=thread, name="shop")
    worker.start()
    found = ready.result(30)
    try:
        yield found
    finally:
        found.loop.call_soon_threadsafe(stop.set)
        worker.join(30)
        assert not worker.is_alive()


@contextlib.contextmanager
def connected(socket: Path) -> Iterator[grpc.Channel]:
    """A channel of its own: gRPC shares connections between channels unless told otherwise."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        yield channel


@contextlib.asynccontextmanager
async def closing(part: Any) -> AsyncIterator[Any]:
    """Something that has to be awaited when it is closed."""
    try:
        yield part
    finally:
        await part.close()


def send(
    channel: grpc.Channel, path: str, body: bytes, *, timeout_s: float = 10.0, **more: Any
) -> bytes:
    """Bytes to a method, and what comes back."""
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    return method(body, timeout=timeout_s, **more)


@dataclass
class Account:
    """One account, and whoever calls for it. Fields that are not given are its own, or as usual."""

    channel: grpc.Channel
    account_id: str
    numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def call(self, method: str, request: Message | None = None, **fields: Any) -> Any:
        """Call a method by its name."""
        if request is None:
            names = (METHODS | CLOCK)[method].input_type.fields_by_name
            if "account_id" in names:
                fields.setdefault("account_id", self.account_id)
            request = request_of(method, **fields)
        body = send(self.channel, path_of(method), request.SerializeToString())
        return response_of(method, body)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A method as Python spells it: `put_account` for PutAccount."""
        method = "".join(word.capitalize() for word in name.split("_"))
        if method not in METHODS | CLOCK:
            raise AttributeError(name)
        return lambda request=None, **fields: self.call(method, request, **fields)

    def grant(self, source_ref: str, amount: int, **fields: Any) -> Any:
        """Credits as a bucket, bought unless said otherwise."""
        fields.setdefault("kind", rs.KIND_TOP_UP)
        return self.grant_credits(source_ref=source_ref, amount=amount, **fields)

    def hold(self, job: rs.Job = IMAGE, **fields: Any) -> str:
        """The id of a new hold."""
        hold_id = fields.pop("hold_id", f"hold-{next(self.numbers)}")
        answer = self.authorize(hold_id=hold_id, job=job, **fields)
        assert answer.decision == rs.DECISION_APPROVED, answer
        return str(hold_id)

    def bucket(self, bucket_id: str = "pack") -> rs.Bucket:
        """One of its buckets; of a recurring one the period under way."""
        rows = [row for row in self.get_balance().buckets if row.bucket_id == bucket_id]
        found: rs.Bucket = min(rows, key=lambda row: (row.ended, -row.period))
        return found

    def figures(self) -> tuple[int, int, int]:
        """Available, held and debt."""
        totals = self.get_balance().totals
        return totals.available, totals.held, totals.debt

    def ledger(self) -> list[rs.LedgerEntry]:
        """All entries, the first one first."""
        entries: list[rs.LedgerEntry] = []
        token = ""
        while True:
            page = self.list_ledger(page_size=1000, page_token=token)
            entries += page.entries
            token = page.next_page_token
            if not token:
                return entries[::-1]

    def open_holds(self) -> list[rs.Hold]:
        """All open holds, by id."""
        found: dict[str, rs.Hold] = {}
        token = ""
        while True:
            page = self.list_holds(page_size=1000, page_token=token)
            found |= {hold.hold_id: hold for hold in page.holds}
            token = page.next_page_token
            if not token:
                return [found[hold_id] for hold_id in sorted(found)]

    def state(self) -> tuple[Any, ...]:
        """All that can be seen of it, without the time of looking."""
        balance = self.get_balance()
        balance.totals.ClearField("as_of")
        account = self.get_account().account
        account.totals.ClearField("as_of")
        return balance, account, self.ledger(), self.open_holds()


@dataclass
class Refusal:
    """A status other than OK, as the caller got it."""

    reason: Reason
    code: grpc.StatusCode
    message: str
    metadata: dict[str, str]
    outcome: CreditOutcome


def refusal(error: grpc.RpcError) -> Refusal:
    """What a fault says; an AssertionError if it says it badly."""
    trailing: dict[str, Any] = {item.key: item.value for item in error.trailing_metadata() or ()}
    assert "grpc-status-details-bin" in trailing, (error.code(), error.details())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = error_details_pb2.ErrorInfo()
    [detail] = status.details
    assert detail.Unpack(info)
    assert info.domain == "creditgate"
    found = Refusal(
        reason=Reason[info.reason],
        code=error.code(),
        message=status.message,
        metadata=dict(info.metadata),
        outcome=CreditOutcome(trailing["credit-outcome"]),
    )
    row = faults.TABLE[found.reason]
    assert (found.code, set(found.metadata)) == (row.code, set(row.metadata)), found
    return found


@contextlib.contextmanager
def refused(
    reason: Reason, *, outcome: CreditOutcome = CreditOutcome.NOT_APPLIED, **metadata: str
) -> Iterator[None]:
    """The call in the block is refused for this reason, with (at least) this metadata."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    found = refusal(caught.value)
    assert (found.reason, found.outcome) == (reason, outcome), found
    assert found.metadata.items() >= metadata.items()
