"""Refunds, and where credits go that come back: to their bucket, to a compensation, or nowhere."""

import dataclasses

import pytest

from creditgate_server.core.commands import Kind, Overage, ReturnPolicy
from creditgate_server.core.faults import Reason
from creditgate_server.core.prices import AMOUNT_MAX
from creditgate_server.core.results import HoldState, Verb
from tests.ledger.bench import DAY_MS, START_MS, TTL_MS, Ask, Bench, moved, refused, terms


@pytest.fixture
async def job(ledger: Bench) -> Bench:
    """A bench with an open hold of 10 credits: 4 of the month, 6 of the top-up's 9."""
    await ledger.run_all(
        ledger.ask.grant("month", 4, Kind.SUBSCRIPTION),
        ledger.ask.grant("top-up", 9),
        ledger.ask.authorize("job", 10),
    )
    return ledger


async def test_a_hold_that_does_not_exist_cannot_be_refunded(ledger: Bench) -> None:
    with refused(Reason.HOLD_NOT_FOUND, hold_id="job"):
        await ledger.run(ledger.ask.refund("job"))
    with refused(Reason.ACCOUNT_NOT_FOUND, account_id="nobody"):
        await ledger.run(Ask("nobody").refund("job"))


async def test_a_failed_job_gives_back_all_that_was_held(job: Bench) -> None:
    """R59: credits are never lost to failed generations. What was drawn last returns first."""
    reply = await job.run(job.ask.refund("job"))
    assert (reply.refunded, reply.replayed) == (10, False)
    hold = reply.hold
    assert (hold.state, hold.held, hold.charged, hold.refunded) == (HoldState.REFUNDED, 0, 0, 0)
    assert hold.ended_ms == START_MS
    entry = (await job.entries())[-1]
    assert (entry.verb, entry.hold_id) == (Verb.REFUND, "job")
    assert moved(entry) == ["top-up: 6 held > available", "month: 4 held > available"]


async def test_an_open_hold_is_refunded_whole(job: Bench) -> None:
    before = await job.snapshot()
    with refused(Reason.HOLD_OPEN, hold_id="job"):
        await job.run(job.ask.refund("job", 10, operation_id="a"))
    assert await job.snapshot() == before


async def test_what_parts_have_charged_stays_charged(job: Bench) -> None:
    await job.run(job.ask.settle("job", 3, operation_id="a", partial=True))
    reply = await job.run(job.ask.refund("job"))
    assert (reply.refunded, reply.hold.charged, reply.hold.refunded) == (7, 3, 0)
    assert reply.hold.state is HoldState.REFUNDED


async def test_what_a_refunded_job_was_charged_in_parts_can_be_refunded_too(job: Bench) -> None:
    await job.run_all(
        job.ask.settle("job", 3, operation_id="a", partial=True),
        job.ask.refund("job"),
    )
    with refused(Reason.REFUND_EXCEEDS_CHARGE, hold_id="job", refundable="3"):
        await job.run(job.ask.refund("job", 4, operation_id="b"))
    reply = await job.run(job.ask.refund("job", 3, operation_id="b"))
    assert (reply.refunded, reply.hold.refunded) == (3, 3)
    with refused(Reason.HOLD_REFUNDED, hold_id="job", charged="3", refunded="3"):
        await job.run(job.ask.refund("job", operation_id="c"))


async def test_a_settled_job_is_refunded_backwards(job: Bench) -> None:
    await job.run(job.ask.settle("job"))
    reply = await job.run(job.ask.refund("job"))
    assert (reply.refunded, reply.hold.refunded) == (10, 10)
    assert reply.hold.state is HoldState.SETTLED
    assert moved((await job.entries())[-1]) == [
        "top-up: 6 spent > available",
        "month: 4 spent > available",
    ]


async def test_a_settled_job_may_be_refunded_in_parts_up_to_what_it_took(job: Bench) -> None:
    """P14: in total and per bucket."""
    await job.run(job.ask.settle("job", 8))
    first = await job.run(job.ask.refund("job", 3, operation_id="a"))
    assert (first.refunded, first.hold.refunded) == (3, 3)
    assert [part.refunded for part in first.hold.slices] == [0, 3]
    with refused(Reason.REFUND_EXCEEDS_CHARGE, hold_id="job", refundable="5"):
        await job.run(job.ask.refund("job", 6, operation_id="b"))
    second = await job.run(job.ask.refund("job", 5, operation_id="b"))
    assert (second.refunded, second.hold.refunded) == (5, 8)
    assert [part.refunded for part in second.hold.slices] == [4, 4]
    with refused(Reason.REFUND_EXCEEDS_CHARGE, hold_id="job", refundable="0"):
        await job.run(job.ask.refund("job", 1, operation_id="c"))


