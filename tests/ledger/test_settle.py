"""Settle: in full, in part, above the hold, and after the deadline."""

import dataclasses

import pytest

from creditgate_server.core.commands import Kind, LateSettle, Overage
from creditgate_server.core.faults import Reason
from creditgate_server.core.prices import AMOUNT_MAX, Price, Rounding
from creditgate_server.core.results import HoldState, Verb
from tests.ledger.bench import START_MS, TTL_MS, VIDEO, Ask, Bench, moved, refused, terms


@pytest.fixture
async def job(ledger: Bench) -> Bench:
    """A bench with a hold of 10 credits: 4 of the month, 6 of the top-up, of which 3 are left."""
    await ledger.run_all(
        ledger.ask.grant("month", 4, Kind.SUBSCRIPTION),
        ledger.ask.grant("top-up", 9),
        ledger.ask.authorize("job", 10),
    )
    return ledger


async def test_a_hold_that_does_not_exist_cannot_be_settled(ledger: Bench) -> None:
    with refused(Reason.HOLD_NOT_FOUND, hold_id="job"):
        await ledger.run(ledger.ask.settle("job"))
    with refused(Reason.ACCOUNT_NOT_FOUND, account_id="nobody"):
        await ledger.run(Ask("nobody").settle("job"))


async def test_a_success_consumes_what_was_held(job: Bench) -> None:
    """R58."""
    reply = await job.run(job.ask.settle("job"))
    assert (reply.charged, reply.shortfall, reply.returned) == (10, 0, 0)
    assert (reply.late, reply.replayed) == (False, False)
    assert (reply.hold.state, reply.hold.ended_ms) == (HoldState.SETTLED, START_MS)
    assert (reply.totals.available, reply.totals.held) == (3, 0)
    assert await job.rows() == {
        "month": {"granted": 4, "spent": 4},
        "top-up": {"granted": 9, "available": 3, "spent": 6},
    }


async def test_what_was_drawn_first_is_taken_first_and_the_rest_returns_backwards(
    job: Bench,
) -> None:
    reply = await job.run(job.ask.settle("job", 3))
    assert (reply.charged, reply.shortfall, reply.returned) == (3, 0, 7)
    assert moved((await job.entries())[-1]) == [
        "month: 3 held > spent",
        "top-up: 6 held > available",
        "month: 1 held > available",
    ]


@pytest.mark.parametrize(
    ("amount", "charged", "returned", "shortfall"),
    [(0, 0, 10, 0), (1, 1, 9, 0), (9, 9, 1, 0), (10, 10, 0, 0), (11, 10, 0, 1)],
)
async def test_a_settle_takes_what_was_delivered(
    job: Bench, amount: int, charged: int, returned: int, shortfall: int
) -> None:
    reply = await job.run(job.ask.settle("job", amount))
    assert (reply.charged, reply.returned, reply.shortfall) == (charged, returned, shortfall)
    assert (reply.hold.charged, reply.hold.held) == (charged, 0)


async def test_a_settle_of_nothing_equals_a_refund(job: Bench) -> None:
    await job.run(job.ask.settle("job", 0))
    rows = await job.rows()
    assert [row["available"] for row in rows.values()] == [4, 9]


async def test_a_job_may_be_settled_in_parts(job: Bench) -> None:
    first = await job.run(job.ask.settle("job", 3, operation_id="a", partial=True))
    assert (first.charged, first.returned, first.hold.held) == (3, 0, 7)
    assert (first.hold.state, first.hold.ended_ms) == (HoldState.OPEN, None)
    second = await job.run(job.ask.settle("job", 3, operation_id="b", partial=True))
    assert (second.charged, second.hold.charged, second.hold.held) == (3, 6, 4)
    last = await job.run(job.ask.settle("job", 1, operation_id="c"))
    assert (last.charged, last.returned, last.hold.charged) == (1, 3, 7)
    entries = await job.entries()
    assert [(entry.verb, entry.operation_id) for entry in entries[-3:]] == [
        (Verb.SETTLE, "a"),
        (Verb.SETTLE, "b"),
        (Verb.SETTLE, "c"),
    ]
    assert moved(entries[-2]) == ["month: 1 held > spent", "top-up: 2 held > spent"]


