"""What the comments of the service Credits promise, over the wire."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from creditgate.v1 import credits_pb2 as pb
from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core.faults import Reason
from tests.rpc.shop import IMAGE, ONE, STRICT, Account, Shop, refused

APPROVED, DENIED = rs.DECISION_APPROVED, rs.DECISION_DENIED
OPEN, SETTLED = rs.HOLD_STATE_OPEN, rs.HOLD_STATE_SETTLED
REFUNDED, EXPIRED = rs.HOLD_STATE_REFUNDED, rs.HOLD_STATE_EXPIRED

DRAW = rs.Job(action="draw", model="tall", quantity=2)


@pytest.mark.parametrize(
    ("job", "amount"),
    [
        ({"action": "image"}, 10),
        ({"action": "image", "quantity": 1}, 10),
        ({"action": "image", "quantity": 3}, 30),
        ({"action": "image", "model": "any"}, 10),
        ({"action": "draw", "model": "tall", "quantity": 2}, 8),
        ({"action": "draw", "model": "tall", "settings": {"resolution": "4k"}}, 10),
        ({"action": "draw", "model": "tall", "settings": {"mood": "gay"}}, 4),
        ({"action": "gift"}, 0),
        ({"action": "fee", "quantity": 1}, 5),
        ({"action": "fee", "quantity": 13}, 6),
        ({"action": "one", "quantity": 1_000_000_000}, 1_000_000_000),
    ],
)
def test_the_price_quoted_is_the_price_authorized_and_charged(
    the_shop: Shop, job: dict[str, Any], amount: int
) -> None:
    account = the_shop.account(2_000_000_000)
    quote = account.quote(job=job)
    assert (quote.decision, quote.amount, quote.payable) == (APPROVED, amount, 2_000_000_000)
    assert quote.price.rate_denominator >= 1
    assert quote.catalog_version == the_shop.running.catalog.version
    held = account.authorize(hold_id="h", job=job)
    assert (held.decision, held.amount, held.hold.amount, held.hold.held) == (
        APPROVED,
        amount,
        amount,
        amount,
    )
    assert held.hold.price == quote.price
    paid = account.charge(hold_id="c", job=job)
    assert (paid.decision, paid.amount, paid.hold.charged) == (APPROVED, amount, amount)
    assert paid.hold.state == SETTLED
    assert account.figures() == (2_000_000_000 - 2 * amount, amount, 0)


@pytest.mark.parametrize("method", ["quote", "authorize", "charge"])
@pytest.mark.parametrize(
    ("credit", "job", "more", "reason", "missing", "remedy"),
    [
        (9, IMAGE, {}, "INSUFFICIENT_CREDITS", 1, 50),
        (0, IMAGE, {}, "INSUFFICIENT_CREDITS", 10, 50),
        (9, rs.Job(action="image", quantity=6), {}, "INSUFFICIENT_CREDITS", 51, 200),
        (0, rs.Job(action="image", quantity=101), {}, "INSUFFICIENT_CREDITS", 1_010, 0),
        (9, rs.Job(action="nothing"), {}, "UNPRICED_ACTION", 0, None),
        (9, rs.Job(action="draw"), {}, "UNPRICED_ACTION", 0, None),
        (9, rs.Job(action="draw", model="vast"), {}, "UNPRICED_ACTION", 0, None),
        (
            9,
            rs.Job(action="draw", model="tall", settings={"resolution": "8k"}),
            {},
            "UNPRICED_ACTION",
            0,
            None,
        ),
        (90, IMAGE, {"max_amount": 9}, "PRICE_CHANGED", 0, None),
        # In this order: a price that is not accepted comes before credits that are missing.
        (0, IMAGE, {"max_amount": 0}, "PRICE_CHANGED", 0, None),
    ],
)
def test_a_denial_is_an_answer_with_its_reason_and_what_helps(
    the_shop: Shop,
    *,
    method: str,
    credit: int,
    job: rs.Job,
    more: dict[str, int],
    reason: str,
    missing: int,
    remedy: int | None,
) -> None:
    if method == "quote" and more:
        return
    account = the_shop.account(credit)
    before = account.state()
    fields = {} if method == "quote" else {"hold_id": "h", **more}
    answer = getattr(account, method)(job=job, **fields)
    assert answer.decision == DENIED
    assert rs.DenialReason.Name(answer.denial_reason) == f"DENIAL_REASON_{reason}"
    if method != "quote":
        assert answer.missing == missing
        assert not answer.HasField("hold")
    packs = [r.top_up for r in answer.remedies if r.HasField("top_up")]
    assert [pack.pack_amount for pack in packs] == ([] if remedy is None else [remedy])
    assert all(pack.allowed for pack in packs)
    assert account.state() == before


def test_a_denial_is_not_remembered(the_shop: Shop) -> None:
    account = the_shop.account(9)
    assert account.authorize(hold_id="h", job=IMAGE).decision == DENIED
    account.grant("more", 1)
    answer = account.authorize(hold_id="h", job=IMAGE)
    assert (answer.decision, answer.replayed) == (APPROVED, False)


def test_max_amount_allows_the_price_itself(the_shop: Shop) -> None:
    account = the_shop.account(100)
    assert account.authorize(hold_id="h", job=IMAGE, max_amount=10).decision == APPROVED
    assert account.charge(hold_id="c", job=IMAGE, max_amount=10).decision == APPROVED


def test_a_job_of_price_0_passes_on_nothing_and_is_recorded(the_shop: Shop) -> None:
    account = the_shop.account()
    assert account.authorize(hold_id="h", job=rs.Job(action="gift")).decision == APPROVED
    [entry] = account.ledger()
    assert (entry.verb, entry.hold_id, list(entry.moves)) == (rs.LEDGER_VERB_AUTHORIZE, "h", [])


@pytest.mark.parametrize(
    ("ttl", "lasts_ms"),
    [
        (None, 600_000),
        ({"seconds": 1}, 1_000),
        ({"seconds": 90, "nanos": 999_999}, 90_000),
        ({"seconds": 3_600}, 3_600_000),
        ({"seconds": 3_601}, 3_600_000),
        ({"seconds": 366 * 86_400}, 3_600_000),
    ],
)
def test_a_hold_stands_as_long_as_asked_up_to_the_most_of_its_action(
    the_shop: Shop, ttl: dict[str, int] | None, lasts_ms: int
) -> None:
    account = the_shop.account(10)
    hold = account.authorize(hold_id="h", job=IMAGE, ttl=ttl).hold
    assert hold.deadline.ToMilliseconds() - hold.authorized_at.ToMilliseconds() == lasts_ms


# Requests that change something, and what makes each of them another request.
REPEATABLE: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    (
        "authorize",
        {"hold_id": "new", "job": DRAW, "member_id": "ann"},
        [
            {"job": ONE},
            {"job": rs.Job(action="draw", model="tall", quantity=3)},
            {"job": rs.Job(action="draw", model="small", quantity=2)},
            {"job": rs.Job(action="draw", model="tall", quantity=2, settings={"a": "b"})},
            {"ttl": {"seconds": 600}},
            {"max_amount": 8},
            {"member_id": "bob"},
        ],
    ),
    (
        "charge",
        {"hold_id": "new", "job": DRAW, "max_amount": 50, "member_id": "ann"},
        [{"job": ONE}, {"max_amount": 49}, {"max_amount": None}, {"member_id": "bob"}],
    ),
    (
        "settle",
        {"hold_id": "open", "operation_id": "p", "amount": 3, "partial": True},
        [{"amount": 4}, {"amount": None}, {"amount": None, "quantity": 3}, {"partial": False}],
    ),
    (
        "refund",
        {"hold_id": "settled", "operation_id": "p", "amount": 3, "reason": 2},
        [{"amount": 4}, {"amount": None}, {"reason": 1}],
    ),
    (
        "grant_credits",
        {"source_ref": "ref", "kind": rs.KIND_TOP_UP, "amount": 5, "actions": ["a"]},
        [
            {"amount": 6},
            {"kind": rs.KIND_FREE},
            {"actions": []},
            {"models": ["m"]},
            {"ends_at": {"seconds": 4_000_000_000}},
        ],
    ),
]


NAMES = [method for method, *_ in REPEATABLE]


def with_holds(the_shop: Shop) -> Account:
    account = the_shop.account(1_000)
    account.hold(hold_id="open")
    account.hold(hold_id="settled")
    account.settle(hold_id="settled")
    return account


@pytest.mark.parametrize(("method", "fields"), [case[:2] for case in REPEATABLE], ids=NAMES)
def test_a_request_sent_again_takes_effect_once_and_answers_the_same(
    the_shop: Shop, method: str, fields: dict[str, Any]
) -> None:
    account = with_holds(the_shop)
    first = getattr(account, method)(**fields)
    assert not first.replayed
    before = account.state()
    for _ in range(3):
        again = getattr(account, method)(**fields)
        assert again.replayed
        again.replayed = False
        again.totals.as_of.CopyFrom(first.totals.as_of)
        assert again == first
    assert account.state() == before


@pytest.mark.parametrize(
    ("method", "fields", "change"),
    [(method, fields, change) for method, fields, changes in REPEATABLE for change in changes],
    ids=[f"{method}-{number}" for method, _, all_ in REPEATABLE for number in range(len(all_))],
)
def test_the_same_id_with_other_content_is_refused_and_tells_nothing(
    the_shop: Shop, method: str, fields: dict[str, Any], change: dict[str, Any]
) -> None:
    account = with_holds(the_shop)
    getattr(account, method)(**fields)
    before = account.state()
    used = fields.get("operation_id") or fields.get("hold_id") or fields["source_ref"]
    with refused(Reason.ID_REUSED, id=used):
        getattr(account, method)(**{**fields, **change})
    assert account.state() == before


@pytest.mark.parametrize(("method", "fields"), [case[:2] for case in REPEATABLE], ids=NAMES)
def test_an_id_of_one_account_says_nothing_of_the_same_id_of_another(
    the_shop: Shop, method: str, fields: dict[str, Any]
) -> None:
    for account in (with_holds(the_shop), with_holds(the_shop)):
        assert not getattr(account, method)(**fields).replayed


def test_settings_and_restrictions_are_the_same_in_any_order(the_shop: Shop) -> None:
    account = the_shop.account(100)
    settings = {"a": "1", "b": "2", "resolution": "hd"}
    replayed = [
        account.authorize(
            hold_id="h", job=rs.Job(action="draw", model="tall", settings=names)
        ).replayed
        for names in (settings, dict(reversed(settings.items())))
    ]
    assert replayed == [False, True]
    account.grant("g", 1, actions=["x", "y"])
    assert account.grant("g", 1, actions=["y", "x", "y"]).replayed


def test_holds_and_charges_share_their_ids(the_shop: Shop) -> None:
    account = the_shop.account(100)
    account.hold(hold_id="one")
    with refused(Reason.ID_REUSED, id="one"):
        account.charge(hold_id="one", job=IMAGE)
    account.charge(hold_id="two", job=IMAGE)
    with refused(Reason.ID_REUSED, id="two"):
        account.authorize(hold_id="two", job=IMAGE)


def test_a_replay_shows_the_hold_as_it_stands_now(the_shop: Shop) -> None:
    account = the_shop.account(100)
    account.hold(hold_id="h")
    account.settle(hold_id="h", amount=4)
    again = account.authorize(hold_id="h", job=IMAGE)
    assert (again.replayed, again.amount, again.hold.state) == (True, 10, SETTLED)
    assert again.hold.HasField("ended_at")


@pytest.mark.parametrize(
    ("job", "fields", "charged", "shortfall", "returned"),
    [
        (IMAGE, {}, 10, 0, 0),
        (IMAGE, {"amount": 0}, 0, 0, 10),
        (IMAGE, {"amount": 9}, 9, 0, 1),
        (IMAGE, {"amount": 10}, 10, 0, 0),
        (IMAGE, {"amount": 11}, 10, 1, 0),
        (rs.Job(action="image", quantity=4), {"quantity": 3}, 30, 0, 10),
        (rs.Job(action="image", quantity=4), {"quantity": 0}, 0, 0, 40),
        (rs.Job(action="fee", quantity=40), {"quantity": 1}, 5, 0, 7),
        (rs.Job(action="greedy"), {"amount": 25}, 25, 0, 0),
        (rs.Job(action="greedy"), {"amount": 125}, 100, 25, 0),
        (rs.Job(action="trusting"), {"amount": 115}, 115, 0, 0),
        (rs.Job(action="trusting"), {"amount": 125}, 120, 5, 0),
    ],
)
def test_a_settle_takes_what_was_delivered_and_returns_the_rest(
    the_shop: Shop,
    *,
    job: rs.Job,
    fields: dict[str, Any],
    charged: int,
    shortfall: int,
    returned: int,
) -> None:
    account = the_shop.account(100)
    account.hold(job, hold_id="h")
    answer = account.settle(hold_id="h", **fields)
    assert (answer.charged, answer.shortfall, answer.returned) == (charged, shortfall, returned)
    assert (answer.hold.state, answer.hold.held, answer.late) == (SETTLED, 0, False)
    debt = max(0, charged - 100)
    assert answer.hold.overdrawn == debt
    assert account.figures() == (100 - charged + debt, 0, debt)


def test_credits_that_arrive_pay_a_debt_first(the_shop: Shop) -> None:
    account = the_shop.account(10)
    account.hold(rs.Job(action="trusting"), hold_id="h")
    account.settle(hold_id="h", amount=25)
    answer = account.grant("more", 20)
    assert (answer.bucket.available, answer.bucket.spent, answer.totals.debt) == (5, 15, 0)
    assert account.ledger()[-1].verb == rs.LEDGER_VERB_PAY_DEBT


def test_partial_settles_keep_the_rest_held(the_shop: Shop) -> None:
    account = the_shop.account(100)
    account.hold(hold_id="h")
    for number in range(3):
        answer = account.settle(hold_id="h", operation_id=f"p-{number}", amount=2, partial=True)
        assert (answer.charged, answer.returned, answer.hold.state) == (2, 0, OPEN)
    answer = account.settle(hold_id="h", amount=1)
    assert (answer.charged, answer.returned, answer.hold.charged) == (1, 3, 7)


def test_a_settle_above_a_strict_hold_changes_nothing(the_shop: Shop) -> None:
    account = the_shop.account(100)
    account.hold(STRICT, hold_id="h")
    before = account.state()
    with refused(Reason.AMOUNT_EXCEEDS_HOLD, hold_id="h", held="10"):
        account.settle(hold_id="h", quantity=2)
    assert account.state() == before


def test_an_open_hold_is_refunded_whole_and_a_settled_one_up_to_what_it_took(
    the_shop: Shop,
) -> None:
    account = the_shop.account(100)
    account.hold(hold_id="open")
    answer = account.refund(hold_id="open")
    assert (answer.refunded, answer.hold.state) == (10, REFUNDED)
    account.hold(hold_id="done")
    account.settle(hold_id="done", amount=6)
    for number, amount in enumerate((1, 5)):
        answer = account.refund(hold_id="done", operation_id=f"r-{number}", amount=amount)
        assert (answer.refunded, answer.hold.state) == (amount, SETTLED)
    with refused(Reason.REFUND_EXCEEDS_CHARGE, refundable="0"):
        account.refund(hold_id="done", operation_id="r-2", amount=1)
    assert account.figures() == (100, 0, 0)


@pytest.mark.parametrize(
    ("reason", "available"),
    [
        (pb.REFUND_REASON_UNSPECIFIED, 10),
        (pb.REFUND_REASON_FAILED, 10),
        (pb.REFUND_REASON_CANCELLED, 0),
    ],
)
def test_the_reason_decides_what_becomes_of_credits_whose_bucket_has_ended(
    the_shop: Shop, reason: int, available: int
) -> None:
    """A voided bucket takes back what was in it; one that ended is made good, or not."""
    account = the_shop.account()
    ends_ms = int(time.time() * 1000) + 700
    ends_at = {"seconds": ends_ms // 1000, "nanos": ends_ms % 1000 * 1_000_000}
    account.grant("short", 10, ends_at=ends_at)
    account.hold(hold_id="h")
    until(lambda: account.bucket("short").ended)
    account.refund(hold_id="h", reason=reason)
    assert account.figures() == (available, 0, 0)
    assert account.bucket("short").expired == 10


def until(condition: Callable[[], bool], *, limit_s: float = 5.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)


def test_extend_moves_a_deadline_and_raises_to_a_total_all_or_nothing(the_shop: Shop) -> None:
    account = the_shop.account(30)
    hold = account.authorize(hold_id="h", job=IMAGE, ttl={"seconds": 60}).hold
    later = account.extend(hold_id="h", ttl={"seconds": 600}, amount=20)
    assert (later.decision, later.hold.amount, later.hold.held) == (APPROVED, 20, 20)
    assert later.hold.deadline.ToMilliseconds() > hold.deadline.ToMilliseconds()
    # Never earlier, never less, and a total twice is the same total.
    again = account.extend(hold_id="h", ttl={"seconds": 1}, amount=5)
    assert (again.hold.deadline, again.hold.amount) == (later.hold.deadline, 20)
    assert account.extend(hold_id="h", quantity=3).hold.amount == 30
    before = account.state()
    denied = account.extend(hold_id="h", ttl={"seconds": 3_600}, quantity=4)
    assert (denied.decision, denied.missing) == (DENIED, 10)
    assert denied.denial_reason == rs.DENIAL_REASON_INSUFFICIENT_CREDITS
    assert denied.remedies[0].top_up.pack_amount == 50
    assert account.state() == before
    # At most an hour from when it was authorized, whatever is asked.
    most = account.extend(hold_id="h", ttl={"seconds": 366 * 86_400}).hold
    assert most.deadline.ToMilliseconds() - most.authorized_at.ToMilliseconds() == 3_600_000


def test_a_settle_after_the_deadline_is_taken_from_what_is_there_or_refused(
    the_shop: Shop,
) -> None:
    account = the_shop.account(20)
    account.hold(hold_id="late", ttl={"seconds": 1})
    account.hold(STRICT, hold_id="strict", ttl={"seconds": 1})
    until(lambda: account.figures() == (20, 0, 0))
    assert account.get_hold(hold_id="late").hold.state == EXPIRED
    account.charge(hold_id="between", job=rs.Job(action="one", quantity=13))
    answer = account.settle(hold_id="late")
    assert (answer.late, answer.charged, answer.shortfall) == (True, 7, 3)
    assert (answer.hold.state, answer.hold.settled_late) == (SETTLED, True)
    with refused(Reason.HOLD_EXPIRED, hold_id="strict", charged="0", refunded="0"):
        account.settle(hold_id="strict")
    assert account.refund(hold_id="strict").refunded == 0
    with refused(Reason.HOLD_EXPIRED, hold_id="strict"):
        account.extend(hold_id="strict")


def test_holds_are_listed_in_pages_that_together_have_each_of_them(the_shop: Shop) -> None:
    account = the_shop.account(1_000)
    ids = {account.hold(ONE) for _ in range(150)}
    closed = account.hold(ONE)
    account.settle(hold_id=closed)
    for size in (1, 7, 100, 1_000, 0):
        found, token, pages = set(), "", 0
        while True:
            page = account.list_holds(page_size=size, page_token=token)
            found |= {hold.hold_id for hold in page.holds}
            token, pages = page.next_page_token, pages + 1
            if not token:
                break
        assert found == ids
        assert (pages > 1) == (size in (1, 7, 100, 0))


def test_a_balance_shows_buckets_as_they_are_drawn_and_what_may_pay(the_shop: Shop) -> None:
    account = the_shop.account()
    account.grant("bought", 5)
    account.grant("soon", 4, kind=rs.KIND_PROMOTIONAL, ends_at={"seconds": 4_000_000_000})
    account.grant("gone", 3, kind=rs.KIND_FREE)
    account.void_bucket(bucket_id="gone")
    account.grant("images", 2, kind=rs.KIND_FREE, actions=["image"], models=["tall"])
    balance = account.get_balance()
    assert [b.bucket_id for b in balance.buckets] == ["images", "bought", "soon", "gone"]
    assert (balance.payable, balance.totals.available) == (11, 11)
    assert (balance.unit, balance.decimals, balance.open_holds) == ("credit", 0, 0)
    assert balance.next_end_at.seconds == 4_000_000_000
    for fields, payable in [
        ({"action": "image"}, 11),
        ({"action": "one"}, 9),
        ({"model": "tall"}, 11),
        ({"model": "small"}, 9),
        ({"action": "image", "model": "tall"}, 11),
    ]:
        assert account.get_balance(**fields).payable == payable
    # A job without a model is not paid from what is for one model.
    assert account.quote(job=IMAGE).payable == 9


def test_execute_keeps_the_order_and_each_fails_for_itself(the_shop: Shop) -> None:
    account, other = the_shop.account(25), the_shop.account(5)
    mine, others = {"account_id": account.account_id}, {"account_id": other.account_id}
    operations: list[dict[str, Any]] = [
        {"authorize": {**mine, "hold_id": "a", "job": IMAGE}},
        {"authorize": {**mine, "hold_id": "b", "job": IMAGE}},
        {"authorize": {**others, "hold_id": "a", "job": IMAGE}},
        {"authorize": {**mine, "hold_id": "c", "job": IMAGE}},
        {"settle": {**mine, "hold_id": "a", "amount": 5}},
        {"settle": {**mine, "hold_id": "none"}},
        {"authorize": {**mine, "hold_id": "c", "job": IMAGE}},
        {"extend": {**mine, "hold_id": "c"}},
        {"refund": {**mine, "hold_id": "b"}},
        {"charge": {**mine, "hold_id": "d", "job": ONE}},
        {"quote": {**mine, "job": IMAGE}},
        {"get_hold": {**mine, "hold_id": "d"}},
        {},
        {"get_balance": mine},
    ]
    results = account.execute(operations=operations).results
    kinds = [result.WhichOneof("result") for result in results]
    assert kinds == [
        *("authorize", "authorize", "authorize", "authorize", "settle", "fault", "authorize"),
        *("extend", "refund", "charge", "quote", "get_hold", "fault", "get_balance"),
    ]
    decisions = [r.authorize.decision for r in results if r.HasField("authorize")]
    assert decisions == [APPROVED, APPROVED, DENIED, DENIED, APPROVED]
    seqs = [
        getattr(result, kind).totals.seq
        for result, kind in zip(results, kinds, strict=True)
        if kind in ("authorize", "settle", "extend", "refund", "charge")
        and getattr(result, kind).totals.account_id == account.account_id
    ]
    assert seqs == sorted(seqs)
    assert results[-1].get_balance.totals.available == 9
    assert account.figures() == (9, 10, 0)
    assert other.figures() == (5, 0, 0)


def test_every_answer_carries_the_number_of_the_last_change(the_shop: Shop) -> None:
    account = the_shop.account(100)
    seqs = [
        account.authorize(hold_id="h", job=IMAGE).totals.seq,
        account.extend(hold_id="h").totals.seq,
        account.settle(hold_id="h", operation_id="p", amount=1, partial=True).totals.seq,
        account.settle(hold_id="h").totals.seq,
        account.refund(hold_id="h").totals.seq,
        account.charge(hold_id="c", job=ONE).totals.seq,
        account.grant("more", 1).totals.seq,
        account.void_bucket(bucket_id="more").totals.seq,
        account.get_balance().totals.seq,
        account.get_account().account.totals.seq,
    ]
    assert seqs == [2, 3, 4, 5, 6, 7, 8, 9, 9, 9]
