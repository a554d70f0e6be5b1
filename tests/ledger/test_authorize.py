"""Authorize: each rung of its ladder, with the boundary on both sides."""

import pytest

from creditgate_server.core.commands import Job, Kind
from creditgate_server.core.faults import Reason
from creditgate_server.core.prices import Price
from creditgate_server.core.results import Decision, HoldState, Verb
from tests.ledger.bench import LIFE_MS, START_MS, TTL_MS, Ask, Bench, moved, refused, terms


async def test_an_account_that_does_not_exist_is_not_found(ledger: Bench) -> None:
    stranger = Ask("nobody-knows-me")
    with refused(Reason.ACCOUNT_NOT_FOUND, account_id="nobody-knows-me"):
        await ledger.run(stranger.authorize("job", 1))


async def test_a_job_may_take_the_last_credit(ledger: Bench) -> None:
    """R57: the credits are set aside before the job starts; they are not spent."""
    await ledger.run(ledger.ask.grant("pack", 10))
    reply = await ledger.run(ledger.ask.authorize("job", 10))
    assert (reply.decision, reply.amount, reply.missing) == (Decision.APPROVED, 10, 0)
    assert (reply.totals.available, reply.totals.held) == (0, 10)
    assert await ledger.rows() == {"pack": {"granted": 10, "held": 10}}


async def test_a_job_that_costs_one_credit_more_than_there_is_is_denied(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("pack", 10))
    reply = await ledger.run(ledger.ask.authorize("job", 11))
    assert (reply.decision, reply.amount) == (Decision.INSUFFICIENT_CREDITS, 11)
    assert (reply.missing, reply.hold) == (1, None)
    assert await ledger.rows() == {"pack": {"granted": 10, "available": 10}}


async def test_held_credits_cannot_be_held_twice(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 10), ledger.ask.authorize("first", 7))
    reply = await ledger.run(ledger.ask.authorize("second", 4))
    assert (reply.decision, reply.missing) == (Decision.INSUFFICIENT_CREDITS, 1)
    reply = await ledger.run(ledger.ask.authorize("second", 3))
    assert reply.decision is Decision.APPROVED


async def test_an_account_without_credits_is_denied(ledger: Bench) -> None:
    reply = await ledger.run(ledger.ask.authorize("job", 3))
    assert (reply.decision, reply.missing) == (Decision.INSUFFICIENT_CREDITS, 3)


async def test_a_zero_cost_job_passes_at_balance_zero_and_is_recorded(ledger: Bench) -> None:
    """R10, R73: an action may cost nothing, and is listed all the same."""
    reply = await ledger.run(ledger.ask.authorize("job", 0))
    assert (reply.decision, reply.amount) == (Decision.APPROVED, 0)
    assert reply.hold is not None
    assert reply.hold.slices == ()
    entry = (await ledger.entries())[-1]
    assert (entry.verb, entry.hold_id, entry.moves) == (Verb.AUTHORIZE, "job", ())


async def test_a_zero_cost_job_settles_and_is_charged_nothing(ledger: Bench) -> None:
    await ledger.run(ledger.ask.authorize("job", 0))
    reply = await ledger.run(ledger.ask.settle("job"))
    assert (reply.charged, reply.shortfall, reply.returned) == (0, 0, 0)
    assert reply.hold.state is HoldState.SETTLED


async def test_a_zero_cost_hold_expires_too(ledger: Bench) -> None:
    await ledger.run(ledger.ask.authorize("job", 0))
    ledger.advance(TTL_MS)
    assert (await ledger.run(ledger.ask.expire("job"))).returned == 0
    assert (await ledger.entries())[-1].verb is Verb.EXPIRE


async def test_an_action_without_a_price_is_denied_and_never_free(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("pack", 10))
    reply = await ledger.run(ledger.ask.authorize("job", None))
    assert (reply.decision, reply.amount) == (Decision.UNPRICED_ACTION, 0)
    assert (reply.hold, reply.missing) == (None, 0)


@pytest.mark.parametrize(
    ("max_amount", "decision"),
    [
        (5, Decision.PRICE_CHANGED),
        (6, Decision.APPROVED),
        (0, Decision.PRICE_CHANGED),
        (None, Decision.APPROVED),
    ],
)
async def test_a_caller_pays_at_most_what_they_were_shown(
    ledger: Bench, max_amount: int | None, decision: Decision
) -> None:
    """R61: the exact cost is shown before the run."""
    await ledger.run(ledger.ask.grant("pack", 6))
    reply = await ledger.run(ledger.ask.authorize("job", 6, max_amount=max_amount))
    assert (reply.decision, reply.amount) == (decision, 6)