async def test_parts_may_take_all_and_leave_the_hold_open(job: Bench) -> None:
    reply = await job.run(job.ask.settle("job", operation_id="a", partial=True))
    assert (reply.charged, reply.hold.held, reply.hold.state) == (10, 0, HoldState.OPEN)
    reply = await job.run(job.ask.settle("job"))
    assert (reply.charged, reply.hold.state) == (0, HoldState.SETTLED)


async def test_a_partial_settle_of_nothing_is_recorded(job: Bench) -> None:
    part = job.ask.settle("job", 0, operation_id="a", partial=True)
    assert (await job.run(part)).charged == 0
    assert (await job.run(part)).replayed
    assert (await job.entries())[-1].moves == ()


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize(
    ("quantity", "exact", "amounts"),
    [
        (0, "0", {Rounding.UP: 0, Rounding.DOWN: 0, Rounding.HALF_UP: 0}),
        (1, "3/8", {Rounding.UP: 1, Rounding.DOWN: 0, Rounding.HALF_UP: 0}),
        (4, "3/2", {Rounding.UP: 2, Rounding.DOWN: 1, Rounding.HALF_UP: 2}),
        (5, "15/8", {Rounding.UP: 2, Rounding.DOWN: 1, Rounding.HALF_UP: 2}),
        (8, "3", {Rounding.UP: 3, Rounding.DOWN: 3, Rounding.HALF_UP: 3}),
        (9, "27/8", {Rounding.UP: 4, Rounding.DOWN: 3, Rounding.HALF_UP: 3}),
    ],
)
async def test_a_quantity_is_rated_at_the_pinned_price(
    ledger: Bench, rounding: Rounding, quantity: int, exact: str, amounts: dict[Rounding, int]
) -> None:
    """R28, R71: 3 of 4 images, 7 of 10 seconds."""
    price = Price(numerator=3, denominator=8, rounding=rounding)
    await ledger.run_all(
        ledger.ask.grant("pack", 10), ledger.ask.authorize("job", terms(price, quantity=24))
    )
    reply = await ledger.run(ledger.ask.settle("job", quantity=quantity))
    assert reply.charged == amounts[rounding], exact


@pytest.mark.parametrize(
    ("price", "amounts"),
    [
        # Each is (quantity delivered, charged).
        (Price(flat=5, numerator=2), [(0, 0), (1, 7), (2, 9)]),
        (Price(numerator=2, minimum=5), [(0, 0), (1, 5), (2, 5), (3, 6)]),
        (Price(flat=5, numerator=2, minimum=8), [(0, 0), (1, 8), (2, 9)]),
        (Price(flat=5), [(0, 0), (1, 5), (9, 5)]),
        (Price(minimum=3), [(0, 0), (1, 3), (9, 3)]),
        (Price(flat=1, numerator=1, denominator=3, rounding=Rounding.DOWN), [(1, 1), (3, 2)]),
    ],
)
async def test_a_flat_fee_and_a_minimum_count_when_anything_was_delivered(
    ledger: Bench, price: Price, amounts: list[tuple[int, int]]
) -> None:
    await ledger.run(ledger.ask.grant("pack", 1000))
    for quantity, charged in amounts:
        await ledger.run(ledger.ask.authorize(f"job-{quantity}", terms(price, quantity=20)))
        reply = await ledger.run(ledger.ask.settle(f"job-{quantity}", quantity=quantity))
        assert reply.charged == charged


async def test_each_part_is_rated_by_itself(ledger: Bench) -> None:
    price = Price(flat=2, numerator=1)
    await ledger.run_all(
        ledger.ask.grant("pack", 20), ledger.ask.authorize("job", terms(price, quantity=10))
    )
    for operation in "abc":
        reply = await ledger.run(
            ledger.ask.settle("job", quantity=2, operation_id=operation, partial=True)
        )
        assert reply.charged == 4
    assert (await ledger.run(ledger.ask.settle("job", 0))).returned == 0


async def test_a_quantity_beyond_the_largest_amount_is_refused(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 2**30), ledger.ask.authorize("job", terms(2**30)))
    with refused(Reason.AMOUNT_OVERFLOW, account_id=ledger.ask.account_id):
        await ledger.run(ledger.ask.settle("job", quantity=2**23))
    reply = await ledger.run(ledger.ask.settle("job", quantity=2**23 - 1))
    assert (reply.charged, reply.shortfall) == (2**30, 2**30 * (2**23 - 2))