async def test_a_full_refund_after_parts_gives_the_rest(job: Bench) -> None:
    await job.run_all(job.ask.settle("job"), job.ask.refund("job", 3, operation_id="a"))
    assert (await job.run(job.ask.refund("job"))).refunded == 7


async def test_a_second_refund_answered_with_an_error_does_not_undo_the_first(job: Bench) -> None:
    await job.run_all(job.ask.settle("job"), job.ask.refund("job", 10, operation_id="a"))
    before = await job.snapshot()
    with refused(Reason.REFUND_EXCEEDS_CHARGE, hold_id="job", refundable="0"):
        await job.run(job.ask.refund("job", 10, operation_id="b"))
    assert await job.snapshot() == before
    assert (await job.run(job.ask.hold("job"))).refunded == 10


async def test_a_job_that_was_charged_nothing_is_refunded_nothing(job: Bench) -> None:
    await job.run(job.ask.settle("job", 0))
    refund = job.ask.refund("job")
    reply = await job.run(refund)
    assert (reply.refunded, reply.replayed) == (0, False)
    assert (await job.run(refund)).replayed
    entry = (await job.entries())[-1]
    assert (entry.verb, entry.moves) == (Verb.REFUND, ())


async def test_void_twice_is_one_void(job: Bench) -> None:
    refund = job.ask.refund("job")
    await job.run(refund)
    again = await job.run(refund)
    assert (again.refunded, again.replayed) == (10, True)
    with refused(Reason.HOLD_REFUNDED, hold_id="job", charged="0", refunded="0"):
        await job.run(job.ask.refund("job", operation_id="other"))
    assert (await job.run(job.ask.balance())).totals.available == 13


async def test_an_expired_job_is_refunded_nothing_and_that_is_fine(job: Bench) -> None:
    job.advance(TTL_MS)
    for refund in (
        job.ask.refund("job"),
        job.ask.refund("job"),
        job.ask.refund("job", 3, operation_id="a"),
    ):
        reply = await job.run(refund)
        assert (reply.refunded, reply.replayed) == (0, False)
        assert reply.hold.state is HoldState.EXPIRED
    assert [entry.verb for entry in await job.entries()][-2:] == [Verb.AUTHORIZE, Verb.EXPIRE]


async def test_a_refund_just_before_the_deadline_is_a_refund(job: Bench) -> None:
    job.advance(TTL_MS - 1)
    reply = await job.run(job.ask.refund("job"))
    assert (reply.refunded, reply.hold.state) == (10, HoldState.REFUNDED)


async def test_what_an_expired_job_took_in_parts_can_be_refunded(job: Bench) -> None:
    await job.run(job.ask.settle("job", 3, operation_id="a", partial=True))
    job.advance(TTL_MS)
    reply = await job.run(job.ask.refund("job"))
    assert (reply.refunded, reply.hold.state) == (3, HoldState.EXPIRED)


async def test_a_nameless_refund_with_other_content_does_not_hide_the_first(job: Bench) -> None:
    await job.run_all(
        job.ask.settle("job", 3, operation_id="a", partial=True), job.ask.expire("job")
    )
    job.advance(TTL_MS)
    failed, cancelled = job.ask.refund("job"), job.ask.refund("job", cancelled=True)
    assert (await job.run(failed)).refunded == 3
    await job.run(job.ask.settle("job", 2, operation_id="b", partial=True))
    assert (await job.run(cancelled)).refunded == 2
    await job.run(job.ask.settle("job", 1, operation_id="c", partial=True))
    again = [await job.run(refund) for refund in (failed, cancelled)]
    assert [(reply.refunded, reply.replayed) for reply in again] == [(3, True), (2, True)]


# Expiry.


