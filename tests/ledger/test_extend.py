"""Extend: the deadline counts from now and never moves back; a raise is all or nothing."""

import dataclasses

import pytest

from creditgate_server.core.commands import Kind
from creditgate_server.core.faults import Reason
from creditgate_server.core.prices import AMOUNT_MAX, Price
from creditgate_server.core.results import Decision, HoldState, Verb
from tests.ledger.bench import LIFE_MS, START_MS, TTL_MS, VIDEO, Ask, Bench, moved, refused, terms


@pytest.fixture
async def job(ledger: Bench) -> Bench:
    """A bench with a hold of 10 credits, and 5 more to be had."""
    await ledger.run_all(ledger.ask.grant("pack", 15), ledger.ask.authorize("job", 10))
    return ledger


async def test_a_hold_that_does_not_exist_cannot_be_extended(ledger: Bench) -> None:
    with refused(Reason.HOLD_NOT_FOUND, hold_id="job"):
        await ledger.run(ledger.ask.extend("job"))
    with refused(Reason.ACCOUNT_NOT_FOUND, account_id="nobody"):
        await ledger.run(Ask("nobody").extend("job"))


@pytest.mark.parametrize(
    ("after_ms", "ttl_ms", "deadline_ms"),
    [
        (1, None, TTL_MS + 1),  # The default is that of Authorize.
        (1, 1000, TTL_MS),  # A deadline never moves earlier.
        (1, TTL_MS - 1, TTL_MS),
        (1, TTL_MS, TTL_MS + 1),
        (TTL_MS - 1, LIFE_MS - TTL_MS, LIFE_MS - 1),
        (TTL_MS - 1, LIFE_MS - TTL_MS + 1, LIFE_MS),
        (TTL_MS - 1, LIFE_MS - TTL_MS + 2, LIFE_MS),  # The life counts from Authorize.
    ],
)
async def test_a_deadline_counts_from_now_within_the_life_of_the_action(
    job: Bench, after_ms: int, ttl_ms: int | None, deadline_ms: int
) -> None:
    job.advance(after_ms)
    reply = await job.run(job.ask.extend("job", ttl_ms=ttl_ms))
    assert (reply.decision, reply.missing) == (Decision.APPROVED, 0)
    assert reply.hold.deadline_ms == START_MS + deadline_ms


async def test_the_default_time_is_the_one_pinned_at_authorize(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("pack", 1),
        ledger.ask.authorize("job", terms(1, ttl_ms=7000), ttl_ms=3000),
    )
    reply = await ledger.run(ledger.ask.extend("job"))
    assert reply.hold.deadline_ms == START_MS + 7000


async def test_every_extension_is_recorded(job: Bench) -> None:
    await job.run_all(job.ask.extend("job", ttl_ms=1000), job.ask.extend("job", ttl_ms=1000))
    entries = await job.entries()
    assert [entry.verb for entry in entries[-2:]] == [Verb.EXTEND, Verb.EXTEND]
    assert entries[-1].moves == ()


async def test_a_hold_can_be_extended_until_just_before_its_deadline(job: Bench) -> None:
    job.advance(TTL_MS - 1)
    reply = await job.run(job.ask.extend("job"))
    assert reply.hold.deadline_ms == job.now_ms + TTL_MS
    job.advance(TTL_MS - 1)
    assert (await job.run(job.ask.hold("job"))).state is HoldState.OPEN


async def test_at_its_deadline_a_hold_is_expired_and_stays_so(job: Bench) -> None:
    job.advance(TTL_MS)
    with refused(Reason.HOLD_EXPIRED, hold_id="job", charged="0", refunded="0"):
        await job.run(job.ask.extend("job"))
    # The refusal does not undo the expiry.
    assert (await job.run(job.ask.hold("job"))).state is HoldState.EXPIRED
    assert await job.rows() == {"pack": {"granted": 15, "available": 15}}


async def test_an_ended_hold_cannot_be_extended(job: Bench) -> None:
    await job.run(job.ask.settle("job", 3))
    with refused(Reason.HOLD_SETTLED, hold_id="job", charged="3", refunded="0"):
        await job.run(job.ask.extend("job"))
    await job.run_all(
        job.ask.authorize("other", 4),
        job.ask.settle("other", 1, operation_id="a", partial=True),
        job.ask.refund("other"),
    )
    with refused(Reason.HOLD_REFUNDED, hold_id="other", charged="1", refunded="0"):
        await job.run(job.ask.extend("other", amount=6))


