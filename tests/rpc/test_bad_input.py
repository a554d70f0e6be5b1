"""Every field of every request, with values it refuses and with the last ones it takes."""

import re
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from creditgate.v1 import credits_pb2 as pb
from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core.faults import CreditOutcome, Reason
from tests.rpc.contract import METHODS, READS, path_of, repeated, request_fields, request_of
from tests.rpc.ranges import RANGES, Inner, put
from tests.rpc.shop import Account, Refusal, Shop, refusal, refused, send

JOB = {"action": "draw", "model": "tall", "quantity": 2, "settings": {"resolution": "4k"}}
TTL = {"seconds": 60}
FUTURE = {"seconds": 4_000_000_000}
LAST = {"seconds": 253_402_300_799, "nanos": 999_999_999}
PAST = {"seconds": 1_700_000_000}

# Requests that are approved one after another on an account of 1,000 credits, and together have
# every field. The account is added to each.
VALID: list[tuple[str, dict[str, Any]]] = [
    ("PutAccount", {"zone": "Europe/Berlin"}),
    (
        "GrantCredits",
        {
            "source_ref": "gift",
            "kind": rs.KIND_PROMOTIONAL,
            "amount": 50,
            "ends_at": FUTURE,
            "actions": ["image"],
            "models": ["tall"],
        },
    ),
    ("GetAccount", {}),
    (
        "Subscribe",
        {
            "reference": "s",
            "plan_id": "pro",
            "seats": 2,
            "allowances": {"base": 70},
            "anchor": PAST,
            "paid_through": FUTURE,
            "occurred_at": PAST,
        },
    ),
    (
        "ChangePlan",
        {"reference": "c", "plan_id": "pro", "seats": 3, "when": 1, "occurred_at": PAST},
    ),
    ("SetAddOns", {"reference": "a", "add_on_id": "unit", "units": 2, "occurred_at": PAST}),
    ("PurchaseTopUp", {"payment_ref": "paid-for", "pack_amount": 50}),
    ("SetMemberLimit", {"member_id": "ann", "amount": 900}),
    ("Freeze", {}),
    ("Unfreeze", {}),
    ("Quote", {"job": JOB}),
    (
        "Authorize",
        {
            "hold_id": "job",
            "job": JOB,
            "ttl": TTL,
            "max_amount": 20,
            "member_id": "ann",
            "quoted_version": "shop-0",
            "quoted_amount": 20,
        },
    ),
    ("Extend", {"hold_id": "job", "ttl": TTL, "amount": 21}),
    ("Extend", {"hold_id": "job", "ttl": TTL, "quantity": 3}),
    ("Settle", {"hold_id": "job", "operation_id": "p-1", "amount": 2, "partial": True}),
    ("GetHold", {"hold_id": "job"}),
    ("ListHolds", {"page_size": 10}),
    ("Settle", {"hold_id": "job", "operation_id": "p-2", "quantity": 1}),
    ("Refund", {"hold_id": "job", "operation_id": "r-1", "amount": 1, "reason": 2}),
    ("Charge", {"hold_id": "paid", "job": JOB, "max_amount": 20, "member_id": "ann"}),
    ("GetBalance", {"action": "image", "model": "tall"}),
    ("ListLedger", {"page_size": 3}),
    ("Execute", {"operations": [{"get_balance": {}}]}),
    ("GetUsage", {"from": PAST, "until": LAST, "action": "draw", "model": "tall"}),
    ("Forecast", {"planned": [{"job": JOB, "times": 3}], "buffer_percent": 20}),
    ("Explain", {}),
    ("VoidBucket", {"bucket_id": "gift"}),
    ("CancelSubscription", {"reference": "e", "when": 2, "occurred_at": PAST}),
    ("ReloadCatalog", {}),
    ("GetCatalog", {}),
    ("ListPrices", {"action": "image"}),
]

# What must not be in any answer: it would be the text of an exception, or of the store.
LEAK = re.compile(
    r"Error|Exception|Traceback|<class|File \"|redis|valkey|lua|ERR |WRONGTYPE", re.IGNORECASE
)


def valid(number: int, account: Account) -> Message:
    method, fields = VALID[number]
    if "account_id" in METHODS[method].input_type.fields_by_name:
        fields = {"account_id": account.account_id, **fields}
    if method == "Execute":
        fields = {"operations": [{"get_balance": {"account_id": account.account_id}}]}
    return request_of(method, **fields)