# More was delivered than is held.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Over:
    """A settle of a hold of 10 with 3 more to be had, and what comes of it."""

    overage: Overage
    limit: int = 0
    delivered: int
    charged: int
    shortfall: int
    debt: int = 0
    left: int


OVER = [
    Over(overage=Overage.CAP, delivered=10, charged=10, shortfall=0, left=3),
    Over(overage=Overage.CAP, delivered=11, charged=10, shortfall=1, left=3),
    Over(overage=Overage.CAP, delivered=14, charged=10, shortfall=4, left=3),
    Over(overage=Overage.CHARGE_AVAILABLE, delivered=11, charged=11, shortfall=0, left=2),
    Over(overage=Overage.CHARGE_AVAILABLE, delivered=13, charged=13, shortfall=0, left=0),
    Over(overage=Overage.CHARGE_AVAILABLE, delivered=14, charged=13, shortfall=1, left=0),
    Over(overage=Overage.OVERDRAFT, limit=5, delivered=13, charged=13, shortfall=0, left=0),
    Over(overage=Overage.OVERDRAFT, limit=5, delivered=14, charged=14, shortfall=0, debt=1, left=0),
    Over(overage=Overage.OVERDRAFT, limit=5, delivered=18, charged=18, shortfall=0, debt=5, left=0),
    Over(overage=Overage.OVERDRAFT, limit=5, delivered=19, charged=18, shortfall=1, debt=5, left=0),
    Over(overage=Overage.OVERDRAFT, limit=0, delivered=14, charged=13, shortfall=1, left=0),
]


async def over_account(ledger: Bench, overage: Overage, limit: int) -> None:
    await ledger.run_all(
        ledger.ask.grant("month", 4, Kind.SUBSCRIPTION),
        ledger.ask.grant("top-up", 9),
        ledger.ask.authorize("job", terms(10, overage=overage, overdraft_limit=limit)),
    )


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("over", OVER, ids=lambda o: f"{o.overage.value}-{o.limit}-{o.delivered}")
async def test_more_than_held_is_treated_as_the_catalog_says(
    ledger: Bench, over: Over, *, partial: bool
) -> None:
    await over_account(ledger, over.overage, over.limit)
    reply = await ledger.run(
        ledger.ask.settle("job", over.delivered, operation_id="a", partial=partial)
    )
    assert (reply.charged, reply.shortfall, reply.returned) == (over.charged, over.shortfall, 0)
    assert (reply.hold.charged, reply.hold.overdrawn) == (over.charged, over.debt)
    assert (reply.hold.amount, reply.hold.held) == (10, 0)
    assert reply.hold.state is (HoldState.OPEN if partial else HoldState.SETTLED)
    assert (reply.totals.available, reply.totals.debt) == (over.left, over.debt)
    assert (await ledger.entries())[-1].debt_change == over.debt


async def test_what_is_drawn_beyond_the_hold_makes_new_slices(ledger: Bench) -> None:
    await over_account(ledger, Overage.CHARGE_AVAILABLE, 0)
    await ledger.run(ledger.ask.grant("free", 1, Kind.FREE))
    reply = await ledger.run(ledger.ask.settle("job", 12))
    assert [(part.bucket_id, part.amount, part.charged) for part in reply.hold.slices] == [
        ("month", 4, 4),
        ("top-up", 6, 6),
        ("free", 1, 1),
        ("top-up", 1, 1),
    ]
    assert moved((await ledger.entries())[-1]) == [
        "month: 4 held > spent",
        "top-up: 6 held > spent",
        "free: 1 available > spent",
        "top-up: 1 available > spent",
    ]


async def test_what_is_beyond_the_hold_is_paid_by_what_may_pay_the_job(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("videos", 5, actions=("video.generate",)),
        ledger.ask.grant("images", 5, actions=("image.generate",)),
        ledger.ask.authorize("job", terms(3, overage=Overage.CHARGE_AVAILABLE), VIDEO),
    )
    reply = await ledger.run(ledger.ask.settle("job", 6))
    assert (reply.charged, reply.shortfall) == (5, 1)


