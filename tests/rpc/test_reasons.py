"""Every reason of the contract can be provoked over the wire, and is told as its comment says."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest

from creditgate.v1 import error_reason_pb2
from creditgate.v1 import resources_pb2 as rs
from creditgate_server.app.server import _endpoints
from creditgate_server.core import commands as c
from creditgate_server.core.faults import CreditOutcome, Reason
from creditgate_server.core.prices import AMOUNT_MAX
from creditgate_server.engines import choice
from creditgate_server.engines.engine import Engine
from creditgate_server.rpc import faults
from creditgate_server.rpc.admission import STARTING, Admission
from creditgate_server.store import embedded
from creditgate_server.store.redis_ledger import RedisLedger
from creditgate_server.store.verbs import VERBS
from tests.rpc.contract import METHODS, promises_of_reasons
from tests.rpc.shop import (
    IMAGE,
    ONE,
    STRICT,
    Account,
    Shop,
    closing,
    connected,
    refusal,
    refused,
    send,
)

SECRET = "the-text-of-an-exception"


def read_badly(_command: Any, _reply: Any) -> NoReturn:
    raise KeyError(SECRET)


# A defect planted in the reading of one reply: everything else is as it is.
DEFECTIVE = {
    **VERBS,
    c.ListHolds: dataclasses.replace(VERBS[c.ListHolds], read=read_badly),
}


@dataclasses.dataclass
class Composed:
    """A second server on the same ledger, with parts that the first one does not have."""

    account: Account
    admission: Admission
    ledger: RedisLedger


def compose(shop: Shop, folder: Path, url: str, **ledger_options: Any) -> Composed:
    """Join the parts of a server by hand, on the loop of the one that runs."""
    ledger: RedisLedger = shop.run(RedisLedger.open(url, **ledger_options))
    shop.beside(closing(ledger))
    admission = Admission(4)

    async def start() -> Engine:
        served = _endpoints(ledger, shop.running.catalogs, admission)
        engine = choice.engine(shop.running.engine, served)
        engine.bind(f"unix:{folder / 'it.sock'}")
        await engine.start()
        return engine

    engine = shop.run(start())
    shop.stack.push_async_callback(engine.stop, 0)
    account = Account(open_channel(shop, folder / "it.sock"), "composed")
    account.put_account()
    return Composed(account, admission, ledger)


def open_channel(shop: Shop, socket: Path) -> grpc.Channel:
    return shop.stack.enter_context(connected(socket))


@pytest.fixture(scope="module")
def composed(the_shop: Shop, tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Composed:
    return compose(the_shop, tmp_path_factory.mktemp("composed"), store_url, verbs=DEFECTIVE)


@pytest.fixture(scope="module")
def without_store(the_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Composed:
    """A server whose store is gone."""
    with embedded.start(None, appendfsync="everysec") as store:
        found = compose(the_shop, tmp_path_factory.mktemp("gone"), store.url)
    wait_until(lambda: not found.ledger.link.connected)
    return found


def wait_until(condition: Callable[[], bool], *, limit_s: float = 5.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.01)


@contextmanager
def places_taken(admission: Admission, count: int) -> Iterator[None]:
    for _ in range(count):
        admission.enter("Settle")
    try:
        yield
    finally:
        for _ in range(count):
            admission.leave()


# One way to each reason. A reason without one is a missing key here.


def settled(account: Account) -> str:
    hold_id = account.hold()
    account.settle(hold_id=hold_id, amount=7)
    return hold_id


def invalid_field(shop: Shop) -> None:
    shop.account().get_hold(hold_id="a/b")


def malformed_message(shop: Shop) -> None:
    send(shop.channel, "/creditgate.v1.Credits/Authorize", b"\xff")


def account_not_found(shop: Shop) -> None:
    Account(shop.channel, "nobody").get_balance()


def hold_not_found(shop: Shop) -> None:
    shop.account().settle(hold_id="none")


def bucket_not_found(shop: Shop) -> None:
    shop.account().void_bucket(bucket_id="none")


def id_reused(shop: Shop) -> None:
    account = shop.account(100)
    account.authorize(hold_id=account.hold(), job=ONE)


def hold_settled(shop: Shop) -> None:
    account = shop.account(100)
    account.settle(hold_id=settled(account), amount=8)


def hold_refunded(shop: Shop) -> None:
    account = shop.account(100)
    hold_id = account.hold()
    account.refund(hold_id=hold_id)
    account.settle(hold_id=hold_id)


def hold_expired(shop: Shop) -> None:
    account = shop.account(100)
    hold_id = account.hold(STRICT, ttl={"seconds": 1})
    wait_until(lambda: account.get_hold(hold_id=hold_id).hold.state == rs.HOLD_STATE_EXPIRED)
    account.settle(hold_id=hold_id)


def hold_open(shop: Shop) -> None:
    account = shop.account(100)
    account.refund(hold_id=account.hold(), amount=1, operation_id="part")


def amount_exceeds_hold(shop: Shop) -> None:
    account = shop.account(100)
    account.settle(hold_id=account.hold(STRICT), amount=11)


def refund_exceeds_charge(shop: Shop) -> None:
    account = shop.account(100)
    account.refund(hold_id=settled(account), amount=8, operation_id="part")


def amount_overflow(shop: Shop) -> None:
    shop.account(AMOUNT_MAX).grant("more", 1)


def too_many_operations(shop: Shop) -> None:
    account = shop.account(200)
    hold_id = account.hold(rs.Job(action="image", quantity=20))
    for number in range(101):
        account.settle(hold_id=hold_id, amount=1, partial=True, operation_id=f"part-{number}")


def plan_not_found(shop: Shop) -> None:
    shop.account().subscribe(reference="r", plan_id="none")


def add_on_not_found(shop: Shop) -> None:
    shop.account().set_add_ons(reference="r", add_on_id="none", units=1)


def add_on_not_in_plan(shop: Shop) -> None:
    account = shop.account()
    account.subscribe(reference="r", plan_id="basic")
    account.set_add_ons(reference="a", add_on_id="unit", units=1)


def not_subscribed(shop: Shop) -> None:
    Account(shop.channel, "unsubscribed").put_account()
    Account(shop.channel, "unsubscribed").cancel_subscription(reference="r")


def pack_not_found(shop: Shop) -> None:
    shop.account().purchase_top_up(payment_ref="p", pack_amount=51)


def no_such_method(shop: Shop) -> None:
    send(shop.channel, "/creditgate.v1.Credits/Reserve", b"")


def message_too_large(shop: Shop) -> None:
    send(shop.channel, "/creditgate.v1.Credits/Authorize", b"\x00" * (64 * 1024 + 1))


PROVOKED: dict[Reason, Callable[[Shop], None]] = {
    Reason[function.__name__.upper()]: function
    for function in (
        invalid_field,
        malformed_message,
        account_not_found,
        hold_not_found,
        bucket_not_found,
        id_reused,
        hold_settled,
        hold_refunded,
        hold_expired,
        hold_open,
        amount_exceeds_hold,
        refund_exceeds_charge,
        amount_overflow,
        too_many_operations,
        no_such_method,
        message_too_large,
        plan_not_found,
        add_on_not_found,
        add_on_not_in_plan,
        not_subscribed,
        pack_not_found,
    )
}


def store_unavailable(server: Composed) -> None:
    server.account.authorize(hold_id="any", job=ONE)


def internal(server: Composed) -> None:
    server.account.list_holds()


def overloaded(server: Composed) -> None:
    with places_taken(server.admission, 4):
        server.account.get_balance()


def shutting_down(server: Composed) -> None:
    server.admission.close()
    try:
        server.account.get_balance()
    finally:
        server.admission.__init__(4)  # type: ignore[misc] # opened again, for other tests


PROVOKED_ELSEWHERE: dict[Reason, tuple[str, Callable[[Composed], None]]] = {
    Reason.STORE_UNAVAILABLE: ("without_store", store_unavailable),
    Reason.INTERNAL: ("composed", internal),
    Reason.OVERLOADED: ("composed", overloaded),
    Reason.SHUTTING_DOWN: ("composed", shutting_down),
}

# The values of the metadata, where they are not simply the names that the request carries.
METADATA = {
    Reason.INVALID_FIELD: {"field": "hold_id"},
    Reason.ACCOUNT_NOT_FOUND: {"account_id": "nobody"},
    Reason.HOLD_NOT_FOUND: {"hold_id": "none"},
    Reason.BUCKET_NOT_FOUND: {"bucket_id": "none"},
    Reason.ID_REUSED: {"id": "hold-0"},
    Reason.HOLD_SETTLED: {"hold_id": "hold-0", "charged": "7", "refunded": "0"},
    Reason.HOLD_REFUNDED: {"hold_id": "hold-0", "charged": "0", "refunded": "0"},
    Reason.HOLD_EXPIRED: {"hold_id": "hold-0", "charged": "0", "refunded": "0"},
    Reason.HOLD_OPEN: {"hold_id": "hold-0"},
    Reason.AMOUNT_EXCEEDS_HOLD: {"hold_id": "hold-0", "held": "10"},
    Reason.REFUND_EXCEEDS_CHARGE: {"hold_id": "hold-0", "refundable": "7"},
    Reason.TOO_MANY_OPERATIONS: {"hold_id": "hold-0", "limit": "100"},
    Reason.MESSAGE_TOO_LARGE: {"bytes_max": "65536"},
    Reason.PLAN_NOT_FOUND: {"plan_id": "none"},
    Reason.ADD_ON_NOT_FOUND: {"add_on_id": "none"},
    Reason.ADD_ON_NOT_IN_PLAN: {"add_on_id": "unit", "plan_id": "basic"},
    Reason.NOT_SUBSCRIBED: {"account_id": "unsubscribed"},
    Reason.PACK_NOT_FOUND: {"pack_amount": "51"},
}


def test_the_contract_the_core_and_the_table_know_the_same_reasons() -> None:
    names = [
        value.name for value in error_reason_pb2.DESCRIPTOR.enum_types_by_name["ErrorReason"].values
    ]
    contract = {name.removeprefix("ERROR_REASON_") for name in names}
    assert contract - {"UNSPECIFIED"} == Reason.__members__.keys()
    assert faults.TABLE.keys() == set(Reason)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_the_comment_of_a_reason_says_its_code_and_its_metadata(reason: Reason) -> None:
    code, keys = promises_of_reasons()[reason.name]
    row = faults.TABLE[reason]
    assert (code, keys) == (row.code.name, row.metadata)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_every_reason_can_be_provoked_over_the_wire(
    reason: Reason, the_shop: Shop, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    if reason in PROVOKED:
        provoke: Callable[[], None] = partial(PROVOKED[reason], the_shop)
    else:
        server, provoke_there = PROVOKED_ELSEWHERE[reason]
        provoke = partial(provoke_there, request.getfixturevalue(server))
    with pytest.raises(grpc.RpcError) as caught:
        provoke()
    found = refusal(caught.value)
    assert found.reason is reason
    # A defect is all that we cannot answer for: what became of the request is not known.
    unknown = reason is Reason.INTERNAL
    assert found.outcome is (CreditOutcome.UNKNOWN if unknown else CreditOutcome.NOT_APPLIED)
    assert found.metadata.items() >= METADATA.get(reason, {}).items()
    assert found.message
    assert SECRET not in found.message


def test_a_defect_is_logged_under_the_incident_that_the_caller_is_told(
    composed: Composed, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        composed.account.list_holds()
    incident = refusal(caught.value).metadata["incident"]
    [record] = [found for found in caplog.records if incident in found.getMessage()]
    assert SECRET in (record.exc_text or "") or record.exc_info


def test_starting_gives_way_before_finishing(composed: Composed) -> None:
    account = composed.account
    account.grant("places", 100)
    hold_id = account.hold()
    with places_taken(composed.admission, 3):
        for method in sorted(STARTING):
            with refused(Reason.OVERLOADED):
                account.call(method)
        assert account.settle(hold_id=hold_id).charged == 10
    assert composed.admission.under_way == 0


def test_an_unsafe_store_finishes_what_is_open_and_starts_nothing(composed: Composed) -> None:
    account = composed.account
    account.grant("unsafe", 100)
    hold_id = account.hold(hold_id="unsafe")
    composed.admission.set_starting(allowed=False)
    try:
        with refused(Reason.STORE_UNAVAILABLE):
            account.authorize(hold_id="another", job=IMAGE)
        assert account.settle(hold_id=hold_id).charged == 10
    finally:
        composed.admission.set_starting(allowed=True)
    assert account.hold(hold_id="another") == "another"


def test_execute_gives_each_operation_the_fault_that_a_call_of_its_own_gets(the_shop: Shop) -> None:
    account = the_shop.account(100)
    hold_id = settled(account)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("settle", {"hold_id": hold_id, "amount": 8}),
        ("settle", {"hold_id": "none"}),
        ("refund", {"hold_id": hold_id, "amount": 8, "operation_id": "part"}),
        ("authorize", {"hold_id": hold_id, "job": ONE}),
        ("get_hold", {"hold_id": "a b"}),
        ("extend", {"hold_id": hold_id}),
    ]
    mine = {"account_id": account.account_id}
    results = account.execute(operations=[{name: {**mine, **rest}} for name, rest in calls]).results
    assert len(results) == len(calls)
    for (name, fields), result in zip(calls, results, strict=True):
        with pytest.raises(grpc.RpcError) as caught:
            getattr(account, name)(**fields)
        alone, item = refusal(caught.value), result.fault
        assert item.reason == faults.reason_number(alone.reason)
        assert item.code == alone.code.value[0]
        assert item.message == alone.message
        assert dict(item.metadata) == alone.metadata
        assert item.credit_outcome == alone.outcome.value


def test_callers_at_the_same_time_get_their_own_faults(the_shop: Shop) -> None:
    account = the_shop.account()
    wrong: list[str] = []

    def ask(number: int) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            account.get_hold(hold_id=f"hold-{number}")
        if refusal(caught.value).metadata != {"hold_id": f"hold-{number}"}:
            wrong.append(str(number))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_every_method_that_starts_something_is_a_method() -> None:
    assert METHODS.keys() >= STARTING