async def test_an_abandoned_hold_returns_at_its_deadline_and_not_before(job: Bench) -> None:
    """P7."""
    job.advance(TTL_MS - 1)
    assert (await job.run(job.ask.expire("job"))).returned is None
    assert (await job.run(job.ask.hold("job"))).state is HoldState.OPEN
    job.advance(1)
    assert (await job.run(job.ask.expire("job"))).returned == 10
    hold = await job.run(job.ask.hold("job"))
    assert (hold.state, hold.ended_ms) == (HoldState.EXPIRED, START_MS + TTL_MS)
    assert [part.returned for part in hold.slices] == [4, 6]
    assert moved((await job.entries())[-1]) == [
        "top-up: 6 held > available",
        "month: 4 held > available",
    ]


@pytest.mark.parametrize("ending", ["settle", "refund", "expire"])
async def test_a_sweep_leaves_an_ended_hold_alone(job: Bench, ending: str) -> None:
    """P4: exactly one of settle, refund and expiry wins."""
    if ending == "expire":
        job.advance(TTL_MS)
    await job.run(getattr(job.ask, ending)("job"))
    before = await job.snapshot()
    job.now_ms = START_MS + TTL_MS
    assert (await job.run(job.ask.expire("job"))).returned is None
    assert (await job.snapshot()).entries == before.entries


async def test_a_sweep_that_finds_no_hold_has_nothing_to_do(ledger: Bench) -> None:
    assert (await ledger.run(ledger.ask.expire("job"))).returned is None
    assert (await ledger.run(Ask("nobody").expire("job"))).returned is None


# Back to a bucket that has ended.


async def ended(ledger: Bench, *, on_failed: ReturnPolicy, on_cancelled: ReturnPolicy) -> None:
    """A hold of 4 of a daily bucket that has ended with 1 left, and of 3 of a top-up of 5."""
    await ledger.run_all(
        ledger.ask.grant("daily", 4, Kind.FREE, ends_ms=START_MS + 100),
        ledger.ask.grant("top-up", 5),
        ledger.ask.authorize("job", 7),
        ledger.ask.grant("left", 1, Kind.FREE, ends_ms=START_MS + 100),
    )
    ledger.advance(100)
    ledger.ask.rules = dataclasses.replace(
        ledger.ask.rules,
        on_failed=on_failed,
        on_cancelled=on_cancelled,
        compensation_ms=DAY_MS,
    )


COMPENSATE, FORFEIT, CAPPED = (
    ReturnPolicy.COMPENSATE,
    ReturnPolicy.FORFEIT,
    ReturnPolicy.RESTORE_CAPPED,
)


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("policy", list(ReturnPolicy))
async def test_what_returns_to_an_ended_bucket_follows_the_catalog_by_reason(
    ledger: Bench, policy: ReturnPolicy, *, cancelled: bool
) -> None:
    """R16, R59: a failure costs nothing; who cancels after the reset rolls nothing over."""
    other = FORFEIT if policy is COMPENSATE else COMPENSATE
    await ended(
        ledger,
        on_failed=other if cancelled else policy,
        on_cancelled=policy if cancelled else other,
    )
    reply = await ledger.run(ledger.ask.refund("job", cancelled=cancelled))
    assert reply.refunded == 7
    assert [part.returned for part in reply.hold.slices] == [4, 3]
    rows = await ledger.rows()
    name = f"compensation/{reply.totals.seq}"
    made_good = {name: {"granted": 4, "available": 4}} if policy is COMPENSATE else {}
    assert rows == made_good | {
        "daily": {"granted": 4, "expired": 4},
        "left": {"granted": 1, "expired": 1},
        "top-up": {"granted": 5, "available": 5},
    }


async def test_a_compensation_is_one_bucket_with_a_short_life(ledger: Bench) -> None:
    await ended(ledger, on_failed=COMPENSATE, on_cancelled=FORFEIT)
    await ledger.run(ledger.ask.refund("job"))
    entry = (await ledger.entries())[-1]
    name = f"compensation/{entry.seq}"
    assert moved(entry) == [
        "top-up: 3 held > available",
        "daily: 4 held > expired",
        f"{name}: 4 granted > available",
    ]
    balance = await ledger.run(ledger.ask.balance())
    [bucket] = [bucket for bucket in balance.buckets if bucket.bucket_id == name]
    assert (bucket.kind, bucket.ends_ms) == (Kind.COMPENSATION, ledger.now_ms + DAY_MS)
    assert (bucket.actions, bucket.models, bucket.granted_ms) == ((), (), ledger.now_ms)
    assert balance.buckets[0] == bucket  # Its rank is the catalog's: here it is drawn first.