@pytest.mark.parametrize("partial", [False, True])
async def test_more_than_held_is_refused_where_the_catalog_rejects_it(
    ledger: Bench, *, partial: bool
) -> None:
    await over_account(ledger, Overage.REJECT, 0)
    before = await ledger.snapshot()
    with refused(Reason.AMOUNT_EXCEEDS_HOLD, hold_id="job", held="10"):
        await ledger.run(ledger.ask.settle("job", 11, operation_id="a", partial=partial))
    assert await ledger.snapshot() == before
    reply = await ledger.run(ledger.ask.settle("job", 10, operation_id="a", partial=partial))
    assert (reply.charged, reply.replayed) == (10, False)


async def test_a_later_part_may_not_exceed_what_is_still_held(ledger: Bench) -> None:
    await over_account(ledger, Overage.REJECT, 0)
    await ledger.run(ledger.ask.settle("job", 6, operation_id="a", partial=True))
    with refused(Reason.AMOUNT_EXCEEDS_HOLD, hold_id="job", held="4"):
        await ledger.run(ledger.ask.settle("job", 5, operation_id="b", partial=True))
    assert (await ledger.run(ledger.ask.settle("job", 4))).charged == 4


async def test_a_debt_of_one_job_leaves_less_overdraft_to_the_next(ledger: Bench) -> None:
    overdraft = terms(1, overage=Overage.OVERDRAFT, overdraft_limit=5)
    await ledger.run_all(
        ledger.ask.grant("pack", 2),
        ledger.ask.authorize("a", overdraft),
        ledger.ask.authorize("b", overdraft),
        ledger.ask.settle("a", 4),
    )
    reply = await ledger.run(ledger.ask.settle("b", 4))
    assert (reply.charged, reply.shortfall, reply.hold.overdrawn) == (3, 1, 2)
    assert reply.totals.debt == 5


async def test_a_lower_limit_than_the_debt_gives_nothing_and_takes_nothing(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("pack", 2),
        ledger.ask.authorize("a", terms(1, overage=Overage.OVERDRAFT, overdraft_limit=5)),
        ledger.ask.authorize("b", terms(1, overage=Overage.OVERDRAFT, overdraft_limit=2)),
        ledger.ask.settle("a", 6),
    )
    reply = await ledger.run(ledger.ask.settle("b", 4))
    assert (reply.charged, reply.shortfall, reply.totals.debt) == (1, 3, 5)


# After the deadline.


async def late(
    ledger: Bench,
    settle: LateSettle = LateSettle.RECHARGE,
    overage: Overage = Overage.CAP,
    limit: int = 0,
) -> None:
    """A hold of 10 on 10 credits that has reached its deadline."""
    await ledger.run_all(
        ledger.ask.grant("pack", 10),
        ledger.ask.authorize(
            "job", terms(10, late_settle=settle, overage=overage, overdraft_limit=limit)
        ),
    )
    ledger.advance(TTL_MS)


async def test_a_settle_just_before_the_deadline_is_not_late(ledger: Bench) -> None:
    await late(ledger)
    ledger.advance(-1)
    reply = await ledger.run(ledger.ask.settle("job"))
    assert (reply.late, reply.charged, reply.hold.settled_late) == (False, 10, False)


async def test_a_render_that_completes_after_its_time_out_is_paid_from_what_is_there(
    ledger: Bench,
) -> None:
    """P8: work done is never written off silently."""
    await late(ledger)
    reply = await ledger.run(ledger.ask.settle("job"))
    assert (reply.late, reply.charged, reply.shortfall, reply.returned) == (True, 10, 0, 0)
    assert (reply.hold.state, reply.hold.settled_late) == (HoldState.SETTLED, True)
    assert [(part.charged, part.returned) for part in reply.hold.slices] == [(0, 10), (10, 0)]
    entries = await ledger.entries()
    assert [entry.verb for entry in entries[-2:]] == [Verb.EXPIRE, Verb.SETTLE]
    assert moved(entries[-2]) == ["pack: 10 held > available"]
    assert moved(entries[-1]) == ["pack: 10 available > spent"]