@pytest.mark.parametrize(
    ("total", "decision", "amount", "missing"),
    [
        (0, Decision.APPROVED, 10, 0),
        (9, Decision.APPROVED, 10, 0),
        (10, Decision.APPROVED, 10, 0),
        (11, Decision.APPROVED, 11, 0),
        (15, Decision.APPROVED, 15, 0),
        (16, Decision.INSUFFICIENT_CREDITS, 10, 1),
        (AMOUNT_MAX, Decision.INSUFFICIENT_CREDITS, 10, AMOUNT_MAX - 15),
    ],
)
async def test_a_raise_gets_the_last_credit_and_not_one_more(
    job: Bench, total: int, decision: Decision, amount: int, missing: int
) -> None:
    job.advance(1)
    reply = await job.run(job.ask.extend("job", amount=total))
    assert (reply.decision, reply.missing) == (decision, missing)
    assert (reply.hold.amount, reply.hold.held) == (amount, amount)
    assert reply.totals.available == 15 - amount


async def test_a_denied_raise_does_not_move_the_deadline(job: Bench) -> None:
    before = await job.snapshot()
    job.advance(1)
    reply = await job.run(job.ask.extend("job", amount=16))
    assert reply.hold.deadline_ms == START_MS + TTL_MS
    after = await job.snapshot()
    assert (after.entries, after.open_holds) == (before.entries, before.open_holds)


async def test_a_raise_sent_twice_draws_once(job: Bench) -> None:
    raised = await job.run(job.ask.extend("job", amount=12))
    again = await job.run(job.ask.extend("job", amount=12))
    assert raised.hold == again.hold
    entries = await job.entries()
    assert moved(entries[-2]) == ["pack: 2 available > held"]
    assert entries[-1].moves == ()


async def test_a_raise_draws_in_burn_down_order_into_new_slices(job: Bench) -> None:
    await job.run(job.ask.grant("free", 1, Kind.FREE))
    reply = await job.run(job.ask.extend("job", amount=13))
    assert [(part.bucket_id, part.amount) for part in reply.hold.slices] == [
        ("pack", 10),
        ("free", 1),
        ("pack", 2),
    ]


async def test_a_raise_is_paid_by_what_may_pay_the_job(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("videos", 5, actions=("video.generate",)),
        ledger.ask.grant("images", 5, actions=("image.generate",)),
        ledger.ask.authorize("job", 4, VIDEO),
    )
    reply = await ledger.run(ledger.ask.extend("job", amount=6))
    assert (reply.decision, reply.missing) == (Decision.INSUFFICIENT_CREDITS, 1)
    assert (await ledger.run(ledger.ask.extend("job", amount=5))).hold.amount == 5


async def test_a_raise_by_quantity_is_rated_at_the_pinned_price(ledger: Bench) -> None:
    """R71: one credit per second and a half here; a new catalog changes nothing for this hold."""
    price = Price(flat=1, numerator=2, denominator=3, unit="second")
    await ledger.run_all(
        ledger.ask.grant("pack", 9), ledger.ask.authorize("job", terms(price, quantity=3))
    )
    assert (await ledger.run(ledger.ask.extend("job", quantity=10))).hold.amount == 8
    assert (await ledger.run(ledger.ask.extend("job", quantity=12))).hold.amount == 9
    assert (await ledger.run(ledger.ask.extend("job", quantity=13))).missing == 1


async def test_a_raise_beyond_the_largest_amount_is_refused(ledger: Bench) -> None:
    price = Price(numerator=2**30)
    await ledger.run_all(ledger.ask.grant("pack", 2**30), ledger.ask.authorize("job", terms(price)))
    reply = await ledger.run(ledger.ask.extend("job", quantity=2**23 - 1))
    assert reply.missing == 2**30 * (2**23 - 1) - 2**30
    with refused(Reason.AMOUNT_OVERFLOW, account_id=ledger.ask.account_id):
        await ledger.run(ledger.ask.extend("job", quantity=2**23))


async def test_a_hold_may_be_raised_after_a_partial_settle(job: Bench) -> None:
    await job.run(job.ask.settle("job", 4, operation_id="a", partial=True))
    reply = await job.run(job.ask.extend("job", amount=12))
    assert (reply.hold.amount, reply.hold.held, reply.hold.charged) == (12, 8, 4)


async def test_a_job_of_no_cost_may_be_raised(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 3), ledger.ask.authorize("job", 0))
    reply = await ledger.run(ledger.ask.extend("job", amount=3))
    assert (reply.hold.amount, reply.hold.held) == (3, 3)


async def test_a_hold_keeps_its_terms_when_the_catalog_changes(job: Bench) -> None:
    """Gate and price are fixed at Authorize; only the order of buckets follows the catalog."""
    job.ask.rules = dataclasses.replace(job.ask.rules, ranks="0000000")
    reply = await job.run(job.ask.extend("job", quantity=1))
    assert (reply.hold.amount, reply.hold.catalog_version) == (10, "v1")