async def test_a_compensation_ends_too(ledger: Bench) -> None:
    await ended(ledger, on_failed=COMPENSATE, on_cancelled=FORFEIT)
    await ledger.run(ledger.ask.refund("job"))
    ledger.advance(DAY_MS - 1)
    assert (await ledger.run(ledger.ask.balance())).totals.available == 9
    ledger.advance(1)
    assert (await ledger.run(ledger.ask.balance())).totals.available == 5


async def test_one_return_makes_one_compensation_of_the_sum(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("a", 2, Kind.FREE, ends_ms=START_MS + 1),
        ledger.ask.grant("b", 3, Kind.FREE, ends_ms=START_MS + 2),
        ledger.ask.authorize("job", 5),
    )
    ledger.advance(2)
    await ledger.run(ledger.ask.refund("job"))
    entry = (await ledger.entries())[-1]
    assert moved(entry) == [
        "b: 3 held > expired",
        "a: 2 held > expired",
        f"compensation/{entry.seq}: 5 granted > available",
    ]


async def test_a_returned_rest_is_compensated_whatever_a_cancel_would_do(ledger: Bench) -> None:
    await ended(ledger, on_failed=COMPENSATE, on_cancelled=FORFEIT)
    await ledger.run(ledger.ask.settle("job", 2))
    entry = (await ledger.entries())[-1]
    assert moved(entry) == [
        "daily: 2 held > spent",
        "top-up: 3 held > available",
        "daily: 2 held > expired",
        f"compensation/{entry.seq}: 2 granted > available",
    ]


async def test_expiry_counts_as_a_failure_of_the_platform(ledger: Bench) -> None:
    await ended(ledger, on_failed=COMPENSATE, on_cancelled=FORFEIT)
    ledger.advance(TTL_MS)
    assert (await ledger.run(ledger.ask.expire("job"))).returned == 7
    assert (await ledger.run(ledger.ask.balance())).totals.available == 9


async def test_a_bucket_ends_before_a_hold_that_is_due_at_the_same_moment(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("daily", 4, Kind.FREE, ends_ms=START_MS + TTL_MS),
        ledger.ask.authorize("job", 3),
    )
    ledger.advance(TTL_MS)
    await ledger.run(ledger.ask.settle("job", 3))
    verbs = [entry.verb for entry in await ledger.entries()]
    assert verbs[-3:] == [Verb.END_BUCKET, Verb.EXPIRE, Verb.SETTLE]


@pytest.mark.parametrize(("policy", "available"), [(COMPENSATE, 9), (FORFEIT, 5), (CAPPED, 5)])
async def test_taken_credits_of_an_ended_bucket_follow_the_catalog_too(
    ledger: Bench, policy: ReturnPolicy, available: int
) -> None:
    await ended(ledger, on_failed=policy, on_cancelled=FORFEIT)
    await ledger.run(ledger.ask.settle("job"))
    reply = await ledger.run(ledger.ask.refund("job"))
    assert (reply.refunded, reply.totals.available) == (7, available)
    rows = await ledger.rows()
    assert rows["daily"] == {"granted": 4, "expired": 4}


async def test_the_last_moment_of_a_bucket_takes_its_credits_back(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("daily", 4, Kind.FREE, ends_ms=START_MS + 100),
        ledger.ask.authorize("job", 4),
    )
    ledger.advance(99)
    await ledger.run(ledger.ask.refund("job"))
    assert await ledger.rows() == {"daily": {"granted": 4, "available": 4}}


@pytest.mark.parametrize("policy", list(ReturnPolicy))
async def test_a_voided_bucket_takes_its_credits_with_it_whatever_the_policy(
    ledger: Bench, policy: ReturnPolicy
) -> None:
    ledger.ask.rules = dataclasses.replace(ledger.ask.rules, on_failed=policy, on_cancelled=policy)
    await ledger.run_all(
        ledger.ask.grant("pack", 10),
        ledger.ask.charge("charged", 2),
        ledger.ask.authorize("held", 3),
        ledger.ask.void("pack"),
    )
    assert await ledger.rows() == {"pack": {"granted": 10, "held": 3, "spent": 2, "voided": 5}}
    await ledger.run(ledger.ask.refund("held"))
    await ledger.run(ledger.ask.refund("charged"))
    assert await ledger.rows() == {"pack": {"granted": 10, "voided": 10}}