async def test_a_free_job_passes_a_limit_of_nothing(ledger: Bench) -> None:
    reply = await ledger.run(ledger.ask.authorize("job", 0, max_amount=0))
    assert reply.decision is Decision.APPROVED


async def test_a_changed_price_is_told_before_missing_credits(ledger: Bench) -> None:
    reply = await ledger.run(ledger.ask.authorize("job", 6, max_amount=5))
    assert (reply.decision, reply.missing) == (Decision.PRICE_CHANGED, 0)


async def test_an_unpriced_action_is_told_before_a_changed_price(ledger: Bench) -> None:
    reply = await ledger.run(ledger.ask.authorize("job", None, max_amount=0))
    assert reply.decision is Decision.UNPRICED_ACTION


async def test_a_denial_is_not_remembered(ledger: Bench) -> None:
    """R44: who buys a top-up may try the same job again."""
    job = ledger.ask.authorize("job", 3)
    assert (await ledger.run(job)).decision is Decision.INSUFFICIENT_CREDITS
    await ledger.run(ledger.ask.grant("pack", 3))
    reply = await ledger.run(job)
    assert (reply.decision, reply.replayed) == (Decision.APPROVED, False)


async def test_a_denial_writes_nothing(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("pack", 2))
    before = await ledger.snapshot()
    reply = await ledger.run(ledger.ask.authorize("job", 3))
    assert reply.totals.seq == before.balance.totals.seq
    assert (await ledger.snapshot()).without_denial() == before
    with refused(Reason.HOLD_NOT_FOUND, hold_id="job"):
        await ledger.run(ledger.ask.hold("job"))


async def test_a_denied_id_may_come_back_with_other_content(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 2), ledger.ask.authorize("job", 3))
    reply = await ledger.run(ledger.ask.authorize("job", 2, Job(action="image.erase")))
    assert reply.decision is Decision.APPROVED


@pytest.mark.parametrize(
    ("ttl_ms", "lasts_ms"),
    [
        (None, TTL_MS),
        (1000, 1000),
        (LIFE_MS - 1, LIFE_MS - 1),
        (LIFE_MS, LIFE_MS),
        (LIFE_MS + 1, LIFE_MS),
    ],
)
async def test_a_deadline_is_at_most_the_life_of_the_action(
    ledger: Bench, ttl_ms: int | None, lasts_ms: int
) -> None:
    await ledger.run(ledger.ask.grant("pack", 1))
    reply = await ledger.run(ledger.ask.authorize("job", 1, ttl_ms=ttl_ms))
    assert reply.hold is not None
    assert reply.hold.authorized_ms == START_MS
    assert reply.hold.deadline_ms == START_MS + lasts_ms


async def test_a_default_deadline_is_cut_to_the_life_of_the_action_too(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("pack", 1))
    reply = await ledger.run(ledger.ask.authorize("job", terms(1, ttl_ms=LIFE_MS + 1)))
    assert reply.hold is not None
    assert reply.hold.deadline_ms == START_MS + LIFE_MS


async def test_a_hold_shows_all_that_was_asked_and_pinned(ledger: Bench) -> None:
    job = Job(
        action="video.generate",
        model="tall",
        quantity=10,
        settings=(("fps", "30"), ("resolution", "1080p")),
    )
    price = Price(flat=2, numerator=3, denominator=4, minimum=5, unit="second")
    await ledger.run(ledger.ask.grant("pack", 20, Kind.PROMOTIONAL))
    reply = await ledger.run(
        ledger.ask.authorize(
            "job", terms(price, quantity=10, catalog_version="v7"), job, member_id="ada"
        )
    )
    hold = reply.hold
    assert hold is not None
    assert (hold.account_id, hold.hold_id) == (ledger.ask.account_id, "job")
    assert (hold.job, hold.member_id, hold.price) == (job, "ada", price)
    assert (hold.state, hold.amount, hold.held, hold.charged) == (HoldState.OPEN, 10, 10, 0)
    assert (hold.catalog_version, hold.ended_ms, hold.settled_late) == ("v7", None, False)
    [part] = hold.slices
    assert (part.bucket_id, part.period, part.kind) == ("pack", 0, Kind.PROMOTIONAL)
    assert (part.amount, part.held) == (10, 10)
    assert await ledger.run(ledger.ask.hold("job")) == hold
    entry = (await ledger.entries())[-1]
    assert (entry.verb, entry.hold_id, entry.member_id) == (Verb.AUTHORIZE, "job", "ada")
    assert (entry.action, entry.model, entry.operation_id) == ("video.generate", "tall", "")
    assert moved(entry) == ["pack: 10 available > held"]
    assert (entry.available, entry.held, entry.debt) == (10, 10, 0)