def paths(message: Descriptor, prefix: str = "") -> list[tuple[str, str]]:
    """Fields of a message and of its job: the path, and the name in the table."""
    found = []
    for field in message.fields:
        found.append((f"{prefix}{field.name}", f"{message.name}.{field.name}"))
        if field.message_type is not None and field.message_type.name in {"Job", "Planned"}:
            index = "[0]" if repeated(field) else ""
            found += paths(field.message_type, f"{prefix}{field.name}{index}.")
    return found


CASES: list[tuple[int, str, str]] = [
    (number, path, name)
    for number, (method, _) in enumerate(VALID)
    for path, name in paths(METHODS[method].input_type)
]


def titles(cases: list[tuple[int, str, str]]) -> list[str]:
    return [f"{VALID[number][0]}-{number}-{path}" for number, path, _ in cases]


def prepared(shop: Shop, number: int) -> Account:
    """An account on which the requests before this one have been made."""
    account = shop.account(1_000)
    for earlier in range(number):
        method, _ = VALID[earlier]
        if method not in READS:
            account.call(method, valid(earlier, account))
    return account


def answer(account: Account, method: str, request: Message) -> Refusal | None:
    """The refusal, or None for an answer. Whatever it is, it is told well."""
    try:
        send(account.channel, path_of(method), request.SerializeToString())
    except grpc.RpcError as error:
        found = refusal(error)
        assert found.reason is not Reason.INTERNAL
        assert found.outcome is CreditOutcome.NOT_APPLIED
        assert not LEAK.search(found.message), found.message
        return found
    return None


def test_the_table_of_ranges_has_every_field_of_every_request() -> None:
    fields = {name for name, _ in request_fields() if not name.startswith("Operation.")}
    assert fields == RANGES.keys()


def test_every_field_of_every_request_is_tried() -> None:
    assert {name for _, _, name in CASES} == RANGES.keys()
    assert {method for method, _ in VALID} == METHODS.keys()


def test_the_valid_requests_are_answered(the_shop: Shop) -> None:
    account = the_shop.account(1_000)
    for number, (method, _) in enumerate(VALID):
        response = account.call(method, valid(number, account))
        assert getattr(response, "decision", rs.DECISION_APPROVED) == rs.DECISION_APPROVED, method


@pytest.mark.parametrize(("number", "path", "name"), CASES, ids=titles(CASES))
def test_a_field_outside_its_range_is_named_and_nothing_changes(
    the_shop: Shop, number: int, path: str, name: str
) -> None:
    method, _ = VALID[number]
    account = prepared(the_shop, number)
    before = account.state()
    wrong = []
    for value, more in RANGES[name].refused():
        request = valid(number, account)
        put(request, path, value)
        found = answer(account, method, request)
        field = f"{path}{more}"
        if (
            found is None
            or (found.reason, found.metadata) != (Reason.INVALID_FIELD, {"field": field})
            or not found.message.startswith(f"{field}: ")
        ):
            wrong.append((value, found))
    assert not wrong
    assert account.state() == before


@pytest.mark.parametrize(("number", "path", "name"), CASES, ids=titles(CASES))
def test_the_last_value_inside_its_range_is_not_refused_for_its_field(
    the_shop: Shop, number: int, path: str, name: str
) -> None:
    method, _ = VALID[number]
    wrong = []
    for value in RANGES[name].taken():
        account = prepared(the_shop, number)
        request = valid(number, account)
        put(request, path, value)
        found = answer(account, method, request)
        # Except for what the price list or another field asks for.
        if found is None or re.search("at this price|needs one", found.message):
            continue
        if found.reason is Reason.INVALID_FIELD and found.metadata["field"] == path:
            wrong.append((value, found))
    assert not wrong


ITEMS = {
    field.message_type.name.removesuffix("Request"): field.name
    for field in pb.Operation.DESCRIPTOR.fields
    if field.message_type is not None
}


IN_EXECUTE = [case for case in CASES if VALID[case[0]][0] in ITEMS]


@pytest.mark.parametrize(("number", "path", "name"), IN_EXECUTE, ids=titles(IN_EXECUTE))
def test_an_operation_of_execute_is_refused_like_a_call_of_its_own(
    the_shop: Shop, number: int, path: str, name: str
) -> None:
    method, _ = VALID[number]
    account = prepared(the_shop, number)
    before = account.state()
    operations = []
    for value, _ in RANGES[name].refused():
        request = valid(number, account)
        put(request, path, value)
        if len(request.SerializeToString()) < 10_000:
            operations.append(pb.Operation(**{ITEMS[method]: request}))  # type: ignore[arg-type]
    if not operations:
        return
    results = account.execute(operations=operations).results
    assert len(results) == len(operations)
    for operation, result in zip(operations, results, strict=True):
        alone = answer(account, method, getattr(operation, ITEMS[method]))
        assert alone is not None
        assert dict(result.fault.metadata) == alone.metadata, operation
        assert result.fault.message == alone.message
    assert account.state() == before