async def test_held_credits_of_an_ended_bucket_still_settle(ledger: Bench) -> None:
    """A reset touches only what is available: an open hold always settles."""
    await ended(ledger, on_failed=FORFEIT, on_cancelled=FORFEIT)
    reply = await ledger.run(ledger.ask.settle("job"))
    assert (reply.charged, reply.shortfall) == (7, 0)
    assert (await ledger.rows())["daily"] == {"granted": 4, "spent": 4}


# Overdrawn credits.


@pytest.fixture
async def overdrawn(ledger: Bench) -> Bench:
    """A bench with a settled job of 2 credits of a pack and 5 overdrawn."""
    job = terms(2, overage=Overage.OVERDRAFT, overdraft_limit=5)
    await ledger.run_all(
        ledger.ask.grant("pack", 2), ledger.ask.authorize("job", job), ledger.ask.settle("job", 7)
    )
    return ledger


async def test_a_refund_lowers_the_debt_before_anything_else(overdrawn: Bench) -> None:
    reply = await overdrawn.run(overdrawn.ask.refund("job", 6, operation_id="a"))
    assert (reply.refunded, reply.totals.debt, reply.totals.available) == (6, 0, 1)
    entry = (await overdrawn.entries())[-1]
    assert (entry.debt_change, moved(entry)) == (-5, ["pack: 1 spent > available"])


async def test_a_part_of_a_debt_is_refunded_first(overdrawn: Bench) -> None:
    reply = await overdrawn.run(overdrawn.ask.refund("job", 4, operation_id="a"))
    assert (reply.totals.debt, reply.totals.available) == (1, 0)
    reply = await overdrawn.run(overdrawn.ask.refund("job", 2, operation_id="b"))
    assert (reply.totals.debt, reply.totals.available) == (0, 1)


@pytest.mark.parametrize("policy", list(ReturnPolicy))
async def test_a_debt_that_was_paid_since_is_made_good_whatever_the_policy(
    overdrawn: Bench, policy: ReturnPolicy
) -> None:
    overdrawn.ask.rules = dataclasses.replace(overdrawn.ask.rules, on_failed=policy)
    await overdrawn.run(overdrawn.ask.grant("more", 3))
    reply = await overdrawn.run(overdrawn.ask.refund("job"))
    assert (reply.refunded, reply.totals.debt, reply.totals.available) == (7, 0, 5)
    entry = (await overdrawn.entries())[-1]
    assert entry.debt_change == -2
    assert moved(entry) == [
        "pack: 2 spent > available",
        f"compensation/{entry.seq}: 3 granted > available",
    ]


async def test_refunds_never_pass_the_largest_amount(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("first", AMOUNT_MAX),
        ledger.ask.charge("job", AMOUNT_MAX),
        ledger.ask.grant("second", AMOUNT_MAX - 5),
    )
    with refused(Reason.AMOUNT_OVERFLOW, account_id=ledger.ask.account_id):
        await ledger.run(ledger.ask.refund("job", 6, operation_id="a"))
    reply = await ledger.run(ledger.ask.refund("job", 5, operation_id="a"))
    assert reply.totals.available == AMOUNT_MAX


async def test_a_refund_beside_a_debt_never_passes_the_largest_amount(ledger: Bench) -> None:
    """2^53 + 1 is no double: what lowers the debt is taken off before anything is added up."""
    job = terms(1, overage=Overage.OVERDRAFT, overdraft_limit=5)
    await ledger.run_all(
        ledger.ask.grant("a", 2),
        ledger.ask.charge("other", 1),
        ledger.ask.authorize("job", job),
        ledger.ask.grant("b", AMOUNT_MAX - 1),
        ledger.ask.authorize("all", AMOUNT_MAX - 1),
        ledger.ask.settle("job", 2),
        ledger.ask.refund("other"),
    )
    with refused(Reason.AMOUNT_OVERFLOW, account_id=ledger.ask.account_id):
        await ledger.run(ledger.ask.refund("job", 2, operation_id="both"))
    reply = await ledger.run(ledger.ask.refund("job", 1, operation_id="debt"))
    assert (reply.totals.available, reply.totals.debt) == (1, 0)