@pytest.mark.parametrize("unit", ["", "image", "1,000 characters", "MB/s", "10 %", "*"])
async def test_a_unit_is_any_line_of_text(ledger: Bench, unit: str) -> None:
    price = Price(numerator=2, unit=unit)
    await ledger.run(ledger.ask.grant("pack", 2))
    reply = await ledger.run(ledger.ask.authorize("job", terms(price)))
    assert reply.hold is not None
    assert reply.hold.price == price
    assert (await ledger.run(ledger.ask.settle("job", quantity=1))).charged == 2


async def test_ids_are_unique_within_an_account_only(ledger: Bench) -> None:
    other = Ask(f"{ledger.ask.account_id}-2")
    await ledger.run_all(
        other.put(),
        other.grant("pack", 5),
        ledger.ask.grant("pack", 7),
        ledger.ask.authorize("job", 7),
    )
    reply = await ledger.run(other.authorize("job", 5))
    assert (reply.decision, reply.replayed) == (Decision.APPROVED, False)


async def test_a_charge_pays_at_once(ledger: Bench) -> None:
    """R27, R58: what is over at once is paid at once."""
    await ledger.run(ledger.ask.grant("pack", 10))
    reply = await ledger.run(ledger.ask.charge("job", 10, member_id="ada"))
    assert (reply.decision, reply.amount, reply.replayed) == (Decision.APPROVED, 10, False)
    hold = reply.hold
    assert hold is not None
    assert (hold.state, hold.charged, hold.held) == (HoldState.SETTLED, 10, 0)
    assert (hold.ended_ms, hold.member_id) == (START_MS, "ada")
    assert await ledger.rows() == {"pack": {"granted": 10, "spent": 10}}
    entry = (await ledger.entries())[-1]
    assert (entry.verb, moved(entry)) == (Verb.CHARGE, ["pack: 10 available > spent"])
    assert (await ledger.run(ledger.ask.balance())).open_holds == 0


@pytest.mark.parametrize(
    ("price", "max_amount", "decision", "missing"),
    [
        (11, None, Decision.INSUFFICIENT_CREDITS, 1),
        (10, 9, Decision.PRICE_CHANGED, 0),
        (None, None, Decision.UNPRICED_ACTION, 0),
    ],
)
async def test_a_charge_is_denied_as_a_hold_would_be(
    ledger: Bench, price: int | None, max_amount: int | None, decision: Decision, missing: int
) -> None:
    await ledger.run(ledger.ask.grant("pack", 10))
    before = await ledger.snapshot()
    reply = await ledger.run(ledger.ask.charge("job", price, max_amount=max_amount))
    assert (reply.decision, reply.missing, reply.hold) == (decision, missing, None)
    assert (await ledger.snapshot()).without_denial() == before


async def test_a_charge_of_nothing_is_recorded(ledger: Bench) -> None:
    reply = await ledger.run(ledger.ask.charge("job", 0))
    assert reply.hold is not None
    assert (reply.hold.state, reply.hold.slices) == (HoldState.SETTLED, ())
    assert (await ledger.entries())[-1].moves == ()


async def test_a_charged_job_was_settled_by_another_operation(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 10), ledger.ask.charge("job", 10))
    with refused(Reason.HOLD_SETTLED, hold_id="job", charged="10", refunded="0"):
        await ledger.run(ledger.ask.settle("job", 10))
    with refused(Reason.HOLD_SETTLED, hold_id="job", charged="10", refunded="0"):
        await ledger.run(ledger.ask.extend("job"))


async def test_a_charged_job_can_be_refunded(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 10), ledger.ask.charge("job", 10))
    reply = await ledger.run(ledger.ask.refund("job", 4, operation_id="part"))
    assert (reply.refunded, reply.hold.refunded) == (4, 4)
    assert (await ledger.run(ledger.ask.refund("job"))).refunded == 6
    assert await ledger.rows() == {"pack": {"granted": 10, "available": 10}}


async def test_a_charge_and_a_hold_share_their_ids(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("pack", 10),
        ledger.ask.charge("charged", 1),
        ledger.ask.authorize("held", 1),
    )
    with refused(Reason.ID_REUSED, id="charged"):
        await ledger.run(ledger.ask.authorize("charged", 1))
    with refused(Reason.ID_REUSED, id="held"):
        await ledger.run(ledger.ask.charge("held", 1))
