"""Every method of the contract is there, and sends what it was given."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import creditgate
from creditgate import AsyncClient, Client, Kind, RefundReason, calls
from creditgate._methods import METHODS, SERVICES
from creditgate.calls import Call
from creditgate.v1 import accounts_pb2, catalog_pb2, credits_pb2
from creditgate.v1.credits_pb2 import AuthorizeRequest, Operation, SettleRequest
from creditgate.v1.resources_pb2 import Job
from tests.client.bench import AnyClient
from tests.client.fake import FakeServer


def test_every_service_of_the_contract_is_known() -> None:
    names = {name for file in SERVICES for name in file.services_by_name}
    assert names == {"Credits", "Accounts", "Catalog", "TestClock"}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_both_clients_have_every_method(name: str, kind: type[Any]) -> None:
    made_by = getattr(calls, name)
    method = getattr(kind, name)
    assert method.__doc__ == made_by.__doc__
    assert list(inspect.signature(method).parameters) == [
        "self",
        *inspect.signature(made_by).parameters,
    ]


@pytest.mark.parametrize("name", METHODS)
def test_a_call_is_typed_as_the_contract_answers(name: str) -> None:
    response = METHODS[name].response.__name__
    assert getattr(calls, name).__annotations__["return"] == f"Call[{response}]"
    assert str(inspect.signature(getattr(Client, name)).return_annotation) == response


@pytest.mark.parametrize("name", METHODS)
def test_every_field_of_a_request_can_be_given(name: str) -> None:
    # "from_" is the field `from`, which is a word of Python.
    parameters = {p.rstrip("_") for p in inspect.signature(getattr(calls, name)).parameters}
    fields = {field.name for field in METHODS[name].request.DESCRIPTOR.fields}
    if "job" in fields:
        fields = fields - {"job"} | {field.name for field in Job.DESCRIPTOR.fields}
    assert fields <= parameters
    assert parameters - fields <= {"or_raise"}


def test_only_what_cannot_change_anything_counts_as_a_read() -> None:
    assert {name for name, method in METHODS.items() if not method.changes} == {
        "quote",
        "get_hold",
        "list_holds",
        "get_balance",
        "get_account",
        "list_ledger",
        "get_usage",
        "forecast",
        "explain",
        "get_catalog",
        "list_prices",
        "get_time",
    }


JOB = {"action": "image.generate", "model": "m", "quantity": 4, "settings": {"quality": "hd"}}

REQUESTS: list[tuple[Call[Any], Any]] = [
    (
        calls.authorize("a", "h", **JOB, ttl=1.5, max_amount=0, member_id="m"),  # type: ignore[arg-type] # a table
        """account_id: "a" hold_id: "h" ttl { seconds: 1 nanos: 500000000 } max_amount: 0
           member_id: "m" job { action: "image.generate" model: "m" quantity: 4
           settings { key: "quality" value: "hd" } }""",
    ),
    (calls.authorize("a", "h", action="x"), 'account_id: "a" hold_id: "h" job { action: "x" }'),
    (
        calls.authorize("a", "h", action="x", quantity=0, ttl=timedelta(minutes=2)),
        'account_id: "a" hold_id: "h" job { action: "x" quantity: 0 } ttl { seconds: 120 }',
    ),
    (
        calls.charge("a", "h", action="x", max_amount=7, member_id="m"),
        'account_id: "a" hold_id: "h" job { action: "x" } max_amount: 7 member_id: "m"',
    ),
    (calls.quote("a", action="x", quantity=2), 'account_id: "a" job { action: "x" quantity: 2 }'),
    (
        calls.extend("a", "h", ttl=0, amount=0),
        'account_id: "a" hold_id: "h" ttl { } amount: 0',
    ),
    (calls.extend("a", "h", quantity=5), 'account_id: "a" hold_id: "h" quantity: 5'),
    (calls.settle("a", "h"), 'account_id: "a" hold_id: "h"'),
    (calls.settle("a", "h", amount=0), 'account_id: "a" hold_id: "h" amount: 0'),
    (
        calls.settle("a", "h", quantity=0, partial=True, operation_id="o"),
        'account_id: "a" hold_id: "h" operation_id: "o" quantity: 0 partial: true',
    ),
    (
        calls.refund("a", "h", amount=3, operation_id="o", reason="cancelled"),
        """account_id: "a" hold_id: "h" operation_id: "o" amount: 3
           reason: REFUND_REASON_CANCELLED""",
    ),
    (calls.refund("a", "h"), 'account_id: "a" hold_id: "h" reason: REFUND_REASON_FAILED'),
    (calls.get_balance("a", action="x"), 'account_id: "a" action: "x"'),
    (
        calls.grant_credits(
            "a",
            "pay-1",
            kind="TOP_UP",
            amount=1,
            ends_at=datetime(2027, 1, 1, tzinfo=UTC),
            actions=["x"],
            models=("y", "z"),
        ),
        """account_id: "a" source_ref: "pay-1" kind: KIND_TOP_UP amount: 1
           ends_at { seconds: 1798761600 } actions: "x" models: "y" models: "z" """,
    ),
    (
        calls.grant_credits("a", "r", kind=Kind.KIND_FREE, amount=2),
        'account_id: "a" source_ref: "r" kind: KIND_FREE amount: 2',
    ),
    (calls.put_account("a", zone="Europe/Berlin"), 'account_id: "a" zone: "Europe/Berlin"'),
    (calls.void_bucket("a", "b"), 'account_id: "a" bucket_id: "b"'),
    (
        calls.authorize("a", "h", action="x", quoted_version="v", quoted_amount=0),
        """account_id: "a" hold_id: "h" job { action: "x" } quoted_version: "v"
           quoted_amount: 0""",
    ),
    (
        calls.subscribe(
            *("a", "r", "pro"),
            seats=2,
            anchor=datetime(2027, 1, 1, tzinfo=UTC),
            allowances={"base": 0},
        ),
        """account_id: "a" reference: "r" plan_id: "pro" seats: 2 anchor { seconds: 1798761600 }
           allowances { key: "base" value: 0 }""",
    ),
    (
        calls.change_plan("a", "r", seats=3, when="now"),
        'account_id: "a" reference: "r" seats: 3 when: WHEN_NOW',
    ),
    (
        calls.cancel_subscription("a", "r", occurred_at=datetime(2027, 1, 1, tzinfo=UTC)),
        'account_id: "a" reference: "r" occurred_at { seconds: 1798761600 }',
    ),
    (
        calls.purchase_top_up("a", "p", 200),
        'account_id: "a" payment_ref: "p" pack_amount: 200',
    ),
    (
        calls.set_add_ons("a", "r", "unit", 0),
        'account_id: "a" reference: "r" add_on_id: "unit"',
    ),
    (calls.set_member_limit("a", amount=0), 'account_id: "a" amount: 0'),
    (calls.set_member_limit("a", member_id="m"), 'account_id: "a" member_id: "m"'),
    (
        calls.get_usage("a", from_=datetime(2027, 1, 1, tzinfo=UTC), action="x"),
        'account_id: "a" from { seconds: 1798761600 } action: "x"',
    ),
    (
        calls.forecast([calls.planned(3, action="x", quantity=2)], buffer_percent=0),
        'planned { job { action: "x" quantity: 2 } times: 3 } buffer_percent: 0',
    ),
    (calls.advance(by=timedelta(days=1)), "by { seconds: 86400 }"),
    (calls.advance(until=datetime(2027, 1, 1, tzinfo=UTC)), "until { seconds: 1798761600 }"),
    (
        calls.execute([calls.settle("a", "h"), AuthorizeRequest(account_id="b")]),
        """operations { settle { account_id: "a" hold_id: "h" } }
           operations { authorize { account_id: "b" } }""",
    ),
]


@pytest.mark.parametrize(("call", "text"), REQUESTS, ids=str)
def test_a_request_says_what_was_given_and_nothing_else(call: Call[Any], text: str) -> None:
    from google.protobuf import text_format  # noqa: PLC0415 - only here

    expected = text_format.Parse(text, call.method.request())
    assert call.request == expected


WRONG: dict[str, Any] = {
    "two members of a oneof": lambda: calls.settle("a", "h", amount=1, quantity=1),
    "two totals": lambda: calls.extend("a", "h", amount=1, quantity=1),
    "a partial settle without an id": lambda: calls.settle("a", "h", partial=True),
    "a partial refund without an id": lambda: calls.refund("a", "h", amount=1),
    "a name as a list": lambda: calls.grant_credits("a", "r", kind="FREE", amount=1, actions="x"),
    "no kind": lambda: calls.grant_credits("a", "r", kind="NOPE", amount=1),
    "a moment of no zone": lambda: calls.grant_credits(
        "a", "r", kind="FREE", amount=1, ends_at=datetime.fromisoformat("2027-01-01")
    ),
    "no operation": lambda: calls.execute([calls.get_catalog()]),
    "no request": lambda: Call(Job()),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_protobuf_would_take_for_something_else_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        wrong()


def test_every_operation_of_execute_is_a_method() -> None:
    fields = Operation.DESCRIPTOR.fields
    assert {field.name for field in fields} <= set(METHODS)
    for field in fields:
        made = calls.execute([METHODS[field.name].request()])
        assert made.request.operations[0].WhichOneof("operation") == field.name  # type: ignore[attr-defined] # it is one


async def test_every_method_arrives_at_its_place(client: AnyClient, server: FakeServer) -> None:
    for name, method in METHODS.items():
        server.tell(name, method.response())
        answer = await client.call(method.request())
        assert type(answer) is method.response
    assert [asked.method for asked in server.asked] == list(METHODS)


async def test_a_message_of_the_contract_can_be_sent_as_it_is(
    client: AnyClient, server: FakeServer
) -> None:
    server.tell("settle", credits_pb2.SettleResponse(charged=7))
    assert (await client.call(SettleRequest(account_id="a", hold_id="h"))).charged == 7


async def test_answers_of_execute_stand_beside_their_operations(
    client: AnyClient,
) -> None:
    operations = [
        calls.authorize("a", "h", action="x"),
        calls.settle("a", "h", amount=4),
        calls.settle("a", "other"),
    ]
    approved, settled, fault = creditgate.answers(operations, await client.execute(operations))
    assert isinstance(approved, credits_pb2.AuthorizeResponse)
    assert isinstance(settled, credits_pb2.SettleResponse)
    assert settled.charged == 4
    assert isinstance(fault, creditgate.HoldNotFound)
    assert fault.hold_id == "other"
    assert fault.call == operations[2]
    assert fault.outcome == "not-applied"


async def test_pages_are_turned_until_the_last(client: AnyClient, server: FakeServer) -> None:
    for method, page in (
        ("list_holds", credits_pb2.ListHoldsResponse),
        ("list_ledger", accounts_pb2.ListLedgerResponse),
    ):
        items = "holds" if method == "list_holds" else "entries"
        one, two, three = page(next_page_token="2"), page(next_page_token="3"), page()
        getattr(one, items).add(hold_id="a")
        getattr(three, items).add(hold_id="b")
        server.tell(method, one, two, three)
        found = await client.all("holds" if items == "holds" else "ledger", "acct")
        assert [item.hold_id for item in found] == ["a", "b"]
        assert [request.page_token for request in server.requests(method)] == ["", "2", "3"]


def test_enums_are_the_contracts() -> None:
    assert creditgate.RefundReason is RefundReason
    assert calls.refund("a", "h", reason=RefundReason.REFUND_REASON_CANCELLED) == calls.refund(
        "a", "h", reason="CANCELLED"
    )
    assert catalog_pb2.DESCRIPTOR in SERVICES