async def test_a_render_that_completes_after_its_time_out_and_a_sweep_is_paid_too(
    ledger: Bench,
) -> None:
    await late(ledger)
    assert (await ledger.run(ledger.ask.expire("job"))).returned == 10
    ledger.advance(1)
    reply = await ledger.run(ledger.ask.settle("job", 7))
    assert (reply.late, reply.charged, reply.shortfall) == (True, 7, 0)
    assert await ledger.rows() == {"pack": {"granted": 10, "available": 3, "spent": 7}}


async def test_a_late_settle_tells_what_it_could_not_take(ledger: Bench) -> None:
    await late(ledger)
    await ledger.run_all(ledger.ask.expire("job"), ledger.ask.charge("meanwhile", 4))
    reply = await ledger.run(ledger.ask.settle("job"))
    assert (reply.charged, reply.shortfall, reply.totals.debt) == (6, 4, 0)
    assert reply.hold.state is HoldState.SETTLED


@pytest.mark.parametrize(
    ("limit", "charged", "shortfall", "debt"),
    [(0, 6, 4, 0), (3, 9, 1, 3), (4, 10, 0, 4), (5, 10, 0, 4)],
)
async def test_what_a_late_settle_lacks_becomes_debt_where_the_catalog_allows(
    ledger: Bench, limit: int, charged: int, shortfall: int, debt: int
) -> None:
    await late(ledger, overage=Overage.OVERDRAFT, limit=limit)
    await ledger.run_all(ledger.ask.expire("job"), ledger.ask.charge("meanwhile", 4))
    reply = await ledger.run(ledger.ask.settle("job"))
    assert (reply.charged, reply.shortfall) == (charged, shortfall)
    assert (reply.hold.overdrawn, reply.totals.debt) == (debt, debt)


async def test_a_late_settle_fails_for_no_lack_where_overage_is_rejected(ledger: Bench) -> None:
    await late(ledger, overage=Overage.REJECT)
    await ledger.run_all(ledger.ask.expire("job"), ledger.ask.charge("meanwhile", 4))
    reply = await ledger.run(ledger.ask.settle("job"))
    assert (reply.charged, reply.shortfall) == (6, 4)


async def test_a_late_settle_is_refused_where_the_catalog_rejects_it(ledger: Bench) -> None:
    await late(ledger, LateSettle.REJECT)
    for _ in range(2):
        with refused(Reason.HOLD_EXPIRED, hold_id="job", charged="0", refunded="0"):
            await ledger.run(ledger.ask.settle("job"))
    # The refusal does not undo the expiry, and the sweep finds nothing to do.
    assert await ledger.rows() == {"pack": {"granted": 10, "available": 10}}
    assert (await ledger.run(ledger.ask.expire("job"))).returned is None


async def test_a_late_settle_of_nothing_is_recorded(ledger: Bench) -> None:
    await late(ledger)
    nothing = ledger.ask.settle("job", 0)
    reply = await ledger.run(nothing)
    assert (reply.charged, reply.late, reply.hold.state) == (0, True, HoldState.SETTLED)
    assert (await ledger.run(nothing)).replayed
    assert (await ledger.entries())[-1].moves == ()


async def test_a_late_quantity_is_rated_at_the_pinned_price(ledger: Bench) -> None:
    price = Price(numerator=3, denominator=2)
    await ledger.run_all(
        ledger.ask.grant("pack", 15), ledger.ask.authorize("job", terms(price, quantity=10))
    )
    ledger.advance(TTL_MS)
    reply = await ledger.run(ledger.ask.settle("job", quantity=7))
    assert (reply.charged, reply.late) == (11, True)


async def test_late_parts_leave_the_hold_expired(ledger: Bench) -> None:
    await late(ledger)
    part = await ledger.run(ledger.ask.settle("job", 4, operation_id="a", partial=True))
    assert (part.late, part.charged, part.hold.state) == (True, 4, HoldState.EXPIRED)
    rest = await ledger.run(ledger.ask.settle("job"))
    assert (rest.late, rest.charged, rest.hold.state) == (True, 6, HoldState.SETTLED)
    with refused(Reason.HOLD_SETTLED, hold_id="job", charged="10", refunded="0"):
        await ledger.run(ledger.ask.settle("job", 1, operation_id="b"))


async def test_a_late_settle_takes_only_what_parts_in_time_did_not(ledger: Bench) -> None:
    await late(ledger)
    ledger.advance(-1)
    await ledger.run(ledger.ask.settle("job", 4, operation_id="a", partial=True))
    ledger.advance(1)
    reply = await ledger.run(ledger.ask.settle("job"))
    assert (reply.late, reply.charged, reply.hold.charged) == (True, 6, 10)