def test_execute_takes_every_operation_that_names_its_account(the_shop: Shop) -> None:
    assert ITEMS.keys() == {
        "Authorize",
        "Extend",
        "Settle",
        "Refund",
        "Charge",
        "Quote",
        "GetHold",
        "GetBalance",
    }
    account = the_shop.account()
    [result] = account.execute(operations=[{}]).results
    assert dict(result.fault.metadata) == {"field": "operation"}


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_request_names_what_is_missing(the_shop: Shop, method: str) -> None:
    account = Account(the_shop.channel, "any")
    found = answer(account, method, request_of(method))
    if METHODS[method].containing_service.name == "Catalog":
        assert found is None
    else:
        assert found is not None
        assert found.reason is Reason.INVALID_FIELD


@pytest.mark.parametrize(
    "number", range(len(VALID)), ids=lambda number: f"{VALID[number][0]}-{number}"
)
def test_an_account_that_does_not_exist_is_not_made_by_asking(the_shop: Shop, number: int) -> None:
    method, _ = VALID[number]
    stranger = Account(the_shop.channel, f"stranger-{number}")
    request = valid(number, stranger)
    if "account_id" not in request.DESCRIPTOR.fields_by_name or method == "PutAccount":
        return
    found = answer(stranger, method, request)
    assert found is not None
    assert (found.reason, found.metadata) == (
        Reason.ACCOUNT_NOT_FOUND,
        {"account_id": stranger.account_id},
    )
    with refused(Reason.ACCOUNT_NOT_FOUND):
        stranger.get_account()


@pytest.mark.parametrize("method", ["GetHold", "Extend", "Settle", "Refund"])
def test_the_hold_of_another_account_looks_like_one_that_does_not_exist(
    the_shop: Shop, method: str
) -> None:
    owner, stranger = the_shop.account(100), the_shop.account(100)
    hold_id = owner.hold()
    before = owner.state(), stranger.state()
    with refused(Reason.HOLD_NOT_FOUND, hold_id=hold_id):
        stranger.call(method, hold_id=hold_id)
    assert (owner.state(), stranger.state()) == before


def test_the_bucket_of_another_account_looks_like_one_that_does_not_exist(the_shop: Shop) -> None:
    owner, stranger = the_shop.account(), the_shop.account()
    owner.grant("mine", 5)
    with refused(Reason.BUCKET_NOT_FOUND, bucket_id="mine"):
        stranger.void_bucket(bucket_id="mine")
    assert owner.bucket("mine").available == 5


def test_a_page_of_another_account_cannot_be_turned(the_shop: Shop) -> None:
    owner = the_shop.account()
    for number in range(3):
        owner.grant(f"g-{number}", 1)
    token = owner.list_ledger(page_size=1).next_page_token
    # Enough strangers to have some in the owner's partition and some in others.
    for _ in range(100):
        with refused(Reason.INVALID_FIELD, field="page_token"):
            the_shop.account(1).list_ledger(page_token=token)


@pytest.mark.parametrize("token", ["0-0", "1-1", "18446744073709551615-18446744073709551615"])
def test_a_token_that_no_page_gave_is_refused(the_shop: Shop, token: str) -> None:
    account = the_shop.account(1)
    with refused(Reason.INVALID_FIELD, field="page_token"):
        account.list_ledger(page_token=token)


def test_a_partial_settle_and_a_refund_of_an_amount_need_an_id_of_their_own(
    the_shop: Shop,
) -> None:
    account = the_shop.account(100)
    hold_id = account.hold()
    with refused(Reason.INVALID_FIELD, field="operation_id"):
        account.settle(hold_id=hold_id, amount=1, partial=True)
    account.settle(hold_id=hold_id)
    with refused(Reason.INVALID_FIELD, field="operation_id"):
        account.refund(hold_id=hold_id, amount=1)
    assert account.figures() == (90, 0, 0)


def test_every_range_has_a_refusal_or_says_why_not() -> None:
    free = {name for name, known in RANGES.items() if not list(known.refused())}
    assert free == {"SettleRequest.partial"}
    assert all(known.missing for known in RANGES.values() if isinstance(known, Inner))