async def test_a_late_settle_draws_in_burn_down_order_for_its_job(ledger: Bench) -> None:
    await late(ledger)
    await ledger.run_all(
        ledger.ask.grant("free", 3, Kind.FREE),
        ledger.ask.grant("videos", 3, Kind.FREE, actions=("video.generate",)),
    )
    reply = await ledger.run(ledger.ask.settle("job"))
    assert [(part.bucket_id, part.charged) for part in reply.hold.slices[1:]] == [
        ("free", 3),
        ("pack", 7),
    ]


async def test_the_end_of_a_hold_moves_when_it_is_settled_late(ledger: Bench) -> None:
    await late(ledger)
    await ledger.run(ledger.ask.expire("job"))
    ledger.advance(5)
    reply = await ledger.run(ledger.ask.settle("job"))
    assert reply.hold.ended_ms == ledger.now_ms


# After another operation.


async def test_of_two_settles_with_other_content_the_second_is_told_who_won(job: Bench) -> None:
    await job.run(job.ask.settle("job", 7))
    with refused(Reason.HOLD_SETTLED, hold_id="job", charged="7", refunded="0"):
        await job.run(job.ask.settle("job", 8))
    with refused(Reason.HOLD_SETTLED, hold_id="job", charged="7", refunded="0"):
        await job.run(job.ask.settle("job", 7, operation_id="a"))


async def test_a_settle_after_a_refund_is_told_so(job: Bench) -> None:
    """Settle after void."""
    await job.run(job.ask.refund("job"))
    with refused(Reason.HOLD_REFUNDED, hold_id="job", charged="0", refunded="0"):
        await job.run(job.ask.settle("job"))
    assert (await job.run(job.ask.balance())).totals.available == 13


@pytest.mark.parametrize("partial", [False, True])
async def test_a_hundred_operations_are_recorded_and_not_one_more(
    ledger: Bench, *, partial: bool
) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 200), ledger.ask.authorize("job", 200))
    for number in range(99):
        await ledger.run(ledger.ask.settle("job", 1, operation_id=f"op-{number}", partial=True))
    last = ledger.ask.settle("job", 1, operation_id="last", partial=partial)
    reply = await ledger.run(last)
    assert reply.charged == 1
    if partial:
        with refused(Reason.TOO_MANY_OPERATIONS, hold_id="job", limit="100"):
            await ledger.run(ledger.ask.settle("job"))
        with refused(Reason.TOO_MANY_OPERATIONS, hold_id="job", limit="100"):
            await ledger.run(ledger.ask.settle("job", 1, operation_id="more", partial=True))
    else:
        with refused(Reason.TOO_MANY_OPERATIONS, hold_id="job", limit="100"):
            await ledger.run(ledger.ask.refund("job"))
    again = await ledger.run(last)
    assert (again.replayed, again.charged) == (True, 1)
    first = await ledger.run(ledger.ask.settle("job", 1, operation_id="op-0", partial=True))
    assert first.replayed


async def test_a_hold_with_all_its_operations_used_up_still_returns(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 200), ledger.ask.authorize("job", 200))
    for number in range(100):
        await ledger.run(ledger.ask.settle("job", 1, operation_id=f"op-{number}", partial=True))
    assert (await ledger.run(ledger.ask.refund("job"))).refunded == 100


async def test_the_largest_amount_is_held_and_settled_to_the_unit(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("pack", AMOUNT_MAX))
    reply = await ledger.run(ledger.ask.authorize("job", AMOUNT_MAX))
    assert reply.totals.held == AMOUNT_MAX
    settled = await ledger.run(ledger.ask.settle("job", AMOUNT_MAX - 1))
    assert (settled.charged, settled.returned) == (AMOUNT_MAX - 1, 1)
    assert await ledger.rows() == {
        "pack": {"granted": AMOUNT_MAX, "available": 1, "spent": AMOUNT_MAX - 1}
    }
    refunded = await ledger.run(ledger.ask.refund("job", AMOUNT_MAX - 2, operation_id="a"))
    assert refunded.totals.available == AMOUNT_MAX - 1
